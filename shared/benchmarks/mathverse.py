"""MathVerse testmini (AI4Math/MathVerse): 788 problems in five versions, from most text to picture alone.

Choice items by letter or option text, free items by value with units. The headline is the mean of the versions; the
versions of a problem are one cluster of its standard error. Vision Only has its own question: the problem stands in
the picture, so the text only says where to look, and `question_for_eval` (what the picture asks) serves the grader.
"""

import functools
from dataclasses import replace
from typing import Any

from shared.benchmark import Benchmark, Drawings, Item, Mini, Published, plain_question

VISION_ONLY_QUESTION = "Answer the question shown in the image."


def version(item: Item) -> str:
    """Which of the versions an item is; `unknown` where its file does not say."""
    return str(item.extra.get("problem_version") or "unknown")


def _question(item: Item) -> str:
    words = item.question.replace("<image>", "").strip()
    if words:
        return plain_question(item)
    return f"{item.question.strip()}\n{VISION_ONLY_QUESTION}".strip()


_PROBLEMS = 8
"""Drawn problems of a block."""
_WITH_OPTIONS = (4, 5)
"""Places of a block whose problems have options; plain drawing leaves the first block without any."""
_DRAWN_VERSIONS = ("Vision Dominant", "Text Dominant", "Text Lite", "Vision Intensive", "Vision Only")
_BLOCK = _PROBLEMS * len(_DRAWN_VERSIONS)


def _problem(drawings: Drawings, number: int) -> Any:
    """The drawn problem in its version: eight problems in one, then the same eight in the next.

    The plain drawing comes first, so that the items which the small training sets copy are worded like their copies.
    """
    drawn, version = _version_of(drawings, number)
    return replace(_in_version(drawings, drawings.problem(drawn), version), key=f"mini-mathverse-{number}")


def _version_of(drawings: Drawings, number: int) -> tuple[int, str]:
    """Number of the drawing and version of an item."""
    block, place = divmod(number, _BLOCK)
    drawn = _plain(number)
    if place % _PROBLEMS in _WITH_OPTIONS:
        drawn = _drawn_with_options(drawings, block)[_WITH_OPTIONS.index(place % _PROBLEMS)]
    return drawn, _DRAWN_VERSIONS[place // _PROBLEMS]


def _plain(number: int) -> int:
    """The item that asks the same problem as it was drawn."""
    block, place = divmod(number, _BLOCK)
    return block * _BLOCK + place % _PROBLEMS


@functools.cache
def _drawn_with_options(drawings: Drawings, block: int) -> list[int]:
    """Numbers of the block's drawings that have options, any others after them."""
    numbers = range(block * _BLOCK + _PROBLEMS, (block + 1) * _BLOCK)
    found = [number for number in numbers if drawings.problem(number).choices]
    return [*found, *numbers][: len(_WITH_OPTIONS)]


def _in_version(drawings: Drawings, problem: Any, version: str) -> Any:
    """The problem with as much of its picture told in the text as the version tells (arXiv 2403.14624, section 2.2).

    Text Dominant tells every fact, Text Lite half of them, Vision Intensive a third, Vision Dominant none, and Vision
    Only asks in words of its own.
    """
    if version == "Vision Only":
        return replace(problem, question=problem.question.replace(problem.stem, drawings.reworded(problem), 1))
    facts = problem.facts
    told = {"Text Dominant": len(facts), "Text Lite": (len(facts) + 1) // 2, "Vision Intensive": len(facts) // 3}
    return replace(problem, question=" ".join((*facts[: told.get(version, 0)], problem.question)))


def _record(problem: Any, number: int, drawings: Drawings) -> dict[str, Any]:
    drawn, version = _version_of(drawings, number)
    return {
        "sample_index": problem.key, "problem_index": str(drawn + 1), "problem_version": version,
        "question": problem.question, "question_for_eval": _problem(drawings, _plain(number)).question,
        "answer": problem.answer, "options": list(problem.choices),
        "question_type": "multi-choice" if problem.choices else "free-form",
        "metadata": {"split": "testmini", "source": "mini", "subject": problem.kind, "subfield": problem.form},
    }  # fmt: skip


BENCHMARK = Benchmark(
    task={
        "title": "MathVerse",
        "version": 2,
        "protocol": "Rules instead of the official language-model judge; mean of the versions.",
    },
    parts={
        "question": _question,
        "groups": {
            "by_version": version,
            "by_subject": lambda item: item.category,
            "by_type": lambda item: item.extra.get("question_type"),
        },
        "stratum": version,
        "cluster": lambda item: str(item.extra.get("problem_index") or item.key),
    },
    published=Published(
        description="MathVerse testmini: problems in versions from text-dominant to vision-only",
        location="AI4Math/MathVerse",
        # as Hiforever-h/AdaptiveVision-RL, scripts/prepare_benchmarks.py, has it
        revision="3bc86196678bad115a923d2851c6821dbe235939",
        files=("testmini.parquet",),
        licence="MIT",
        splits=("testmini",),
    ),
    mini=Mini(first_bucket=211, buckets=11, record=_record, problem=_problem),
)
