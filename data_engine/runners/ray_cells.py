"""Asks and cells as Arrow tables, the form in which they travel between driver and workers.

Asks: `key`, `text` and `system` (dictionary-encoded: a few prompts, however many asks), `images` (list of sha256),
`seed` (null: the sampling's).
Cells: `key`, `failed`, then `text`, `tokens`, `prompt_tokens`, `finish_reason`, or `vector`; `note` (a restart, on
the first row), `infi_mmr_error` (JSON of an error that concerns all of the work, in a table of its own).
Of asks that lie where workers read them only `part` and `row` travel, and of their cells what was told (`told`, JSON).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_engine.runners.protocol import CHAT, Ask, Cell, in_batches
from shared.annotations import tell_aside
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
ERROR = "infi_mmr_error"
TOLD = "told"
_ASIDE = b"infi_mmr_aside"
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
    ]
)


def ask_tables(asks: Iterable[Ask], size: int) -> Iterator[pa.Table]:
    """Tables of at most `size` asks each, in order: one table is one batch of a worker."""
    for batch in in_batches(asks, size):
        yield pa.Table.from_pydict({name: [getattr(ask, name) for ask in batch] for name in ASKS.names}, schema=ASKS)


def told_table(told: dict[str, Any]) -> pa.Table:
    """What a worker tells of the asks at some places."""
    return pa.table({TOLD: [json.dumps(told)]})


def told_of(table: pa.Table) -> dict[str, Any] | None:
    """What `told_table` told; None for a table of cells."""
    if TOLD not in table.column_names:
        return None
    told: dict[str, Any] = json.loads(table.column(TOLD)[0].as_py())
    return told


def asks_of(table: pa.Table) -> list[Ask]:
    """The asks of a table."""
    columns = [table.column(name).to_pylist() for name in ASKS.names]
    return [
        Ask(key, text, system, tuple(images), seed) for key, text, system, images, seed in zip(*columns, strict=True)
    ]


def cell_table(cells: Sequence[Cell], note: str = "") -> pa.Table:
    """Cells as a table; `note` stands on its first row."""
    rows: list[dict[str, object]] = [{"key": cell.key, "failed": cell.failed, **(cell.value or {})} for cell in cells]
    if rows:
        rows[0]["note"] = note
    return pa.Table.from_pylist(rows, schema=CELLS)


def error_table(error: InfiMmrError | OSError, aside: Sequence[str] = ()) -> pa.Table:
    """A table of one row that tells an error which concerns all of the work, and what was set aside before it.

    Ray would wrap the error in one of its own, whose class nobody catches.
    """
    told: dict[str, object] = {"class": f"{type(error).__module__}.{type(error).__qualname__}", "aside": list(aside)}
    if isinstance(error, InfiMmrError):
        told |= {"message": error.message, "next_step": error.next_step}
    else:
        name = None if error.filename is None else str(error.filename)
        told |= {"errno": error.errno, "strerror": error.strerror or str(error), "filename": name}
    return pa.table({ERROR: [json.dumps(told)]})


def with_aside(table: pa.Table, aside: Sequence[str]) -> pa.Table:
    """`table`, which tells what a worker set aside while it made it."""
    if not aside:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _ASIDE: json.dumps(list(aside))})


def taken(table: pa.Table) -> pa.Table:
    """What a worker made, as it made it: what it set aside is noted here, and an error that it told is raised.

    Raises:
        InfiMmrError: the worker met it; of the same class where that says no more than its message.
        OSError: the worker met it.

    """
    if ERROR not in table.column_names:
        metadata = dict(table.schema.metadata or {})
        if aside := metadata.pop(_ASIDE, None):
            tell_aside(json.loads(aside))
            return table.replace_schema_metadata(metadata or None)
        return table
    error = json.loads(table.column(ERROR).drop_null()[0].as_py())
    tell_aside(error["aside"])
    if "message" in error:
        raise _class_named(error["class"])(error["message"], error["next_step"])
    if error["errno"] is None:
        raise OSError(error["strerror"])
    raise OSError(error["errno"], error["strerror"], error["filename"])


def _class_named(name: str) -> type[InfiMmrError]:
    """Our error class of this name; `InfiMmrError` where it is not known here or is made of more than a message."""
    classes = [InfiMmrError]
    for known in classes:
        classes += known.__subclasses__()
        if f"{known.__module__}.{known.__qualname__}" == name and known.__init__ is InfiMmrError.__init__:
            return known
    return InfiMmrError


def cells_of(table: pa.Table) -> tuple[list[Cell], list[str]]:
    """Cells and notes of a table."""
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "vector"}
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
