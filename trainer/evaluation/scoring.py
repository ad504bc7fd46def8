"""Scores outputs of one task: takes the answers out, plans, grades all pairs in batches, concludes.

Input: a task and (item, output) pairs. Output: one `Scored` each, in order. One bad item never stops a run: whatever a
scorer or the grader raises becomes an unscored outcome with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.answers import Grade, grade_many
from shared.fingerprint import canonical_json
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.task import Item, Outcome, Pair, Plan, Status, Task, unscored

MOST_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Scored:
    """One output and its score. `sample` 0 is the headline's output; `official` the published rule's verdict."""

    item: Item
    sample: int
    output: StoredAnswer
    answer: str | None
    outcome: Outcome
    official: bool | None

    @property
    def correct(self) -> bool:
        """Whether the strict score is 1."""
        return self.outcome.status is Status.CORRECT

    @property
    def scored(self) -> bool:
        """Whether it counts in the accuracy."""
        return self.outcome.status is not Status.UNSCORED


def score(task: Task, outputs: Sequence[tuple[Item, int, StoredAnswer]]) -> list[Scored]:
    """Score every output; the order is kept."""
    started = [_start(task, item, output) for item, _, output in outputs]
    answers = [answer for answer, _ in started]
    states = [state for _, state in started]
    items = [item for item, _, _ in outputs]
    for _ in range(MOST_ROUNDS):
        waiting = [place for place, state in enumerate(states) if isinstance(state, Plan)]
        if not waiting:
            break
        _grade_round(states, waiting, items)
    return [
        Scored(item, sample, output, answer, _ended(state, item), _official(task, item, output, state))
        for (item, sample, output), answer, state in zip(outputs, answers, states, strict=True)
    ]


def _start(task: Task, item: Item, output: StoredAnswer) -> tuple[str | None, Outcome | Plan]:
    """The answer taken out of an output, and the scorer's first word on it."""
    if item.problem or output.failure:
        return None, unscored(item, item.problem or output.failure)
    try:
        answer = task.answer_of(item, output.text)
        if answer is None:
            return None, Outcome(
                Status.NO_ANSWER, item.kind, reason="truncated" if output.truncated else "no_final_answer"
            )
        return answer, task.score(item, answer)
    except Exception as error:  # noqa: BLE001 - one bad item never stops a run
        return None, unscored(item, f"scorer_error:{type(error).__name__}")


def _grade_round(states: list[Outcome | Plan], waiting: Sequence[int], items: Sequence[Item]) -> None:
    """Grade the pairs of all waiting plans, equal pairs once, and take each plan one step further."""
    unique: dict[str, Pair] = {}
    keys: dict[int, list[str]] = {}
    for place in waiting:
        plan = states[place]
        if isinstance(plan, Plan):
            keys[place] = [canonical_json(pair) for pair in plan.pairs]
            unique.update(zip(keys[place], plan.pairs, strict=True))
    grades = _grades(unique)
    for place in waiting:
        plan = states[place]
        if not isinstance(plan, Plan):
            continue
        found = [grades[key] for key in keys[place]]
        broken = next((grade for grade in found if isinstance(grade, str)), None)
        if broken is not None:
            states[place] = unscored(items[place], broken)
            continue
        try:
            states[place] = plan.decide([grade for grade in found if isinstance(grade, Grade)])
        except Exception as error:  # noqa: BLE001 - one bad item never stops a run
            states[place] = unscored(items[place], f"scorer_error:{type(error).__name__}")


def _grades(pairs: dict[str, Pair]) -> dict[str, Grade | str]:
    """Grades by key; a reason where the grader raised."""
    if not pairs:
        return {}
    try:
        return dict(zip(pairs, grade_many(list(pairs.values())), strict=True))
    except Exception:  # noqa: BLE001 - find the pair that broke the batch
        grades: dict[str, Grade | str] = {}
        for key, pair in pairs.items():
            try:
                grades[key] = grade_many([pair])[0]
            except Exception as error:  # noqa: BLE001
                grades[key] = f"grader_error:{type(error).__name__}"
        return grades


def _ended(state: Outcome | Plan, item: Item) -> Outcome:
    return state if isinstance(state, Outcome) else unscored(item, "scorer_error:too_many_rounds")


def _official(task: Task, item: Item, output: StoredAnswer, state: Outcome | Plan) -> bool | None:
    rule = task.official
    if rule is None or (isinstance(state, Outcome) and state.status is Status.UNSCORED):
        return None
    try:
        return rule(item, output.text)
    except Exception:  # noqa: BLE001 - published rules raise on odd text and say nothing then
        return None
