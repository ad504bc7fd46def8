"""What a benchmark's own file declares, and what an item of it is: the vocabulary of `shared/benchmarks/`.

Both halves read the same declaration: the data engine where a benchmark is published and how its records are read,
the trainer how it is asked and scored. Not covered: finding a declaration by name (`shared.benchmarks`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shared.answers import label_of
from shared.config import Strict
from shared.option_lists import LETTERS, format_choices

_CHOICES_INSIDE = re.compile(r"\bChoices?\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a benchmark. `images` are encoded bytes; `problem` says why it cannot be scored, None otherwise."""

    benchmark: str
    key: str
    question: str
    answer: str
    kind: str
    choices: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    missing_images: tuple[str, ...] = ()
    category: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def label(self) -> dict[str, Any]:
        """What the grader is told of this item, as in training (`label_of`)."""
        return label_of(self.answer, self.kind, self.choices, self.extra)

    @property
    def level(self) -> str | None:
        """Difficulty as the benchmark tells it: MATH500's and MathVision's level, MathVista's school grade."""
        metadata = self.extra.get("metadata")
        grade = metadata.get("grade") if isinstance(metadata, Mapping) else None
        value = self.extra.get("level", grade)
        return None if value is None else str(value)


def plain_question(item: Item) -> str:
    """The question as the row has it, its options appended where it does not tell them itself."""
    if not item.choices or _CHOICES_INSIDE.search(item.question):
        return item.question
    # Blank from A to J only: an item asked in other words is not found among the stored answers.
    shown = ["" if n < 10 and choice == LETTERS[n] else choice for n, choice in enumerate(item.choices)]
    return f"{item.question}\n{format_choices(shown)}".replace(")  (", ") (").rstrip()


class Published(Strict):
    """Where a benchmark is published: what a recipe of its items says, and recipes that compare rows with it."""

    description: str = ""
    location: str = ""
    """Hub id; empty: no recipe builds it, and an evaluation is told a file."""
    revision: str = "main"
    files: tuple[str, ...] = ()
    licence: str = ""
    splits: tuple[str, ...] = ()
    """Which split of a hub folder is meant; other files of the folder are left alone. Empty: all are read."""


class Drawings(Hashable, Protocol):
    """The drawn problems of a mini set, `Problem` of `shared.laptop.problems`, which stays behind its door."""

    def problem(self, number: int) -> Any:
        """Problem `number`."""

    def reworded(self, problem: Any) -> str:
        """The same question in another wording; unchanged where there is none."""


@dataclass(frozen=True, kw_only=True)
class Mini:
    """The small set that stands for a benchmark in profile `local`: drawn problems in its published file's columns."""

    first_bucket: int
    """Where its part of the 256 buckets of drawn contents begins (`shared.laptop.problems.splits`)."""
    buckets: int
    record: Callable[[Any, int, Drawings], dict[str, Any]]
    """An item's record, from its problem, its number and the drawings."""
    problem: Callable[[Drawings, int], Any] = lambda drawings, number: drawings.problem(number)
    """What item `number` asks."""
    text_only: bool = False
    grades: tuple[str, ...] = ("easy", "medium", "hard")
    """Grades to draw from, with repetition as weight."""


MINI_LEVELS = {"easy": 1, "medium": 3, "hard": 5}
"""Levels of drawn grades, as MATH500 and MathVision count them."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: all that the two halves know of it.

    Attributes:
        task: How it is asked and scored, in the words of a task file (`trainer.evaluation.task_files`).
        parts: What no such word can say: functions in place of those of the `Task`.
        official: The published scoring rule, in our own words: right, wrong, or None where it does not apply.
        published: Where its files are.
        lettered: Whether golds are option letters: None where the file says so itself, item by item.
        fields: Further fields of an item's `extra`, from its record and file.
        refused: Why an item cannot be scored by rules, from its gold and `extra`; None where it can.
        mini: The small set that stands for it; None: profile `local` does without it.
        file: The file that declares it.
    """

    task: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    official: Callable[[Item, str], bool | None] | None = None
    published: Published = field(default_factory=Published)
    lettered: bool | None = None
    fields: Callable[[Mapping[str, Any], Path], dict[str, Any]] | None = None
    refused: Callable[[str, Mapping[str, Any]], str | None] | None = None
    mini: Mini | None = None
    file: Path = Path()
