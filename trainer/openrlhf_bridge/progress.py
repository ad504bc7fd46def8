"""OpenRLHF's output lines -> typed events: what goes on, and what went wrong. `events` is pure: lines in, events out.

What a step did is not read here: its numbers are in the run's records (`records.py`).
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ANSI = re.compile(r"\x1b\[[0-9;]*m")
DONE = re.compile(r"Global step \d+: \{|Evaluation completed in ")
DRIVER = (
    # (pattern of a line, what goes on from there, in the user's words)
    (r"Started a local Ray instance", "importing OpenRLHF"),
    (r"Connecting to existing Ray cluster", "importing OpenRLHF"),
    (r"^namespace\(", "starting the processes of vLLM and the policy"),
    # of a supervised phase, which has no other processes
    (r"^supervised process 0", "importing OpenRLHF"),
    (r"Loading weights", "loading weights"),
    (r"^loaded .* with data_files", "reading the traces"),
    (r"Filter: 100%", "preparing the optimiser"),
    (r"Loading the checkpoint|Successfully read all ZeRO states", "restoring the saved state"),
    (r"Train epoch", "first step"),
)
ACTORS = {
    # OpenRLHF's name of a process -> our name, and what goes on there, in order: a later line of a list ends an earlier
    "RolloutRayActor": (
        "vLLM",
        (
            (r"", "importing vLLM"),
            (r"Resolved architecture", "starting the engine's process"),
            (r"Initializing a V1 LLM engine", "starting the engine"),
            (r"Starting to load model|Loading model from scratch|Loading safetensors", "loading weights"),
            (r"Model loading took", "measuring memory"),
            (r"for vLLM's torch\.compile|Dynamo bytecode|Compiling a graph", "compiling the model"),
            (r"GPU KV cache size|Available KV cache memory", "setting up its caches"),
            (r"Capturing .*CUDA graphs", "capturing CUDA graphs"),
            (r"init engine .* took|Allowing insecure serialization", ""),
        ),
    ),
    "PolicyModelActor": (
        "policy",
        (
            (r"", "preparing DeepSpeed"),
            (r"Loading weights", "loading weights"),
            (r"Actor\($", "preparing the optimiser"),
            (r"Loading the checkpoint", "restoring the saved state"),
        ),
    ),
    "ReferenceModelActor": (
        "reference",
        (
            (r"", "preparing DeepSpeed"),
            (r"Loading weights", "loading weights"),
            (r"end bf16_ ?optimizer|DeepSpeed Engine initialized", ""),
        ),
    ),
}
ACTORS["EngineCore"] = ACTORS["RolloutRayActor"]
"""vLLM's own process, where it was forked from the driver and Ray does not know it."""
ACTOR = re.compile(r"^\((\w+) pid=[^)]*\) ?(.*)")
"""Ray's prefix of a line from a worker. Bars come without it, after an empty line with it."""
LINKED = "init_process_group: master_address"
"""vLLM and policy have found each other: every part of the start-up is done."""
BAR = re.compile(r": +\d+%.*?\| (\d+)/(\d+) \[")
SAMPLING, HELD_OUT, SAVING = "sampling rollouts", "answering the held-out items", "saving the weights"
OF_A_STEP = (SAMPLING, "log-probabilities of the rollouts", "updating the policy")
"""What every step goes through, in order."""
TRAINING = (
    # what goes on within a step; the number of a bar is told with it
    (r"Generate samples", SAMPLING),
    (r"Starting experience making", OF_A_STEP[1]),
    (r"Train epoch", OF_A_STEP[2]),
    (r"Evaluation start time", HELD_OUT),
    (r"Writing model shards", SAVING),
)
FATAL = "Exception raised in creation task"
"""A rollout actor that cannot start: OpenRLHF's policy would wait five minutes for it before it fails."""
ERROR = re.compile(r"\b([A-Z][A-Za-z]*(?:Error|Exception)|AssertionError|OutOfMemory\w*)\b: ?(.*)")


