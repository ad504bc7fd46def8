"""Columns of texts between Arrow, Polars and NumPy, without a copy where there need be none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa


Numbers: TypeAlias = "np.ndarray[Any, Any]"


BLOCK = 1 << 17
"""Bytes looked at together: these and what is compared with them stay in a core's own cache."""


_WIDE = 0x80


class _Handed:
    """An Arrow array by its interface alone: of its type Polars first imports `pyarrow.compute`, a tenth of a start."""

    def __init__(self, column: pa.Array) -> None:
        self.__arrow_c_array__ = column.__arrow_c_array__


def series(column: pa.Array) -> pl.Series:
    """A column for Polars."""
    import polars as pl

    return pl.Series(_Handed(column))


def arrow(values: pl.Series) -> pa.Array:
    """A column for Arrow, texts as `large_string`."""
    import polars as pl

    return values.to_arrow(compat_level=pl.CompatLevel.oldest())


def ends_of(column: pa.Array) -> Numbers:
    """Where texts or lists start and the last one ends; made by NumPy, since Arrow's own way imports pandas."""
    import numpy as np

    width = np.int64 if str(column.type).startswith("large") else np.int32
    places = column.buffers()[1]
    if places is None:
        return np.zeros(len(column) + 1, width)
    return np.frombuffer(places, width)[column.offset : column.offset + len(column) + 1]


def spread(column: pa.Array) -> tuple[Numbers, Numbers, Numbers]:
    """Bytes of all texts, one after the other, and where each starts and ends."""
    import numpy as np

    ends = ends_of(column)
    codes = np.frombuffer(column.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
    return codes, ends[:-1] - ends[0], ends[1:] - ends[0]


def is_plain(column: pa.Array) -> bool:
    """Whether a column holds nothing but ASCII texts: told in a quarter of the time that Arrow checks UTF-8 in."""
    if str(column.type) not in {"string", "large_string"} or not len(column):
        return False
    column.validate()
    ends = ends_of(column)
    return bool((ends[1:] >= ends[:-1]).all()) and spread(column)[0].max(initial=0) < _WIDE


def valid(column: pa.Array) -> Numbers:
    """Which values are not null."""
    import numpy as np

    return series(column).is_not_null().to_numpy() if column.null_count else np.ones(len(column), dtype=bool)
