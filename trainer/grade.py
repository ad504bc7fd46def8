"""`trainer grade PAIRS.jsonl`: grades lines of `{"gold", "pred"}` and reports verdicts, rewards and time.

A line may also carry `choices`, `tolerance`, `unit`, `several`, `answer_kind`, and `expected` (true where the pair
should be accepted). `pred` is an answer or a whole output, read as `trainer evaluate` reads it; where it holds
`<think>`, the reward's format rule applies as in training.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.answers import ANSWER_KINDS, Grade, Verdict, grade_many
from shared.answers.labels import allowed_error
from shared.code_points import carried
from shared.errors import UsageError
from trainer.rewards import RewardWeights, reward, reward_of_grade

_WANTED = "Pass a JSON Lines file in which every line is one object with gold and pred"
_OPTIONS = ("choices", "tolerance", "unit", "several")
_SINGLE = (lambda value: not isinstance(value, list | dict), "one text: write several answers with commas")
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "gold": _SINGLE,
    "pred": _SINGLE,
    "choices": (lambda value: isinstance(value, list), "a list of the options' texts"),
    "tolerance": (lambda value: allowed_error(value) is not None, "a positive number"),
    "unit": (lambda value: isinstance(value, str), "a text"),
    "several": (lambda value: isinstance(value, bool), "true or false"),
}
"""What a line's values must be, so that no grade is one of a misunderstanding."""
MOST_FAILING = 50
"""Failing lines that are shown to people."""


def read_pairs(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a pairs file.

    Raises:
        UsageError: no such file, or a line that is no object with `gold` and `pred`, which is named.

    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # U+2028 and its like stand inside lines
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist", _WANTED) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text ({error})", _WANTED) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error})", _WANTED) from error
        if not isinstance(row, dict) or "gold" not in row or "pred" not in row:
            raise UsageError(f"{path}, line {number} needs the keys gold and pred", _WANTED)
        if "expected" in row and not isinstance(row["expected"], bool):
            raise UsageError(f"{path}, line {number}: expected must be true or false", "Correct it or leave it out")
        for name, (fits, wanted) in _FORMS.items():
            if row.get(name) is not None and not fits(row[name]):
                raise UsageError(f"{path}, line {number}: {name} must be {wanted}", "Correct it or leave it out")
        yield row


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _as_arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `grade` for one row. Other people's `kind` words are not ours, so only `answer_kind` is taken."""
    kind = row.get("answer_kind")
    options = {name: row[name] for name in _OPTIONS if row.get(name) is not None}
    if kind in ANSWER_KINDS:
        options["kind"] = kind
    return {"pred": _text(row["pred"]), "gold": _text(row["gold"]), **options}


def grade_file(path: Path) -> dict[str, Any]:
    """Grade a pairs file.

    Returns `{"n", "accepted", "seconds", "verdicts": [{"verdict", "kind", "reward", "type_match", "exact"}]}`, and,
    where every line has `expected`, also `correct` (pairs judged as expected), `false_accepts` and `false_rejects`.
    `reward` of a bare answer is that of an output whose format holds.

    Raises:
        UsageError: as `read_pairs`.

    """
    weights = RewardWeights()
    rows = list(read_pairs(Path(path)))
    started = time.perf_counter()
    arguments = [_as_arguments(row) for row in rows]
    bare = [{**a, "output": a["pred"]} for a in arguments if "<think>" not in a["pred"]]
    grades = iter(grade_many(bare))
    verdicts = [_verdict(a, weights, None if "<think>" in a["pred"] else next(grades)) for a in arguments]
    seconds = round(time.perf_counter() - started, 4)
    taken = [v["verdict"] == Verdict.CORRECT.value for v in verdicts]
    result: dict[str, Any] = {"n": len(rows), "accepted": sum(taken), "seconds": seconds, "verdicts": verdicts}
    judged = [(row["expected"], accepted) for row, accepted in zip(rows, taken, strict=True) if "expected" in row]
    if judged:
        result["correct"] = sum(expected == accepted for expected, accepted in judged)
        result["false_accepts"] = sum(accepted and not expected for expected, accepted in judged)
        result["false_rejects"] = sum(expected and not accepted for expected, accepted in judged)
    return result


def _verdict(arguments: Mapping[str, Any], weights: RewardWeights, graded: Grade | None) -> dict[str, Any]:
    if graded is None:
        label = {key: value for key, value in arguments.items() if key != "pred"}
        parts = reward(arguments["pred"], label, weights)
    else:
        parts = reward_of_grade(graded, weights)
    return {
        "verdict": parts.verdict,
        "kind": parts.kind,
        "reward": round(parts.total, 6),
        "type_match": bool(parts.type_match),
        "exact": bool(parts.exact),
    }


def result_text(pairs: Path, result: Mapping[str, Any]) -> str:
    """What `grade_file` found in a pairs file, for people."""
    lines = [f"{result['n']} pairs, {result['accepted']} accepted, {result['seconds']:.2f} s"]
    counts = Counter((v["kind"], v["verdict"]) for v in result["verdicts"])
    lines += [f"  {kind:<12} {verdict:<18} {count}" for (kind, verdict), count in sorted(counts.items())]
    if "correct" in result:
        lines.append(
            f"as expected {result['correct']}, false accepts {result['false_accepts']}, "
            f"false rejects {result['false_rejects']}"
        )
        lines += _failing(pairs, result["verdicts"])
    return "\n".join(lines)


def _failing(pairs: Path, verdicts: list[dict[str, Any]]) -> list[str]:
    """One line for each pair that was not judged as expected, with its place among the pairs."""
    failing = [
        f"  pair {number}: false {'accept' if verdict['verdict'] == Verdict.CORRECT.value else 'reject'} "
        f"({verdict['kind']}, {verdict['verdict']}): gold {_shown(row['gold'])} pred {_shown(row['pred'])}"
        for number, (row, verdict) in enumerate(zip(read_pairs(pairs), verdicts, strict=True), 1)
        if "expected" in row and row["expected"] != (verdict["verdict"] == Verdict.CORRECT.value)
    ]
    more = len(failing) - MOST_FAILING
    return failing[:MOST_FAILING] + ([f"  and {more} more"] if more > 0 else [])


def _shown(value: Any) -> str:
    text = json.dumps(carried(_text(value)), ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
