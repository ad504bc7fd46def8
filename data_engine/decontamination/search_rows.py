"""Nearest benchmark items of rows whose vectors are on the store, for whoever works on some of the rows.

Vectors of rows are read where they are compared, those of items are given; best items are cells by the content of a
row, so that each row is compared once with each benchmark.

Not covered: which rows (the step), the product itself (`embedding_search`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_engine.decontamination.embed import vectors_of
from data_engine.decontamination.embedding_search import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from data_engine.decontamination.embedding_search import Backend, Vectors
    from shared.annotations import AnnotationTable, StoredCells


@dataclass(frozen=True)
class Compared:
    """A benchmark that rows are compared with; picklable.

    Attributes:
        name: Of the benchmark.
        revision: Of its files.
        rows: `id`, `question` and `image_hashes` of its items.
        vectors: float32 [items, dim].
        table: Best items known: `item` (its row) and `score` by content key.
        entries: Listing of the table.

    """

    name: str
    revision: str
    rows: pl.DataFrame
    vectors: Vectors
    table: AnnotationTable
    entries: list[tuple[str, int]]


def compare(
    cells: StoredCells, compared: Sequence[Compared], keys: Sequence[str], backend: Backend, *, spread: bool
) -> list[pl.DataFrame]:
    """`key`, `item` and `score` of embedded contents for each benchmark; those never compared are compared and stored.

    Args:
        cells: Vectors.
        compared: Benchmarks.
        keys: Contents whose vectors are stored.
        backend: As for `nearest`.
        spread: As for `append_table`.

    """
    import polars as pl
    import pyarrow as pa

    tables = [one.table.as_listed(one.entries) for one in compared]
    missing = [table.missing(keys) for table in tables]
    union = list(dict.fromkeys(key for some in missing for key in some))
    place = {key: row for row, key in enumerate(union)}
    known = cells.columns(union) if union else None
    vectors = np.zeros((0, 0), np.float32) if known is None else vectors_of(known, union)
    found = []
    for one, table, some in zip(compared, tables, missing, strict=True):
        if some and len(vectors):
            best, score = nearest(vectors[[place[key] for key in some]], one.vectors, backend)
            new = {"key": some, "item": pa.array(best), "score": pa.array(score.astype(np.float64))}
            table.append_table(pa.table(new), spread=spread)
        frame = pl.from_arrow(table.columns(keys))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  # for the type checker: a table makes a frame
        found.append(frame)
    return found
