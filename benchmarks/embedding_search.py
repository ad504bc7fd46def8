"""How near does exact nearest-item search come to the machine's own matrix product, and what memory does it add?

Data: 40,000 x 1,536 rows and 15,000 x 1,536 items, float32, drawn and L2-normalised. Floor: the same products by numpy
in large blocks into one buffer, nothing done with them. Each way in a process of its own; CPU-seconds of all threads.

    python benchmarks/embedding_search.py [--rows 40000] [--items 15000] [--methods floor,numpy,faiss]

Writes results/embedding_search.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from drawn_texts import RESULTS, measured, timed
from machine import machine

WIDTH, BLOCK = 1_536, 2_048
METHODS = ("floor", "numpy", "faiss")


def vectors(count: int, seed: int) -> np.ndarray:
    """Unit vectors, float32 [count, WIDTH]."""
    made = np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def run_one(method: str, rows: int, items: int) -> None:
    """Measure one way; `best` are the first rows' items, to compare the ways."""
    left, right = vectors(rows, 1), vectors(items, 2)
    left[: rows // 10] = right[: rows // 10] if items >= rows // 10 else left[: rows // 10]
    if method == "floor":
        buffer = np.empty((BLOCK, items), np.float32)

        def product() -> list[int]:
            for first in range(0, rows, BLOCK):
                block = left[first : first + BLOCK]
                np.matmul(block, right.T, out=buffer[: len(block)])
            return []

        product_of = product
    else:
        from data_engine.decontamination.embedding_search import nearest

        nearest(left[:100], right[:100], method)  # type: ignore[arg-type]

        def product_of() -> list[int]:
            return nearest(left, right, method)[0].tolist()  # type: ignore[arg-type,no-any-return]

    best, cost = timed(product_of)
    right_ones = sum(place == row for row, place in enumerate(best[: rows // 10]))
    print(json.dumps({**cost, "recall_of_planted": round(right_ones / max(1, rows // 10), 5) if best else None}))


def main() -> None:
    """Measure every way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--items", type=int, default=15_000)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--one")
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options.rows, options.items)
        return
    sizes = ("--rows", str(options.rows), "--items", str(options.items))
    results: dict[str, Any] = {}
    for method in options.methods.split(","):
        results[method] = measured(__file__, "--one", method, *sizes)
        print(method, results[method], file=sys.stderr)
    floor = results["floor"]["cpu_seconds"]
    over = {
        name: round(one["cpu_seconds"] / floor, 3)
        for name, one in results.items()
        if name != "floor" and "cpu_seconds" in one
    }
    report = {
        "machine": machine(),
        "rows": options.rows,
        "items": options.items,
        "width": WIDTH,
        "results": results,
        "times_the_floor": over,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "embedding_search.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
