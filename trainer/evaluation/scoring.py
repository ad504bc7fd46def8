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
from shared.errors import one_line, reason_of
from shared.fingerprint import canonical_json
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.task import Outcome, Status, Task, best, outcome_of, unscored


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
    grades = _grades({key: one for _, state in started if isinstance(state, dict) for key, one in state.items()})
    scored = []
    for (item, sample, output), (answer, state) in zip(outputs, started, strict=True):
        outcome = state if isinstance(state, Outcome) else best([_outcome(item, grades[key]) for key in state])
        scored.append(Scored(item, sample, output, answer, outcome, _official(task, item, output, outcome)))
    return scored


def _start(task: Task, item: Item, output: StoredAnswer) -> tuple[str | None, Outcome | dict[str, Asked]]:
    """The answer that an output states, and what the grader is asked, by key; an outcome where there is no question."""
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
        told = [{"gold": one["gold"], **options_of(one)} for one in task.labels(item)]
        return answer, {canonical_json({**one, "output": output.text}): {**one, "output": found} for one in told}
    except Exception as error:  # noqa: BLE001 - one bad item never stops a run
        return None, unscored(item, f"scorer_error:{one_line(reason_of(error))}")


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
