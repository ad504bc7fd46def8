"""What an evaluation task is: items, the question put to the model, a scorer, and the groups its accuracy is told by.

A scorer looks at one item and the answer taken from the model's output and says `Outcome`, or `Plan`: pairs for the
grader and what to conclude from their grades. Plans let `run` grade a whole benchmark in one batch.
Not covered: where items come from (`items.py`), generation and storage (`run.py`), numbers (`results.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from shared.answers import Grade, Verdict, extract_answer
from shared.answers.extract import answer_region, boxed_contents

if TYPE_CHECKING:
    from trainer.evaluation.task_files import ItemReader

Pair = dict[str, Any]
"""What the grader is asked: `pred`, `gold` and options of `shared.answers.grade`."""

LONGEST_BARE_ANSWER = 300
"""An output of one line and at most this many characters, without box or tags, is taken as the answer itself."""
LONGEST_BARE_LINES = 40
"""Likewise an output of several lines and at most this many characters (a letter or a number on each)."""

_CHOICES_INSIDE = re.compile(r"\bChoices?\s*:", re.IGNORECASE)


class Status(StrEnum):
    """How an item ended. `no_answer` counts as wrong; `unscored` is left out of the accuracy and counted."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    UNSCORED = "unscored"


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

    @property
    def level(self) -> str | None:
        """Difficulty as the benchmark tells it: MATH500's and MathVision's level, MathVista's school grade."""
        metadata = self.extra.get("metadata")
        grade = metadata.get("grade") if isinstance(metadata, Mapping) else None
        value = self.extra.get("level", grade)
        return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The score of one output."""

    status: Status
    kind: str
    rule: str = ""
    """What settled it: the grader's layer, or the scorer's own rule."""
    reason: str = ""
    """Why there is no answer or no score; empty otherwise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Pairs for the grader, and the conclusion from their grades (in order): an outcome, or a further plan."""

    pairs: Sequence[Pair]
    decide: Callable[[Sequence[Grade]], Outcome | Plan]


Scorer = Callable[[Item, str], Outcome | Plan]
Groups = Mapping[str, Callable[[Item], str | None]]


def plain_question(item: Item) -> str:
    """The question as the row has it, its options appended where it does not tell them itself."""
    if not item.choices or _CHOICES_INSIDE.search(item.question):
        return item.question
    from shared.mini_world.problem import format_choices  # the one spelling of options, the bundled checkpoint's too

    shown = tuple(
        "" if choice == "ABCDEFGHIJ"[place : place + 1] else choice for place, choice in enumerate(item.choices)
    )
    return f"{item.question}\n{format_choices(shown)}".replace(")  (", ") (").rstrip()


def by_subject(item: Item) -> str | None:
    """Group of the table `by_subject`."""
    return item.category


def by_level(item: Item) -> str | None:
    """Group of the table `by_level`."""
    return item.level


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark as it is evaluated here.

    Attributes:
        name: Name of the benchmark, of its recipe and of its dataset.
        title: How the paper's table calls it.
        version: Raised whenever question or scorer change what a stored output is worth.
        score: The scorer.
        official: The published rule, re-implemented: True, False, or None where it does not apply.
        question: Text put to the model, with `<image>` where the pictures stand.
        answer_of: Takes the answer out of an output; None where it holds none.
        groups: Tables of accuracy beside `by_kind`.
        subset: The part of the benchmark that an item belongs to, where it has several; named in every result.
        stratum: The headline is the mean over these groups' accuracies (MathVerse's versions); None: over items.
        cluster: Items that share a problem, whose scores are not independent.
        together: Shares of groups whose items are all right (all variants of a problem), by name: an item's group.
        items: Reads the items of a task that is a file; None where `shared.benchmark_files` knows the benchmark.
        origin: File and hash of a task that is a file.
        protocol: One sentence on how this differs from the published protocol.

    """

    name: str
    title: str
    version: int
    score: Scorer
    protocol: str
    official: Callable[[Item, str], bool | None] | None = None
    question: Callable[[Item], str] = plain_question
    answer_of: Callable[[Item, str], str | None] = lambda _item, output: final_answer(output)
    groups: Groups = field(default_factory=lambda: {"by_subject": by_subject, "by_level": by_level})
    subset: Callable[[Item], str | None] | None = None
    stratum: Callable[[Item], str | None] | None = None
    cluster: Callable[[Item], str] | None = None
    together: Mapping[str, Callable[[Item], str]] = field(default_factory=dict)
    items: ItemReader | None = None
    origin: str = ""


def final_answer(output: str) -> str | None:
    r"""The last `\boxed{}` or `<answer>` outside the thinking, else an output that is only an answer, else None."""
    found = extract_answer(output)
    if found.answer is not None:
        return found.answer
    bare = answer_region(output).strip()
    longest = LONGEST_BARE_LINES if "\n" in bare else LONGEST_BARE_ANSWER
    return bare if 0 < len(bare) <= longest and "boxed" not in bare and not bare.startswith("<") else None


def every_answer(output: str) -> str | None:
    """All boxes of an output joined by commas, for items with several answers; else as `final_answer`."""
    boxes = [box for box in boxed_contents(answer_region(output)) if box]
    unique = list(dict.fromkeys(boxes))
    return ", ".join(unique) if len(unique) > 1 else final_answer(output)


def outcome_of(grade: Grade, *, kind: str | None = None) -> Outcome:
    """Outcome of one grade. A timeout is unscored.

    A gold that the grader cannot read is right for the answer that spells it and wrong for others: were it unscored,
    the denominator would depend on the answer, and two models' accuracies could not be compared.
    """
    kind = kind or grade.kind
    if grade.verdict is Verdict.CORRECT:
        return Outcome(Status.CORRECT, kind, grade.layer)
    if grade.verdict is Verdict.TIMEOUT:
        return Outcome(Status.UNSCORED, kind, grade.layer, grade.verdict.value)
    reason = grade.verdict.value if grade.verdict in (Verdict.UNPARSABLE_GOLD, Verdict.UNDECIDED) else ""
    return Outcome(Status.WRONG, kind, grade.layer, reason)


def unscored(item: Item, reason: str) -> Outcome:
    """An outcome that is left out of the accuracy and counted under its reason."""
    return Outcome(Status.UNSCORED, item.kind, reason=reason)