@dataclass(frozen=True)
class Stage:
    """What goes on from now on."""

    text: str
    part: str = ""
    """Which of several parts of the start-up; empty: the whole run. An empty text ends the part."""
    count: str = ""
    """How far it is, such as `6/16`."""
    training: bool = False
    """Whether it comes again in every step."""


@dataclass(frozen=True)
class Trouble:
    """A line that names an exception."""

    text: str


@dataclass(frozen=True)
class Fatal:
    """An actor could not be created: the run cannot go on. Its traceback follows in the next lines."""

    text: str


@dataclass(frozen=True)
class Done:
    """A step, or an evaluation during training, is over: the records tell of it."""


Event = Done | Fatal | Stage | Trouble


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Events of a stream of lines, in order."""
    stages = _Stages()
    failed = False
    for raw in lines:
        line = ANSI.sub("", raw).rstrip()
        if DONE.search(line):
            stages.trains()
            yield Done()
            continue
        trouble = ERROR.search(line)
        if FATAL in line:
            failed = True  # what comes now is its traceback
            yield Fatal(line)
        elif trouble:
            yield Trouble(f"{trouble[1]}: {trouble[2]}".strip().rstrip(":"))
        elif not failed:
            yield from stages.read(line)


class _Stages:
    """Reads stages out of lines. A part's stages follow their order; a line that would lead back is left out."""

    def __init__(self) -> None:
        self._evaluating = False
        self._actor = ""
        self._told: dict[str, tuple[int, str]] = {}
        self._training = ("", "")
        self._linked = False

    def trains(self) -> None:
        """The run trains: its start, and an evaluation, are over."""
        self._linked, self._evaluating = True, False

    def read(self, line: str) -> Iterator[Stage]:
        """Stage that a line begins, if any."""
        found = ACTOR.match(line)
        text = found[2] if found else line
        if LINKED in text and not self._linked:
            self._linked = True
            yield Stage("linking vLLM and the policy")
        elif self._linked:
            yield from self._of_training(text)
        elif found or (self._actor and BAR.search(text)):
            self._actor = found[1] if found else self._actor
            if self._actor in ACTORS:
                yield from self._of_start(*ACTORS[self._actor], text)
        else:
            yield from self._of_start("", DRIVER, text)

    def _of_start(self, part: str, stages: tuple[tuple[str, str], ...], text: str) -> Iterator[Stage]:
        reached, count = self._told.get(part, (-1, ""))
        for number in range(len(stages) - 1, max(reached, 0) - 1, -1):
            pattern, stage = stages[number]
            if re.search(pattern, text):
                now = (number, _count(text) if pattern else "")
                if number > reached or (now[1] and now[1] != count):
                    self._told[part] = now
                    yield Stage(stage, part, now[1])
                return

    def _of_training(self, text: str) -> Iterator[Stage]:
        for pattern, name in TRAINING:
            if not re.search(pattern, text):
                continue
            self._evaluating = self._evaluating or name == HELD_OUT
            stage = HELD_OUT if self._evaluating and name == SAMPLING else name
            count = _count(text)
            if (stage, count) != self._training:
                self._training = (stage, count)
                yield Stage(stage, count=count, training=True)
                done, _, shards = count.partition("/")
                if name == SAVING and done and done == shards:
                    yield Stage("ending the run's processes")
            return


def _count(text: str) -> str:
    """How far a bar is, such as `6/16`; empty where there is none."""
    bar = BAR.search(text)
    return f"{bar[1]}/{bar[2]}" if bar else ""


def seconds_left(durations: list[float], steps_left: int) -> float:
    """Expected seconds for the remaining steps: the median of the last ten, NaN before the first.

    A run's first step compiles and warms up: it counts only until there are others.
    """
    recent = (durations[1:] or durations)[-10:]
    return statistics.median_high(recent) * steps_left if recent else math.nan
