"""How a run is told while it goes on: stages of its start, a line per step with reward, pace and time left."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.number_text import clock_text
from shared.progress import GOES_ON, Progress
from trainer.openrlhf_bridge.progress import HELD_OUT, OF_A_STEP, SAMPLING, Stage, seconds_left

FIRST = "first step"
LOOK_SECONDS = 0.5
"""Between two looks into the log of another process."""


def step_text(line: dict[str, Any], steps: int, left: float) -> str:
    """One line about a finished step."""

    def number(name: str, pattern: str) -> str:
        value = line.get(name)
        return "-" if value is None else pattern.format(value)

    if "loss" in line:  # a supervised phase
        words = [f"loss {number('loss', '{:.4f}')}", f"gradient {number('grad_norm', '{:.2g}')}"]
    else:
        words = [f"reward {number('reward', '{:.3f}')}", f"accuracy {number('accuracy', '{:.3f}')}"]
        words += [f"length {number('response_length', '{:.0f}')}", f"KL {number('kl', '{:.2g}')}"]
    words = [f"step {line['step']}/{steps}", *words, f"{number('seconds', '{:.1f}')} s"]
    if line.get("tokens") and line.get("seconds"):
        which = "tokens" if "loss" in line else "answer tokens"
        words.append(f"{line['tokens'] / line['seconds']:,.0f} {which}/s")
    words.append(f"{'-' if math.isnan(left) else clock_text(left)} left")
    return "  ".join(words)


@contextmanager
def followed(log: Path, hear: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile, hand on what another process tells of its progress into `log`, as it is written there."""
    ended = threading.Event()
    with log.open("a+", encoding="utf-8", errors="replace") as lines:

        def read() -> None:
            begun = ""
            while True:
                last = ended.wait(LOOK_SECONDS)
                for piece in lines:
                    begun += piece
                    if begun.endswith("\n"):
                        if found := re.match(r"\d\d:\d\d:\d\d (.+)", begun):  # other lines have no time of day
                            hear(found[1].rstrip())
                        begun = ""
                if last:
                    return

        thread = threading.Thread(target=read, name="following", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class RunTold:
    """Tells phases to `progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._durations: list[float] = []
        self._now = ""
        """The step that goes on; empty before the first is done and after the last."""
        self._over = False
        """Whether the last step is done."""
        self._kept: set[str] = set()
        self._stage = ""

    def begins(self, phase: str) -> None:
        """Name the phase that begins."""
        self._progress.headed(phase)
        self._durations, self._now, self._over, self._kept = [], "", False, set()

    def stage(self, stage: Stage) -> None:
        """What goes on: a line of its own until the first step is done, which may take minutes; then the step's."""
        self._stage = stage.text
        if not stage.training:
            self._progress.stage(stage.text, stage.part, note=stage.count)
            return
        name = stage.text
        if self._over and name == SAMPLING:
            name = HELD_OUT  # the log may tell of the bar before it tells what it is about
        text = name if self._over else f"{self._now or FIRST}: {name}"
        kept = not self._now and text not in self._kept
        self._kept.add(text)
        self._progress.stage(text, note=stage.count, kept=kept)

    def said(self, text: str) -> None:
        """What another process says: a line that stays, or, where it is about what still goes on, beside the stage."""
        if GOES_ON in text:
            self._progress.stage(self._stage, note=text)
        else:
            self._progress.say(text)

    def step(self, line: dict[str, Any], steps: int) -> None:
        """Tell a finished step."""
        step = int(line["step"])
        if self._kept and not self._now:  # its record may be here before the lines of its last stages came through Ray
            for name in OF_A_STEP:
                if f"{FIRST}: {name}" not in self._kept:
                    self.stage(Stage(name, training=True))
        if line.get("seconds"):
            self._durations.append(float(line["seconds"]))
        left = seconds_left(self._durations, steps - step)
        self._progress.stage("")
        self._progress.say(step_text(line, steps, left))
        self._now = f"step {step + 1}/{steps}" if step < steps else ""
        self._over = not self._now
        self._progress.stage(self._now, kept=False)
