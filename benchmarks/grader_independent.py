"""How right is the grader on pairs that were written by somebody who had not seen its rules?

Input: tests/shared/answers/golden/independent.jsonl, committed before the grader was first run on it. `first_contact`
in the result is what the rules of commit FIRST_CONTACT said, recorded that day and never recomputed here; `now` is what
they say today, after the mathematics behind its errors was corrected. Contested pairs count nowhere.
Writes benchmarks/results/grader_independent.json. Run: `python benchmarks/grader_independent.py`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402  the repository root must be importable first

PAIRS = ROOT / "tests" / "shared" / "answers" / "golden" / "independent.jsonl"
RESULT = ROOT / "benchmarks" / "results" / "grader_independent.json"
FIRST_CONTACT = {
    "commit": "22dd005",
    "pairs": 745,
    "accuracy": 0.9906,
    "false_accepts": [["45^\\circ", "45 rad"]],
    "false_rejects": [
        ["\\frac{a}{b}=\\frac{2}{5}", "\\frac{2}{5}"],
        ["2.5", "2 and 1/2"],
        ["5 apples", "five apples"],
        ["4.7 k\\Omega", "4700 \\Omega"],
        ["(-1,1)", "|x|<1"],
        ["3:5", "6:10"],
    ],
    "known_before": "three false rejects (2 and 1/2; five apples; |x|<1) were known gaps before the pairs were written",
}


def main() -> None:
    """Grade the pairs, print a summary, write the result."""
    from trainer.grade import grade_file

    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    accepted = [v["verdict"] == "correct" for v in grade_file(PAIRS)["verdicts"]]
    judged = [(row, a) for row, a in zip(rows, accepted, strict=True) if not row["contested"]]
    kinds: dict[str, Counter[str]] = {}
    for row, a in judged:
        kinds.setdefault(row["kind"], Counter())["right" if a == row["expected"] else "wrong"] += 1
    now = {
        "pairs": len(judged),
        "expected_true": sum(row["expected"] for row, _ in judged),
        "accuracy": round(sum(a == row["expected"] for row, a in judged) / len(judged), 4),
        "false_accepts": [[row["gold"], row["pred"]] for row, a in judged if a and not row["expected"]],
        "false_rejects": [[row["gold"], row["pred"]] for row, a in judged if row["expected"] and not a],
        "by_kind": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
    }
    result = {
        "machine": machine(),
        "contested_left_out": len(rows) - len(judged),
        "first_contact": FIRST_CONTACT,
        "now": now,
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in ("first_contact", "now")}, ensure_ascii=False))


if __name__ == "__main__":
    main()
