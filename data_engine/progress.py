"""Progress of long steps on stderr: one bar per task with rate and time left; silent when stderr is no terminal.

Input: a description and a total. Output: a task whose `advance(n)` moves the bar. Used as a context manager around a
build, so that bars are removed when it ends.
Not covered: logging, results (those go to stdout).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType


class Task(Protocol):
    """One bar."""

    def advance(self, steps: int = 1) -> None:
        """Move the bar by `steps`."""

    def note(self, text: str) -> None:
        """Say `text` beside the bar (what is waited for: an engine start, a restart)."""

    def done(self) -> None:
        """Finish the bar."""


class Progress(Protocol):
    """Makes bars."""

    def task(self, description: str, total: int | None = None) -> Task:
        """Start a bar; `total` None where the amount is unknown."""


class _QuietTask:
    def advance(self, steps: int = 1) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def done(self) -> None:
        """Say nothing."""


class QuietProgress:
    """Progress that says nothing."""

    def task(self, description: str, total: int | None = None) -> Task:
        """Return a silent bar."""
        del description, total
        return _QuietTask()

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to stop."""


def _own_stderr() -> TextIO:
    """Open a second way to the terminal: engines send file descriptor 2 to their log while they work, bars go on."""
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")


class _RichTask:
    def __init__(self, owner: RichProgress, description: str, total: int | None) -> None:
        self._owner = owner
        self._id = owner.bars.add_task(description, total=total, note="")

    def advance(self, steps: int = 1) -> None:
        self._owner.bars.advance(self._id, steps)

    def note(self, text: str) -> None:
        self._owner.bars.update(self._id, note=text)

    def done(self) -> None:
        self._owner.bars.update(self._id, note="")
        self._owner.bars.stop_task(self._id)


class RichProgress:
    """Progress bars by rich: done/total, rate, time left and a note, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=True),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=_own_stderr()),
        )

    def task(self, description: str, total: int | None = None) -> Task:
        """Start a bar."""
        return _RichTask(self, description, total)

    def __enter__(self) -> Self:
        """Show the bars."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing; finished bars stay visible."""
        self.bars.stop()


def open_progress(*, quiet: bool | None = None) -> RichProgress | QuietProgress:
    """Bars where stderr is a terminal, silence elsewhere; `quiet` overrides."""
    silent = (not sys.stderr.isatty()) if quiet is None else quiet
    return QuietProgress() if silent else RichProgress()
