"""Scores outputs: takes the answers out and grades them in one batch, with the functions that rewards use.

Input: a task and (item, output) pairs. Output: one `Scored` each, in order. One bad item never stops a run: whatever
the grader raises becomes an unscored outcome with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.answers import Grade, final_answer, grade_many, options_of
from shared.benchmark import Item
from shared.fingerprint import canonical_json
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.task import Outcome, Status, Task, outcome_of, unscored


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


Asked = dict[str, Any]
"""What the grader is asked: `output`, `gold` and options of `shared.answers.grade`."""


def score(task: Task, outputs: Sequence[tuple[Item, int, StoredAnswer]]) -> list[Scored]:
    """Score every output; the order is kept."""
    started = [_start(task, item, output) for item, _, output in outputs]
    asked = [
        [canonical_json({**one, "output": output.text}) for one in state] if isinstance(state, list) else []
        for (_, _, output), (_, state) in zip(outputs, started, strict=True)
    ]
    unique = {key: one for keys, (_, state) in zip(asked, started, strict=True) if isinstance(state, list)
              for key, one in zip(keys, state, strict=True)}  # fmt: skip
    grades = _grades(unique)
    scored = []
    for (item, sample, output), (answer, state), keys in zip(outputs, started, asked, strict=True):
        outcome = state if isinstance(state, Outcome) else _best([_outcome(item, grades[key]) for key in keys])
        scored.append(Scored(item, sample, output, answer, outcome, _official(task, item, output, outcome)))
    return scored


def _start(task: Task, item: Item, output: StoredAnswer) -> tuple[str | None, Outcome | list[Asked]]:
    """The answer that an output states, and what the grader is asked; an outcome where there is nothing to ask."""
    if item.problem or output.failure:
        return None, unscored(item, item.problem or output.failure)
    try:
        found = final_answer(output.text)
        if found.answer is None:
            reason = "truncated" if output.truncated else "no_final_answer"
            return None, Outcome(Status.NO_ANSWER, item.kind, reason=reason)
        answer = ", ".join(found.contents)
        ruled = task.rule(item, answer) if task.rule is not None else None
        if ruled is not None:
            return answer, ruled
        return answer, [{"output": found, "gold": one["gold"], **options_of(one)} for one in task.labels(item)]
    except Exception as error:  # noqa: BLE001 - one bad item never stops a run
        return None, unscored(item, f"scorer_error:{type(error).__name__}")


def _best(outcomes: Sequence[Outcome]) -> Outcome:
    """The first right outcome, else the first: each is that of one of the item's golds."""
    return next((one for one in outcomes if one.status is Status.CORRECT), outcomes[0])


def _outcome(item: Item, grade: Grade | str) -> Outcome:
    return unscored(item, grade) if isinstance(grade, str) else outcome_of(grade)


def _grades(asked: dict[str, Asked]) -> dict[str, Grade | str]:
    """Grades by key; a reason where the grader raised."""
    if not asked:
        return {}
    try:
        return dict(zip(asked, grade_many(list(asked.values())), strict=True))
    except Exception:  # noqa: BLE001 - find the output that broke the batch
        grades: dict[str, Grade | str] = {}
        for key, one in asked.items():
            try:
                grades[key] = grade_many([one])[0]
            except Exception as error:  # noqa: BLE001
                grades[key] = f"grader_error:{type(error).__name__}"
        return grades


def _official(task: Task, item: Item, output: StoredAnswer, outcome: Outcome) -> bool | None:
    rule = task.official
    if rule is None or outcome.status is Status.UNSCORED:
        return None
    try:
        return rule(item, output.text)
    except Exception:  # noqa: BLE001 - published rules raise on odd text and say nothing then
        return None
