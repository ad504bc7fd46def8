"""A small world to run steps in: rows, benchmarks, drawn pictures, a store in a temporary folder, the local runner."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from data_engine.runners.local import LocalRunner
from data_engine.step import BenchmarkItems, StepContext
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.progress import Progress
from shared.store import open_store

DEFAULTS = ([], [], "1", None)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache that no other test has written to."""
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """An empty folder for a set."""
    made = tmp_path / "set"
    made.mkdir()
    return made


class Pictures:
    """An image source over pictures held in memory."""

    def __init__(self):
        self.held = {}

    def add(self, data):
        self.held[bytes_hash(data)] = data
        return bytes_hash(data)

    def get(self, sha256):
        if sha256 not in self.held:
            raise InfiMmrError("no such picture")
        return self.held[sha256]


def drawing(seed, size=(96, 64), form="PNG", **options):
    """A picture of soft coloured patches; the same seed in another size is the same picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, form, **options)
    return out.getvalue()


def frame(rows):
    """Rows from tuples (id, question, choices, image hashes, answer, source); what is left out has a default."""
    columns = ("id", "question", "choices", "image_hashes", "answer", "source")
    whole = [dict(zip(columns, (*row, *DEFAULTS[len(row) - 2 :]), strict=True)) for row in rows]
    texts, lists = pl.String, pl.List(pl.String)
    return pl.DataFrame(whole, schema=dict(zip(columns, (texts, texts, lists, lists, texts, texts), strict=True)))


@pytest.fixture
def step_world(tmp_path):
    """Make pictures, benchmarks and contexts for a step; contexts of one test share a store."""

    def benchmark(name, rows, pictures=None):
        return BenchmarkItems(name, f"hub/{name}", "r1", frame(rows), pictures or Pictures())

    def context(rows, benchmarks=(), pictures=None, results=None, recipe=None):
        return StepContext(
            open_store(tmp_path / "store"),
            "local",
            LocalRunner(),
            recipe or {},
            Progress(),
            frame(rows),
            pictures or Pictures(),
            benchmarks,
            results or {},
        )

    return SimpleNamespace(Pictures=Pictures, drawing=drawing, benchmark=benchmark, context=context)
