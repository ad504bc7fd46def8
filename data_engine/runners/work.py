"""What one engine's owner does with a batch of asks: the same on this machine and in each actor of a cluster.

Images are read here, where the engine is. Out of memory: the engine is started again with half the batch, which is
said. An error of the whole batch: the asks are tried in halves, and the one that fails alone `ATTEMPTS` times becomes
a failed cell; the others are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from data_engine.runners.protocol import CHAT, Ask, Cell
from shared.errors import InfiMmrError
from shared.vlm.conversation import build_conversation
from shared.vlm.failures import (
    AskRefusedError,
    BatchFailedError,
    EngineDiedError,
    EngineOutOfMemoryError,
    in_halves,
)
from shared.vlm.room import restart_engine, start_engine

if TYPE_CHECKING:
    from shared.images import ImageSource
    from shared.vlm.spec import EngineSpec, Sampling, VisionLanguageEngine

ATTEMPTS = 3
"""Times one ask is tried alone before it becomes a failed cell."""

READERS = 8
"""Threads that read images: an object store's latency is hidden by a few reads in flight."""

RESTARTS = 6
"""Engine restarts allowed in one step: from a batch of 64 down to 1."""


class Worker:
    """Owns the engine of one spec, started at the first batch.

    Args:
        spec: The engine.
        images: Where image bytes are read.
        sampling: How answers are drawn; None embeds.
        waits: Is told what the asks wait for while the engine starts, and "" once it is up.

    """

    def __init__(
        self,
        spec: EngineSpec,
        images: ImageSource,
        sampling: Sampling | None,
        *,
        waits: Callable[[str], None] | None = None,
    ) -> None:
        self.spec = spec
        self.images = images
        self.sampling = sampling
        self.warnings: list[str] = []
        self._restarts = 0
        self._waits = waits
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="images")

    def read(self, asks: Sequence[Ask]) -> dict[str, Future[bytes]]:
        """Begin reading the images of `asks`."""
        wanted = dict.fromkeys(sha256 for ask in asks for sha256 in ask.images)
        return {sha256: self._readers.submit(self.images.get, sha256) for sha256 in wanted}

    def answer(self, asks: Sequence[Ask], reading: dict[str, Future[bytes]]) -> list[Cell]:
        """One cell per ask, in order; `reading` is what `read` began.

        Raises:
            InfiMmrError: what concerns every ask: no such checkpoint, endpoint down, an engine that keeps dying.

        """
        cells: dict[str, Cell] = {}
        ready: list[tuple[Ask, list[bytes]]] = []
        for ask in asks:
            try:
                ready.append((ask, [reading[sha256].result() for sha256 in ask.images]))
            except Exception as error:  # noqa: BLE001 - a row whose picture cannot be read must not sink the build
                cells[ask.key] = Cell(ask.key, None, _reason(error))
        cells |= {cell.key: cell for cell in in_halves(ready, self._answer, _failed)}
        return [cells[ask.key] for ask in asks]

    def through(self, batches: Iterator[list[Ask]]) -> Iterator[list[Cell]]:
        """Cells of each batch, while the images of the following one are read."""
        batch = next(batches, None)
        reading = self.read(batch or [])
        while batch is not None:
            following = next(batches, None)
            next_reading = self.read(following or [])
            yield self.answer(batch, reading)
            batch, reading = following, next_reading

    def close(self) -> None:
        """End the readers; the engine stays in the room for the next step."""
        self._readers.shutdown(cancel_futures=True)

    def _answer(self, asks: Sequence[tuple[Ask, list[bytes]]]) -> list[Cell]:
        """Ask one batch as often as it may be tried."""
        alone = len(asks) == 1
        failure: Exception | None = None
        for _ in range(self._tries(len(asks))):
            engine = self._engine()  # another one after a restart
            try:
                return self._ask(engine, asks)
            except AskRefusedError as error:
                raise BatchFailedError(_reason(error)) from error
            except (EngineOutOfMemoryError, EngineDiedError) as error:
                failure = error
                self._restart(error, alone=alone)
            except InfiMmrError:
                raise
            except Exception as error:  # noqa: BLE001 - unknown errors of an engine are isolated, then reported
                failure = error
        raise BatchFailedError(f"{ATTEMPTS} attempts: {_reason(failure)}") from failure

    def _engine(self) -> VisionLanguageEngine:
        if self._waits is None:
            return start_engine(self.spec)
        tell, self._waits = self._waits, None  # once: an engine that runs is there at once
        tell(f"starting {self.spec.model.rsplit('/', 1)[-1]}")
        engine = start_engine(self.spec)
        tell("")
        return engine

    def _tries(self, size: int) -> int:
        """Tries of a batch as a whole: none where it has become too large, several for an ask that stands alone."""
        if size > self.spec.batch_size:
            return 0
        return ATTEMPTS if size == 1 else 1

    def _ask(self, engine: VisionLanguageEngine, asks: Sequence[tuple[Ask, list[bytes]]]) -> list[Cell]:
        if self.sampling is None:
            vectors = engine.embed([(images, ask.text) for ask, images in asks])
            return [Cell(ask.key, {"vector": vector}) for (ask, _), vector in zip(asks, vectors, strict=True)]
        conversations = [build_conversation(ask.system, ask.text, images) for ask, images in asks]
        sampling = self.sampling
        drawn = [sampling if ask.seed is None else sampling.model_copy(update={"seed": ask.seed}) for ask, _ in asks]
        answers = engine.chat(conversations, drawn)
        return [
            Cell(ask.key, None, answer.refused)
            if answer.refused
            else Cell(ask.key, {name: getattr(answer, name) for name in CHAT})
            for (ask, _), answer in zip(asks, answers, strict=True)
        ]

    def _restart(self, error: InfiMmrError, *, alone: bool) -> None:
        """Start the engine again, with half the batch unless it failed on a single ask."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            message = f"the engine of {self.spec.model} failed {self._restarts} times: {error.message}"
            raise InfiMmrError(message, "Lower batch_size, max_model_len or max_pixels.") from error
        smaller = self.spec if alone else self.spec.model_copy(update={"batch_size": max(1, self.spec.batch_size // 2)})
        self.warnings.append(f"{error.message}; started again with batch_size {smaller.batch_size}")
        restart_engine(self.spec, smaller)
        self.spec = smaller


def _failed(asked: tuple[Ask, list[bytes]], why: str) -> Cell:
    return Cell(asked[0].key, None, why)


def _reason(error: BaseException | None) -> str:
    text = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
    return " ".join(str(text).split())[:500]
