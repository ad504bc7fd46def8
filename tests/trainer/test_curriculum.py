"""Phases in a row: checkpoint to checkpoint, evaluations between, and what is done is not done again."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import InfiMmrError, UsageError
from trainer.curriculum import CurriculumRequest, check_datasets, load_phases, run_curriculum, table_text


class Trainer:
    """Stands in for OpenRLHF: writes down what it was asked, leaves a checkpoint, stops where told."""

    def __init__(self, stop_at: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self.stop_at = stop_at

    def __call__(self, request, watcher):
        if request.phase.name == self.stop_at:
            raise KeyboardInterrupt
        if not (request.output / "checkpoint").exists():
            self.asked.append((request.phase.name, request.phase.model.start))
            (request.output / "checkpoint").mkdir(parents=True)
        assert request.resume


class Evaluator:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, checkpoint, phase, output):
        self.asked.append(checkpoint)
        accuracy = 0.25 + 0.1 * len(self.asked)
        document = {
            "benchmarks": {name: {"n": 100, "accuracy": accuracy, "stderr": 0.04} for name in phase.evaluation.names}
        }
        (Path(output) / "evaluation.json").write_text(json.dumps(document))
        return document


def request_for(folder, *, resume=False, names=("fra", "cmra", "mre")):
    phases = load_phases(names, "local", ['evaluation.benchmarks=["math500"]'])
    return CurriculumRequest(phases, folder, resume=resume)


def test_each_phase_starts_from_the_checkpoint_of_the_one_before(tmp_path):
    trainer, evaluator = Trainer(), Evaluator()
    content = run_curriculum(request_for(tmp_path), train=trainer, evaluate=evaluator)
    first, second = str(tmp_path / "1-fra" / "checkpoint"), str(tmp_path / "2-cmra" / "checkpoint")
    assert trainer.asked == [("fra", "tiny-vl"), ("cmra", first), ("mre", second)]
    assert evaluator.asked == ["tiny-vl", first, second, str(tmp_path / "3-mre" / "checkpoint")]
    assert content["finished"]
    assert [row["name"] for row in content["table"]] == ["base", "fra", "cmra", "mre"]
    assert content["table"][0]["accuracy"]["math500"]["accuracy"] == 0.35


def test_each_phase_is_evaluated_with_its_own_prompt_lengths_and_limit(tmp_path, monkeypatch):
    overrides = ["fra:rollout.max_new_tokens=64", "mre:rollout.max_length=384", "mre:evaluation.limit=7"]
    phases = load_phases(("fra", "mre"), "local", ['evaluation.benchmarks=["math500"]', *overrides])
    asked = []

    def run(words, **_):
        asked.append(" ".join(words))
        document = {"benchmarks": {"math500": {"n": 7, "accuracy": 0.5, "stderr": 0.1}}}
        return subprocess.CompletedProcess(words, 0, json.dumps(document))

    monkeypatch.setattr(subprocess, "run", run)
    run_curriculum(CurriculumRequest(phases, tmp_path), train=Trainer())
    for text, tokens, length in zip(asked, (64, 64, 96), (512, 512, 384), strict=True):
        assert f"--max-tokens {tokens}" in text
        assert f"--max-model-len {length}" in text
        assert ("--limit 7" in text) == (length == 384)


def test_a_later_phase_whose_dataset_is_missing_is_told_before_the_first_is_trained(row, publish, tmp_path):
    store = publish(tmp_path / "store", "deepscaler", [row("mini-deepscaler", index) for index in range(4)])
    request = CurriculumRequest(load_phases(("fra", "cmra"), "local"), tmp_path / "run", store=store)
    with pytest.raises(InfiMmrError, match="data-engine build virl39k-captioned --profile local"):
        check_datasets(request)
    (tmp_path / "run/2-cmra").mkdir(parents=True)
    (tmp_path / "run/2-cmra/run.json").write_text("{}")  # trained before: what it was made from may be gone
    check_datasets(request)


def test_interrupted_in_the_second_phase_it_continues_there_and_repeats_nothing(tmp_path):
    evaluator = Evaluator()
    stopped = Trainer(stop_at="cmra")
    with pytest.raises(KeyboardInterrupt):
        run_curriculum(request_for(tmp_path), train=stopped, evaluate=evaluator)
    assert not json.loads((tmp_path / "curriculum.json").read_text())["finished"]
    again = Trainer()
    content = run_curriculum(request_for(tmp_path, resume=True), train=again, evaluate=evaluator)
    assert [name for name, _ in again.asked] == ["cmra", "mre"]
    assert len(evaluator.asked) == 4
    assert content["finished"]


def test_a_used_folder_needs_resume_and_the_same_phases(tmp_path):
    run_curriculum(request_for(tmp_path), train=Trainer(), evaluate=Evaluator())
    with pytest.raises(InfiMmrError, match="--resume"):
        run_curriculum(request_for(tmp_path), train=Trainer(), evaluate=Evaluator())
    with pytest.raises(InfiMmrError, match="fra,cmra,mre, not mre"):
        run_curriculum(request_for(tmp_path, resume=True, names=("mre",)), train=Trainer(), evaluate=Evaluator())


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"phases": []}'])
def test_a_folder_with_another_curriculum_json_is_refused_and_stays(tmp_path, content):
    (tmp_path / "curriculum.json").write_text(content)
    for resume in (False, True):
        with pytest.raises(InfiMmrError, match="--output"):
            run_curriculum(request_for(tmp_path, resume=resume), train=Trainer(), evaluate=Evaluator())
    assert (tmp_path / "curriculum.json").read_text() == content


def test_a_phase_may_come_twice(tmp_path):
    trainer = Trainer()
    run_curriculum(request_for(tmp_path, names=("mre", "cmra", "mre")), train=trainer, evaluate=Evaluator())
    assert [name for name, _ in trainer.asked] == ["mre", "cmra", "mre"]
    assert (tmp_path / "3-mre").is_dir()


def test_the_table_has_percent_and_standard_errors(tmp_path):
    content = run_curriculum(request_for(tmp_path), train=Trainer(), evaluate=Evaluator())
    text = table_text(content)
    assert "| base | 35.0 ± 4.0 | 35.0 |" in text
    assert "| mre | 65.0 ± 4.0 | 65.0 |" in text


def barred(folder, bar, *, resume=False, evaluate=True):
    phases = load_phases(("fra", "cmra", "mre"), "local", ['evaluation.benchmarks=["math500"]', *bar])
    return CurriculumRequest(phases, folder, resume=resume, evaluate=evaluate)


def test_a_missed_bar_stops_the_curriculum_with_the_reason_and_a_lower_one_lets_it_go_on(tmp_path):
    trainer, evaluator = Trainer(), Evaluator()
    # the evaluator says 35% of the base and 45% after the first phase
    with pytest.raises(InfiMmrError, match=r"phase fra misses its bar: math500 is 45.0%, its bar is 60.0%") as stopped:
        run_curriculum(barred(tmp_path, ["fra:evaluation.bar.math500=0.6"]), train=trainer, evaluate=evaluator)
    assert "--resume" in stopped.value.next_step
    assert [name for name, _ in trainer.asked] == ["fra"]
    content = json.loads((tmp_path / "curriculum.json").read_text())
    assert [row["name"] for row in content["table"]] == ["base", "fra"]
    again = barred(tmp_path, ["fra:evaluation.bar.math500=0.6"], resume=True)
    with pytest.raises(InfiMmrError, match="misses its bar"):
        run_curriculum(again, train=trainer, evaluate=evaluator)
    assert len(evaluator.asked) == 2, "the same evaluation is read, not made again"
    lower = barred(tmp_path, ["fra:evaluation.bar.mean=0.4"], resume=True)
    assert run_curriculum(lower, train=trainer, evaluate=evaluator)["finished"]
    assert [name for name, _ in trainer.asked] == ["fra", "cmra", "mre"]


def test_a_bar_may_ask_for_a_gain_over_the_checkpoint_before(tmp_path):
    # each evaluation says ten points more than the one before
    wanted = ["cmra:evaluation.least_gain=0.15"]
    with pytest.raises(InfiMmrError, match=r"phase cmra misses.*changed by \+10.0 points, the least is \+15.0"):
        run_curriculum(barred(tmp_path / "a", wanted), train=Trainer(), evaluate=Evaluator())
    kept = ["cmra:evaluation.least_gain=0.05"]
    assert run_curriculum(barred(tmp_path / "b", kept), train=Trainer(), evaluate=Evaluator())["finished"]


def test_a_missed_bar_of_the_last_phase_is_told_and_ends_nothing(tmp_path):
    told = []
    request = replace(barred(tmp_path, ["mre:evaluation.bar.math500=0.99"]), tell=told.append)
    assert run_curriculum(request, train=Trainer(), evaluate=Evaluator())["finished"]
    assert any("phase mre misses its bar" in line for line in told)


def test_a_bar_needs_evaluations_and_a_benchmark_of_its_phase(tmp_path):
    with pytest.raises(UsageError, match="--no-evaluate"):
        run_curriculum(barred(tmp_path, ["fra:evaluation.bar.mean=0.5"], evaluate=False), train=Trainer())
    with pytest.raises(UsageError, match="math500"):
        barred(tmp_path, ["fra:evaluation.bar.math50=0.5"])
    with pytest.raises(UsageError, match="between 0 and 1"):
        barred(tmp_path, ["fra:evaluation.bar.math500=60"])
