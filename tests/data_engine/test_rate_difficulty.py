"""The step `rate_difficulty` with a stand-in server: what is asked again, what is graded, what a row gets."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pyarrow.parquet as pq
import pytest

from data_engine.step import StepResult
from data_engine.steps import rate_difficulty
from shared.binomial import exact_interval
from shared.prompts import prompt
from shared.vlm import EngineSpec


@pytest.fixture
def world(step_world, standin):
    """Four rows, one with a picture; the server answers 4 to every question."""
    pictures = step_world.Pictures()
    shown = pictures.add(step_world.drawing(1))
    rows = [
        ("r0", "What is 2 + 2?", [], [], "4", None),
        ("r1", "What is 2 + 3?", [], [], "5", None),
        ("r2", "<image>How many?", [], [shown], "four", None),
        ("r3", "Prove it.", [], [], "", None),
    ]
    standin.answers = {"": r"<think>Let me see.</think>\boxed{4}"}
    engine = EngineSpec(model="standin", endpoint=standin.url, attempts=1, batch_size=4)
    checked = pl.DataFrame(
        {
            "id": ["r0", "r1", "r2", "r3"],
            "status": ["verified"] * 3 + ["unverifiable"],
            "answer_kind": ["integer", "integer", "text", ""],
        }
    )

    def rate(**settings):
        context = step_world.context(rows, pictures=pictures, results={"verify_answers": StepResult(checked)})
        context = replace(context, rows=context.rows.with_columns(extra=pl.lit(None, pl.String)), prompts="full")
        chosen = rate_difficulty.Settings.model_validate({"engine": engine, "samples": 3, **settings})
        return rate_difficulty.run(context, chosen)

    return rate, standin


def test_each_row_gets_its_pass_rate_with_its_interval_and_the_length_of_answers(world):
    rate, server = world
    result = rate()
    rows = {row["id"]: row for row in result.annotations.iter_rows(named=True)}
    assert set(rows) == {"r0", "r1", "r2"}, "a gold that cannot be verified is not asked"
    assert (rows["r0"]["pass_rate"], rows["r0"]["samples"], rows["r0"]["passes"]) == (1.0, 3, 3)
    assert (rows["r0"]["low"], rows["r0"]["high"]) == exact_interval(3, 3)
    assert rows["r1"]["pass_rate"] == 0.0
    assert rows["r0"]["answer_tokens"] == 3.0
    assert (result.computed, result.reused) == (9, 0)
    assert len({body["seed"] for body in server.requests}) == 3
    assert {body["temperature"] for body in server.requests} == {1.0}
    assert server.requests[0]["messages"][0] == {"role": "system", "content": prompt("reason_system", "full")}


def test_a_second_build_asks_nothing_and_more_samples_ask_the_new_ones_only(world):
    rate, server = world
    first = rate()
    again = rate()
    assert (again.computed, again.reused) == (0, 9)
    assert again.annotations.equals(first.annotations)
    more = rate(samples=5)
    assert (more.computed, more.reused) == (6, 9)
    assert more.annotations["samples"].to_list() == [5, 5, 5]
    assert len(server.requests) == 15


def test_another_prompt_or_sampling_is_asked_anew(world, tmp_path):
    rate, _ = world
    rate()
    mine = tmp_path / "mine.md"
    mine.write_text("Think.")
    assert rate(system_prompt=str(mine)).computed == 9
    assert rate(temperature=0.7).computed == 9


def test_answers_that_fail_are_told_rated_without_and_asked_again(world):
    rate, server = world
    server.statuses["2 + 3"] = [400, 400, 400]
    first = rate()
    assert set(first.annotations["id"]) == {"r0", "r2"}
    assert first.failures is None, "a row that could not be rated stays"
    assert any("3 of 9 answers could not be had" in warning for warning in first.warnings)
    second = rate()
    assert (second.computed, second.reused) == (3, 6)
    assert json.loads(json.dumps(second.record))["models"][0]["sampling"]["samples"] == 3


def test_a_segment_that_rots_while_a_process_goes_on_is_set_aside_and_its_answers_asked_again(world, tmp_path):
    rate, server = world
    first = rate()
    asked = len(server.requests)
    segment = next(iter(tmp_path.rglob("annotations/rate_difficulty/*/*.parquet")))
    good = segment.read_bytes()
    place = pq.ParquetFile(segment).metadata.row_group(0).column(1).data_page_offset + 30
    segment.chmod(0o644)
    segment.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert rate().annotations.equals(first.annotations)
    assert len(server.requests) == 2 * asked
