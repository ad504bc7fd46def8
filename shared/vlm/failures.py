"""How asking a model can fail, by what to do about it.

A single ask that cannot be answered is no exception: it is an `Answer` whose `refused` says why. These here concern
the engine, and so every ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from shared.errors import InfiMmrError

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class EngineOutOfMemoryError(InfiMmrError):
    """The engine ran out of memory: start it again with a smaller batch."""


class EngineDiedError(InfiMmrError):
    """The engine's own process ended: start it again."""


class EndpointError(InfiMmrError):
    """The endpoint is down, refuses the key, or does not know the model."""


class AskRefusedError(InfiMmrError):
    """One pair cannot be embedded (its image is refused, its prompt is too long)."""


class BatchFailedError(Exception):
    """A batch failed because of some ask in it; its text says why."""


def in_halves(
    asks: Sequence[Asked], ask: Callable[[Sequence[Asked]], list[Answered]], refused: Callable[[Asked, str], Answered]
) -> list[Answered]:
    """Answers in order; a batch that raises `BatchFailedError` is halved until the ask that fails stands alone."""
    if not asks:
        return []
    try:
        return ask(asks)
    except BatchFailedError as error:
        if len(asks) == 1:
            return [refused(asks[0], str(error))]
    middle = len(asks) // 2
    return in_halves(asks[:middle], ask, refused) + in_halves(asks[middle:], ask, refused)


_MEMORY_WORDS = ("out of memory", "outofmemory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` (CUDA, the CPU allocator, Python) says that memory ran out."""
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or any(word in text for word in _MEMORY_WORDS)
