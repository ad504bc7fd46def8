from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_engine.recipe import load_recipe, recipe_names
from shared import benchmarks
from trainer.evaluation.tasks import task

CACHED = (benchmarks.declared, benchmarks.benchmark, benchmarks.minis, benchmarks.published_names)
MINE = """
title = "My Bench"
protocol = "By letter."
scorer = "choice"

[published]
location = "me/my-bench"
revision = "0123456789012345678901234567890123456789"
files = ["test.parquet"]
splits = ["test"]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the folder of benchmarks, in its place."""
    copy = shutil.copytree(Path(benchmarks.__file__).parent, tmp_path / "benchmarks")
    monkeypatch.setattr(benchmarks, "__file__", str(copy / "__init__.py"))
    for found in CACHED:
        found.cache_clear()
    yield copy
    for found in CACHED:
        found.cache_clear()


def test_a_benchmark_is_added_by_one_file_alone(folder):
    (folder / "mybench.toml").write_text(MINE)
    assert task("mybench").title == "My Bench"
    assert "mybench" in recipe_names()
    source = load_recipe("mybench", "full").source
    assert (source.benchmark, source.location, source.files) == ("mybench", "me/my-bench", ("test.parquet",))
    compared = load_recipe("virl39k", "full").benchmarks
    assert compared["mybench"].revision.startswith("0123")
    assert "mybench" not in load_recipe("virl39k", "local").benchmarks  # no mini set stands for it
