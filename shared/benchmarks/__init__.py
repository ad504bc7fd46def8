"""The benchmarks, one file each, and nowhere else: `NAME.toml`, or `NAME.py` with `BENCHMARK` where rules need Python.

A TOML file holds the words of a task file (`trainer.evaluation.task_files`) and, where its items are published, a table
`[published]` with the fields of `Published`. Both are found by their file's name.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from importlib import import_module
from pathlib import Path

from shared.benchmark import Benchmark, Mini, Published
from shared.config import read_toml

PAPER = ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista")
"""Table 1 of the paper, in its order; what `all` stands for."""


@cache
def declared() -> dict[str, Path]:
    """Files of the benchmarks by name, the paper's first."""
    files = [path for path in sorted(Path(__file__).parent.iterdir()) if path.suffix in {".toml", ".py"}]
    found = {path.stem: path for path in files if path.stem != "__init__"}
    return {name: found[name] for name in (*PAPER, *(name for name in found if name not in PAPER))}


@cache
def benchmark(name: str) -> Benchmark:
    """What is declared of the benchmark `name`; of one that has no file here, nothing."""
    path = declared().get(name)
    if path is None:
        return Benchmark()
    if path.suffix == ".py":
        found: Benchmark = import_module(f"shared.benchmarks.{name}").BENCHMARK
        return dataclasses.replace(found, file=path)
    table = read_toml(path)
    published = Published.model_validate(table.pop("published", {}))
    return Benchmark(task=table, published=published, file=path)


@cache
def minis() -> dict[str, Mini]:
    """The mini sets that stand for benchmarks, by name."""
    return {name: mini for name in declared() if (mini := benchmark(name).mini) is not None}


@cache
def published_names() -> tuple[str, ...]:
    """Benchmarks whose place is known: each has a recipe, and rows can be compared with it by its name."""
    return tuple(name for name in declared() if benchmark(name).published.location)
