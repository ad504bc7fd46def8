"""Rollouts become one Parquet file per step, metrics one line per step, also after a resume."""

from __future__ import annotations

import json
import math
import os

import polars as pl
import pytest

from trainer.openrlhf_bridge.records import ACTOR, FOLDER, TRAINER, RecordFile
from trainer.rollouts import COLUMNS, EVALUATIONS, METRICS, UNNAMED, RunWriter, read_lines, read_metrics


def prompts(folder):
    lines = [
        {"prompt": "p", "label": json.dumps({"id": name, "gold": "1"}), "images": [], "question": f"Q {name}",
         "image_hashes": ["ab"]}
        for name in ("r1", "r2")
    ]  # fmt: skip
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def rollout(step, name="r1", score=1, kind="integer", shaped=None):
    accuracy = float(score) if shaped is None else shaped
    parts = {"total": 0.1 + 0.9 * accuracy, "format": 1.0, "accuracy": accuracy, "type_match": 1.0, "exact": 1.0}
    return {
        "step": step, "output": "<think>1</think>\\boxed{1}", "tokens": 10, "truncated": False, **parts, "score": score,
        "kind": kind, "verdict": "correct" if score else "wrong", "failure": "", "prompt_id": name, "gold": "1",
    }  # fmt: skip


def finish(writer, step, values=None):
    with (writer.parts / "trainer-1.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "values": values or {}}) + "\n")
    ((name, line),) = writer.finished()
    assert (name, line["step"]) == (METRICS, step)
    return line


def write_part(writer, *rows, cut=False):
    with (writer.parts / "actor-1.jsonl").open("a") as file:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        file.write(text[:-5] if cut else text)


def test_a_finished_step_has_its_parquet_file_with_question_and_pictures(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), rollout(1, "r2", 0, "choice"), rollout(2))
    line = finish(writer, 1, {"reward": 0.55, "kl": float("nan"), "timing/step_total": 3.0})
    table = pl.read_parquet(tmp_path / "rollouts" / "step-000001.parquet")
    assert table.columns == [name for name, _, _ in COLUMNS]
    assert table.height == 2
    assert table["question"].to_list() == ["Q r1", "Q r2"]
    assert table["image_hashes"].to_list() == [["ab"], ["ab"]]
    assert table["reward"].to_list() == [1.0, 0.1]
    assert line["reward"] == 0.55
    assert line["kl"] is None
    assert line["seconds"] == 3.0
    assert line["tokens"] == 20
    assert line["by_kind"]["choice"] == {"rollouts": 1, "accuracy": 0.0, "reward": 0.1}
    finish(writer, 2)
    assert pl.read_parquet(tmp_path / "rollouts" / "step-000002.parquet").height == 1
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_accuracy_means_the_same_in_the_rollouts_as_in_the_metrics(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), rollout(1, score=0, shaped=0.2), rollout(1, score=0, shaped=0.2), rollout(1))
    line = finish(writer, 1, {"accuracy": 0.5, "reward": 0.64})
    table = pl.read_parquet(tmp_path / "rollouts" / "step-000001.parquet")
    assert table["accuracy"].to_list() == [1.0, 0.0, 0.0, 1.0]
    assert table["accuracy"].mean() == line["accuracy"] == line["by_kind"]["integer"]["accuracy"]
    assert table["accuracy_reward"].to_list() == [1.0, 0.2, 0.2, 1.0]
    assert table["reward"].mean() == line["by_kind"]["integer"]["reward"]
    assert "score" not in table.columns


def test_a_line_still_being_written_waits_for_its_end(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), rollout(1), cut=True)
    writer._collect()
    assert len(writer._waiting[1]) == 1
    text = json.dumps(rollout(1)) + "\n"
    with (writer.parts / "actor-1.jsonl").open("a") as file:
        file.write(text[-5:])
    finish(writer, 1)
    assert pl.read_parquet(tmp_path / "rollouts" / "step-000001.parquet").height == 2


