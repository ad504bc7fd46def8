"""Grades one answer against its gold. (First increment: exact text after trimming; the rules follow.)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.answers.extract import extract_answer
from shared.answers.outcome import Grade, Verdict

DEFAULT_TIMEOUT_SECONDS = 10.0


def answer_kind(gold: str, choices: Sequence[str] | None = None) -> str:
    """The kind of a gold answer, one of ANSWER_KINDS."""
    text = gold.strip()
    if choices or (len(text) == 1 and text in "ABCDEFGHIJ"):
        return "choice"
    return "integer" if text.lstrip("-").isdigit() else "text"


def grade(
    pred: str,
    gold: str,
    *,
    kind: str | None = None,
    choices: Sequence[str] | None = None,
    tolerance: float | None = None,
    unit: str | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Grade:
    """Compare an answer with its gold."""
    kind = kind or answer_kind(gold, choices)
    same = pred.strip() == gold.strip()
    return Grade(Verdict.CORRECT if same else Verdict.WRONG, kind, "exact", same, same)


def grade_output(output: str, gold: str, **options: Any) -> Grade:
    """Extract the final answer of a whole model output and grade it."""
    found = extract_answer(output)
    if found.answer is None:
        kind = options.get("kind") or answer_kind(gold, options.get("choices"))
        return Grade(Verdict.UNPARSABLE_ANSWER, kind, "none", False, False)
    return grade(found.answer, gold, **options)


def grade_many(pairs: Iterable[Mapping[str, Any] | Sequence[str]]) -> list[Grade]:
    """Grade pairs, each `(pred, gold)` or a mapping with `pred`, `gold` and the options of `grade`."""
    return [grade(**pair) if isinstance(pair, Mapping) else grade(pair[0], pair[1]) for pair in pairs]
