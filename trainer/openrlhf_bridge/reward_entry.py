"""The reward of one rollout, in the form that OpenRLHF wants.

Input: the model's output text and the label (JSON). Output: `Outcome` with the shaped reward (what trains), the 0/1
score (what dynamic filtering reads), numbers for the logs, and the record for the rollout files.
Never raises and always returns a value: OpenRLHF swallows exceptions here and later fails with a misleading error
(verl#5635, Math-Verify#50). Failures of our own are counted in `reward_failed`. A function of the user's own
that fails does raise, with the row: it ends the run.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from shared.answers import Verdict
from trainer.own_reward import ACCURACY, REWARD, SECONDS, OwnReward
from trainer.rewards import RewardWeights, no_reward, reward

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rollout earned."""

    rewards: float
    scores: float
    extra_logs: dict[str, float]
    record: dict[str, Any]


def judge(
    output: str, label: str, weights: RewardWeights, own: OwnReward | None = None, facts: dict[str, Any] | None = None
) -> Outcome:
    """Judge one output against its label, `{"id", "gold", "kind", "choices", ...}` as JSON.

    With a function of the user's `own`, what it returns trains, and the parts of the paper's reward are logged; `facts`
    are what it is told of the answer.

    A label with `held_out` (a benchmark's name) belongs to an evaluation: its reward is 1 for a right answer, else 0.

    Raises:
        InfiMmrError: the user's function failed for this row.

    """
    failed = 0.0
    fields: dict[str, Any] = {}
    try:
        fields = dict(json.loads(label))
        parts = reward(output, fields, weights)
        failed = float(parts.failure.startswith("error:") or parts.verdict == "unparsable_gold")
    except Exception as error:  # noqa: BLE001 - nothing may escape, see above
        parts = no_reward("text", Verdict.WRONG, f"error:{type(error).__name__}")
        failed = 1.0
    named: dict[str, float] = {}
    if own is not None and not fields.get("held_out"):
        named = own.of(fields, output, parts, **(facts or {}))
        parts = replace(parts, total=named.pop(REWARD), score=named.get(ACCURACY, parts.score))
        failed = 0.0  # a gold that only the user's function can read is none of ours
    # The same keys for every rollout: OpenRLHF merges them into tensors.
    logs = {
        "format": float(parts.format),
        "accuracy": float(parts.score),
        "type_match": float(parts.type_match),
        "exact": float(parts.exact),
        "reward_failed": failed,
    }
    logs |= {f"reward_{name}": named.get(name, 0.0) for name in ((own and own.parts) or ())}
    record = asdict(parts) | {"prompt_id": str(fields.get("id", "")), "gold": str(fields.get("gold", ""))}
    record |= {"parts": named} if named else {}
    earned = float(parts.total)
    if fields.get("held_out"):  # an evaluation: accuracy alone, which OpenRLHF's pass1 averages
        record["held_out"] = str(fields["held_out"])
        earned = float(parts.exact)
    return Outcome(earned, float(parts.score), logs, record)


class Judges:
    """Threads in which a user's function is asked: a call's time begins when it has one, however many wait."""

    def __init__(self, threads: int | None = None) -> None:
        """Take how many; by default as many as asyncio has."""
        threads = threads or min(32, (os.cpu_count() or 1) + 4)
        self._pool = ThreadPoolExecutor(threads, "reward")
        self._free = asyncio.Semaphore(threads)

    async def ask(self, call: Callable[[], T]) -> T:
        """What a call returns.

        Raises:
            TimeoutError: it has no result after `SECONDS`.

        """
        async with self._free:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._pool, call), SECONDS)


def is_held_out(label: str) -> bool:
    """Whether a label belongs to an evaluation; False where it cannot be read."""
    try:
        return bool(json.loads(label).get("held_out"))
    except (AttributeError, TypeError, ValueError):
        return False
