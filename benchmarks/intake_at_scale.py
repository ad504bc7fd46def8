"""What reading a source of files costs the driver on Ray, against the build of an earlier checkout.

Data: drawn texts of 69 words with an answer each, as shards of JSON lines (`jsonl`), the same with a drawn picture of
10 KB a row in a file of its own (`files`), and as tar shards with such pictures (`tar`); 5,000 rows a shard. A build
reads them, judges answers, assembles and writes shards: nothing else, so that the source is most of it. Each build in a
process of its own, after Ray is up and a small build has run; processor time and memory are those of the driver's
process alone.

    git worktree add ../before cdb64fb
    python benchmarks/intake_at_scale.py --before ../before [--rows 10000,100000]

Versions of both must have the same fingerprint. Writes results/intake_at_scale.json; sizes that are not asked for keep
what stands there. With `--kinds csv,shard,arrow` (before: 5491830) all rows lie in one file, texts of CSV and Arrow
twice as long: the source alone is read, every task of the cluster one after the other in one process, and what counts
is the processor time of all tasks and of the busier of two workers, each of which takes the next task when it is done.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from builds_at_scale import OBJECT_STORE_BYTES, ROOT, in_checkout, watched
from drawn_texts import RESULTS, draw
from machine import machine

RECIPE = """
[source]
reader = "table"
location = "mini"
[steps.verify_answers]
"""
SHARD_ROWS, SMALL = 5000, 500
ONE_FILE = ("csv", "shard", "arrow")


def write_shards(kind: str, count: int, folder: Path) -> None:
    """Draw a source."""
    folder.mkdir()
    rows = [{"question": text, "answer": str(number % 1000)} for number, text in enumerate(draw(count))]
    if kind in {"csv", "arrow"}:
        import polars as pl

        table = pl.DataFrame([{**row, "question": f'{row["question"]},\n"{row["question"]}"?'} for row in rows])
        _ = table.write_csv(folder / "train.csv") if kind == "csv" else table.write_ipc(folder / "train.arrow")
        return
    height = count if kind == "shard" else SHARD_ROWS
    for start in range(0, count, height):
        ending = "tar" if kind in {"tar", "shard"} else "jsonl"
        file, some = folder / f"train-{start // height:05d}.{ending}", rows[start : start + height]
        if kind == "files":
            (folder / f"images/{start}").mkdir(parents=True)
            for number, row in enumerate(some, start):
                row["image"] = f"images/{start}/{number}.jpg"
                (folder / row["image"]).write_bytes(picture(number))
        if ending != "tar":
            file.write_text("".join(json.dumps({"id": f"k{start + n}", **row}) + "\n" for n, row in enumerate(some)))
            continue
        with tarfile.open(file, "w") as shard:
            for number, row in enumerate(some, start):
                for ending, data in (("json", json.dumps(row).encode()), ("jpg", picture(number))):
                    member = tarfile.TarInfo(f"{number:07d}.{ending}")
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))


def picture(number: int) -> bytes:
    """A picture of its own: 256 x 256 pixels, about 10 KB."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((256, 256), Image.Resampling.BILINEAR).save(out, "JPEG", quality=75)
    return out.getvalue()


def measure(source: str, small: str, folder: str) -> dict[str, Any]:
    """Build once, see the module."""
    import ray

    from data_engine.allocators import give_back_freed_memory

    give_back_freed_memory()  # as the command does
    from data_engine.build import BuildRequest, build
    from shared.progress import Progress

    recipe = Path(folder) / "intake.toml"
    recipe.write_text(RECIPE)
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES)

    def run(place: str, store: str) -> Any:
        return build(
            BuildRequest(str(recipe), "local", str(Path(folder) / store), place, runner="ray", licence="MIT"),
            Progress(),
        )

    run(small, "warm")
    found: dict[str, Any] = {}
    with watched(found):
        made = run(source, "store")
    manifest = made.version.manifest
    steps = {step.name: step.seconds for step in made.steps}
    return {**found, "fingerprint": manifest.fingerprint, "kept": manifest.rows, "seconds_of": steps}


