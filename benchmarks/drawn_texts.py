"""Draws texts for measurements: words by Zipf's law, some of the texts near copies of others, the same for one seed.

Also `measured`, which runs one method in a process of its own, so that its CPU-seconds and peak memory are its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

RESULTS = Path(__file__).parent / "results"
VOCABULARY = 30_000
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "xy", "zen")


def vocabulary() -> list[str]:
    """Pronounceable words of two to four syllables, commonest first, and numbers among them."""
    names = []
    for index in range(VOCABULARY):
        value, name = index, ""
        while len(name) < 4 or value:
            name += SYLLABLES[value % len(SYLLABLES)]
            value //= len(SYLLABLES)
        names.append(str(index) if index % 23 == 7 else name)
    return names


def draw(count: int, seed: int = 7, words: int = 69, copies: float = 0.15, changes: int = 3) -> pl.Series:
    """`count` texts of about `words` words; a part `copies` are copies of others with up to `changes` words changed."""
    import polars as pl
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, VOCABULARY + 1) ** 0.9
    weights /= weights.sum()
    base = int(count * (1 - copies))
    lengths = np.maximum(8, rng.normal(words, words * 0.3, base).astype(np.int64))
    tokens = rng.choice(VOCABULARY, int(lengths.sum()), p=weights).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    source = rng.integers(0, base, count - base)
    copied = lengths[source]
    more = np.concatenate(([0], np.cumsum(copied)))
    extra = tokens[np.repeat(offsets[source] - more[:-1], copied) + np.arange(more[-1])]
    for change in range(changes):
        chosen = rng.random(len(source)) < (changes - change) / (changes + 1)
        place = more[:-1][chosen] + (rng.random(int(chosen.sum())) * copied[chosen]).astype(np.int64)
        extra[place] = rng.choice(VOCABULARY, len(place), p=weights)
    names = pa.array(vocabulary())
    all_offsets = np.concatenate((offsets, offsets[-1] + more[1:]))
    lists = pa.LargeListArray.from_arrays(all_offsets, names.take(pa.array(np.concatenate((tokens, extra)))))
    order = rng.permutation(count)
    texts = pl.Series("text", pl.from_arrow(lists)).list.join(" ")
    return ("Q. " + texts.gather(order) + ", is it?").alias("text")


def measured(script: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """Run `script arguments` and return the JSON object on the last line of its stdout; `absent` where a package is."""
    environment = {**os.environ, "PYTHONPATH": str(Path(script).resolve().parent.parent)}
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
        environment.setdefault(name, "2")
    done = subprocess.run([python, script, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"absent" if "No module named" in last[0] else "failed": last[0][:200]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Result of `function`; CPU-seconds (all threads and children), wall seconds, growth of peak memory in MB."""
    before, started = _cpu(), time.perf_counter()
    memory = _memory_mb("VmRSS")
    value = function()
    cost = {
        "cpu_seconds": round(_cpu() - before, 3),
        "wall_seconds": round(time.perf_counter() - started, 3),
        "extra_peak_mb": round(_memory_mb("VmHWM") - memory, 1),
        "peak_mb": round(_memory_mb("VmHWM"), 1),
    }
    return value, cost


def _cpu() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def _memory_mb(field: str) -> float:
    """`VmHWM` (peak) or `VmRSS` (now) of this process; `ru_maxrss` would tell the parent's peak after a fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
