"""Asks and cells as Arrow tables, the form in which they travel between driver and workers.

Asks: `key`, `text` and `system` (dictionary-encoded: a few prompts, however many asks), `images` (list of sha256),
`seed` (null: the sampling's).
Cells: `key`, `failed`, then `text`, `tokens`, `prompt_tokens`, `finish_reason`, or `vector`; `note` (a restart, on
the first row), `error` and `next_step` (an error that concerns every ask, on the first row).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_engine.runners.protocol import Ask, Cell, in_batches
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ASKS = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.dictionary(pa.int32(), pa.string())),
        ("system", pa.dictionary(pa.int32(), pa.string())),
        ("images", pa.list_(pa.string())),
        ("seed", pa.int64()),
    ]
)
CHAT = ("text", "tokens", "prompt_tokens", "finish_reason")
CELLS = pa.schema(
    [
        ("key", pa.string()),
        ("failed", pa.string()),
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("note", pa.string()),
        ("error", pa.string()),
        ("next_step", pa.string()),
    ]
)


def ask_tables(asks: Iterable[Ask], size: int) -> Iterator[pa.Table]:
    """Tables of at most `size` asks each, in order: one table is one batch of a worker."""
    for batch in in_batches(asks, size):
        columns = [
            [ask.key for ask in batch],
            pa.array([ask.text for ask in batch]).dictionary_encode(),
            pa.array([ask.system for ask in batch]).dictionary_encode(),
            [list(ask.images) for ask in batch],
            pa.array([ask.seed for ask in batch], pa.int64()),
        ]
        yield pa.Table.from_arrays([pa.array(c) if isinstance(c, list) else c for c in columns], schema=ASKS)


def asks_of(table: pa.Table) -> list[Ask]:
    """The asks of a table."""
    columns = [table.column(name).to_pylist() for name in ("key", "text", "system", "images", "seed")]
    return [
        Ask(key, text, system, tuple(images), seed) for key, text, system, images, seed in zip(*columns, strict=True)
    ]


def cell_table(cells: Sequence[Cell], note: str = "") -> pa.Table:
    """Cells as a table; `note` stands on its first row."""
    rows = []
    for cell in cells:
        row: dict[str, object] = {"key": cell.key, "failed": cell.failed}
        if cell.value is not None:
            row |= cell.value
        rows.append(row)
    if rows:
        rows[0]["note"] = note
    return pa.Table.from_pylist(rows, schema=CELLS)


def error_table(error: InfiMmrError) -> pa.Table:
    """A table of one row that tells an error which concerns every ask."""
    return pa.Table.from_pylist([{"error": error.message, "next_step": error.next_step}], schema=CELLS)


def cells_of(table: pa.Table) -> tuple[list[Cell], list[str]]:
    """Cells and notes of a table.

    Raises:
        InfiMmrError: the worker met an error that concerns every ask.

    """
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "vector"}
    for error, next_step in zip(columns["error"], columns["next_step"], strict=True):
        if error:
            raise InfiMmrError(error, next_step or "")
    vectors = iter(_vectors(table.column("vector")))
    has_vector = table.column("vector").is_valid().to_pylist()
    cells: list[Cell] = []
    answers = zip(*(columns[name] for name in CHAT), strict=True)
    for key, failed, vector, answer in zip(columns["key"], columns["failed"], has_vector, answers, strict=True):
        found = next(vectors) if vector else None
        if failed:
            cells.append(Cell(key, None, failed))
        elif found is not None:
            cells.append(Cell(key, {"vector": found}))
        else:
            cells.append(Cell(key, dict(zip(CHAT, answer, strict=True))))
    return cells, [note for note in columns["note"] if note]


def _vectors(column: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """The vectors that are there, without a Python number for each of theirs."""
    for chunk in column.chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_pylist()
        for start, stop, there in zip(offsets[:-1].tolist(), offsets[1:].tolist(), valid, strict=True):
            if there:
                yield values[start:stop].astype(np.float32)
