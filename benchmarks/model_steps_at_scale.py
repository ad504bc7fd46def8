"""What the model steps cost the driver on Ray, in processor time and memory, against an earlier checkout.

Data: drawn rows (40 words and a picture of 2 KB each) in row blocks on a scratch, as a build has them. Types, captions
and embeddings with a search among 1,000 items, two workers on this machine. Where an engine would stand, something
answers at once (see `ray_runner.py`): it is no model, so that a million asks are cheap, and seconds are those of
runner, store and search.

Processor time and memory are those of the driver's process alone, counted after Ray is up and a small run has been
made; memory is private memory above what it was then. Both checkouts must give the same annotations, on Ray and here.

    git worktree add ../before da84338
    python benchmarks/model_steps_at_scale.py --before ../before [--ray 10000,100000,1000000] [--local 10000]

Writes results/model_steps_at_scale.json; runs that are not asked for keep what stands there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import ray_runner
from builds_at_scale import OBJECT_STORE_BYTES, in_checkout, watched
from drawn_texts import RESULTS, draw
from machine import machine

sys.path.remove(str(ray_runner.ROOT))  # it would hide the checkout that is measured
ROOT = Path(__file__).resolve().parent.parent
STEPS = ("type_images", "caption_images", "decontaminate_embeddings")
WARM, ITEMS, WORDS = 3000, 1000, 40
ray_runner.IMAGE_BYTES = 2000


def drawn_blocks(store: Any, count: int) -> Any:
    """Rows in blocks, each drawn by itself, so that drawing holds no more than a build does."""
    import polars as pl

    from data_engine.blocks import RowBlocks, blocks_for

    blocks = blocks_for(count)
    heights = tuple(len(part) for part in np.array_split(np.arange(count), blocks))
    rows = RowBlocks(store, "rows", heights)
    for block, height in enumerate(heights):
        low = (np.arange(height, dtype=np.uint64) << np.uint64(32)) // np.uint64(max(height, 1) * blocks)
        high = (np.uint64(block) << np.uint64(32)) // np.uint64(blocks)
        frame = pl.DataFrame(
            {
                "id": [f"drawn-{(int(one + high) << 32):016x}" for one in low],
                "question": "<image>" + draw(height, block + 10, words=WORDS).cast(pl.String),
                "choices": [[] for _ in range(height)],
                "answer": ["1"] * height,
                "source": ["drawn"] * height,
                "image_hashes": [[hashlib.sha256(f"{block} {n}".encode()).hexdigest()] for n in range(height)],
            },
            schema_overrides={"choices": pl.List(pl.String)},
        )
        rows.write(block, frame)
    return rows


def settings_of_steps() -> dict[str, Any]:
    """Settings in words that both checkouts know."""
    from data_engine.steps import caption_images, decontaminate_embeddings, type_images
    from shared.vlm import EngineSpec

    engine = EngineSpec(model=ray_runner.MODEL, revision="0", batch_size=128)
    pooling = engine.model_copy(update={"runner": "pooling"})
    embeddings = {"engine": pooling, "canaries": 0}
    return {
        "type_images": type_images.Settings(engine=engine),
        "caption_images": caption_images.Settings(engine=engine),
        "decontaminate_embeddings": decontaminate_embeddings.Settings.model_validate(embeddings),
    }


def measure(runner_name: str, count: int) -> dict[str, Any]:
    """One run in this process."""
    from data_engine.allocators import give_back_freed_memory, trim

    assert Path.cwd() in Path(give_back_freed_memory.__code__.co_filename).parents, "the checkout that is measured"
    give_back_freed_memory()  # as the command does
    if runner_name == "ray":
        import ray
        from ray import cloudpickle

        os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
        ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES)
        cloudpickle.register_pickle_by_value(ray_runner)
    from data_engine.runners import open_runner
    from data_engine.step import BenchmarkItems, StepContext, StepResult
    from data_engine.step_blocks import run_step
    from shared.progress import Progress
    from shared.store import open_store

    runner = open_runner(runner_name, workers=2)  # type: ignore[arg-type]
    pictures, todo = ray_runner.drawn_images(), settings_of_steps()
    items = ray_runner.drawn_rows(ITEMS, 2)
    found: dict[str, Any] = {"steps": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size in (WARM, count):
            place = Path(folder) / str(size)
            rows = drawn_blocks(open_store(place / "scratch"), size)
            results: dict[str, StepResult] = {}
            trim()
            whole: dict[str, Any] = {}
            with watched(whole):
                for name in STEPS:
                    context = StepContext(
                        store=open_store(place / "store"),
                        profile="local",
                        runner=runner,
                        recipe={},
                        progress=Progress(),
                        rows=items.head(0),
                        images=pictures,
                        benchmarks=[BenchmarkItems("drawn", "drawn", "1", items, ray_runner.DrawnImages())],
                        results=results,
                    )
                    found["steps"][name] = {}
                    with watched(found["steps"][name]):
                        results[name] = run_step(name, todo[name], context, rows)
                        trim()
                    assert results[name].failures is None
            assert results["type_images"].computed == size
        told = hashlib.sha256()
        for name in STEPS:
            parts = results[name].parts
            assert parts is not None
            for block in rows.numbers:
                told.update(parts.read(block).write_json().encode())
        found |= {**whole, "annotations": told.hexdigest()}
    runner.close()
    return found


def main() -> None:
    """Each run in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before")
    parser.add_argument("--ray", default="10000,100000")
    parser.add_argument("--local", default="10000")
    parser.add_argument("--one", nargs=2, metavar=("RUNNER", "ROWS"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    file = RESULTS / "model_steps_at_scale.json"
    trees = {"now": str(ROOT), **({"before": str(Path(options.before).resolve())} if options.before else {})}
    for runner, sizes in (("ray", options.ray), ("local", options.local)):
        for rows in (int(size) for size in sizes.split(",") if size):
            for tree, place in trees.items():
                if tree == "before" and rows > 100_000:
                    continue
                found = in_checkout(place, __file__, runner, str(rows))
                runs: dict[str, Any] = json.loads(file.read_text())["runs"] if file.exists() else {}
                runs[f"{runner} {rows} {tree}"] = found
                print(f"{runner} {rows} {tree}", runs[f"{runner} {rows} {tree}"], file=sys.stderr, flush=True)
                file.write_text(json.dumps(summary(runs), indent=1) + "\n")


def summary(runs: dict[str, Any]) -> dict[str, Any]:
    """What the runs say."""
    by_size: dict[str, list[str]] = {}
    for name, run in runs.items():
        by_size.setdefault(name.split()[1], []).append(run["annotations"])
    ray = {int(name.split()[1]): run for name, run in runs.items() if name.startswith("ray") and name.endswith("now")}
    before = {int(name.split()[1]): run for name, run in runs.items() if name.startswith("ray") and name not in ray}
    before = {rows: runs[f"ray {rows} before"] for rows in before if f"ray {rows} before" in runs}
    told: dict[str, Any] = {
        "machine": machine(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "what": "types, captions, embeddings of drawn rows, engines that answer at once; the driver's process alone",
        "same_annotations": {f"{rows} rows, {len(some)} runs": len(set(some)) == 1 for rows, some in by_size.items()},
        "driver_microseconds_per_row": {
            name: round(run["cpu_seconds"] / int(name.split()[1]) * 1e6, 1) for name, run in runs.items()
        },
        "driver_time_before_over_now": {
            str(rows): round(run["cpu_seconds"] / ray[rows]["cpu_seconds"], 2)
            for rows, run in sorted(before.items())
            if rows in ray
        },
        "driver_above_start_mb": {name: run["above_start_mb"] for name, run in runs.items()},
    }
    if len(ray) > 1:
        grown = ray[max(ray)]["above_start_mb"] - ray[min(ray)]["above_start_mb"]
        peak = ray[max(ray)]["peak_mb"] - ray[min(ray)]["peak_mb"]  # what stood at the start does not count twice
        told["driver_growth_mb"] = {f"{min(ray)} to {max(ray)}": round(grown, 1), "of the peak": round(peak, 1)}
    return {**told, "runs": runs}


if __name__ == "__main__":
    main()
