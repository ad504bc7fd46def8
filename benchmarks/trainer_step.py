"""Seconds and tokens per step of local phases, against TRL's GRPOTrainer on the same work, in one run.

Same checkpoint, prompts, rollouts per prompt, lengths, loss (sequence means, KL) and optimiser steps. OpenRLHF runs
through `trainer phase`; TRL has an environment of its own:

    python -m venv PEER && PEER/bin/pip install trl==1.16.0 torch==2.13.0 torchvision==0.28.0 pillow datasets
    python benchmarks/trainer_step.py --store STORE --peer PEER/bin/python --steps 6

Without `--peer` only our side is measured, and the result says so. Start-up (and the end: saving, closing) is told
apart from the steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

RESULTS = Path(__file__).parent / "results" / "trainer_step.json"
SIZES = {"prompts": 16, "rollouts": 8, "new_tokens": 96}


def our_side(arguments: argparse.Namespace, phase: str, folder: Path) -> dict[str, Any]:
    """One phase through the command; the first step is warm-up (vLLM's first batch) and told apart."""
    words = [sys.executable, "-m", "trainer.cli", "phase", "--name", phase, "--profile", "local", "--json"]
    words += ["--device", "cpu", "--store", arguments.store, "--output", str(folder)]
    settings = [
        f"train.max_steps={arguments.steps}",
        "checkpoint.save_every=1000",
        f"rollout.batch_size={SIZES['prompts']}",
        f"rollout.samples_per_prompt={SIZES['rollouts']}",
        f"rollout.max_new_tokens={SIZES['new_tokens']}",
        f"train.batch_size={SIZES['prompts'] * SIZES['rollouts']}",
    ]
    for setting in settings:
        words += ["--set", setting]
    started = time.monotonic()
    metrics, first = folder / "metrics.jsonl", 0.0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(0.05)
        if not first and metrics.exists() and metrics.read_bytes().endswith(b"\n"):
            first = time.monotonic() - started
    if process.returncode != 0:
        sys.exit("the phase failed")
    total = time.monotonic() - started
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    begun = round(first - lines[0]["seconds"], 1)
    return {"total_seconds": round(total, 1), "start_seconds": begun, **summary(total, lines)}


def summary(total: float, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Median step after the first, tokens per second, and what is not steps."""
    later = lines[1:] or lines
    seconds = statistics.median(line["seconds"] for line in later)
    tokens = statistics.median(line["tokens"] for line in later)
    parts = ("seconds_generation", "seconds_log_probabilities", "seconds_update", "seconds_weight_push")
    return {
        "steps": len(lines),
        "first_step_seconds": round(lines[0]["seconds"], 2),
        "step_seconds": round(seconds, 2),
        "answer_tokens_per_step": tokens,
        "answer_tokens_per_second": round(tokens / seconds, 1),
        "start_and_end_seconds": round(total - sum(line["seconds"] for line in lines), 1),
        "parts_seconds": {
            name.removeprefix("seconds_"): round(statistics.median(line[name] for line in later), 2)
            for name in parts
            if all(name in line for line in later)
        },
    }


def peer_side(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """TRL on the very prompts of our run."""
    from shared.vlm.checkpoint import BUNDLED_FOLDER

    script = Path(__file__).with_name("trl_peer.py")
    words = [
        arguments.peer,
        str(script),
        "--checkpoint",
        str(BUNDLED_FOLDER),
        "--prompts",
        str(folder / "prompts.jsonl"),
    ]
    words += ["--steps", str(arguments.steps), "--batch-prompts", str(SIZES["prompts"])]
    words += ["--rollouts", str(SIZES["rollouts"]), "--new-tokens", str(SIZES["new_tokens"])]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(ran.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--phases", nargs="+", default=["fra", "mre"], choices=["fra", "mre"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--peer", default="", help="Python of an environment with TRL.")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "question": "seconds and tokens per step of local phases, OpenRLHF against TRL",
        "machine": machine(),
        "sizes": SIZES,
    }
    for phase in arguments.phases:
        with tempfile.TemporaryDirectory(prefix="step-") as scratch:
            folder = Path(scratch) / "run"
            told = result[phase] = {"openrlhf": our_side(arguments, phase, folder)}
            if arguments.peer:
                told["trl"] = peer_side(arguments, folder)
                speeds = (told[side]["answer_tokens_per_second"] for side in ("openrlhf", "trl"))
                told["tokens_per_second_ratio"] = round(next(speeds) / next(speeds), 2)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
