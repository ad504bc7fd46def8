"""Cells of texts as annotations: made once per text, used again by every later build.

Keys are hashes of the text itself, so rows and benchmark items share cells, and so do all recipes and teams of a store.
What is missing is made by the build's runner, batch by batch: no worker sees more than a batch.

Not covered: what is made of a text (`decontamination.hashed_problems`, `duplicates.minhash`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from shared.annotations import AnnotationTable

Value = TypeVar("Value")

TEXTS_AT_ONCE = 2048
"""Texts of one batch: about 1 MB, ten milliseconds of hashing, far more than what a batch costs beside it."""

STORED_AT_ONCE = 2**13
"""Cells of texts stored and read together: 3 MB of signatures, and a killed build loses little."""


@dataclass(frozen=True)
class Known(Generic[Value]):
    """Values in the asked order, and the cells that they are of, as notes (`data_engine.cell_counts`)."""

    value: Value
    cells: pl.DataFrame

    @property
    def computed(self) -> int:
        """Distinct cells made now."""
        return int(self.cells["made"].sum())


def text_key(*parts: str) -> str:
    """Sha256 (hex) of texts; lengths keep ("a", "b") and ("ab", "") apart."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def in_parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Rows in batches."""
    return (rows[start : start + TEXTS_AT_ONCE] for start in range(0, len(rows), TEXTS_AT_ONCE))


def store_cells(table: AnnotationTable, made: Iterable[pa.Table]) -> None:
    """Append cells as they come, many at once."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for cells in made:
        waiting.append(cells)
        if sum(some.num_rows for some in waiting) >= STORED_AT_ONCE:
            table.append_table(pa.concat_tables(waiting))
            waiting = []
    if waiting:
        table.append_table(pa.concat_tables(waiting))


def first_of(keys: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Place of the first occurrence of each wanted key."""
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    return [first[key] for key in wanted]


def in_order(table: AnnotationTable, keys: Sequence[str]) -> pa.RecordBatch:
    """One row per key, repeated keys repeat; every column in one piece."""
    import pyarrow as pa

    distinct = list(dict.fromkeys(keys))
    known = table.columns(distinct)
    assert known is not None  # noqa: S101  the table was opened with its schema
    place = {key: index for index, key in enumerate(distinct)}
    picked = known.take(pa.array([place[key] for key in keys], pa.int64()))
    columns = [whole(picked, name) for name in picked.column_names]
    return pa.RecordBatch.from_arrays(columns, names=picked.column_names)


def whole(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """A column in one piece."""
    import pyarrow as pa

    column = table.column(name)
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
