"""What an evaluation task is: items, the question put to the model, and the groups its accuracy is told by.

What an output's answer is and what it is worth is decided by `shared.answers`, as for the reward: a task only says what
the grader is told of an item (`Item.label`: options, tolerance, unit, several answers).
Not covered: where items come from (`items.py`), generation and storage (`run.py`), numbers (`results.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.answers import Grade, Verdict
from shared.benchmark import Item, plain_question
from shared.item_source import ItemReader


class Status(StrEnum):
    """How an item ended.

    `no_answer` (the output states none) and `unreadable` (what it states cannot be compared) count as wrong and are
    told apart from it; `unscored` is left out of the accuracy and counted.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    UNREADABLE = "unreadable"
    UNSCORED = "unscored"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The score of one output."""

    status: Status
    kind: str
    rule: str = ""
    """What settled it: the grader's layer, or the scorer's own rule."""
    reason: str = ""
    """Why there is no answer or no score; empty otherwise."""


Groups = Mapping[str, Callable[[Item], str | None]]


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark as it is evaluated here.

    Attributes:
        name: Name of the benchmark, of its recipe and of its dataset.
        title: How the paper's table calls it.
        version: Raised whenever question or grader change what a stored output is worth.
        labels: What the grader is told of an item, once for each of several right golds.
        rule: A rule of the task's own in place of the grader, on the answer; None where it leaves an item to it.
        trial: Calls a scorer of the user's own on an item's gold, and raises what a mistake in its code raises.
        official: The published rule, re-implemented: True, False, or None where it does not apply.
        question: Text put to the model, with `<image>` where the pictures stand.
        groups: Tables of accuracy beside `by_kind`.
        subset: The part of the benchmark that an item belongs to, where it has several; named in every result.
        stratum: The headline is the mean over these groups' accuracies (MathVerse's versions); None: over items.
        cluster: Items that share a problem, whose scores are not independent.
        together: Shares of groups whose items are all right (all variants of a problem), by name: an item's group.
        items: Reads the items.
        origin: File and hash.
        protocol: One sentence on how this differs from the published protocol.

    """

    name: str
    title: str
    version: int
    protocol: str
    official: Callable[[Item, str], bool | None] | None = None
    labels: Callable[[Item], Sequence[Mapping[str, Any]]] = lambda item: (item.label(),)
    rule: Callable[[Item, str], Outcome | None] | None = None
    trial: Callable[[Item], None] | None = None
    question: Callable[[Item], str] = plain_question
    groups: Groups = field(default_factory=dict)
    subset: Callable[[Item], str | None] | None = None
    stratum: Callable[[Item], str | None] | None = None
    cluster: Callable[[Item], str] | None = None
    together: Mapping[str, Callable[[Item], str]] = field(default_factory=dict)
    items: ItemReader = field(default_factory=ItemReader)
    origin: str = ""


def outcome_of(grade: Grade) -> Outcome:
    """Outcome of one grade. A timeout is unscored.

    A gold that the grader cannot read is right for the answer that spells it and wrong for others: were it unscored,
    the denominator would depend on the answer, and two models' accuracies could not be compared.
    """
    if grade.verdict is Verdict.CORRECT:
        return Outcome(Status.CORRECT, grade.kind, grade.layer)
    if grade.verdict is Verdict.TIMEOUT:
        return Outcome(Status.UNSCORED, grade.kind, grade.layer, grade.verdict.value)
    if grade.verdict is Verdict.UNPARSABLE_ANSWER:
        return Outcome(Status.UNREADABLE, grade.kind, grade.layer, grade.verdict.value)
    reason = grade.verdict.value if grade.verdict in (Verdict.UNPARSABLE_GOLD, Verdict.UNDECIDED) else ""
    return Outcome(Status.WRONG, grade.kind, grade.layer, reason)


def unscored(item: Item, reason: str) -> Outcome:
    """An outcome that is left out of the accuracy and counted under its reason."""
    return Outcome(Status.UNSCORED, item.kind, reason=reason)


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """The first right outcome, else the first: each is that of one of an item's golds."""
    return next((one for one in outcomes if one.status is Status.CORRECT), outcomes[0])
