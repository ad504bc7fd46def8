"""What a kind of problem is made of: a content, its facts, its picture, and the forms of question about it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from shared.laptop.problems.canvas import Canvas
from shared.laptop.problems.problem import Asked, Grade

# A content is the kind's own frozen dataclass; only the functions of that kind look inside.
Content: TypeAlias = Any
Sample: TypeAlias = Callable[[random.Random], Content]
Ask: TypeAlias = Callable[[Content, random.Random], Asked | None]


@dataclass(frozen=True, slots=True)
class Form:
    """One way of asking about a content.

    `wordings` are four sentences with `{field}`s: the first two belong to the training sources, the last two to the
    benchmarks. `ask` returns None where a content does not allow the question.
    """

    name: str
    grade: Grade
    wordings: tuple[str, str, str, str]
    ask: Ask


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `paint` is None for text problems, whose `facts` only identify the content."""

    name: str
    image_type: str | None
    sample: Sample
    facts: Callable[[Content], tuple[str, ...]]
    paint: Callable[[Content, random.Random], Canvas] | None
    forms: tuple[Form, ...]


def near_numbers(answer: int, rng: random.Random) -> tuple[str, ...]:
    """Three wrong values near a whole number, for options."""
    offsets = [offset for offset in (-10, -3, -2, -1, 1, 2, 3, 5, 10) if answer + offset > 0 or answer <= 0]
    return tuple(str(answer + offset) for offset in rng.sample(offsets, 3))


def total_of(terms: list[int]) -> tuple[int, str]:
    """Sum and its way: `7 + 15 = 22.`, one term after the other."""
    running = terms[0]
    steps = []
    for term in terms[1:]:
        steps.append(f"{running}+{term}={running + term}.")
        running += term
    return running, " ".join(steps)
