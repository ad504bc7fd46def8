"""The five benchmarks' small sets: drawn problems as records with the very columns of the published files.

Input: a benchmark's name and an item's number. Output: the record, and the `SourceRow` that the reader of the real
files makes of it, so that per-version, per-kind and per-level numbers of a local evaluation take the real one's road.
What is asked stays what `shared.laptop.problems` draws; only these shapes are made here:
- MathVerse: five versions of one problem, from every fact of the picture in the text to a question of its own;
- MathVista: option texts as golds, lengths as floats of one decimal, points as lists;
- OlympiadBench: a tolerance for decimals, units of word problems, and every tenth item with two answers.
Not covered: proofs and questions that stand in the picture only (the bundled checkpoint could read neither).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.laptop.problems import Problem

PROBLEMS_PER_BLOCK = 8
WITH_OPTIONS = (4, 5)
"""Places of a block whose problems have options; plain drawing leaves the first block without any."""
VERSIONS = ("Vision Dominant", "Text Dominant", "Text Lite", "Vision Intensive", "Vision Only")
"""Versions in the order of the items: eight problems in one version, then the same eight in the next.

The plain drawing comes first, so that the items which the small training sets copy are worded like their copies.
"""
ITEMS_PER_BLOCK = PROBLEMS_PER_BLOCK * len(VERSIONS)
_LEVELS = {"easy": 1, "medium": 3, "hard": 5}
_GRADES = {"easy": "elementary school", "medium": "high school", "hard": "college"}
_MEASURED = ("rectangle/read", "rectangle/perimeter", "triangle/side", "triangle/perimeter")
"""Forms whose answer is a length: told with one decimal, as MathVista tells what is measured."""
_TWO_ANSWERS_EVERY = 10
_SECOND_DRAWN = 100_000
"""Numbers of the second problems of items with two answers, far from every item's own."""


def item_problem(name: str, index: int) -> Problem:
    """What item number `index` asks, as a drawn problem with the item's key, question and answer."""
    from shared.laptop.problems import draw

    if name == "mathverse":
        number, version = _version_of(index)
        return replace(_in_version(draw("mini-mathverse", number), version), key=f"mini-mathverse-{index}")
    problem = draw(f"mini-{name}", index)
    if name == "olympiadbench" and index % _TWO_ANSWERS_EVERY == _TWO_ANSWERS_EVERY - 1 and not problem.choices:
        other = next(
            second
            for second in (draw("mini-olympiadbench", _SECOND_DRAWN + 50 * index + more) for more in range(50))
            if not second.choices and second.answer != problem.answer
        )
        return replace(
            problem,
            question=f"{problem.question} {other.question}",
            answer=f"{problem.answer}, {other.answer}",
        )
    return problem


def benchmark_record(name: str, index: int) -> dict[str, Any]:
    """Item number `index` with the columns of the benchmark's published file."""
    problem = item_problem(name, index)
    record = _SHAPES[name](problem, index)
    if problem.image_png:
        record["image"] = {"bytes": problem.image_png, "path": f"images/{problem.key}.png"}
    return record


