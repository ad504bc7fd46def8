"""Live display of a run on the terminal: step, reward, accuracy, length, KL, time left. Silent without a terminal."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Any, Self


def seconds_text(seconds: float) -> str:
    """Duration for people, `-` when unknown."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def step_text(line: dict[str, Any], steps: int, left: float) -> str:
    """One line about a finished step."""

    def number(name: str, pattern: str) -> str:
        value = line.get(name)
        return "-" if value is None else pattern.format(value)

    return (
        f"step {line['step']}/{steps}  reward {number('reward', '{:.3f}')}  accuracy {number('accuracy', '{:.3f}')}  "
        f"length {number('response_length', '{:.0f}')}  KL {number('kl', '{:.2g}')}  "
        f"{number('seconds', '{:.1f}')} s/step  left {seconds_text(left)}"
    )


class LiveDisplay:
    """A status line (rich) that is replaced at every step; a context manager."""

    def __init__(self, title: str) -> None:
        """Name what runs."""
        self._title = title
        self._status: Any = None
        self._durations: list[float] = []
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        """Start the line, if there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(f"{self._title}: checks")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the line."""
        if self._status is not None:
            self._status.stop()

    def stage(self, text: str) -> None:
        """Tell a stage of the start-up."""
        self._show(f"{text} ({seconds_text(time.monotonic() - self._started)})")

    def step(self, line: dict[str, Any], steps: int) -> None:
        """Tell a finished step."""
        from trainer.openrlhf_bridge.progress import seconds_left

        if line.get("seconds"):
            self._durations.append(float(line["seconds"]))
        self._show(step_text(line, steps, seconds_left(self._durations, steps - int(line["step"]))))

    def _show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(f"{self._title}: {text}")
