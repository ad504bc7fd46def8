"""Does the driver's memory stay flat from 1,000 to 100,000 rows with pictures, and what does Ray cost per row and step?

Runs every judging step on drawn rows (40 words and one picture of 20 KB each, noise behind a PNG's magic bytes; 15% of
the texts are copies of others) with the local runner and with Ray (two workers on this machine). Where an engine would
stand, something answers at once (a type, a caption of 200 letters, a drawn vector of 256 numbers): it is no model, so
that what is measured is the runner, the annotation store, the search and the pictures' way, and 100,000 asks are cheap.

Reported per size and runner: seconds per step, peak memory of the driver above its start (private memory: Ray's shared
segment is left out), microseconds per row. The rows themselves are drawn before the start and are not counted.

    python benchmarks/ray_runner.py [--only local|ray] [SIZE ...]     writes benchmarks/results/ray_runner.json

With `--only` one runner is measured and the other's numbers stay as the file has them.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = (1_000, 10_000, 100_000)
IMAGE_BYTES = 20_000
WIDTH = 256
ITEMS = 1_000
LIMIT_MB = 200
MODEL = "none/answers-at-once"


class AnswersAtOnce:
    """Stands where an engine would: every picture is a chart. It is no model."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def chat(self, conversations: Sequence[Any], sampling: Sequence[Any]) -> list[Any]:
        """One answer each: a type where few tokens are asked for, else a caption."""
        from shared.vlm import Answer

        texts = ["chart" if one.max_tokens < 64 else "a chart with bars " * 11 for one in sampling]
        return [Answer(text, 1, 1, "stop") for text, _ in zip(texts, conversations, strict=True)]

    def embed(self, pairs: Sequence[tuple[Sequence[bytes], str]]) -> np.ndarray:
        """A unit vector drawn from each text."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for _, text in pairs]
        vectors = np.stack([np.random.default_rng(seed).standard_normal(WIDTH, np.float32) for seed in seeds])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def close(self) -> None:
        """Nothing to free."""


def drawn_images() -> DrawnImages:
    """Pictures, and in the same process the engine that answers at once: this is how it reaches the workers."""
    from shared.vlm import room

    room._new = AnswersAtOnce  # type: ignore[assignment]  # noqa: SLF001
    return DrawnImages()


class DrawnImages:
    """Pictures drawn from their own hash on demand, by whoever reads them."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Come to life in a worker together with the engine."""
        return (drawn_images, ())

    def get(self, sha256: str) -> bytes:
        """About 20 KB of noise."""
        return b"\x89PNG\r\n\x1a\n" + hashlib.shake_128(sha256.encode()).digest(IMAGE_BYTES)


def drawn_rows(count: int, seed: int) -> Any:
    """Rows in the row schema as far as the steps read it."""
    import polars as pl
    from drawn_texts import draw

    return pl.DataFrame(
        {
            "id": [f"r{n:07}" for n in range(count)],
            "question": "<image>" + draw(count, seed, words=40),
            "choices": [[] for _ in range(count)],
            "answer": [str(n % 1000) for n in range(count)],
            "source": ["drawn"] * count,
            "image_hashes": [[hashlib.sha256(f"{seed} {n}".encode()).hexdigest()] for n in range(count)],
        },
        schema_overrides={"choices": pl.List(pl.String)},
    ).with_columns(pl.col("question").cast(pl.String))


def steps() -> dict[str, Any]:
    """Settings of each step, in the order in which a build runs them."""
    from data_engine.steps import (
        caption_images,
        decontaminate_embeddings,
        decontaminate_ngrams,
        dedup_minhash,
        type_images,
        verify_answers,
    )
    from shared.vlm import EngineSpec

    engine = EngineSpec(model=MODEL, revision="0", batch_size=128)
    pooling = EngineSpec(model=MODEL, revision="0", batch_size=128, runner="pooling")
    return {
        "verify_answers": (verify_answers, verify_answers.Settings()),
        "type_images": (type_images, type_images.Settings(engine=engine)),
        "caption_images": (caption_images, caption_images.Settings(engine=engine)),
        "decontaminate_ngrams": (decontaminate_ngrams, decontaminate_ngrams.Settings(planted_duplicates=0)),
        "decontaminate_embeddings": (
            decontaminate_embeddings,
            decontaminate_embeddings.Settings(engine=pooling, planted_duplicates=0),
        ),
        "dedup_minhash": (dedup_minhash, dedup_minhash.Settings(planted_duplicates=0)),
    }


