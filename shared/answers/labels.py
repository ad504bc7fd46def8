"""What the grader is told of a dataset's row: the label of training, of held-out items, and of evaluation.

One function makes the label (`label_of`), one hands it to the grader (`options_of`), so that an answer is worth the
same wherever it is judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LABEL_EXTRAS = ("tolerance", "unit", "precision")
"""Fields of a row's `extra` that go into its label as they are."""
_OPTIONS = ("kind", "choices", "tolerance", "unit", "several")


def label_of(
    answer: str, kind: str, choices: Sequence[str] = (), extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The label of a row: `gold`, `kind`, `choices` where there are any, and what `extra` says of tolerance and unit.

    `several` is there where a benchmark says that its gold lists several answers (OlympiadBench's
    `is_multiple_answer`).
    """
    label: dict[str, Any] = {"gold": answer, "kind": kind}
    if choices:
        label["choices"] = list(choices)
    extra = extra or {}
    label |= {name: extra[name] for name in LABEL_EXTRAS if extra.get(name) is not None}
    if allowed_error(label.get("tolerance")) is None:  # a row's own words, such as "N/A", would fail its every answer
        label.pop("tolerance", None)
        if (tolerance := stated_tolerance(extra)) is not None:
            label["tolerance"] = tolerance
    return label | ({"several": True} if extra.get("is_multiple_answer") is True else {})


def options_of(label: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `grade` from a label; fields that only other tools know are left out."""
    options = {name: label[name] for name in _OPTIONS if label.get(name) is not None}
    if "unit" in options:
        options["unit"] = str(options["unit"])
    return options


def stated_tolerance(extra: Mapping[str, Any]) -> float | None:
    """The absolute error that an item itself allows; None where it states none.

    OlympiadBench writes it as `error` (the first of several), MathVista as the decimals that a float must have right.
    """
    try:
        if extra.get("answer_type") == "float" and extra.get("precision") is not None:
            return allowed_error(f"5e{-int(float(extra['precision'])) - 1}")
    except (ValueError, TypeError, OverflowError):
        return None
    return allowed_error(str(extra.get("error", "")).split(",")[0])


def allowed_error(value: Any) -> float | None:
    """An absolute error that numbers may have, a number or its digits; None for what is no positive, finite one."""
    try:
        error = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return error if 0 < error < math.inf else None
