"""Rollouts become one Parquet file per step, metrics one line per step, also after a resume."""

from __future__ import annotations

import json
import math

import polars as pl

from trainer.openrlhf_bridge.records import ACTOR, FOLDER, TRAINER, RecordFile
from trainer.rollouts import COLUMNS, METRICS, RunWriter, read_metrics


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
