"""Does the curriculum raise held-out accuracy, and does the order of its phases matter? Phase lists and seeds.

For each seed and phase list it runs `trainer curriculum --profile local` and takes the accuracies of the base and after
each phase on the mini tasks. The result is `results/curriculum.json` with a Markdown table beside it: accuracy with its
standard error per task, the gain of the last phase over the base, and that gain over its own standard error. Nothing is
decided here: what comes out is written down, whichever way it goes.

    python benchmarks/curriculum.py --store STORE --seeds 1,2,3 --lists paper,vision-first,caption-free-second

`--store` must hold deepscaler, virl39k-captioned and the benchmarks, profile local (`data-engine build NAME --profile
local`). Runs already in `--work` are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine

RESULTS = Path(__file__).parent / "results"
TOLD = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables by which a processor is told to do without some of its units; recorded where they are set."""
TASKS = ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista")


def run(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One curriculum; returns its table and seconds."""
    folder = arguments.work / f"{name}-seed{seed}"
    words = [sys.executable, "-m", "trainer.cli", "curriculum", "--profile", "local", "--device", "cpu", "--json"]
    words += ["--phases", name, "--store", arguments.store, "--output", str(folder)]
    if folder.exists():
        words += ["--resume"]
    words += ["--set", f"train.seed={seed}", "--set", f"evaluation.benchmarks={json.dumps(arguments.tasks)}"]
    if arguments.max_steps:
        words += ["--max-steps", str(arguments.max_steps)]
    if arguments.eval_limit:
        words += ["--eval-limit", str(arguments.eval_limit)]
    for setting in arguments.set:
        words += ["--set", setting]
    started = time.monotonic()
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"{name}, seed {seed}: the curriculum failed (status {ran.returncode}); run it again to go on")
    content = json.loads(ran.stdout)
    seconds_file = folder / "seconds.json"
    spent = json.loads(seconds_file.read_text()) if seconds_file.exists() else []
    seconds_file.write_text(json.dumps([*spent, round(time.monotonic() - started, 1)]))
    total = sum(json.loads(seconds_file.read_text()))
    return {"list": name, "seed": seed, "seconds": round(total, 1), "table": content["table"]}


def mean_accuracy(row: dict[str, Any]) -> tuple[float, float]:
    """Mean accuracy over the tasks and its standard error (tasks are independent draws)."""
    found = list(row["accuracy"].values())
    mean = sum(task["accuracy"] for task in found) / len(found)
    return mean, math.sqrt(sum(task["stderr"] ** 2 for task in found)) / len(found)


def gain(table: list[dict[str, Any]]) -> dict[str, float]:
    """Last row over the first: difference, its standard error (unpaired, thus too large rather than too small)."""
    (first, first_error), (last, last_error) = mean_accuracy(table[0]), mean_accuracy(table[-1])
    error = math.hypot(first_error, last_error)
    return {
        "points": round(100 * (last - first), 2),
        "stderr_points": round(100 * error, 2),
        "standard_errors": round((last - first) / error, 2) if error else 0.0,
    }


def markdown(result: dict[str, Any]) -> str:
    """The table for people."""
    tasks = result["tasks"]
    lines = [
        f"# Curriculum on the mini tasks ({result['machine']['cpu']}, {result['machine']['cores']} cores)",
        "",
        "Greedy accuracy in percent with standard errors.",
        "",
        "| list | seed | checkpoint | " + " | ".join(tasks) + " | mean |",
        "|---|---|---|" + "---|" * (len(tasks) + 1),
    ]
    for one in result["runs"]:
        for row in one["table"]:
            cells = [
                f"{100 * row['accuracy'][task]['accuracy']:.1f} ± {100 * row['accuracy'][task]['stderr']:.1f}"
                for task in tasks
            ]
            mean, error = mean_accuracy(row)
            cells.append(f"{100 * mean:.1f} ± {100 * error:.1f}")
            lines.append(f"| {one['list']} | {one['seed']} | {row['name']} | " + " | ".join(cells) + " |")
    lines += ["", "| list | seed | gain over base, points | in standard errors | minutes |", "|---|---|---|---|---|"]
    lines += [
        f"| {one['list']} | {one['seed']} | {one['gain']['points']:+.1f} ± {one['gain']['stderr_points']:.1f} "
        f"| {one['gain']['standard_errors']:.1f} | {one['seconds'] / 60:.1f} |"
        for one in result["runs"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is asked and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-curriculum"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--lists", default="paper,vision-first,caption-free-second")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--max-steps", type=int, default=0)
    parser.add_argument("--eval-limit", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--name", default="curriculum", help="Name of the result files.")
    arguments = parser.parse_args()
    arguments.tasks = arguments.tasks.split(",")
    arguments.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "question": "held-out accuracy of base and phases, and of the paper's two ablations",
        "machine": machine(),
        "told": {name: os.environ[name] for name in TOLD if name in os.environ},
        "tasks": arguments.tasks,
        "settings": {"max_steps": arguments.max_steps, "eval_limit": arguments.eval_limit, "set": arguments.set},
        "runs": [],
    }
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.lists.split(","):
            one = run(name, seed, arguments)
            result["runs"].append({**one, "gain": gain(one["table"])})
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=1) + "\n")
            (RESULTS / f"{arguments.name}.md").write_text(markdown(result))
            print(json.dumps(result["runs"][-1]["gain"] | {"list": name, "seed": seed}))


if __name__ == "__main__":
    main()
