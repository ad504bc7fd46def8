"""MathVista testmini (AI4Math/MathVista): 540 choice items (gold = option text), 418 integers, 40 floats, 2 lists.

Floats count to their item's precision (a gold of 1.2 at precision 1 takes what rounds to it). An answer that is no
option is wrong: the official rule's nearest option by edit distance (lupantech/MathVista,
evaluation/calculate_score.py, its extraction by a language model replaced by the stated answer) stands beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from shared.answers import final_answer
from shared.benchmark import Benchmark, Drawings, Item, Mini, Published
from shared.benchmark_arithmetic import float_of
from shared.option_lists import LETTERS


def official(item: Item, output: str) -> bool:
    """The published rule: an option's text (else the nearest by edit distance), the number cut off or rounded."""
    given = (final_answer(output).answer or "").strip()
    gold = item.answer
    if item.choices:
        bracketed = re.findall(r"\(([a-zA-Z])\)", given)
        given = bracketed[0].upper() if bracketed else given
        letters = LETTERS[: len(item.choices)]
        if gold not in item.choices and gold and gold in letters:  # drawn tasks give the letter, not the text
            gold = item.choices[letters.index(gold)]
        named = bool(given) and given in letters
        return (item.choices[letters.index(given)] if named else nearest_option(given, item.choices)) == gold
    form = item.extra.get("answer_type")
    value = float_of(given)
    if form in ("integer", "float") and (value is None or not math.isfinite(value)):
        return False
    if form == "integer" and value is not None:
        return str(int(value)) == gold
    if form == "float" and value is not None:
        return str(round(value, int(float(item.extra.get("precision") or 0)))) == gold
    return given == gold


def nearest_option(text: str, choices: Sequence[str]) -> str:
    """The option with the least edit distance: what the official MathVista rule does with any answer at all."""
    return min(choices, key=lambda choice: edit_distance(text, choice))


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


_GRADES = {"easy": "elementary school", "medium": "high school", "hard": "college"}
_MEASURED = ("rectangle/read", "rectangle/perimeter", "triangle/side", "triangle/perimeter")
"""Forms of drawn problems whose answer is a length: told with one decimal, as MathVista tells what is measured."""


def _record(problem: Any, _number: int, _drawings: Drawings) -> dict[str, Any]:
    answer, form, precision = problem.answer, "text", None
    if problem.choices:
        answer = problem.choices["ABCDEFGH".index(answer)]
    elif problem.form in _MEASURED:
        answer, form, precision = f"{answer}.0", "float", 1.0
    elif re.fullmatch(r"-?\d+", answer):
        form = "integer"
    elif answer.startswith("("):
        form = "list"
    return {
        "pid": problem.key, "question": problem.question, "choices": list(problem.choices), "answer": answer,
        "unit": None, "precision": precision, "question_type": "multi_choice" if problem.choices else "free_form",
        "answer_type": form,
        "metadata": {
            "split": "testmini", "source": "mini",
            "category": "math-targeted-vqa" if problem.image_type == "mathgeo" else "general-vqa",
            "task": problem.kind, "context": problem.image_type, "grade": _GRADES[problem.grade],
        },
    }  # fmt: skip


BENCHMARK = Benchmark(
    task={
        "title": "MathVista",
        "version": 2,
        "groups": {"by_subject": "category", "by_level": "level", "by_type": ("answer_type", "question_type", "kind")},
        "protocol": "Rules instead of the official language-model extraction; no nearest option.",
    },
    official=official,
    lettered=False,  # golds are option texts by design; the grader maps letters to them
    published=Published(
        description="MathVista testmini: 1,000 problems in visual contexts; for testing only",
        location="AI4Math/MathVista",
        # as allenai/OLMo-core, olmo_core/eval/vision_alignment_ssmax_downstream.py, has it
        revision="2b6ad69445fbb5695c9b165475e8decdbeb97747",
        files=("data/testmini-*.parquet",),
        licence="CC BY-SA 4.0",
        splits=("testmini",),
    ),
    mini=Mini(first_bucket=244, buckets=12, record=_record, grades=("easy", "easy", "medium", "hard")),
)