class Watched:
    """Highest private memory of this process while it goes on."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.peak = self.now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Bytes now, without what lies in shared memory: that is the object store's, whose size is fixed."""
        return sum(
            int(area.private_clean + area.private_dirty)
            for area in self._process.memory_maps(grouped=True)
            if not area.path.startswith("/dev/shm")
        )

    def restart(self) -> int:
        """Give the peak so far and begin anew."""
        peak = max(self.peak, self.now())
        self.peak = self.now()
        return peak

    def close(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            self.peak = max(self.peak, self.now())


def measure(runner_name: str, rows: int) -> dict[str, Any]:
    """One run in this process: seconds and peak private memory above the start, step by step."""
    from data_engine.allocators import give_back_freed_memory, trim

    give_back_freed_memory()  # as the command does
    from ray import cloudpickle

    from data_engine.runners import open_runner
    from data_engine.step import BenchmarkItems, StepContext, StepResult
    from shared.progress import Progress
    from shared.store import open_store

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    runner = open_runner(runner_name, workers=2)
    todo = steps()
    frame = drawn_rows(rows, 1)
    benchmarks = [BenchmarkItems("drawn", "drawn", "1", drawn_rows(ITEMS, 2), DrawnImages())]
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, size in enumerate((200, rows)):  # a small build first: what is loaded once does not count
            store = open_store(Path(folder) / str(number))
            results: dict[str, StepResult] = {}
            gc.collect()
            trim()  # what drawing the rows left behind must not hide what the steps take
            watched = Watched()
            start = watched.now()
            for name, (module, settings) in todo.items():
                context = StepContext(
                    store, "local", runner, {}, Progress(), frame.head(size), DrawnImages(), benchmarks, results
                )
                begun = time.monotonic()
                results[name] = module.run(context, settings)
                seconds = time.monotonic() - begun
                trim()  # as the build does
                peak = (watched.restart() - start) / 2**20
                found[name] = {"seconds": round(seconds, 2), "driver_mb": round(peak, 1)}
                assert results[name].failures is None
            watched.close()
        assert results["type_images"].computed == results["caption_images"].computed == rows
    runner.close()
    return found


def main() -> None:
    """Each measurement in a process of its own, then the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--only", choices=("local", "ray"))
    options = parser.parse_args()
    sizes = options.sizes
    results = Path(__file__).parent / "results" / "ray_runner.json"
    runs: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
    if options.only and results.exists():
        runs = {(run["runner"], run["rows"]): run["steps"] for run in json.loads(results.read_text())["runs"]}
    for rows in sizes:
        for runner in (options.only,) if options.only else ("local", "ray"):
            command = [sys.executable, __file__, "--one", runner, str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[runner, rows] = json.loads(done.stdout.splitlines()[-1])
            print(runner, rows, runs[runner, rows], flush=True)
    if not all((runner, rows) in runs for runner in ("local", "ray") for rows in sizes):
        results.write_text(json.dumps({"runs": _listed(runs)}, indent=1) + "\n")
        return
    made = summary(runs, sizes)
    results.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps({name: value for name, value in made.items() if name != "runs"}, indent=1))
    growth = made["driver_growth_mb"]
    assert growth < LIMIT_MB, f"the driver's memory grows by {growth:.0f} MB from {min(sizes)} to {max(sizes)} rows"


def summary(runs: dict[tuple[str, int], dict[str, dict[str, float]]], sizes: Sequence[int]) -> dict[str, Any]:
    """What the runs say."""
    import machine

    smallest, largest = min(sizes), max(sizes)

    def peak(runner: str, rows: int) -> float:
        return max(step["driver_mb"] for step in runs[runner, rows].values())

    def per_row(runner: str, step: str) -> float:
        return runs[runner, largest][step]["seconds"] / largest

    growth = peak("ray", largest) - peak("ray", smallest)
    model_steps = ("type_images", "caption_images", "decontaminate_embeddings")
    return {
        "machine": machine.machine(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "what": (
            "all judging steps on drawn rows with a picture of 20 KB each; engines are stand-ins that answer at once, "
            "so that seconds are those of runner, store and search, not of a model"
        ),
        "items": ITEMS,
        "vector_width": WIDTH,
        "runs": _listed(runs),
        "driver_peak_mb": {f"{runner} {rows}": peak(runner, rows) for runner, rows in runs},
        "driver_growth_mb": round(growth, 1),
        "driver_growth_limit_mb": LIMIT_MB,
        "driver_bytes_per_row": round(growth * 2**20 / max(largest - smallest, 1)),
        "microseconds_per_row": {
            step: {runner: round(per_row(runner, step) * 1e6) for runner in ("local", "ray")}
            for step in runs["ray", largest]
        },
        "driver_overhead_seconds_per_ask": round(
            sum(per_row("ray", step) for step in model_steps) / len(model_steps), 6
        ),
    }


def _listed(runs: dict[tuple[str, int], dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    return [{"runner": runner, "rows": rows, "steps": found} for (runner, rows), found in sorted(runs.items())]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