def test_a_resumed_run_forgets_what_came_after_its_state(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    for step in (1, 2, 3):
        write_part(writer, rollout(step))
        finish(writer, step, {"reward": step / 10})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')  # cut by a kill
    again = RunWriter(tmp_path, resumed_from=2)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "rollouts").glob("*.parquet")) == [
        "step-000001.parquet",
        "step-000002.parquet",
    ]
    write_part(again, rollout(3, "r2"))
    finish(again, 3, {"reward": 0.9})
    assert read_metrics(tmp_path)[-1]["reward"] == 0.9


def test_a_step_without_rollout_lines_still_has_a_file_with_the_columns(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    finish(writer, 1, {"reward": 0.0})
    assert pl.read_parquet(tmp_path / "rollouts" / "step-000001.parquet").height == 0


def test_steps_that_were_saved_when_nobody_looked_any_more_are_written_at_the_resume(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), rollout(1, "r2"))
    finish(writer, 1, {"reward": 0.125})  # then the launcher was killed, and training went on to a state of step 3
    for step in (2, 3, 4):
        write_part(writer, rollout(step), rollout(step, "r2"))
    with (writer.parts / "trainer-1.jsonl").open("a") as file:
        file.writelines(json.dumps({"step": step, "values": {"reward": step / 8}}) + "\n" for step in (2, 3, 4))
        file.write('{"step": 5, "val')  # cut by a kill
    again = RunWriter(tmp_path, resumed_from=3)
    assert [(line["step"], line["reward"], line["rollouts"]) for line in read_metrics(tmp_path)] == [
        (1, 0.125, 2),
        (2, 0.25, 2),
        (3, 0.375, 2),
    ]
    assert pl.read_parquet(tmp_path / "rollouts" / "step-000003.parquet")["prompt_id"].to_list() == ["r1", "r2"]
    assert list(again.parts.iterdir()) == []
    assert finish(again, 4)["rollouts"] == 0


def held_out(step, right):
    """Answers of an evaluation, as an actor counts them to the step that comes next."""
    answer = {"held_out": "gsm8k", "output": f"<think>so</think>\\boxed{{{5 if right else 7}}}", "truncated": False}
    return [{"step": step + 1, "prompt_id": f"gsm8k/{n}", "tokens": 3, **answer} for n in range(4)]


def test_an_evaluation_that_was_written_before_the_kill_is_no_part_of_one_written_at_the_resume(tmp_path):
    prompts(tmp_path)
    item = {"benchmark": "gsm8k", "question": "q", "answer": "5", "kind": "number", "category": None, "problem": None}
    lines = [
        {"label": json.dumps({"id": f"gsm8k/{n}"}), "item": json.dumps({**item, "key": str(n), "choices": [],
         "extra": {}}), "images": []}
        for n in range(4)
    ]  # fmt: skip
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), rollout(2), *held_out(2, right=False))
    with (writer.parts / "trainer-1.jsonl").open("a") as file:
        file.writelines(json.dumps({"step": step, "values": {}}) + "\n" for step in (1, 2))
        file.write(json.dumps({"evaluated": 2}) + "\n")
    assert [name for name, _ in writer.finished()] == [METRICS, METRICS, EVALUATIONS]  # then the launcher was killed
    write_part(writer, rollout(3), rollout(4), *held_out(4, right=True))
    with (writer.parts / "trainer-1.jsonl").open("a") as file:
        file.writelines(json.dumps({"step": step, "values": {}}) + "\n" for step in (3, 4))
        file.write(json.dumps({"evaluated": 4}) + "\n")
    RunWriter(tmp_path, resumed_from=4)
    found = [(line["step"], line["accuracy"]["gsm8k"]) for line in read_lines(tmp_path / EVALUATIONS)]
    assert found == [
        (2, {"n": 4, "accuracy": 0.0, "stderr": 0.0}),
        (4, {"n": 4, "accuracy": 1.0, "stderr": 0.0}),
    ]


