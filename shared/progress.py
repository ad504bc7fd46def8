"""Progress of long work, told on stderr while it goes on: builds, phases, curricula, evaluations, transfers.

On a terminal what has ended stays as lines, and below them one line about what goes on is replaced twice a second: its
clock runs also while nothing happens. Elsewhere (nohup, Slurm, CI, a notebook) there are plain lines, each written
at once: one when a stage begins or a step ends, and one every 30 seconds about what takes longer. Builds say how long
all of it will take from their first seconds on. `INFI_MMR_PROGRESS=1`
tells a command with `--json` to say its progress, too; `INFI_MMR_PROGRESS=0` silences every command.
Not covered: results and reports, which commands print when they are done.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from shared.number_text import clock_text, human_bytes, human_seconds, rate_text
from shared.stderr import Stderr, fitted, plain

SWITCH = "INFI_MMR_PROGRESS"
GOES_ON = " so far"
"""Stands in every line about something counted that still goes on."""
BEAT_SECONDS = 30.0
"""Without a terminal: seconds between two lines about the same step."""
REDRAW_SECONDS = 0.5
_BRIEF_SECONDS = 0.05
"""No pace is told of what took less."""
RECENT = 20
"""Movements from which the pace is taken."""
LEFT_FROM = 10.0
"""Seconds of a build from which the time left of all of it is told: what is told sooner is mere expectation."""
_SOME = 0.02
"""Share of a step from which its own pace tells its end."""
_TEACHES, _MOST_SLOWER = 10.0, 4.0
"""Expected seconds of the steps so far from which their pace is that of others, and by how much at most."""


@dataclass(eq=False)
class Task:
    """Something that goes on: a step, a stage, or what is counted."""

    owner: Progress
    name: str
    started: float
    total: int | None = None
    unit: str = ""
    """What is counted; empty where nothing is."""
    known: int = 0
    about: int = 0
    """How much there is, about, where `total` is unknown: for the time left of the whole only."""
    count: int = 0
    tokens: int = 0
    noted: str = ""
    waiting: str = ""
    waits_since: float = 0.0
    waited: float = 0.0
    """Seconds of waiting: no part of the pace."""
    kept: bool = True
    told_at: float = 0.0
    told: int = 0
    """Lines told about a stage while it went on."""
    seen: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """When it stood where: seconds, count, tokens."""

    def advance(self, steps: int = 1, *, tokens: int = 0) -> None:
        """Count `steps` more, and the tokens of the answers they brought."""
        with self.owner.lock:
            self.count += steps
            self.tokens += tokens
            self.seen.append((self.owner.clock(), self.count, self.tokens))

    def note(self, text: str) -> None:
        """Say `text` beside it (a restart, a loss)."""
        with self.owner.lock:
            self.noted = plain(text)
            self.owner.draw()

    def waits(self, reason: str) -> None:
        """Say what is waited for (an engine start) until "" ends it; the wait is no part of the pace."""
        with self.owner.lock:
            now = self.owner.clock()
            if self.waiting:
                self.waited += now - self.waits_since
                self.seen.clear()
                self.seen.append((now, self.count, self.tokens))
            self.waiting, self.waits_since = plain(reason), now
            self.owner.draw()

    def done(self) -> None:
        """End it; inside a step its counts become the step's, alone it is told."""
        self.owner.ended(self)

    def now(self, clock: float) -> str:
        """How it stands: counts, recent pace, time so far, time left, what is waited for."""
        words = [self.name]
        if self.unit == "bytes":
            words.append(f"{human_bytes(self.count)} of {human_bytes(self.total or 0)}")
        elif self.unit:
            words.append(f"{self.count:,}/{self.total:,} {self.unit}" if self.total else f"{self.count:,} {self.unit}")
        parts = [" ".join(words), *self._pace(clock)]
        parts.append(f"{clock_text(clock - self.started)}{GOES_ON}" if self.unit else clock_text(clock - self.started))
        if self.known:
            parts.append(self._already())
        parts += [text for text in (self.waiting, self.noted) if text]
        return ", ".join(parts)

    def _already(self) -> str:
        return f"{human_bytes(self.known) if self.unit == 'bytes' else f'{self.known:,}'} already there"

    def _pace(self, clock: float) -> Iterator[str]:
        if not self.seen or self.waiting:
            return
        since, count, tokens = self.seen[0]
        between = self.seen[-1][0] - since
        # The time to the last movement; a movement that is late by more than usual slows the pace while it is missing.
        spent = max(between, clock - since - between / max(len(self.seen) - 1, 1))
        if spent <= 0 or self.count == count:
            return
        yield rate_text(self.count - count, spent, self.unit)
        if self.tokens > tokens:
            yield rate_text(self.tokens - tokens, spent, "answer tokens")
        if self.total:
            yield f"{clock_text((self.total - self.count) * spent / (self.count - count))} left"

    def end(self, clock: float) -> str:
        """What it was: counts, time, pace over the whole."""
        spent = clock - self.started
        amount = human_bytes(self.count) if self.unit == "bytes" else f"{self.count:,} {self.unit}"
        parts = [f"{self.name}: {amount if self.unit else 'done'} in {human_seconds(spent)}"]
        worked = spent - self.waited
        counted = ((self.count, self.unit), (self.tokens, "answer tokens"))
        parts += [rate_text(count, worked, unit) for count, unit in counted if count and worked > _BRIEF_SECONDS]
        if self.known:
            parts.append(self._already())
        return ", ".join(parts)


