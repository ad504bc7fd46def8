"""What a local phase takes on a processor without bfloat16 units: in bfloat16 (the build before), and in float32.

A processor that has the units is told to do without them (`ONEDNN_MAX_CPU_ISA=AVX2`, `ATEN_CPU_CAPABILITY=avx2`), so
that all runs share one machine and one hour:

    python benchmarks/cpu_dtype.py --store STORE

1. told, bfloat16, sdpa attention: what every local phase did before, for a few updates only;
2. told, auto: what it does now (float32), the whole phase;
3. not told, float32: the whole phase on the processor as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

RESULTS = Path(__file__).parent / "results" / "cpu_dtype.json"
TOLD = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

BEFORE = ["train.dtype=bfloat16", "cluster.attention=sdpa"]
"""What every local phase did before."""


def phase(
    arguments: argparse.Namespace, settings: list[str], told: dict[str, str], steps: int, folder: Path
) -> dict[str, Any]:
    """One phase through the command: seconds of an update, and of the whole."""
    words = [sys.executable, "-m", "trainer.cli", "phase", "--name", arguments.phase, "--profile", "local", "--json"]
    words += ["--device", "cpu", "--store", arguments.store, "--output", str(folder), "--max-steps", str(steps)]
    for setting in settings:
        words += ["--set", setting]
    started = time.monotonic()
    subprocess.run(words, env={**os.environ, **told}, stdout=subprocess.PIPE, check=True)
    total = time.monotonic() - started
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    record = json.loads((folder / "run.json").read_text())
    updates = record["phase"]["rollout"]["batch_size"] * record["phase"]["rollout"]["samples_per_prompt"]
    updates //= record["phase"]["train"]["batch_size"]
    later = lines[1:] or lines
    return {
        "dtype": record["dtype"],
        "steps": len(lines),
        "seconds": round(total, 1),
        "update_seconds": round(statistics.median(line["seconds_update"] for line in later) / updates, 3),
        "step_seconds": round(statistics.median(line["seconds"] for line in later), 2),
        "reward": [round(line["reward"], 3) for line in lines],
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="Holds virl39k-captioned (or the phase's dataset), local.")
    parser.add_argument("--phase", default="mre")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--steps-before", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        before = phase(arguments, BEFORE, TOLD, arguments.steps_before, folder / "before")
        now = phase(arguments, [], TOLD, arguments.steps, folder / "now")
        elsewhere = phase(arguments, ["train.dtype=float32"], {}, arguments.steps, folder / "elsewhere")
    result = {
        "question": "a local phase on a processor that is told to do without bfloat16 units, and float32 elsewhere",
        "machine": machine(),
        "told": TOLD,
        "phase": arguments.phase,
        "before": before,
        "now": now,
        "float32_not_told": elsewhere,
        "update_times_faster": round(before["update_seconds"] / now["update_seconds"], 1),
        "whole_phase_over_float32_not_told": round(now["seconds"] / elsewhere["seconds"], 2),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
