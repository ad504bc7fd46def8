"""MathVision test (MathLLMs/MathVision): 3,040 problems, half with options A to E, half free.

Strict score: the letter or the option's value, free answers by exact value. Beside it the official rule (values equal
after rounding to two decimals: mathllm/MATH-V, evaluation/utils.py), in our own words and without evaluating text.
"""

from __future__ import annotations

import re
from typing import Any

from shared.benchmark import MINI_LEVELS, Benchmark, Drawings, Item, Mini, Published
from shared.benchmark_arithmetic import float_of, value_of
from shared.option_lists import LETTERS

_FLAGS = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")


def official(item: Item, output: str) -> bool:
    """The published rule: the letter, the option's text, or a value that rounds to the same two decimals."""
    given = _stated(output)
    gold = item.answer
    option = ""
    if item.choices and len(gold) == 1 and gold in LETTERS[: len(item.choices)]:
        option = item.choices[LETTERS.index(gold)]
    return _equal_to_two_decimals(gold, given) or _equal_to_two_decimals(option, given)


def _stated(output: str) -> str:
    text = output.strip()
    for letter in "ABCDE":
        ends, starts = (f" {letter}.", f" ({letter})."), (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if text.endswith(ends) or text.startswith(starts):
            text = letter
    tail = text.rsplit("is ", 1)[-1].rstrip(".")
    if float_of(tail) is not None:
        text = tail
    if "oxed{" in text:
        text = r"\boxed{" + text.rsplit("oxed{", 1)[-1]
    else:
        for flag in _FLAGS:
            for spelling in (flag, flag.replace("the", "The")):
                if spelling in text:
                    text = text.rsplit(spelling, 1)[-1].strip().split("\n")[0].split(". ")[0]
    text = _normal(text)
    for letter in "abcde":
        text = text.replace(f"({letter})", letter).replace(f"{{{letter}}}", letter)
    return text.rstrip(".").lstrip(":").strip()


def _normal(text: str) -> str:
    text = text.lower().replace("{}", "")
    boxes = re.findall(r"oxed\{(.*)\}", text, flags=re.DOTALL)
    text = boxes[-1] if boxes else text
    close, opening = text.find("}"), text.find("{")
    if close >= 0 and (opening < 0 or close < opening):
        text = text[:close]
    text = text.rsplit("=", 1)[-1].rsplit(r"\approx", 1)[-1]
    gone = (" ", r"\,", "\n", r"\text", r"\mbox", r"\left", r"\right", r"^{\circ}", r"^\circ", "{m}^3", "m^3",
            "{units}", "units", "{km}", "km", r"\!", r"\$", "$", r"\%")  # fmt: skip
    for piece in gone:
        text = text.replace(piece, "")
    text = text.replace("∞", r"\infty").replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
    return "0" + text if text.startswith(".") else text


def _equal_to_two_decimals(gold: str, given: str) -> bool:
    gold, given = gold.lower(), given.lower()
    if not gold.strip() or not given.strip():
        return False
    if gold.strip() == given.strip():
        return True
    pieces = [_pieces(gold), _pieces(given)]
    if pieces[0] is not None and pieces[0] == pieces[1]:
        return True
    left, right = value_of(gold.strip("$ ")), value_of(given.strip("$ "))
    return left is not None and right is not None and round(left, 2) == round(right, 2)


def _pieces(text: str) -> tuple[str, ...] | None:
    """Members of a bracketed list with every number rounded to two decimals; None for other text."""
    if len(text) < 5 or text[0] + text[-1] not in ("()", "[]") or "," not in text:
        return None
    members = text[1:-1].split(",")
    values = [value_of(member) for member in members]
    return (text[0], *(str(round(v, 2)) if v is not None else m for v, m in zip(values, members, strict=True)))


def _record(problem: Any, _number: int, _drawings: Drawings) -> dict[str, Any]:
    return {
        "id": problem.key, "question": problem.question, "options": list(problem.choices), "answer": problem.answer,
        "level": MINI_LEVELS[problem.grade], "subject": problem.kind,
    }  # fmt: skip


BENCHMARK = Benchmark(
    task={
        "title": "MathVision",
        "version": 2,
        "protocol": "Exact values; the official rule, which rounds to two decimals, stands beside it.",
    },
    official=official,
    lettered=True,
    published=Published(
        description="MathVision test: 3,040 competition problems with a picture",
        location="MathLLMs/MathVision",
        # the hub's state of 2026-06-10, as four public files state it
        revision="2837ddb3f13abaf6b3997c12d80753e5470bd46a",
        files=("data/test-*.parquet",),
        licence="MIT",
        splits=("test",),
    ),
    mini=Mini(first_bucket=222, buckets=11, record=_record, grades=("medium", "hard")),
)
