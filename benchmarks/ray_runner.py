"""Does the driver's memory stay flat from 1,000 to 100,000 rows with pictures, and what does Ray cost per ask?

Runs the step `type_images` on drawn rows (one picture each, 20 KB of noise behind a PNG's magic bytes) with the local
runner and with Ray (two workers on this machine). Where an engine would stand, something answers at once: it is no
model, so that what is measured is the runner, the annotation store and the pictures' way, and 100,000 asks are cheap.

Reported per size and runner: seconds, peak memory of the driver above its start (private memory, without Ray's shared
segment), microseconds per ask.

    python benchmarks/ray_runner.py [SIZE ...]     writes benchmarks/results/ray_runner.json
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = (1_000, 10_000, 100_000)
IMAGE_BYTES = 20_000
LIMIT_MB = 200


class AnswersAtOnce:
    """Stands where an engine would: every picture is a chart. It is no model."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def chat(self, conversations: Sequence[Any], sampling: Any) -> list[Any]:
        """One answer each."""
        from shared.vlm import Answer

        del sampling
        return [Answer("chart", 1, 1, "stop") for _ in conversations]

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


def measure(runner_name: str, rows: int) -> dict[str, float]:
    """One run in this process: seconds and peak private memory above the start."""
    import polars as pl
    import psutil
    from ray import cloudpickle

    from data_engine.progress import QuietProgress
    from data_engine.runners import Ask, Cell, open_runner
    from data_engine.steps import type_images
    from data_engine.steps.base import StepContext
    from shared.store import Store
    from shared.vlm import EngineSpec, Sampling

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    engine = EngineSpec(model="none/answers-at-once", revision="0", batch_size=128)
    runner = open_runner(runner_name, workers=2)
    # Everything is imported and started before memory and time count: Ray, its actors, the client.
    runner.ask(
        engine, [Ask("warm", "<image>", images=("00",))], list[Cell].clear, images=drawn_images(), sampling=Sampling()
    )
    hashes = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(rows)]
    frame = pl.DataFrame(
        {
            "id": [f"r{n}" for n in range(rows)],
            "question": ["How many? " * 20] * rows,
            "image_hashes": [[h] for h in hashes],
        }
    )
    del hashes
    process = psutil.Process()
    start = process.memory_full_info().uss
    peak, going = [start], threading.Event()

    def watch() -> None:
        while not going.wait(0.5):
            peak[0] = max(peak[0], process.memory_full_info().uss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        context = StepContext(Store.open(folder), "local", runner, {}, QuietProgress(), frame, DrawnImages())
        began = time.perf_counter()
        result = type_images.run(context, type_images.Settings(engine=engine))
        seconds = time.perf_counter() - began
    going.set()
    watcher.join()
    runner.close()
    assert result.computed == rows
    return {"seconds": round(seconds, 2), "driver_mb": round((peak[0] - start) / 2**20, 1)}


def main() -> None:
    """Each measurement in a process of its own, then the table."""
    sizes = [int(size) for size in sys.argv[1:]] or list(SIZES)
    found = []
    for rows in sizes:
        for runner in ("local", "ray"):
            command = [sys.executable, __file__, "--one", runner, str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            one = {"runner": runner, "rows": rows, **json.loads(done.stdout.splitlines()[-1])}
            one["microseconds_per_ask"] = round(one["seconds"] / rows * 1e6)
            found.append(one)
            print(one, flush=True)
    by = {(one["runner"], one["rows"]): one for one in found}
    largest, smallest = max(sizes), min(sizes)
    growth = by["ray", largest]["driver_mb"] - by["ray", smallest]["driver_mb"]
    overhead = (by["ray", largest]["seconds"] - by["local", largest]["seconds"]) / largest
    import machine

    made = {
        "machine": machine.machine(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "what": "type_images on drawn rows, one 20 KB picture each, answered at once without a model",
        "runs": found,
        "driver_growth_mb": round(growth, 1),
        "driver_growth_limit_mb": LIMIT_MB,
        "ray_minus_local_seconds_per_ask": round(overhead, 6),
        "driver_overhead_seconds_per_ask": by["ray", largest]["seconds"] / largest,
    }
    results = Path(__file__).parent / "results" / "ray_runner.json"
    results.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps({name: value for name, value in made.items() if name != "runs"}, indent=1))
    assert growth < LIMIT_MB, "the driver's memory grows with the number of rows"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
