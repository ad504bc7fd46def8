"""How fast are the rows found that share a 32-gram with a benchmark, against Python sets as open scripts use them?

Data: drawn texts of 69 words as rows; five benchmarks of 1,200 drawn items, each with 100 planted overlaps. The set way
(as in open-r1's decontamination): per benchmark a set of its n-grams, and per row the set of its n-grams, intersected.
Both ways must flag the same rows of each benchmark. Counted with the tokens `[a-z0-9]+` of the lower-cased text.
Each way runs three times in its process; the quickest counts, as other work shares the machine.

    python benchmarks/ngrams.py [--texts 80000] [--sets 16000]

The set way gets fewer rows; building its sets of the 6,000 items is counted in its time, as is our index in ours.
Writes results/ngrams.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from drawn_texts import RESULTS, draw, measured, timed
from machine import machine

if TYPE_CHECKING:
    import polars as pl

BENCHMARKS, ITEMS, PLANTED = 5, 1_200, 100
REPEATS = 3


def plant(texts: pl.Series, items: pl.Series) -> pl.Series:
    """Put 40 words of some rows into some items."""
    rng = np.random.default_rng(11)
    content = items.to_list()
    for benchmark in range(BENCHMARKS):
        rows, places = rng.choice(len(texts), PLANTED, replace=False), rng.choice(ITEMS, PLANTED, replace=False)
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            words = texts[row].split()[3:43]
            content[benchmark * ITEMS + place] = "Consider: " + " ".join(words).upper() + " (as given)."
    return type(items)("text", content)


def with_sets(texts: pl.Series, items: pl.Series, n: int) -> list[list[int]]:
    """Flagged rows per benchmark, by Python sets."""

    def ngrams(text: str) -> set[str]:
        words = re.findall(r"[a-z0-9]+", text.lower())
        return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}

    rows, content = texts.to_list(), items.to_list()
    flagged = []
    for benchmark in range(BENCHMARKS):
        known: set[str] = set()
        for item in content[benchmark * ITEMS : (benchmark + 1) * ITEMS]:
            known |= ngrams(item)
        flagged.append([row for row, text in enumerate(rows) if ngrams(text) & known])
    return flagged


def ours(texts: pl.Series, items: pl.Series, n: int) -> list[list[int]]:
    """Flagged rows per benchmark, by our kernels."""
    from data_engine.text_hash import NgramIndex, iterate_words, ngram_hashes

    indexes = [
        NgramIndex.build(ngram_hashes(next(iterate_words(items[b * ITEMS : (b + 1) * ITEMS], chunk_bytes=2**40)), n))
        for b in range(BENCHMARKS)
    ]
    flagged: list[list[int]] = [[] for _ in indexes]
    first = 0
    for tokens in iterate_words(texts):
        windows = ngram_hashes(tokens, n)
        for rows, index in zip(flagged, indexes, strict=True):
            rows.extend((np.unique(index.find(windows)[0]) + first).tolist())
        first += len(tokens)
    return flagged


def ours_merged(texts: pl.Series, items: pl.Series, n: int) -> list[list[int]]:
    """The same with one index over the items of all benchmarks."""
    from data_engine.text_hash import NgramIndex, iterate_words, ngram_hashes

    index = NgramIndex.build(ngram_hashes(next(iterate_words(items, chunk_bytes=2**40)), n))
    found, first = [], 0
    for tokens in iterate_words(texts):
        rows, places, _ = index.find(ngram_hashes(tokens, n))
        found.append(np.unique(places // ITEMS * len(texts) + rows + first))
        first += len(tokens)
    benchmark, row = np.divmod(np.unique(np.concatenate(found)), len(texts))
    return [row[benchmark == b].tolist() for b in range(BENCHMARKS)]


def run_one(method: str, data: str, n: int, limit: int) -> None:
    """Measure one way in this process."""
    import polars as pl

    texts = pl.read_parquet(data)["text"].head(limit)
    items = pl.read_parquet(data + ".items")["text"]
    function = {"ours": ours, "ours_merged": ours_merged, "sets": with_sets}[method]
    function(texts.head(100), items, n)
    runs = [timed(lambda: function(texts, items, n)) for _ in range(REPEATS)]
    flagged, cost = min(runs, key=lambda run: run[1]["cpu_seconds"])
    print(json.dumps({"rows": len(texts), **cost, "flagged": flagged}))


def main() -> None:
    """Measure both ways at n = 13 and 32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=80_000)
    parser.add_argument("--sets", type=int, default=16_000)
    parser.add_argument("--one", nargs=4, metavar=("METHOD", "DATA", "N", "LIMIT"))
    options = parser.parse_args()
    if options.one:
        method, data, n, limit = options.one
        run_one(method, data, int(n), int(limit))
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "texts.parquet")
        texts = draw(options.texts)
        texts.to_frame().write_parquet(data)
        items = plant(texts, draw(BENCHMARKS * ITEMS, seed=3, copies=0.0))
        items.to_frame().write_parquet(data + ".items")
        for n in (13, 32):
            slow = measured(__file__, "--one", "sets", data, str(n), str(options.sets))
            for method in ("ours", "ours_merged"):
                fast = measured(__file__, "--one", method, data, str(n), str(options.texts))
                if [[row for row in rows if row < options.sets] for rows in fast["flagged"]] != slow["flagged"]:
                    raise SystemExit(f"{method} and the sets flag different rows")
                times = rate(fast)["rows_per_cpu_second"] / rate(slow)["rows_per_cpu_second"]
                results.setdefault(f"n={n}", {"python_sets": rate(slow)})[method] = {
                    **rate(fast),
                    "times_the_sets": round(times, 1),
                }
            print(n, results[f"n={n}"], file=sys.stderr)
    report = {"machine": machine(), "benchmarks": BENCHMARKS, "items": BENCHMARKS * ITEMS, "results": results}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ngrams.json").write_text(json.dumps(report, indent=1) + "\n")


def rate(result: dict[str, Any]) -> dict[str, Any]:
    """Cost with rows per CPU-second, and how many rows are flagged instead of which."""
    flagged = sum(map(len, result["flagged"]))
    per_second = round(result["rows"] / result["cpu_seconds"])
    return {
        **{k: v for k, v in result.items() if k != "flagged"},
        "rows_per_cpu_second": per_second,
        "flagged": flagged,
    }


if __name__ == "__main__":
    main()
