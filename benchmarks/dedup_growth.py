"""How do time and memory of near-duplicate search grow from 10,000 to 1,000,000 texts?

Data: drawn texts of 69 words, 15% near copies; and a harsh one: all one template with a few words changed. Each
size in a process of its own; memory is what the search adds to the texts themselves.

    python benchmarks/dedup_growth.py [--sizes 10000,30000,...]

Writes results/dedup_growth.json with the exponent of growth between the smallest and the largest size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from drawn_texts import RESULTS, draw, measured, timed, vocabulary
from machine import machine

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
TEMPLATES = (10_000, 100_000)


def run_one(data: str) -> None:
    """Search the texts of a file."""
    import polars as pl

    from data_engine.duplicates.minhash import Shingling, bands_for, describe
    from data_engine.duplicates.similar_texts import clusters, similar_pairs

    texts = pl.read_parquet(data)["text"].rechunk()
    shingling, bands = Shingling("ascii_words", 5), bands_for(0.8)

    def search() -> dict[str, int]:
        table = describe(texts, shingling, bands)
        found = similar_pairs(texts, table, shingling=shingling)
        root = clusters(len(texts), found.left, found.right)[found.like]
        removed = int((root != range(len(root))).sum())
        return {"proposed": found.proposed, "pairs": len(found.left), "removed": removed, "cut": found.cut_buckets}

    similar_pairs(texts.head(100), describe(texts.head(100), shingling, bands), shingling=shingling)
    counts, cost = timed(search)
    megabytes = round(texts.str.len_bytes().sum() / 1e6, 1)
    print(json.dumps({"texts": len(texts), "text_mb": megabytes, **cost, **counts}))


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--one")
    options = parser.parse_args()
    if options.one:
        run_one(options.one)
        return
    results: list[dict[str, Any]] = []
    templates: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "texts.parquet")
        for size in map(int, options.sizes.split(",")):
            draw(size).to_frame().write_parquet(data)
            results.append(measured(__file__, "--one", data))
            print(results[-1], file=sys.stderr)
        import polars as pl

        names = vocabulary()
        for size in TEMPLATES:
            body = " ".join(names[100:160])
            made = [f"{body} {names[i % 997]} {names[i % 29_989]} {i}" for i in range(size)]
            pl.DataFrame({"text": made}).write_parquet(data)
            templates.append(measured(__file__, "--one", data))
            print(templates[-1], file=sys.stderr)
    first, last = results[0], results[-1]
    grown = math.log(last["texts"] / first["texts"]) if len(results) > 1 else 1.0
    report = {
        "machine": machine(),
        "results": results,
        "one_template": templates,
        "time_grows_as_n_to_the": round(math.log(last["cpu_seconds"] / first["cpu_seconds"]) / grown, 3),
        "extra_mb_per_million_texts": round(last["extra_peak_mb"] / last["texts"] * 1e6),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "dedup_growth.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