def measure_tasks(source: str, folder: str) -> dict[str, Any]:
    """Read one source, see the module."""
    from time import process_time

    from data_engine.inputs import open_table
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.intake.in_blocks import ingest_blocks
    from data_engine.recipe_settings import SourceSettings
    from data_engine.runners.local import LocalRunner
    from shared.fingerprint import bytes_hash
    from shared.store import open_store

    phases: list[list[float]] = []

    class OneAfterTheOther(LocalRunner):
        name = "ray"  # type: ignore[assignment]

        def map_batches(self, function: Any, tables: Any, **given: Any) -> Any:
            phases.append([])

            def timed(*words: Any) -> Any:
                start = process_time()
                told = function(*words)
                phases[-1].append(process_time() - start)
                return told

            yield from super().map_batches(timed, tables, **given)

    for name in ("store", "scratch"):
        (Path(folder) / name).mkdir()
    store, scratch = (open_store(Path(folder) / name) for name in ("store", "scratch"))
    place = open_table(SourceSettings(reader="table", location=source), "source")
    found = ingest_blocks(place, ImagePlaces(Path(folder) / "spool"), store, scratch, OneAfterTheOther())
    busier = 0.0
    for seconds in phases:
        workers = [0.0, 0.0]
        for one in seconds:
            workers[workers.index(min(workers))] += one
        busier += max(workers)
    return {
        "bytes": sum(file.stat().st_size for file in Path(source).iterdir()),
        "tasks": sum(map(len, phases)),
        "worker_seconds": round(sum(map(sum, phases)), 2),
        "busier_of_two_seconds": round(busier, 2),
        "fingerprint": bytes_hash(found.rows.frame().write_ndjson().encode()),
        "kept": sum(found.rows.heights),
    }


def run_in(place: str, kind: str, rows: int) -> dict[str, Any]:
    """Measure one build with the code of one checkout."""
    with tempfile.TemporaryDirectory() as folder:
        source, small = Path(folder) / "rows", Path(folder) / "small"
        write_shards(kind, rows, source)
        if kind in ONE_FILE:
            return in_checkout(place, __file__, str(source), "", folder)
        write_shards(kind, SMALL, small)
        return in_checkout(place, __file__, str(source), str(small), folder)


def summary(runs: dict[str, Any]) -> dict[str, Any]:
    """What the runs say; a run's name is kind, rows and checkout."""

    def compared(key: str, digits: int) -> dict[str, float]:
        pairs = {name.rpartition(" ")[0]: run for name, run in runs.items() if name.endswith(" now")}
        both = {
            name: (runs[f"{name} before"], now)
            for name, now in pairs.items()
            if f"{name} before" in runs and key in now
        }
        return {name: round(before[key] / max(now[key], 0.1), digits) for name, (before, now) in both.items()}

    prints: dict[str, set[str]] = {}
    for name, run in runs.items():
        prints.setdefault(name.rpartition(" ")[0], set()).add(run["fingerprint"])
    return {
        "machine": machine(),
        "what": "builds on Ray that read shards and judge answers; processor time and memory of the driver's process",
        "same_fingerprint": {name: len(found) == 1 for name, found in sorted(prints.items())},
        "driver_microseconds_per_row": {
            name: round(run["cpu_seconds"] / int(name.split()[1]) * 1e6, 1)
            for name, run in sorted(runs.items())
            if "cpu_seconds" in run
        },
        "driver_time_before_over_now": compared("cpu_seconds", 1),
        "driver_above_start_mb": {
            name: run["above_start_mb"] for name, run in sorted(runs.items()) if "above_start_mb" in run
        },
        "wall_before_over_now": compared("wall_seconds", 2),
        "one_file_two_workers_before_over_now": compared("busier_of_two_seconds", 2),
        "one_file_one_worker_before_over_now": compared("worker_seconds", 2),
        "runs": runs,
    }


def main() -> None:
    """Measure every kind and size, for both checkouts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before")
    parser.add_argument("--rows", default="10000,100000")
    parser.add_argument("--kinds", default="jsonl,files,tar")
    parser.add_argument("--one", nargs=3, metavar=("SOURCE", "SMALL", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        source, small, folder = options.one
        print(json.dumps(measure(source, small, folder) if small else measure_tasks(source, folder)))
        return
    file = RESULTS / "intake_at_scale.json"
    runs: dict[str, Any] = json.loads(file.read_text())["runs"] if file.exists() else {}
    trees = {"now": str(ROOT), **({"before": str(Path(options.before).resolve())} if options.before else {})}
    for kind in options.kinds.split(","):
        for rows in (int(size) for size in options.rows.split(",")):
            for tree, place in trees.items():
                runs[f"{kind} {rows} {tree}"] = run_in(place, kind, rows)
                print(f"{kind} {rows} {tree}", runs[f"{kind} {rows} {tree}"], file=sys.stderr, flush=True)
                file.write_text(json.dumps(summary(runs), indent=1) + "\n")


if __name__ == "__main__":
    main()
