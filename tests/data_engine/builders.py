"""Builders that all start at the same moment: a program that the tests start.

builders.py STORE PLACE N   N processes build PLACE/one.toml, each with a threshold of its own
"""

from __future__ import annotations

import importlib
import os
import sys
import time

import data_engine.blocks
import data_engine.intake.in_blocks
from data_engine.build import BuildRequest, build
from shared.progress import Progress

for late in (
    "polars",
    "pyarrow.parquet",
    "obstore.store",
    "data_engine.intake.in_blocks",
    "data_engine.assemble_blocks",
):
    # What a build imports late is here before the fork: the builders run at the same time.
    importlib.import_module(late)


def one(store: str, place: str, number: int) -> None:
    overrides = [f"assemble.jaccard_threshold={0.80 + number / 100:.2f}"]
    benchmarks = [f"mine={place}/mine.jsonl"]
    build(BuildRequest(f"{place}/one.toml", "local", store, benchmarks=benchmarks, overrides=overrides), Progress())


def main(store: str, place: str, processes: int) -> None:
    data_engine.blocks.BLOCK_ROWS = 24
    data_engine.intake.in_blocks.PART_ROWS = 16
    start, children = time.time() + 1.0, []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            time.sleep(max(0.0, start - time.time()))
            one(store, place, number)
            os._exit(0)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    if failed:
        sys.exit(f"{len(failed)} of {processes} builders failed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