def _version_of(index: int) -> tuple[int, str]:
    """Number of the problem and version of a MathVerse item."""
    block, place = divmod(index, ITEMS_PER_BLOCK)
    number = block * ITEMS_PER_BLOCK + place % PROBLEMS_PER_BLOCK
    if place % PROBLEMS_PER_BLOCK in WITH_OPTIONS:
        number = _drawn_with_options(block)[WITH_OPTIONS.index(place % PROBLEMS_PER_BLOCK)]
    return number, VERSIONS[place // PROBLEMS_PER_BLOCK]


@functools.cache
def _drawn_with_options(block: int) -> list[int]:
    """Numbers of the block's drawings that have options, any others after them."""
    from shared.laptop.problems import draw

    numbers = range(block * ITEMS_PER_BLOCK + PROBLEMS_PER_BLOCK, (block + 1) * ITEMS_PER_BLOCK)
    found = [number for number in numbers if draw("mini-mathverse", number).choices]
    return [*found, *numbers][: len(WITH_OPTIONS)]


def _in_version(problem: Problem, version: str) -> Problem:
    """The problem with as much of its picture told in the text as the version tells (arXiv 2403.14624, section 2.2).

    Text Dominant tells every fact, Text Lite half of them, Vision Intensive a third, Vision Dominant none, and Vision
    Only asks in words of its own.
    """
    if version == "Vision Only":
        return replace(problem, question=problem.question.replace(problem.stem, _reworded(problem), 1))
    facts = problem.facts
    told = {"Text Dominant": len(facts), "Text Lite": (len(facts) + 1) // 2, "Vision Intensive": len(facts) // 3}
    return replace(problem, question=" ".join((*facts[: told.get(version, 0)], problem.question)))


def _reworded(problem: Problem) -> str:
    """The same question in the other wording that the split's benchmarks have for it; unchanged where none fits."""
    from shared.laptop.problems import KINDS, split_of

    name = problem.form.partition("/")[2].removesuffix("-choice")
    form = next(form for form in KINDS[problem.kind].forms if form.name == name)
    for wording in form.wordings[split_of(problem.split).wordings]:
        fields = re.fullmatch(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(wording)), problem.stem)
        if fields is None:
            continue
        for other in form.wordings[split_of(problem.split).wordings]:
            if other != wording and set(re.findall(r"\{(\w+)\}", other)) <= set(fields.groupdict()):
                return other.format(**fields.groupdict())
    return problem.stem


def _math500(problem: Problem, _index: int) -> dict[str, Any]:
    return {
        "problem": problem.question,
        "answer": problem.answer,
        "options": list(problem.choices),
        "subject": problem.kind,
        "level": _LEVELS[problem.grade],
        "unique_id": problem.key,
    }


def _mathverse(problem: Problem, index: int) -> dict[str, Any]:
    number, version = _version_of(index)
    return {
        "sample_index": problem.key,
        "problem_index": str(number + 1),
        "problem_version": version,
        "question": problem.question,
        "question_for_eval": item_problem("mathverse", _plain_index(index)).question,
        "answer": problem.answer,
        "options": list(problem.choices),
        "question_type": "multi-choice" if problem.choices else "free-form",
        "metadata": {"split": "testmini", "source": "mini", "subject": problem.kind, "subfield": problem.form},
    }


def _plain_index(index: int) -> int:
    """The item that asks the same problem as it was drawn."""
    block, place = divmod(index, ITEMS_PER_BLOCK)
    return block * ITEMS_PER_BLOCK + place % PROBLEMS_PER_BLOCK


def _mathvision(problem: Problem, _index: int) -> dict[str, Any]:
    return {
        "id": problem.key,
        "question": problem.question,
        "options": list(problem.choices),
        "answer": problem.answer,
        "level": _LEVELS[problem.grade],
        "subject": problem.kind,
    }


def _mathvista(problem: Problem, _index: int) -> dict[str, Any]:
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
        "pid": problem.key,
        "question": problem.question,
        "choices": list(problem.choices),
        "answer": answer,
        "unit": None,
        "precision": precision,
        "question_type": "multi_choice" if problem.choices else "free_form",
        "answer_type": form,
        "metadata": {
            "split": "testmini",
            "source": "mini",
            "category": "math-targeted-vqa" if problem.image_type == "mathgeo" else "general-vqa",
            "task": problem.kind,
            "context": problem.image_type,
            "grade": _GRADES[problem.grade],
        },
    }


def _olympiadbench(problem: Problem, index: int) -> dict[str, Any]:
    answers = problem.answer.split(", ") if not problem.choices else [problem.answer]
    # Word problems count things: "Find the number of apples left", which a solution would end with "92 apples".
    counted = re.search(r"number of (?P<thing>[a-z]+)(?: left|\.| in )", problem.question)
    return {
        "id": problem.key,
        "subfield": problem.kind,
        "context": None,
        "question": problem.question,
        "options": list(problem.choices),
        "final_answer": answers,
        "is_multiple_answer": len(answers) > 1,
        "unit": counted["thing"] if counted and not problem.choices and len(answers) == 1 else None,
        "answer_type": "Numerical",
        "error": "1e-2" if any("." in answer for answer in answers) else None,
        "question_type": "Open-ended",
        "subject": "Math",
        "language": "English",
        "modality": "Text-only",
        "difficulty": "Competition",
        "index": index,
    }


_SHAPES: dict[str, Callable[[Problem, int], dict[str, Any]]] = {
    "math500": _math500,
    "mathverse": _mathverse,
    "mathvision": _mathvision,
    "olympiadbench": _olympiadbench,
    "mathvista": _mathvista,
}
BENCHMARKS = tuple(_SHAPES)
