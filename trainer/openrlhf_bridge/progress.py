"""OpenRLHF's output lines -> typed events: where the start-up stands, one event per finished step.

The step line is printed by OpenRLHF's trainer actor as `Global step N: {...}` and reaches the driver through Ray's log
stream. It is read with a pattern for numbers, never evaluated. `events` is pure: lines in, events out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

ANSI = re.compile(r"\x1b\[[0-9;]*m")
STEP = re.compile(r"Global step (\d+): \{(.*)\}")
NUMBER = re.compile(r"'([A-Za-z0-9_/]+)': (-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf))(?=[,}]|$)")
EVALUATED = re.compile(r"Evaluation completed in [^,]*, global_step (\d+)")
RESUMED = re.compile(r"checkpoint_states: \{.*'global_step': (\d+)")
STAGES = (
    # (text in a line, what is going on, in the user's words); first hit of each wins
    ("Started a local Ray instance", "Ray is up, importing OpenRLHF"),
    ("Connecting to existing Ray cluster", "joined the Ray cluster, importing OpenRLHF"),
    ("Initializing a V1 LLM engine", "vLLM engine starts"),
    ("DeepSpeed info", "DeepSpeed prepares the policy"),
    ("init_process_group: master_address", "weights link to vLLM is up"),
    ("Generate samples", "sampling the first rollouts"),
)
FATAL = "Exception raised in creation task"
"""A rollout actor that cannot start: OpenRLHF's policy would wait five minutes for it before it fails."""
ERROR = re.compile(r"\b([A-Z][A-Za-z]*(?:Error|Exception)|AssertionError|OutOfMemory\w*)\b: ?(.*)")


@dataclass(frozen=True)
class Stage:
    """A stage of the start-up was reached."""

    text: str


@dataclass(frozen=True)
class Resumed:
    """OpenRLHF restored a state of this step."""

    step: int


@dataclass(frozen=True)
class Step:
    """One step is done. `values` are OpenRLHF's own names, e.g. `reward`, `kl`, `timing/step_total` (seconds)."""

    step: int
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trouble:
    """A line that names an exception."""

    text: str


@dataclass(frozen=True)
class Fatal:
    """An actor could not be created: the run cannot go on. Its traceback follows in the next lines."""

    text: str


@dataclass(frozen=True)
class Evaluated:
    """The held-out items were answered by the policy after this step."""

    step: int


Event = Evaluated | Fatal | Stage | Resumed | Step | Trouble


def read_step(line: str) -> Step | None:
    """Step event of one line, or None."""
    found = STEP.search(ANSI.sub("", line))
    if not found:
        return None
    values = {name: float(value) for name, value in NUMBER.findall(found[2])}
    return Step(int(found[1]), values)


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Events of a stream of lines, in order. A step that is printed twice is told once."""
    told: set[str] = set()
    last_step = -1
    for raw in lines:
        line = ANSI.sub("", raw).rstrip()
        step = read_step(line)
        if step is not None:
            if step.step > last_step:
                last_step = step.step
                yield step
            continue
        resumed = RESUMED.search(line)
        if resumed:
            yield Resumed(int(resumed[1]))
            continue
        evaluated = EVALUATED.search(line)
        if evaluated:
            yield Evaluated(int(evaluated[1]))
            continue
        for text, stage in STAGES:
            if text in line and stage not in told:
                told.add(stage)
                yield Stage(stage)
        if FATAL in line:
            yield Fatal(line)
            continue
        trouble = ERROR.search(line)
        if trouble:
            yield Trouble(f"{trouble[1]}: {trouble[2]}".strip().rstrip(":"))


def seconds_left(durations: list[float], steps_left: int) -> float:
    """Expected seconds for the remaining steps: the median of the last ten, NaN before the first."""
    recent = sorted(durations[-10:])
    if not recent:
        return math.nan
    return recent[len(recent) // 2] * steps_left
