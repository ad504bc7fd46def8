"""Splitting rows so that equal keys meet in one part."""

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
    if parts == 1:
        yield whole
        return
    keys = pl.Series(whole.column(by))
    part = (keys.hash(seed=0) % parts).to_numpy()
    for number in range(parts):
        rows = (part == number).nonzero()[0]
        if len(rows):
            yield whole.take(rows)
