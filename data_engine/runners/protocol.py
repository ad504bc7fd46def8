"""What steps and runners say to each other: an `Ask` goes in, a `Cell` comes out, a `Runner` stands between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from shared.images import ImageSource
    from shared.progress import Task
    from shared.vlm.spec import EngineSpec, Sampling

RunnerName = Literal["local", "ray"]
CHAT = ("text", "tokens", "prompt_tokens", "finish_reason")
"""What a cell of a chat holds."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a model: small and picklable, pictures by hash.

    Attributes:
        key: Content hash under which the answer is stored.
        text: The user's words; `<image>` tags place the images.
        system: System prompt; empty for none.
        images: sha256 of each image, in order.
        seed: Seed of this answer where each ask has its own; None takes the sampling's.

    """

    key: str
    text: str
    system: str = ""
    images: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One finished ask.

    Attributes:
        key: The ask's key.
        value: For chat: `CHAT`. For embeddings: `vector` (float32 [dim]). None where the ask failed.
        failed: Why it failed after bounded retries; empty otherwise.

    """

    key: str
    value: dict[str, Any] | None
    failed: str = ""


class Keeper(ABC):
    """A sink that stores cells where they were made: small and picklable; only what it tells travels."""

    @abstractmethod
    def __call__(self, cells: list[Cell]) -> None:
        """Take finished cells."""

    @abstractmethod
    def flush(self) -> None:
        """Store what was taken; durable when this returns."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """JSON values about what was taken since this was last asked: at least `cells` and `tokens`, counts."""

    @abstractmethod
    def add(self, told: dict[str, Any]) -> None:
        """Take over what another keeper told."""

    @abstractmethod
    def unknown(self, asks: Sequence[Ask]) -> list[Ask]:
        """Those of `asks` whose cells are not stored yet."""


class SharedAsks(ABC):
    """Asks that lie where all workers read them: small and picklable. Their sink is a `Keeper`."""

    @abstractmethod
    def __len__(self) -> int:
        """How many."""

    @abstractmethod
    def __iter__(self) -> Iterator[Ask]:
        """All of them in order, read as they are needed."""

    @abstractmethod
    def places(self, size: int) -> Iterator[pa.Table]:
        """Where consecutive asks lie, `size` at most in each table: `part` and `row`, one line per ask."""

    @abstractmethod
    def read(self, places: pa.Table) -> list[Ask]:
        """The asks at some places."""


class Runner(Protocol):
    """One interface between steps and the machines that do their work."""

    name: RunnerName

    def ask(
        self,
        engine: EngineSpec,
        asks: SharedAsks,
        sink: Keeper,
        *,
        images: ImageSource,
        sampling: Sampling | None = None,
        task: Task | None = None,
    ) -> list[str]:
        """Answer every ask exactly once through `sink`, in batches as they finish, in no promised order.

        `sampling` None embeds. No engine starts when there are no asks. Returns warnings (restarts, lost workers).
        Each worker of a cluster reads its own asks and hands cells to its copy of `sink`; the caller flushes the one
        given. A failed ask becomes a cell with `failed`; only errors that concern every ask (no such checkpoint,
        endpoint down, `sink` failing) are raised.
        """

    def map_batches(
        self,
        function: Callable[..., pa.Table],
        tables: Iterable[pa.Table],
        *,
        broadcast: Any = None,
        task: Task | None = None,
    ) -> Iterator[pa.Table]:
        """`function(table)`, or `function(table, broadcast)` where it is not None, of each table, in the same order.

        `function` must be picklable (a module's own function); `broadcast` is sent to each worker once.
        """

    def close(self) -> None:
        """Give back what was started for this build."""


def answer_tokens(cells: Iterable[Cell]) -> int:
    """Tokens that a model wrote for these cells; 0 where it wrote none (vectors, failures)."""
    return sum(int(cell.value.get("tokens", 0)) for cell in cells if cell.value is not None)


def in_batches(asks: Iterable[Ask], size: int) -> Iterator[list[Ask]]:
    """Consecutive batches of at most `size` asks, made as they are needed."""
    remaining = iter(asks)
    while batch := list(islice(remaining, size)):
        yield batch
