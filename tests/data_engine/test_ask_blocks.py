"""Model steps on rows in blocks: the same versions however rows lie, and cells stored by whoever got them."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine import ask_blocks, ask_job, blocks, stored_asks
from data_engine.build import BuildRequest, build
from data_engine.plan import plan_build
from data_engine.runners import Cell
from data_engine.steps import type_images
from data_engine.stored_asks import Kept, StoredAsks, write_asks
from shared.annotations import AnnotationTable, partitions_of
from shared.errors import InfiMmrError
from shared.progress import Progress
from shared.store import open_store
from shared.vlm import EngineSpec

RECIPE = """
prompts = "full"
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 16
[steps.verify_answers]
[steps.type_images]
engine = {engine}
[steps.caption_images]
engine = {engine}
[steps.caption_leaks]
action = "re-ask"
[steps.decontaminate_embeddings]
planted_duplicates = 1
engine = {pooling}
[steps.rate_difficulty]
engine = {engine}
samples = 2
max_tokens = 96
[benchmarks.math500]
location = "mini"
"""


def cells(store):
    """Every cell below `annotations/` that a model made, by table and key, whatever segments it lies in."""
    found = {}
    for file in Path(store).glob("annotations/*/*/**/*.parquet"):
        step, context = file.relative_to(Path(store) / "annotations").parts[:2]
        if step in {"type_images", "caption_images", "embeddings", "rate_difficulty", "decontaminate_embeddings"}:
            for row in pq.read_table(file).to_pylist():
                assert row["key"] not in found.setdefault((step, context), {}), "stored once"
                found[step, context][row["key"]] = row
    return found


def leaking(body):
    """Captions say many numbers, and when they are asked for again some."""
    text = json.dumps(body["messages"])
    if "structured_outputs" in body or "boxed" in text:
        return ""
    return f"It shows {', '.join(map(str, range(0, 60, 6 if 'thrown away' in text else 1)))}."


def test_a_version_does_not_depend_on_how_rows_lie_in_blocks_and_cells_in_partitions(
    new_standin, tmp_path, monkeypatch
):
    standin = new_standin(say=leaking)
    engine = f'{{model = "standin", endpoint = "{standin.url}", batch_size = 32, concurrency = 32}}'
    pooling = engine.replace("}", ', runner = "pooling"}')
    recipe = tmp_path / "asked.toml"
    recipe.write_text(RECIPE.format(engine=engine, pooling=pooling))
    steps = ("type_images", "caption_images", "caption_leaks", "decontaminate_embeddings", "rate_difficulty")

    def run(store, *overrides):
        request = BuildRequest(recipe=str(recipe), profile="local", store=str(tmp_path / store), overrides=overrides)
        report = build(request, Progress())
        manifest = report.version.manifest
        files = [(shard.file, shard.sha256) for shard in [*manifest.shards, manifest.ledger]]
        told = {step.name: (step.computed, step.reused) for step in report.steps if step.name in steps}
        return (manifest.fingerprint, files, told), manifest

    def planned():
        request = BuildRequest(str(recipe), "local", str(tmp_path / "one"), overrides=["assemble.cosine_near=0.6"])
        return {
            step["name"]: (step["reused"], step["model_calls"]) for step in plan_build(request, Progress())["steps"]
        }

    one, manifest = run("one")
    (leaks,) = (re.search(r": (\d+) of 29 .*asked again, (\d+) still do", told) for told in manifest.warnings)
    assert int(leaks[1]) > int(leaks[2]) > 0
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 6)
    monkeypatch.setattr(ask_blocks, "BUCKET_KEYS", 8)
    monkeypatch.setattr(ask_job, "SPREAD_FROM", 8)
    asked = len(standin.requests)
    many, _ = run("many")
    assert many == one
    assert len(standin.requests) == 2 * asked
    assert cells(tmp_path / "many") == cells(tmp_path / "one")
    assert any((tmp_path / "many" / "annotations" / "embeddings").glob("*/[0-9a-f][0-9a-f]/*.parquet"))
    again, manifest = run("one", "assemble.cosine_threshold=0.99")
    assert len(standin.requests) == 2 * asked, "cells of whole tables are found by bucket"
    assert {name: computed for name, (computed, _) in again[2].items()} == dict.fromkeys(steps, 0)
    assert manifest.warnings
    plans = [planned()]
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1000)
    plans.append(planned())
    assert plans[0] == plans[1]
    assert plans[0]["decontaminate_embeddings"] == (again[2]["decontaminate_embeddings"][1], 0)


@pytest.fixture
def table(tmp_path):
    return AnnotationTable(open_store(tmp_path / "store"), "asked", "c" * 64, pa.schema([("text", pa.string())]))


def test_cells_are_stored_by_their_partition_and_failures_are_told(table):
    keys = [f"{number:02x}" + "0" * 62 for number in range(6)]
    kept = pickle.loads(pickle.dumps(Kept([table], dict, frozenset([0]))))  # noqa: S301 - our own bytes
    kept([Cell(f"{key}/0", {"text": key[:2], "tokens": 2}) for key in keys[:4]])
    assert len(table.fresh()) == 0, "they wait for more"
    kept([Cell(f"{keys[4]}/0", None, "disk error")])
    kept.flush()
    told = json.loads(json.dumps(kept.told()))
    assert told == {"tokens": 8, "failed": {f"{keys[4]}/0": "disk error"}}
    assert kept.told() == {"tokens": 0, "failed": {}}
    assert table.fresh().missing(keys) == keys[4:]
    segments = [name for name, _ in table.listing()]
    assert [name[:3] for name in segments] == ["00/", "01/", "02/", "03/"]
    asks = [stored_asks.Ask(f"{key}/0", "") for key in keys]
    assert [ask.key for ask in kept.unknown(asks)] == [f"{key}/0" for key in keys[4:]]
    other = Kept([table], dict)
    other.add({**told, "cells": 5})
    assert (other.taken, other.failed) == (5, told["failed"])


def test_slow_answers_are_stored_as_they_come_and_fast_ones_together(table):
    now = [0.0]
    kept = Kept([table], dict, clock=lambda: now[0])

    def missing(key, after):
        now[0] += after
        kept([Cell(f"{key}/0", {"text": key})])
        return table.fresh().missing([key])

    assert missing("a", after=300.0) == missing("b", after=300.0) == []
    assert missing("c", after=0.5) == ["c"]
    assert missing("d", after=0.5) == ["d"]
    assert missing("e", after=1.0) == []
    assert table.fresh().missing(["c", "d"]) == []


def test_asks_are_read_from_where_they_lie_in_any_shares(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_asks, "ASKS_READ", 4)
    parts = blocks.Parts(open_store(tmp_path), "asks")
    whole = []
    for number, height in enumerate((5, 0, 9)):
        frame = pl.DataFrame(
            {"key": [f"k{number}{row}" for row in range(height)], "table": [row % 2 for row in range(height)]}
        )
        write_asks(parts, number, frame.cast({"key": pl.String, "table": pl.Int32}))
        whole += [f"k{number}{row}/{row % 2}" for row in range(height)]
    asks = StoredAsks(parts, [5, 0, 9], (("be kind", "<image>what"), ("", "<image>how")))
    assert [ask.key for ask in asks] == whole
    assert len(asks) == 14
    for size in (1, 3, 14, 20):
        read = [ask for places in asks.places(size) for ask in asks.read(places)]
        assert read == list(asks)
    first = next(iter(asks))
    assert (first.system, first.text, first.images) == ("be kind", "<image>what", ("k00",))


def test_a_machine_that_does_not_see_the_builds_folder_says_what_to_mount(tmp_path):
    asks = StoredAsks(blocks.Parts(open_store(tmp_path / "elsewhere"), "asks"), [1], (("", ""),))
    with pytest.raises(InfiMmrError, match=r"finds no asks in .*elsewhere.*every machine mounts"):
        asks.read(next(asks.places(1)))


def test_buckets_are_ranges_of_partitions():
    keys = pa.array([f"{byte:02x}" + "a" * 62 for byte in range(256)])
    assert partitions_of(keys).tolist() == list(range(256))


def test_answers_that_were_stored_elsewhere_end_the_build_and_say_so(step_world, standin, monkeypatch):
    pictures = step_world.Pictures()
    shown = pictures.add(step_world.drawing(1))
    monkeypatch.setattr(AnnotationTable, "append", lambda *_, **__: None)  # a folder that this machine does not see
    settings = type_images.Settings(engine=EngineSpec(model="standin", endpoint=standin.url))
    with pytest.raises(InfiMmrError, match=r"1 answers were stored and are not found in .*every worker"):
        type_images.run(step_world.context([("r", "q", [], [shown])], pictures=pictures), settings)


def test_a_step_that_does_not_say_what_it_looks_for_in_rows_is_refused_when_it_is_made():
    class Forgetful(ask_job.AskingRows):
        pass

    with pytest.raises(TypeError, match=r"abstract.*found.*lines"):
        Forgetful("forgetful", (), (), EngineSpec(model="tiny-vl"), None)