class Progress:
    """Tells how work goes on, in words; without arguments it tells nobody.

    Args:
        write: Takes whole pieces of output; None: nobody is told.
        live: Whether `write` reaches a terminal, where a line can be replaced.
        title: Stands in front of every line.
        clock: Seconds that only grow.
        columns: Width of the terminal.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = None,
        *,
        live: bool = False,
        title: str = "",
        clock: Callable[[], float] = time.monotonic,
        columns: Callable[[], int] = lambda: 80,
    ) -> None:
        self._write, self._live, self.clock, self._columns = write, live and write is not None, clock, columns
        self._title = ""
        self.headed(title)
        self.lock = threading.RLock()
        self._steps: list[Task] = []
        self._tasks: list[Task] = []
        self._stages: dict[str, Task] = {}
        self._expected: dict[str, float] = {}
        self._worked: dict[str, float] = {}
        """Seconds of the expected steps that ended and found little there already."""
        self._ended: set[str] = set()
        self._since = self.clock()
        self._stopping = threading.Event()

    @property
    def tells(self) -> bool:
        """Whether anybody is told."""
        return self._write is not None

    def __reduce__(self) -> tuple[type[Progress], tuple[()]]:
        """Another process tells nobody."""
        return Progress, ()

    def headed(self, title: str) -> None:
        """Put `title` in front of every line from now on."""
        self._title = f"{plain(title)}: " if title else ""

    def task(
        self, description: str, total: int | None = None, *, unit: str = "rows", known: int = 0, about: int = 0
    ) -> Task:
        """Begin to count; `total` None where the amount is unknown, `known` what was there and is not done again.

        `about` is the amount where it can be guessed only.
        """
        with self.lock:
            work = self._begun(description, total, unit=unit, known=known)
            work.about = about
            work.seen.append((work.started, 0, 0))
            self._tasks.append(work)
            self.draw()
            return work

    def expects(self, seconds: Mapping[str, float]) -> None:
        """Say which steps a build has and how long each will take, about; from then on its time left is told, too.

        How wrong the steps so far were says how wrong those to come are. May be said again when more is known.
        """
        with self.lock:
            self._expected = dict(seconds)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Hold a step of a build; tasks that begin inside are its own. Its end is one line, but for an error's."""
        with self.lock:
            work = self._begun(name)
            self._steps.append(work)
            self.draw()
        try:
            yield
        except BaseException:
            with self.lock:
                self._tasks.clear()
                self._steps.remove(work)
            raise
        with self.lock:
            self._steps.remove(work)
            self._ended.add(work.name)
            if work.known * 10 <= work.count or not work.known:
                self._worked[work.name] = self.clock() - work.started - work.waited
            self._tell(work.end(self.clock()))

    def stage(self, text: str, part: str = "", *, note: str = "", kept: bool = True) -> None:
        """Say what goes on from now on, in `part` of the work where several parts go on at once; "" ends it.

        A stage without a part ends all parts. The same text again only changes its `note`. One that is not `kept` is
        shown on the replaced line only.
        """
        with self.lock:
            name = plain(f"{part}: {text}" if part and text else text)
            before = self._stages.get(part)
            if before is not None and before.name == name:
                before.noted = plain(note)
                return
            ends = [part, ""] if text else [part]
            for other in ends if part else list(self._stages):
                ended = self._stages.pop(other, None)
                if ended is not None and ended.kept and self._live:
                    self._tell(f"{ended.name}: {human_seconds(self.clock() - ended.started)}")
            if text:
                self._stages[part] = self._begun(name, kept=kept)
                self._stages[part].noted = plain(note)
                if kept and not self._live:
                    self._tell(name)
            self.draw()

    def say(self, text: str) -> None:
        """Say a line that stays."""
        with self.lock:
            self._tell(text)

    def ended(self, work: Task) -> None:
        """End a task; see `Task.done`."""
        with self.lock:
            if work not in self._tasks:
                return
            self._tasks.remove(work)
            if not self._steps:
                self._tell(work.end(self.clock()))
                return
            step = self._steps[-1]
            step.unit = step.unit or work.unit
            if step.unit == work.unit:
                step.count += work.count
                step.tokens += work.tokens
                step.known += work.known
            step.waited += work.waited
            self.draw()

    def tick(self) -> None:
        """Let the clock run: replace the line, or tell what has taken long since it was last told of."""
        with self.lock:
            if self._live or self._stopping.is_set():
                self.draw()
                return
            told = next((works[-1] for works in (self._steps, self._tasks) if works), None)
            if told is not None:
                if self.clock() - told.told_at >= BEAT_SECONDS:
                    told.told_at = self.clock()
                    self._tell(self._going_on())
                return
            # Stages of minutes and hours: told after 1, 2, 4, 8, ... minutes.
            stages = self._stages.values()
            if any(self.clock() - stage.started >= 2 * BEAT_SECONDS * 2**stage.told for stage in stages):
                for stage in stages:
                    stage.told += 1
                self._tell(self._going_on())

    def __enter__(self) -> Self:
        """Let the clock run."""
        if self.tells:
            threading.Thread(target=self._tick_on, name="progress", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the clock and take the replaced line away; what has ended stays."""
        with self.lock:
            self._stopping.set()
            if kind is None:
                self.stage("")
            self._put("\r\x1b[K", live=True)

    def _begun(self, name: str, total: int | None = None, *, unit: str = "", known: int = 0, kept: bool = True) -> Task:
        now = self.clock()
        return Task(self, plain(name), now, total, unit, known, kept=kept, told_at=now)

    def _going_on(self) -> str:
        """Everything that goes on, in one line: a step and its task, a task, or the stages of all parts."""
        now = self.clock()
        if self._tasks:
            task = self._tasks[-1].now(now)
            step = self._steps[-1].name if self._steps else ""
            return (task if not step or step == self._tasks[-1].name else f"{step}: {task}") + self._all_left(now)
        if self._steps:
            return self._steps[-1].now(now) + self._all_left(now)
        stages = list(self._stages.values())
        if len(stages) == 1:
            return stages[0].now(now)
        names = " | ".join(f"{stage.name} {stage.noted}".rstrip() for stage in stages)
        return f"{names}, {clock_text(now - min(stage.started for stage in stages))}" if stages else ""

    def _all_left(self, now: float) -> str:
        """Time left of all expected steps, at the pace of those so far; empty where none is known."""
        step = self._steps[0] if self._steps else None
        if step is None or step.name not in self._expected or now - self._since < LEFT_FROM:
            return ""
        counted = self._tasks[-1] if self._tasks else None
        spent = now - step.started - step.waited
        thought = self._expected[step.name]
        total = (counted.total or counted.about) if counted else 0
        done = min(counted.count / total, 1.0) if counted and total else 0.0
        seen = {name: spent for name, spent in self._worked.items() if name in self._expected}
        if done >= _SOME:
            seen[step.name] = spent
        expected = sum(self._expected[name] * (done if name == step.name else 1.0) for name in seen)
        slower = sum(seen.values()) / expected if expected >= _TEACHES else 1.0
        slower = min(max(slower, 1 / _MOST_SLOWER), _MOST_SLOWER)
        left = spent * (1 - done) / done if done >= _SOME else max(thought * slower - spent, 0.0)
        coming = [name for name in self._expected if name != step.name and name not in self._ended]
        left += slower * sum(self._expected[name] for name in coming)
        return f"; about {clock_text(left)} left of the whole" if coming else ""

    def _tell(self, text: str) -> None:
        line = f"{self._title}{plain(text)}"
        self._put(f"\r\x1b[K{line}\n", live=True)
        self._put(f"{time.strftime('%H:%M:%S')} {line}\n", live=False)
        self.draw()

    def _put(self, text: str, *, live: bool) -> None:
        """Write what is for a terminal, or what is for anything else."""
        if self._write is not None and self._live == live:
            self._write(text)

    def draw(self) -> None:
        """Replace the line, where there is one."""
        if self._live and not self._stopping.is_set():
            text = self._going_on()
            # Back to the line's begin: what anybody else prints then stands over it, not behind it.
            self._put(f"\r{fitted(self._title + text, self._columns() - 1) if text else ''}\x1b[K\r", live=True)

    def _tick_on(self) -> None:
        while not self._stopping.wait(REDRAW_SECONDS):
            self.tick()


def open_progress(title: str = "", *, as_json: bool = False) -> Progress:
    """Progress of a command on stderr; silent with `--json` unless asked by `INFI_MMR_PROGRESS=1`."""
    asked = os.environ.get(SWITCH, "")
    if asked == "0" or (as_json and asked != "1"):
        return Progress()
    try:
        stderr = Stderr()
    except (OSError, ValueError):  # a stream without a descriptor, such as a notebook's
        return Progress(_written, live=False, title=title)
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return Progress(stderr.write, live=live, title=title, columns=stderr.columns)


def _written(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
