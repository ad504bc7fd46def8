"""Does the evaluation during training (OpenRLHF's) agree with `trainer evaluate` on the same checkpoint and items?

Reads curriculum folders whose phases were run with `--set evaluation.every=N` and takes, per phase and benchmark, the
accuracy that was measured during training after the last step and the one that `trainer evaluate` measured on the
checkpoint afterwards. Training samples in bfloat16, `trainer evaluate` in its own type: answers differ now and then.

    python benchmarks/evaluation_agreement.py CURRICULUM...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from machine import machine

RESULTS = Path(__file__).parent / "results" / "evaluation_agreement.json"


def compared(phase: Path) -> list[dict[str, Any]]:
    """One row per benchmark of a finished phase; none where its end was not evaluated during training."""
    during_file, after_file = phase / "evaluations.jsonl", phase / "evaluation.json"
    if not during_file.is_file() or not after_file.is_file():
        return []
    last = json.loads(during_file.read_text().splitlines()[-1])
    if last["step"] != json.loads((phase / "run.json").read_text())["steps"]:
        return []
    after = json.loads(after_file.read_text())["benchmarks"]
    rows = []
    for name, during in last["accuracy"].items():
        difference = during["accuracy"] - after[name]["accuracy"]
        rows.append({
            "phase": f"{phase.parent.name}/{phase.name}",
            "benchmark": name,
            "n": during["n"],
            "during_training": round(during["accuracy"], 4),
            "trainer_evaluate": round(after[name]["accuracy"], 4),
            "stderr": round(after[name]["stderr"], 4),
            "difference_in_standard_errors": round(difference / after[name]["stderr"], 2),
        })  # fmt: skip
    return rows


def main() -> None:
    """Compare every phase of the folders named."""
    rows = [row for folder in sys.argv[1:] for phase in sorted(Path(folder).glob("[1-9]-*")) for row in compared(phase)]
    if not rows:
        sys.exit("no phase was evaluated during training; run a curriculum with --set evaluation.every=STEPS")
    apart = [abs(row["difference_in_standard_errors"]) for row in rows]
    result = {
        "question": "difference between OpenRLHF's evaluation during training and trainer evaluate",
        "machine": machine(),
        "largest_difference_in_standard_errors": max(apart),
        "within_one_standard_error": sum(value <= 1 for value in apart),
        "comparisons": len(rows),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in list(result)[2:5]}))


if __name__ == "__main__":
    main()