def test_a_damaged_record_is_waited_for_while_the_run_goes_on_and_left_out_and_told_at_its_end(tmp_path):
    prompts(tmp_path)
    told = []
    writer = RunWriter(tmp_path, tell=told.append)
    rows = (writer.parts / "trainer-1.jsonl", writer.parts / "actor-1.jsonl")
    for file, line in zip(rows, ({"step": 1, "values": {}}, rollout(1)), strict=True):
        file.write_bytes(b"\0\0\n7\n" + json.dumps(line).encode() + b"\n")
    assert (list(writer.finished()), told) == ([], [])
    ((name, line),) = writer.finished(over=True)
    assert (name, line["step"], line["rollouts"]) == (METRICS, 1, 1)
    assert [str(file) in text for file, text in zip(rows, told, strict=True)] == [True, True]


def test_a_run_that_left_a_damaged_record_can_be_resumed(tmp_path):
    prompts(tmp_path)
    parts = RunWriter(tmp_path).parts
    (parts / "trainer-1.jsonl").write_bytes(b"\0\0\n" + json.dumps({"step": 1, "values": {}}).encode() + b"\n")
    told = []
    RunWriter(tmp_path, resumed_from=1, tell=told.append)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]
    assert len(told) == 1
    assert "trainer-1.jsonl holds 1 damaged" in told[0]


def test_rollouts_that_no_record_of_the_trainer_names_are_kept_and_mixed_with_no_later_step(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), rollout(2))  # by a version that read OpenRLHF's numbers from TensorBoard
    (writer.parts / "actor-2.jsonl").touch()
    again = RunWriter(tmp_path, resumed_from=1)
    kept = again.parts / UNNAMED / "actor-1.jsonl"
    assert [line["step"] for line in read_lines(kept)] == [1, 2]
    assert list(again.parts.iterdir()) == [kept.parent]
    write_part(again, rollout(2, "r2"))
    assert finish(again, 2)["rollouts"] == 1
    RunWriter(tmp_path, resumed_from=2)
    assert kept.is_file()


def test_a_kill_while_a_resume_shortens_the_metrics_leaves_them_whole(tmp_path, monkeypatch):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    finish(writer, 1)
    finish(writer, 2)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        RunWriter(tmp_path, resumed_from=1)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_what_a_process_records_is_what_the_launcher_reads_to_the_last_digit(tmp_path, monkeypatch):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    monkeypatch.setenv(FOLDER, str(writer.parts))
    actor, trainer = RecordFile(ACTOR), RecordFile(TRAINER)
    actor.write(rollout(1) | {"output": "α\n✓"})
    assert list(writer.finished()) == []
    trainer.write_step(1, {"reward": 0.1 + 0.2, "kl": math.nan, "truncated": None, "generated_samples": ["text", 0.5]})
    ((name, line),) = writer.finished()
    assert (name, line["reward"], line["kl"], line["rollouts"]) == (METRICS, 0.1 + 0.2, None, 1)
    assert pl.read_parquet(tmp_path / "rollouts" / "step-000001.parquet")["output"].to_list() == ["α\n✓"]
    assert list(writer.finished()) == []


def test_the_seconds_of_a_step_are_those_of_the_actor_that_took_longest(tmp_path):
    prompts(tmp_path)
    writer = RunWriter(tmp_path)
    write_part(writer, rollout(1), {"step": 1, "seconds": {"engine": 8.0, "front_end": 1.0, "pictures": 0.5}})
    with (writer.parts / "actor-2.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "seconds": {"engine": 9.5, "front_end": 0.75, "pictures": 0.25}}) + "\n")
    line = finish(writer, 1, {"timing/generation": 10.0})
    assert line["rollouts"] == 1
    assert line["seconds_generation"] == 10.0
    assert [line[f"seconds_{part}"] for part in ("engine", "front_end", "pictures")] == [9.5, 1.0, 0.5]
    write_part(writer, rollout(2))
    assert "seconds_engine" not in finish(writer, 2)
