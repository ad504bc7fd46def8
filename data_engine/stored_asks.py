"""Asks in parts on scratch, and the sink that stores their cells: what workers are given instead of rows.

Both are small to pickle. An ask's key is `key/table`: the key of its cell, and the number of the annotation table in
which that lies. Cells are stored by whoever got them, in immutable segments named by their hash, so that any number of
workers write without locks and a share that is answered twice changes nothing.

Not covered: which asks (ask_blocks), who answers them (runners).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.runners.protocol import Ask, Cell, Keeper, SharedAsks, answer_tokens
from shared.errors import InfiMmrError
from shared.store import NotInStoreError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.blocks import Parts
    from shared.annotations import AnnotationTable

ASKS_READ = 1024
"""Asks that are read at once."""

KEPT_CELLS, KEPT_SECONDS = 4096, 2.0
"""Cells are stored when so many wait, or as they come where that was not done for so long."""


def write_asks(parts: Parts, number: int, asks: pl.DataFrame) -> None:
    """Lay asks ready: `key`, `table`, and `text`, `images`, `seed` where they are not what the table and key say."""
    groups = np.arange(asks.height) // ASKS_READ
    parts.write_grouped(number, asks, groups, 1 + max(0, asks.height - 1) // ASKS_READ)


@dataclass(frozen=True)
class StoredAsks(SharedAsks):
    """Asks in parts on scratch.

    Attributes:
        parts: Where they lie.
        heights: Asks of each part.
        words: System prompt and user's words by table.

    """

    parts: Parts
    heights: list[int]
    words: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        """How many."""
        return sum(self.heights)

    def __iter__(self) -> Iterator[Ask]:
        """All of them, in the order of buckets."""
        for part, height in enumerate(self.heights):
            for start in range(0, height, ASKS_READ):
                yield from self._some(part, range(start, min(start + ASKS_READ, height)))

    def places(self, size: int) -> Iterator[pa.Table]:
        """Consecutive places."""
        import pyarrow as pa

        part = np.repeat(np.arange(len(self.heights), dtype=np.int32), self.heights)
        row = np.concatenate([np.arange(height, dtype=np.int32) for height in self.heights])
        for start in range(0, len(part), size):
            yield pa.table({"part": part[start : start + size], "row": row[start : start + size]})

    def read(self, places: pa.Table) -> list[Ask]:
        """Read asks at consecutive places.

        Raises:
            InfiMmrError: the build's scratch is not within reach of this machine.

        """
        import platform

        part, row = (places.column(name).to_numpy() for name in ("part", "row"))
        try:
            return [
                ask
                for number in np.unique(part).tolist()
                for ask in self._some(number, range(int(row[part == number][0]), int(row[part == number][-1]) + 1))
            ]
        except (NotInStoreError, FileNotFoundError) as error:
            message = f"the worker on {platform.node()} finds no asks in {self.parts.store.url}"
            step = "Use a store URL, or a folder that every machine mounts under the same path"
            raise InfiMmrError(message, step) from error

    def _some(self, part: int, rows: range) -> Iterator[Ask]:
        first = rows.start // ASKS_READ
        groups = range(first, (rows.stop - 1) // ASKS_READ + 1)
        frame = self.parts.read_group([part], groups)[rows.start - first * ASKS_READ :].head(len(rows))
        for line in frame.iter_rows(named=True):
            system, words = self.words[line["table"]]
            pictures = line["images"] if "images" in line else [line["key"]]
            key = f"{line['key']}/{line['table']}"
            yield Ask(key, str(line.get("text", words)), system, tuple(pictures or ()), line.get("seed"))


class Kept(Keeper):
    """Stores cells where they were made, in segments of some thousand, or of what came in some seconds.

    Args:
        tables: Where they go.
        value: Value columns of an answer.
        spread: Tables (their numbers) whose cells go into partitions at once.
        clock: Seconds.

    Attributes:
        failed: Reason by `key/table` of the asks that failed.
        taken: Cells that were taken, here or by others.

    """

    def __init__(
        self,
        tables: Sequence[AnnotationTable],
        value: Callable[[dict[str, Any]], dict[str, Any]],
        spread: frozenset[int] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables, self._value, self._spread = tables, value, spread
        self.failed: dict[str, str] = {}
        self.taken = 0
        self._told: dict[str, Any] = {"tokens": 0, "failed": {}}
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self._clock, self._since = clock, clock()
        self._seen: dict[int, AnnotationTable] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin where it was sent to: machines count seconds from moments of their own."""
        vars(self).update(state, _since=state["_clock"]())

    def __call__(self, cells: list[Cell]) -> None:
        """Take finished cells."""
        self.taken += len(cells)
        for cell in cells:
            key, _, table = cell.key.rpartition("/")
            if cell.value is None:
                self.failed[cell.key] = self._told["failed"][cell.key] = cell.failed
            else:
                self._waiting.append((int(table), {"key": key, **self._value(cell.value)}))
        self._told["tokens"] += answer_tokens(cells)
        if len(self._waiting) >= KEPT_CELLS or self._clock() - self._since >= KEPT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        for number in sorted({table for table, _ in self._waiting}):
            some = [cell for where, cell in self._waiting if where == number]
            table, spread = self._tables[number], number in self._spread
            if "vector" in some[0]:
                vectors = _vectors(some)
                table.takes(vectors.drop_columns(["key"]).schema)
                table.append_table(vectors, spread=spread)
            else:
                table.append(some, spread=spread)
        self._waiting, self._since = [], self._clock()

    def told(self) -> dict[str, Any]:
        """Tokens and failures since this was last asked."""
        told, self._told = self._told, {"tokens": 0, "failed": {}}
        return told

    def add(self, told: dict[str, Any]) -> None:
        """Take over what another took."""
        self.taken += told["cells"]
        self.failed.update(told["failed"])

    def unknown(self, asks: Sequence[Ask]) -> list[Ask]:
        """Those whose cells are not stored."""
        by_table: dict[int, list[str]] = {}
        for ask in asks:
            key, _, table = ask.key.rpartition("/")
            by_table.setdefault(int(table), []).append(key)
        missing: set[str] = set()
        for number, keys in by_table.items():
            if len(keys) > 1 or number not in self._seen:  # once for a share; not again for each of its last asks
                self._seen[number] = self._tables[number].fresh()
            missing |= {f"{key}/{number}" for key in self._seen[number].missing(keys)}
        return [ask for ask in asks if ask.key in missing]


def _vectors(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Cells with a vector each, without a Python number for each of theirs."""
    import pyarrow as pa

    vectors = np.stack([np.asarray(row["vector"], dtype=np.float32) for row in rows])
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"key": [row["key"] for row in rows], "vector": column})
