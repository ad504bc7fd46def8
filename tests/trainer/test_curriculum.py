"""Phases in a row: checkpoint to checkpoint, evaluations between, and what is done is not done again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from shared.errors import InfiMmrError
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

    def __call__(self, checkpoint, benchmarks, output):
        self.asked.append(checkpoint)
        accuracy = 0.25 + 0.1 * len(self.asked)
        document = {"benchmarks": {name: {"n": 100, "accuracy": accuracy, "stderr": 0.04} for name in benchmarks}}
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
