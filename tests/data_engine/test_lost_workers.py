"""Work of a cluster that is lost at any of its writes, and done again, leaves what work does that nobody lost."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import tarfile
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_engine.build import BuildRequest, build
from data_engine.runners.local import LocalRunner
from shared.progress import Progress
from shared.store.folder import FolderStore


class LostError(BaseException):
    """The worker is gone: nobody catches that."""


class Losing(LocalRunner):
    """Hands each task over as a cluster does, to workers of which each is lost one write later than the one before."""

    name = "ray"

    def __init__(self):
        self.left = None
        self.lost = 0

    def writes(self):
        """Count a write; the worker is lost before it."""
        if self.left is not None:
            if self.left == 0:
                raise LostError
            self.left -= 1

    def map_batches(self, function, tables, *, broadcast=None, task=None):
        def again(table):
            for writes in range(10_000):
                with contextlib.suppress(LostError):
                    self.left = writes
                    self.task(function, table, broadcast)  # lost before it could tell what it did
                    self.left = None
                    return self.task(function, table, broadcast)
                self.lost += 1
            raise AssertionError

        yield from super().map_batches(again, tables, task=task)

    @staticmethod
    def task(function, table, broadcast):
        function, broadcast = pickle.loads(pickle.dumps((function, broadcast)))  # noqa: S301
        return function(table) if broadcast is None else function(table, broadcast)


@pytest.fixture
def losing(monkeypatch):
    """A runner of such workers, for builds on `ray`."""
    runner = Losing()

    def counted(write):
        def counting(*given, **named):
            runner.writes()
            return write(*given, **named)

        return counting

    for name in ("put", "put_new", "put_pieces", "delete"):
        monkeypatch.setattr(FolderStore, name, counted(getattr(FolderStore, name)))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr("data_engine.runners.open_runner", lambda name, **_: runner if name == "ray" else LocalRunner())
    return runner


COLOURS = ("red", "green", "blue", "black", "brown", "grey", "white")
RECIPE = """
prompts = "full"
[sources.shards]
reader = "table"
location = "shards"
[sources.lines]
reader = "table"
location = "lines"
[splits]
train = 0.7
validation = 0.3
[steps.verify_answers]
[steps.type_images]
engine = {engine}
[steps.caption_images]
engine = {engine}
[steps.caption_leaks]
action = "re-ask"
[steps.decontaminate_ngrams]
planted_duplicates = 1
[steps.decontaminate_embeddings]
planted_duplicates = 1
engine = {pooling}
[steps.dedup_minhash]
planted_duplicates = 1
[steps.rate_difficulty]
engine = {engine}
samples = 2
max_tokens = 96
[benchmarks.mine]
location = "items.jsonl"
"""


def write_sources(folder, drawing):
    """Rows with pictures in shards and in lines; some of them twice, with two answers, near another, in a benchmark."""
    things = [f"{kind} of {colour}" for kind in ("lines", "corners", "circles", "dots", "arcs") for colour in COLOURS]
    asked = [
        f"Count all the {thing} ink in this figure, then add what stands beside its {thing} rim" for thing in things
    ]
    rows = [{"id": f"k{n}", "question": asked[n % 33], "answer": str(n % 33)} for n in range(44)]
    rows[-1]["answer"], rows[-2]["question"] = "99", rows[-2]["question"].replace("Count all", "Please count")
    pictures = [drawing(n % 33) for n in range(44)]
    (folder / "shards").mkdir()
    (folder / "lines").mkdir()
    with tarfile.open(folder / "shards" / "train-0.tar", "w") as out:
        for row, picture in list(zip(rows, pictures, strict=True))[::2]:
            for ending, data in (("json", json.dumps(row).encode()), ("png", picture)):
                about = tarfile.TarInfo(f"{row['id']}.{ending}")
                about.size = len(data)
                out.addfile(about, BytesIO(data))
    lines = [
        json.dumps({**row, "image": base64.b64encode(picture).decode()})
        for row, picture in list(zip(rows, pictures, strict=True))[1::2]
    ]
    (folder / "lines" / "train.jsonl").write_text("\n".join(lines))
    items = [{"id": f"i{n}", "question": rows[n]["question"], "answer": "1"} for n in (3, 4)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def leaking(body):
    """Captions say many numbers, and when they are asked for again some."""
    text = json.dumps(body["messages"])
    if "structured_outputs" in body or "boxed" in text:
        return ""
    return f"It shows {', '.join(map(str, range(0, 60, 6 if 'thrown away' in text else 1)))}."


def outcome(folder, runner):
    """All that a build leaves and tells."""
    store = folder / runner
    request = BuildRequest(recipe=str(folder / "own.toml"), profile="local", store=str(store), runner=runner)
    report = build(request, Progress())
    told = report.version.manifest
    counts = {step.name: (step.rows_in, step.rows_out, step.computed, step.reused) for step in told.counts}
    cells = {}
    for file in store.glob("annotations/*/*/**/*.parquet"):
        step, context = file.relative_to(store / "annotations").parts[:2]
        some = cells.setdefault(f"{step}/{context}", set())
        some.update(json.dumps(row, sort_keys=True, default=str) for row in pq.read_table(file).to_pylist())
    files = [(shard.file, shard.sha256) for shard in [*told.shards, told.ledger]]
    assert not (store / "scratch").exists()
    return {"version": (told.fingerprint, files), "counts": counts, "cells": cells, "warnings": told.warnings}


@pytest.mark.slow
def test_a_build_whose_workers_are_lost_at_each_of_their_writes_is_a_build_left_alone(
    losing, new_standin, step_world, tmp_path, monkeypatch
):
    for name, value in (
        ("data_engine.blocks.BLOCK_ROWS", 12),
        ("data_engine.ask_blocks.BUCKET_KEYS", 8),
        ("data_engine.ask_job.SPREAD_FROM", 8),
        ("data_engine.intake.in_blocks.FEW_BYTES", 0),
        ("data_engine.intake.in_blocks.PART_ROWS", 8),
        ("data_engine.intake.image_places.SPOOL_BYTES", 2**14),
        ("data_engine.sources.file_pieces.PICTURED_ROWS", 12),
        ("data_engine.sources.file_pieces.LEAST_BYTES", 1),
        ("data_engine.sources.table.MUCH", 0),
        ("data_engine.sources.table.MANY", 0),
        ("data_engine.steps.dedup_minhash.GROUP_ROWS", 8),
    ):
        monkeypatch.setattr(name, value)
    engine = f'{{model = "standin", endpoint = "{new_standin(say=leaking).url}", batch_size = 32, concurrency = 32}}'
    pooling = engine.replace("}", ', runner = "pooling"}')
    (tmp_path / "own.toml").write_text(RECIPE.format(engine=engine, pooling=pooling))
    write_sources(tmp_path, step_world.drawing)
    assert outcome(tmp_path, "ray") == outcome(tmp_path, "local")
    assert losing.lost > 300
