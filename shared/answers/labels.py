"""What the grader is told of a dataset's row: the label of training, of held-out items, and of evaluation.

One function makes the label (`label_of`), one hands it to the grader (`options_of`), so that an answer is worth the
same wherever it is judged.
"""

from __future__ import annotations

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
    if "tolerance" not in label and (tolerance := stated_tolerance(extra)) is not None:
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
            return float(f"5e{-int(float(extra['precision'])) - 1}")
        value = float(str(extra.get("error", "")).split(",")[0])
    except ValueError:
        return None
    return value if value > 0 else None
