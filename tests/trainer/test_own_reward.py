"""A reward function of the user's own: checked before a run starts, asked for every rollout, named where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from shared.errors import InfiMmrError, UsageError
from shared.fingerprint import fingerprint
from trainer.openrlhf_bridge.launch import Ending, run_environment
from trainer.openrlhf_bridge.reward_entry import judge
from trainer.own_reward import checked_reward, failure, for_workers, load_reward, loaded_by_worker, recorded
from trainer.phase import load_phase
from trainer.phase_run import PhaseRequest, run_phase
from trainer.plan import make_plan
from trainer.rewards import RewardWeights
from trainer.rollouts import step_metrics
from trainer.run_record import NOT_IDENTITY, identity

RIGHT = "<think>2 and 2 make 4</think>\\boxed{4}"
ROW = {
    "id": "row-1",
    "gold": "4",
    "kind": "integer",
    "question": "2 + 2?",
    "category": "sums",
    "extra": {"source": "x"},
}
PARTS = """
def score(gold, output, row):
    brief = 1 / (1 + len(output))
    return {"reward": row["graded"]["total"] + brief, "brief": brief, "accuracy": 0.5 if gold in output else 0}
"""


def own(tmp_path, text, name="mine.py:score"):
    (tmp_path / "mine.py").write_text(text)
    return f"{tmp_path}/{name}"


def checked(words, row=ROW):
    return checked_reward(words, "mre", row, RewardWeights())


def test_a_number_is_the_reward_and_the_accuracy_stays_the_graders(tmp_path):
    found = judge(RIGHT, json.dumps(ROW), RewardWeights(), checked(own(tmp_path, "def score(g, o, r): return len(o)")))
    assert (found.rewards, found.scores) == (len(RIGHT), 1.0)
    assert found.record["total"] == len(RIGHT)
    assert found.record["exact"] == 1.0


def test_named_numbers_are_logged_and_one_called_accuracy_counts_as_such(tmp_path):
    found = judge(RIGHT, json.dumps(ROW), RewardWeights(), checked(own(tmp_path, PARTS)))
    brief = 1 / (1 + len(RIGHT))
    assert found.rewards == pytest.approx(1 + brief)
    assert found.scores == found.extra_logs["accuracy"] == 0.5
    assert found.record["parts"] == {"brief": brief, "accuracy": 0.5}
    assert found.extra_logs["reward_brief"] == brief


def test_it_is_told_of_row_and_answer(tmp_path):
    text = (
        "def score(gold, output, row):\n"
        "    assert (gold, row['question'], row['category']) == ('4', '2 + 2?', 'sums')\n"
        "    return row['tokens'] + 100 * row['truncated'] + len(row['extra']['source'])\n"
    )
    facts = {"tokens": 7, "truncated": True}
    assert judge(RIGHT, json.dumps(ROW), RewardWeights(), load_reward(own(tmp_path, text), "mre"), facts).rewards == 108


def test_held_out_items_are_scored_by_their_benchmark_alone(tmp_path):
    label = json.dumps({**ROW, "held_out": "math500"})
    assert judge(RIGHT, label, RewardWeights(), load_reward(own(tmp_path, PARTS), "mre")).rewards == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nosuchmodule", r"mine.py:score cannot be loaded \(ModuleNotFoundError: No module named 'nosuch"),
        ("def score(:", r"cannot be loaded \(SyntaxError"),
        ("raise SystemExit(3)", r"cannot be loaded \(SystemExit: 3"),
        ("def scores(g, o, r): return 1", r"mine.py has no function score\). Did you mean scores"),
        ("def score(gold, output): return 1", r"does not take \(gold, output, row\): too many positional"),
        ("def score(g, o, r, x): return 1", r"does not take .*missing a required argument: 'x'"),
        ("def score(g, o, r): return float('nan')", r"phase mre: reward mine.py:score failed for row row-1: .*finite"),
        ("def score(g, o, r): return 'good'", "reward is 'good', which is not a finite number"),
        ("def score(g, o, r): return None", "not a finite number"),
        ("def score(g, o, r): return {'brief': 1}", "the mapping has no 'reward'"),
        ("def score(g, o, r): return {'reward': 1, 'a b': 1}", "'a b' cannot name a number"),
        ("def score(g, o, r): return {'reward': 1, 'x' if o else 'y': 1}", "other parts for other outputs"),
        (
            "def score(g, o, r): return {'reward': 1, 'failed': 1}",
            "'failed' is a name of the log's own: choose another",
        ),
        ("def score(g, o, r): raise SystemExit(2)", "failed for row row-1: SystemExit: 2"),
        ("def score(g, o, r): raise KeyboardInterrupt", r"failed for row row-1: KeyboardInterrupt\. Fix the function"),
        ("def score(g, o, r): assert o == g", r"failed for row row-1: AssertionError\. Fix the function"),
        ("score = max", r"does not take \(gold, output, row\): no signature found"),
        ("def score(g, o, r): return 1 / len(o)", "failed for row row-1: ZeroDivisionError"),
        (
            "import signal\ndef score(g, o, r):\n    signal.signal(signal.SIGALRM, print)\n    return 1.0",
            "signal only works in main thread",  # as on the rollout workers
        ),
    ],
)
def test_what_cannot_serve_is_told_in_one_line_before_anything_starts(tmp_path, text, said):
    with pytest.raises(InfiMmrError, match=said) as error:
        checked(own(tmp_path, text))
    assert "\n" not in str(error.value)


def test_words_of_another_form_are_refused(tmp_path):
    for words in ("mine.py", "os:system", "mine.py:", "mine"):
        with pytest.raises(UsageError, match=r"is not FILE.py:FUNCTION. The function takes \(gold, output, row\)"):
            load_reward(words, "mre")
    with pytest.raises(InfiMmrError, match=r"gone.py:score cannot be loaded \(FileNotFoundError"):
        load_reward(str(tmp_path / "gone.py:score"), "mre")


def phase_with(tmp_path, text):
    own(tmp_path, text)
    (tmp_path / "mine.toml").write_text('base = "fra"\n[reward]\nfunction = "mine.py:score"\n')
    return load_phase(str(tmp_path / "mine.toml"), "local")


def test_a_phase_whose_reward_fails_for_a_row_of_its_dataset_is_refused_and_leaves_nothing(tmp_path, mini_store):
    failing = phase_with(tmp_path, "def score(gold, output, row):\n    return {}[row['id']]")
    with pytest.raises(InfiMmrError, match=r"phase mine: reward mine.py:score failed for row .*KeyError.*nothing was"):
        run_phase(PhaseRequest(failing, tmp_path / "run", store=mini_store))
    assert not (tmp_path / "run").exists()
    absent = phase_with(tmp_path, "def other(gold, output, row):\n    return 1")
    with pytest.raises(InfiMmrError, match="has no function score"):
        make_plan(absent, store=mini_store)


def test_a_run_keeps_the_source_and_goes_on_with_a_mended_one(tmp_path, mini_store, monkeypatch):
    seen = []

    def stop(spec, *_):
        seen.append(spec.agent.reward)
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", stop)
    told: list[str] = []
    sources = ["def score(gold, output, row):\n    return 1", "def score(gold, output, row):\n    return 2"]
    for text in sources:
        request = PhaseRequest(
            phase_with(tmp_path, text), tmp_path / "run", resume=True, store=mini_store, tell=told.append
        )
        with pytest.raises(KeyboardInterrupt):
            run_phase(request)
    record = json.loads((tmp_path / "run" / "run.json").read_text())["reward"]
    kept = [tmp_path / "run" / "reward" / one["file"] for one in (*record["earlier"], record)]
    assert [file.read_text() for file in kept] == sources
    assert "was changed since the run began" in " ".join(told)
    (tmp_path / "mine.py").unlink()  # workers load the copy
    for settings, text in zip(seen, sources, strict=True):
        loaded = loaded_by_worker(settings)
        assert loaded.function.source.decode() == text
    line = (tmp_path / "run" / "prompts.jsonl").read_text().splitlines()[0]
    assert json.loads(json.loads(line)["label"])["question"]


def test_another_number_of_parts_later_is_an_error_with_the_row(tmp_path):
    found = checked(own(tmp_path, PARTS))
    settings = for_workers(recorded(found, tmp_path, {}, 0, print), tmp_path)
    worker = loaded_by_worker({**settings, "parts": ["brief"]})
    with pytest.raises(InfiMmrError, match="failed for row row-1: it returned reward, brief, accuracy, before reward"):
        judge(RIGHT, json.dumps(ROW), RewardWeights(), worker)


@pytest.mark.parametrize(
    "text",
    [
        "W = float((Path(__file__).parent / 'w.txt').read_text())\ndef score(g, o, r): return W",
        "def score(g, o, r): return float((Path(__file__).parent / 'w.txt').read_text())",
    ],
)
def test_a_reward_that_reads_a_file_beside_itself_is_refused_before_anything_starts(tmp_path, text):
    words = own(tmp_path, f"from pathlib import Path\n{text}")
    (tmp_path / "w.txt").write_text("1")
    with pytest.raises(
        InfiMmrError, match=r"mine.py:score .*FileNotFoundError.*Only the named file is copied"
    ) as error:
        checked(words)
    assert "\n" not in str(error.value)


def test_a_reward_that_cannot_be_loaded_by_a_worker_is_named(tmp_path):
    text = f"if not __import__('os').path.exists({str(tmp_path / 'w.txt')!r}): raise ValueError('no w')\n"
    words = own(tmp_path, text + "def score(g, o, r): return 1")
    (tmp_path / "w.txt").write_text("1")
    settings = for_workers(recorded(checked(words), tmp_path, {}, 0, print), tmp_path)
    (tmp_path / "w.txt").unlink()
    with pytest.raises(InfiMmrError, match=r"^reward mine.py:score, copied to .* cannot be loaded \(ValueError: no w"):
        loaded_by_worker(settings)


def test_parts_that_come_only_for_some_answers_of_a_run_are_an_error_with_the_row(tmp_path):
    text = "def score(g, o, r): return {'reward': 1.0, 'bonus': 0.5} if 'therefore' in o else 0.0"
    worker = loaded_by_worker(for_workers(recorded(checked(own(tmp_path, text)), tmp_path, {}, 0, print), tmp_path))
    assert judge(RIGHT, json.dumps(ROW), RewardWeights(), worker).rewards == 0.0
    with pytest.raises(InfiMmrError, match=r"failed for row row-1: it returned reward, bonus, before reward$"):
        judge("therefore 4", json.dumps(ROW), RewardWeights(), worker)


def test_a_step_in_which_a_rollout_lacks_parts_still_has_its_metrics():
    row = {"kind": "integer", "tokens": 3, "score": 1.0, "total": 1.0}
    assert step_metrics(1, {}, [{**row, "parts": {"bonus": 0.5}}, row])["reward_bonus"] == 0.25


def test_a_failure_on_a_worker_is_told_once(tmp_path):
    (tmp_path / "reward-error.txt").write_text("reward mine.py:score failed for row r: ValueError: x")
    assert failure(tmp_path) == "reward mine.py:score failed for row r: ValueError: x"
    assert failure(tmp_path) == ""


def test_runs_without_a_function_are_the_runs_they_were(tmp_path):
    plain, mine = load_phase("fra", "local"), phase_with(tmp_path, PARTS)
    values = plain.model_dump(mode="json", exclude=set(NOT_IDENTITY))
    del values["reward"]["function"], values["model"]["start"], values["lora"]
    assert identity(plain, "d", "p") == fingerprint([values, "d", "p"])
    assert identity(mine, "d", "p") != identity(plain, "d", "p")


def test_what_the_function_prints_does_not_end_up_among_results(tmp_path, capsys):
    checked(own(tmp_path, "print('loaded')\ndef score(g, o, r):\n    print('asked')\n    return 1"))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.split() == ["loaded", "asked", "asked", "asked"]


@pytest.mark.slow
def test_a_reward_that_loads_here_and_not_on_a_worker_ends_the_run_with_one_line_that_names_it(
    tmp_path, mini_store, monkeypatch
):
    def worker(spec, *_):
        """A rollout worker's own start, without Ray and vLLM."""
        words = [sys.executable, "-c", "from trainer.openrlhf_bridge.agent import AgentExecutor; AgentExecutor()"]
        environment = {**os.environ, **run_environment(spec, "tag", tmp_path)}
        return Ending(subprocess.run(words, env=environment, stderr=subprocess.DEVNULL, check=False).returncode, "")

    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", worker)
    text = "import os\nif 'INFI_MMR_AGENT' in os.environ:\n    raise OSError('no units\\nhere')\n"
    phase = phase_with(tmp_path, text + "def score(gold, output, row):\n    return 1\n")
    with pytest.raises(InfiMmrError) as refused:
        run_phase(PhaseRequest(phase, tmp_path / "run", store=mini_store))
    copy = next((tmp_path / "run" / "reward").glob("mine-*.py"))
    assert str(refused.value) == (
        f"phase {phase.name} stopped after step 0 of {phase.train.max_steps}: reward mine.py:score, copied to "
        f"{copy}:score cannot be loaded (OSError: no units here). "
        "Fix the function; the same command with --resume continues after step 0"
    )
    reason = json.loads((tmp_path / "run" / "run.json").read_text())["attempts"][0]["reason"]
    assert "mine.py:score" in reason
