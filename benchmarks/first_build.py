"""How long does a first build of `virl39k-captioned` take on this machine without a GPU, and how long a second one?

    python benchmarks/first_build.py [--scratch FOLDER]

Runs the very command of the README into an empty store, with an empty cache, twice, and `--help` five times. Writes
benchmarks/results/first_build.json: seconds on the wall and of processor time, per step, the share of the steps that
ask a model, and the load of the machine beside it. Checked: the first build ends within five minutes, most of it model
work; the second computes nothing. Installation and the first import of freshly installed files are not covered.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "first_build.json"
LIMIT_SECONDS = 300
MODEL_STEPS = {"type_images", "caption_images", "decontaminate_embeddings"}


def timed(words: list[str], environment: dict[str, str]) -> tuple[str, dict[str, float]]:
    """Run `data-engine` with these words; returns stdout, and its times in seconds."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before, started = used(), time.perf_counter()
    command = [sys.executable, "-c", "from data_engine.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    wall = round(time.perf_counter() - started, 2)
    return done.stdout, {"seconds": wall, "processor_seconds": round(used() - before, 2)}


def main() -> None:
    """Build twice, ask for help, check, write the result."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--scratch", type=Path, default=None)
    folder = Path(tempfile.mkdtemp(prefix="first-build-", dir=words.parse_args().scratch))
    try:
        environment = {**os.environ, "INFI_MMR_CACHE": str(folder / "cache")}
        build = ["build", "virl39k-captioned", "--profile", "local", "--store", str(folder / "store"), "--json"]
        load = round(os.getloadavg()[0], 1)
        out, first = timed(build, environment)
        report = json.loads(out)
        again, second = timed(build, environment)
        helps = sorted(timed(["build", "--help"], environment)[1]["seconds"] for _ in range(5))
        steps = {step["name"]: step["seconds"] for step in report["steps"]}
        result = {
            "machine": machine(),
            "load_at_start": load,
            "first_build": first,
            "limit_seconds": LIMIT_SECONDS,
            "second_build": second,
            "help_seconds": helps,
            "rows": report["rows"],
            "rejected": report["rejected"],
            "share_of_model_steps": round(sum(steps[name] for name in MODEL_STEPS) / sum(steps.values()), 3),
            "steps": report["steps"],
        }
        print(json.dumps(result, indent=1))
        assert sum(step["computed"] for step in json.loads(again)["steps"]) == 0
        assert first["seconds"] < LIMIT_SECONDS
        assert result["share_of_model_steps"] > 0.5
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
