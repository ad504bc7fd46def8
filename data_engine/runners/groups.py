"""Splitting rows so that equal keys meet in one part."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa


def split(table: pa.Table, by: str, parts: int) -> list[pa.Table]:
    """`table` in `parts` tables by a hash of column `by`, the same in every process; parts may be empty."""
    import polars as pl

    if parts == 1:
        return [table]
    part = (pl.Series(table.column(by)).hash(seed=0) % parts).to_numpy()
    return [table.take((part == number).nonzero()[0]) for number in range(parts)]


def partition(tables: Iterable[pa.Table], by: str, parts: int) -> Iterator[pa.Table]:
    """All rows of `tables` in `parts` tables by a hash of column `by`; empty parts are left out."""
    import pyarrow as pa

    given = list(tables)
    if given:
        yield from (part for part in split(pa.concat_tables(given), by, parts) if part.num_rows or parts == 1)
