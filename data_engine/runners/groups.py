"""Splitting rows so that equal keys meet in one part, and a row order that no machine can change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa


def partition(tables: Iterable[pa.Table], by: str, parts: int) -> Iterator[pa.Table]:
    """All rows of `tables` in `parts` tables by a hash of column `by`; empty parts are left out."""
    import polars as pl
    import pyarrow as pa

    given = list(tables)
    if not given:
        return
    whole = pa.concat_tables(given)
    keys = pl.Series(whole.column(by))
    part = (keys.hash(seed=0) % parts).to_numpy()
    for number in range(parts):
        rows = (part == number).nonzero()[0]
        if len(rows):
            yield whole.take(rows)


def sorted_rows(table: pa.Table) -> pa.Table:
    """`table` sorted by all its sortable columns (numbers, strings, binary), left to right."""
    import pyarrow as pa

    kinds = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
    )
    names = [field.name for field in table.schema if any(kind(field.type) for kind in kinds)]
    return table.sort_by([(name, "ascending") for name in names]) if names else table
