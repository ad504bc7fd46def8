"""The examples run as they stand: recipes, scripts, a task, a phase with a reward of its own. None starts an engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shared.own_code import load_function
from trainer.rewards import reward

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(folder: Path, *words: str) -> str:
    """Run a command of the product, or a script, in a folder; return what it said on both streams."""
    modules = {"data-engine": ["-m", "data_engine.cli"], "trainer": ["-m", "trainer.cli"], "python": []}
    command = [sys.executable, *modules[words[0]], *words[1:]]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the examples in which every command of their README has run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "examples").symlink_to(EXAMPLES)
    said = {}
    for line in "".join(FENCE.findall((EXAMPLES / "README.md").read_text(encoding="utf-8"))).splitlines():
        words = shlex.split(line.removeprefix("uv run "))
        said[words[1]] = run(folder, *words)
    return folder, said


def test_the_recipe_for_own_rows_builds_and_says_what_it_left_out(workplace):
    _, said = workplace
    assert "own-rows@v1 (local): 3 rows, 2 rejected" in said["build"]
    assert "1 dedup_minhash duplicate, 1 missing_answer" in said["build"]


def test_a_built_version_is_read_by_the_script(workplace):
    folder, _ = workplace
    said = run(folder, "python", str(EXAMPLES / "read_version.py"))
    assert "own-rows@v1 (local)" in said
    assert said.count("0 images") == 3
    assert "missing_answer" in said


def test_the_grading_script_tells_right_wrong_and_unreadable_apart(tmp_path):
    lines = run(tmp_path, "python", str(EXAMPLES / "grade_outputs.py")).splitlines()
    assert lines == ["correct", "correct", "correct", "21 True", "True", "unparsable_answer"]


def test_the_own_task_scores_outputs_within_its_tolerance_by_topic(workplace):
    folder, said = workplace
    assert "accuracy 66.7" in said["evaluate"]
    assert "by_topic" in (folder / "evaluations" / "own-task" / "evaluation.json").read_text(encoding="utf-8")


def test_the_own_phase_is_planned_and_its_reward_costs_a_right_answer_its_length(workplace):
    _, said = workplace
    assert "phase short-answers, profile local" in said["plan"]
    score = load_function("short_answers.py:score", "gold, output, row", "the example", EXAMPLES).call
    for answer, earned in (("21", 1.0 - 0.04), ("22", None)):
        output = f"<think>7 pens of 3 euros</think> \\boxed{{{answer}}}"
        parts = reward(output, {"gold": "21", "kind": "integer"})
        graded = {"total": parts.total, "exact": parts.exact}
        found = score("21", output, {"tokens": 200, "graded": graded})
        assert found["reward"] == pytest.approx(parts.total if earned is None else earned)


def test_every_file_of_the_examples_is_named_in_their_readme():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = [f"{path.name}/" if path.is_dir() else path.name for path in EXAMPLES.iterdir() if path.name[0] not in "._"]
    assert [name for name in names if f"`{name}`" not in text and name not in ("README.md", "__pycache__/")] == []
