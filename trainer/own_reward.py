"""A reward of the user's own: a Python function that a phase file names, `reward.function = "my_reward.py:score"`.

It is called as `score(gold, output, row)` and returns a number, or a mapping with `reward` and further numbers under
names of its own, which are logged; one called `accuracy` takes the place of the grader's in metrics and in dynamic
filtering. `row` holds the row's id, question, kind, choices, category and extra, the answer's `tokens` and whether it
was `truncated`, and under `graded` the parts of the paper's reward for the same output.
It is checked before a run starts on a row of the run's own, in a thread and from a copy as on the rollout workers, and
what was checked is copied into the run folder, from where the workers load it; files beside it are not. A row for which
it fails ends the run.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shared.errors import InfiMmrError, reason_of
from shared.own_code import ALONE, OwnFunction, load_function
from shared.whole_file import write_whole
from trainer.rewards import RewardParts, RewardWeights, reward

FOLDER = "reward"
"""Folder of the run folder with the copies."""
FAILED = "reward-error.txt"
"""File beside the agents' rollouts that tells for which row the function failed."""
ARGUMENTS = "gold, output, row"
SECONDS = 600.0
"""What one call may take on a busy machine; a function that hangs would hold the run for ever."""
REWARD, ACCURACY = "reward", "accuracy"
TAKEN = "failed"
"""`reward_failed` counts failures of our own."""


@dataclass(frozen=True)
class OwnReward:
    """A loaded reward function."""

    function: OwnFunction
    parts: tuple[str, ...] | None = None
    """Names of the numbers beside `reward`, the same for every row: OpenRLHF makes a tensor of each. None before the
    check."""

    def of(self, label: Mapping[str, Any], output: str, graded: RewardParts, **facts: Any) -> dict[str, float]:
        """`reward` and the parts of one rollout.

        Raises:
            InfiMmrError: the function raised, or returned something else than finite numbers; names the row.

        """
        row = {**label, **facts, "graded": asdict(graded)}
        failed = f"reward {self.function.name} failed for row {label.get('id', '')!s}"
        try:
            found = _numbers(self.function.call(str(label.get("gold") or ""), output, row))
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too: in a thread they would end nothing
            raise InfiMmrError(f"{failed}: {reason_of(error)}") from error
        if self.parts is not None and sorted(found) != sorted((REWARD, *self.parts)):
            raise InfiMmrError(f"{failed}: it returned {', '.join(found)}, before {', '.join((REWARD, *self.parts))}")
        return found


def _numbers(value: Any) -> dict[str, float]:
    named = value if isinstance(value, Mapping) else {REWARD: value}
    if REWARD not in named:
        raise ValueError(f"the mapping has no {REWARD!r}")
    found = {}
    for name, one in named.items():
        number = math.nan if isinstance(one, str | bytes) or one is None else float(one)
        if not math.isfinite(number):
            raise ValueError(f"{name} is {one!r:.60}, which is not a finite number")
        if not str(name).isidentifier():
            raise ValueError(f"{name!r} cannot name a number in the log")
        if name == TAKEN:
            raise ValueError(f"{name!r} is a name of the log's own: choose another")
        found[str(name)] = number
    return found


@contextmanager
def _loaded(words: str, phase: str) -> Iterator[OwnReward]:
    """The function, from a copy that lies alone."""
    with TemporaryDirectory(prefix="reward-", ignore_cleanup_errors=True) as apart:
        yield OwnReward(load_function(words, ARGUMENTS, f"phase {phase}: reward", apart=Path(apart)))


def load_reward(words: str, phase: str) -> OwnReward:
    """The function that a phase names.

    Raises:
        InfiMmrError: it cannot be loaded or takes other arguments.

    """
    with _loaded(words, phase) as own:
        return own


def checked_reward(words: str, phase: str, label: Mapping[str, Any], weights: RewardWeights) -> OwnReward:
    """The function that a phase names, tried on a right, a wrong and an empty output to a row of the run.

    Raises:
        InfiMmrError: it cannot be loaded, or fails for the row.

    """
    with _loaded(words, phase) as own:
        return _tried(own, phase, label, weights)


def _tried(own: OwnReward, phase: str, label: Mapping[str, Any], weights: RewardWeights) -> OwnReward:
    answers = [f"<think>I think so.</think>\\boxed{{{gold}}}" for gold in (label.get("gold", ""), "no such answer")]
    failures: list[BaseException] = []
    parts: list[tuple[str, ...]] = []

    def ask() -> None:
        try:
            for output in (*answers, ""):
                facts = {"tokens": len(output), "truncated": not output}
                found = own.of(label, output, reward(output, label, weights), **facts)
                parts.append(tuple(name for name in found if name != REWARD))
        except BaseException as error:  # noqa: BLE001 - it is raised outside the thread
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    with redirect_stdout(sys.stderr):
        thread.start()
        thread.join(SECONDS)
    if thread.is_alive():
        failures.append(InfiMmrError(f"reward {own.function.name} has no result after {SECONDS:.0f} s"))
    elif not failures and len({tuple(sorted(names)) for names in parts}) > 1:
        failures.append(InfiMmrError(f"reward {own.function.name} names other parts for other outputs: {parts}"))
    if failures:
        advice = (
            ALONE if isinstance(failures[0].__cause__, FileNotFoundError) else "Fix the function: nothing was started"
        )
        raise InfiMmrError(f"phase {phase}: {failures[0]}", advice) from failures[0]
    return OwnReward(own.function, parts[0])


def recorded(
    own: OwnReward, run: Path, before: Mapping[str, Any], step: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Copy the file into the run folder, under its name and hash, and return its record.

    A run may go on with a file that was mended: the record keeps the one `before` and the last `step` it served.
    """
    copy = run / FOLDER / f"{own.function.file.stem}-{own.function.sha256[:12]}.py"
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_whole(copy, own.function.source)
    found = {
        "words": own.function.name,
        "file": copy.name,
        "sha256": own.function.sha256,
        "parts": list(own.parts or ()),
    }
    known = dict(before)
    earlier = known.pop("earlier", [])
    if known and known["sha256"] != found["sha256"]:
        tell(f"reward {own.function.name} was changed since the run began; its record keeps both")
        earlier = [*earlier, {**known, "until_step": step}]
    return {**found, "earlier": earlier} if earlier else found


def for_workers(record: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """What rollout workers are told of a recorded function; empty where there is none."""
    if not record:
        return {}
    function = record["words"].rpartition(":")[2]
    words = f"{run / FOLDER / record['file']}:{function}"
    return {"words": words, "name": record["words"], "parts": record["parts"]}


def loaded_by_worker(settings: Mapping[str, Any]) -> OwnReward | None:
    """The function that `for_workers` tells of."""
    if not settings:
        return None
    function = load_function(settings["words"], ARGUMENTS, f"reward {settings['name']}, copied to")
    return OwnReward(replace(function, name=settings["name"]), tuple(settings["parts"]))


def failure(parts: Path) -> str:
    """For which row the function failed on a worker, told once; empty where it did not."""
    file = parts / FAILED
    told = file.read_text(encoding="utf-8") if file.is_file() else ""
    file.unlink(missing_ok=True)
    return told
