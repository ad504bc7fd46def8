"""How much memory and time does a build take outside the models? 39,000 drawn rows with pictures of 130 KB (5 GB).

    python benchmarks/build_memory.py [--rows 39000] [--kilobytes 130] [--scratch FOLDER] [--drawn FOLDER]

Draws a folder in ViRL39K's layout (JPEG noise over drawn shapes, every picture another one), builds it in a process
of its own through the very `data-engine build` command with a recipe of all steps that need no model, and samples
that process's resident memory (its children's counted in) ten times a second. Writes
benchmarks/results/build_memory.json. Checked: peak below 1.5 GB, every record kept or in the ledger, a second build
finds the version without reading pictures. Processor seconds and the load beside it are written, too: on a machine that
others use, they say more than the time on the wall.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "build_memory.json"
LIMIT_BYTES = 1_500_000_000
RECIPE = """
[source]
reader = "virl39k"
location = "mini"
[steps.verify_answers]
[steps.decontaminate_ngrams]
[steps.dedup_minhash]
"""
BENCHMARKS = "".join(
    f'[benchmarks.{name}]\nlocation = "mini"\nrows = 500\n'
    for name in ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista")
)
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gina", "Hugo")
THINGS = ("boxes", "stones", "lamps", "books", "coins", "trees")


def draw(number: int, kilobytes: int) -> bytes:
    """A JPEG of about `kilobytes` KB that no other number gives: shapes over noise."""
    import numpy as np
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(number)
    side = int((kilobytes * 1024 / 0.62) ** 0.5)
    noise = rng.integers(0, 255, (side, side, 1), dtype=np.uint8).repeat(3, axis=2)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, w, h = (int(value) for value in rng.integers(0, side // 2, 4))
        pen.rectangle((x, y, x + w, y + h), fill=tuple(int(value) for value in rng.integers(0, 255, 3)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def draw_part(folder: Path, kilobytes: int, numbers: range) -> None:
    """Draw some pictures into `folder`."""
    for number in numbers:
        (folder / f"{number:06d}.jpg").write_bytes(draw(number, kilobytes))


def make_source(folder: Path, rows: int, kilobytes: int) -> None:
    """Draw the source."""
    import polars as pl

    images = folder / "images"
    images.mkdir(parents=True)
    parts = [range(start, min(start + 500, rows)) for start in range(0, rows, 500)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(draw_part, images, kilobytes), parts))
    frame = pl.DataFrame(
        {
            "question": [
                f"<image>\nThe plan of hall {n} shows {n * 7 % 977} {THINGS[n % 6]} in {n % 41 + 2} rows, "
                f"and {NAMES[n % 8]} takes {n * 13 % 83} of them away. How many stay in hall {n}?"
                for n in range(rows)
            ],
            "answer": [f"\\boxed{{{n * 31 % 9973}}}" for n in range(rows)],
            "PassRate_32BTrained": [(n % 9) / 8 for n in range(rows)],
            "PassRate_7BBase": [-1.0 if n % 2 else 0.5 for n in range(rows)],
            "category": ["drawn"] * rows,
            "source": ["build_memory"] * rows,
            "qid": [f"row-{n}" for n in range(rows)],
            "image": [[f"images/{n:06d}.jpg"] for n in range(rows)],
        }
    )
    frame.write_parquet(folder / "39Krelease.parquet")


class Watch:
    """Peak resident memory of a process and its children, sampled ten times a second; per stage where it is told."""

    def __init__(self, pid: int) -> None:
        import psutil

        self._process = psutil.Process(pid)
        self._gone = psutil.Error
        self.peak = 0
        self.own_peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            with contextlib.suppress(self._gone):
                own = self._process.memory_info().rss
                children = sum(child.memory_info().rss for child in self._process.children(recursive=True))
                self.own_peak = max(self.own_peak, own)
                self.peak = max(self.peak, own + children)

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()


def processor_seconds() -> float:
    """Seconds of processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build(recipe: Path, source: Path, store: Path, environment: dict[str, str]) -> tuple[dict, Watch, dict[str, float]]:
    """One build command; returns its JSON, its memory and its times in seconds."""
    command = [sys.executable, "-c", "from data_engine.cli import main; main()", "build", str(recipe)]
    command += ["--profile", "local", "--source", str(source), "--store", str(store), "--json"]
    started, used = time.perf_counter(), processor_seconds()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=recipe.parent / "code", env=environment, text=True)
    watch = Watch(process.pid)
    out, _ = process.communicate()
    watch.end()
    assert process.returncode == 0, out
    wall, load = round(time.perf_counter() - started, 2), round(os.getloadavg()[0], 1)
    times = {"seconds": wall, "processor_seconds": round(processor_seconds() - used, 2), "load_at_end": load}
    return json.loads(out), watch, times


def main() -> None:
    """Draw, build twice, check, write the result."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rows", type=int, default=39_000)
    words.add_argument("--kilobytes", type=int, default=130)
    words.add_argument("--scratch", type=Path, default=None)
    words.add_argument("--drawn", type=Path, default=None, help="A source that an earlier run drew.")
    chosen = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="build-memory-", dir=chosen.scratch))
    try:
        started = time.perf_counter()
        source = chosen.drawn or folder / "source"
        if chosen.drawn is None:
            make_source(source, chosen.rows, chosen.kilobytes)
        size = sum(file.stat().st_size for file in (source / "images").iterdir())
        drawing = time.perf_counter() - started
        # A frozen copy of the code: the build key covers it, and an edit meanwhile would make the second build anew.
        for name in ("data_engine", "shared"):
            shutil.copytree(ROOT / name, folder / "code" / name)
        (folder / "memory.toml").write_text(RECIPE + BENCHMARKS)
        environment = {**os.environ, "INFI_MMR_CACHE": str(folder / "cache")}
        first, watch, times = build(folder / "memory.toml", source, folder / "store", environment)
        again, _, second = build(folder / "memory.toml", source, folder / "store", environment)
        assert first["rows"] + first["rejected"] == chosen.rows
        assert again["fingerprint"] == first["fingerprint"]
        assert sum(step["computed"] for step in again["steps"]) == 0
        result = {
            "machine": machine(),
            "rows": chosen.rows,
            "image_bytes": size,
            "peak_rss_bytes": watch.peak,
            "peak_rss_bytes_without_grader_workers": watch.own_peak,
            "limit_bytes": LIMIT_BYTES,
            "first_build": times,
            "second_build": second,
            "seconds_drawing": round(drawing, 1),
            "kept": first["rows"],
            "shards": first["shards"],
            "shard_bytes": first["bytes"],
            "steps": first["steps"],
        }
        print(json.dumps(result, indent=1))
        assert watch.peak < LIMIT_BYTES, f"peak {watch.peak / 1e9:.2f} GB"
        if chosen.rows >= 39_000:
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
