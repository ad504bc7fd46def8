"""Where a rollout actor's seconds of a step go, so that the next bottleneck is seen and not guessed.

Four numbers, of which only the engine's is time on the clock. The others are processor time beside it: as long as each
is well below the engine's, the engine does not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("engine", "front_end", "pictures", "reward")


@dataclass
class StepProfile:
    """Seconds of one step on one actor. Used from the event loop's thread alone."""

    engine: float = 0.0
    """On the clock, while the engine had at least one request."""
    front_end: float = 0.0
    """Processor time of the thread that feeds the engine, in the same time."""
    pictures: float = 0.0
    """Processor time of reading and processing problems, in other threads."""
    reward: float = 0.0
    """Processor time of decoding and judging answers, in other threads."""
    _under_way: int = 0
    _began: tuple[float, float] = field(default=(0.0, 0.0))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """One request in the engine."""
        if not self._under_way:
            self._began = time.monotonic(), time.thread_time()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.engine += time.monotonic() - self._began[0]
                self.front_end += time.thread_time() - self._began[1]

    def taken(self) -> dict[str, float]:
        """The four numbers, which begin anew."""
        found = {name: round(getattr(self, name), 4) for name in PARTS}
        for name in PARTS:
            setattr(self, name, 0.0)
        return found
