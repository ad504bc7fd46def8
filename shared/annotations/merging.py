"""When and how the segments of an annotation table are merged, and which partition holds a cell."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from shared.annotations.segments import list_segments, settle, write_segment
from shared.store import NotInStoreError, Store

MANY_SEGMENTS = 256
"""Small segments above which opening a table merges them: 256 reads of a local file cost about 0.1 s."""

SMALL_SEGMENT_BYTES = 16 * 2**20
"""Segments below this are merged; larger ones are left alone, so that old cells are not rewritten over and over."""

MERGED_BYTES = 64 * 2**20
"""Segments are merged up to about this size."""

PARTITIONED_BYTES = 64 * 2**20
"""Size from which merging moves a table's cells into partitions: below it all of them are read as quickly as a few."""

MANY_IN_PARTITION = 32
"""Small segments of one partition above which it is merged when it is opened."""

_NAME = 64 + len(".parquet")


def part_of(name: str) -> str:
    """Folder of a segment below its table's, with a closing slash; empty for one in no partition."""
    return name[:-_NAME]


def partitions_of(keys: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """First byte of each key, uint8 [keys]; the last byte of its CRC where a key does not begin with two hex digits."""
    import polars as pl

    series = pl.Series("key", pl.from_arrow(keys), dtype=pl.String)
    head = series.str.slice(0, 2)
    byte = pl.select(
        pl.when(head.str.contains(r"^[0-9a-f]{2}$")).then(head).otherwise(pl.lit(None)).str.to_integer(base=16)
    ).to_series()
    odd = byte.is_null()
    if odd.any():
        found = [zlib.crc32(key.encode()) & 255 for key in series.filter(odd).to_list()]
        byte = byte.cast(pl.Int64).scatter(odd.arg_true(), found)
    whole: np.ndarray = byte.to_numpy().astype(np.uint8)
    return whole


def by_partition(table: pa.Table) -> Iterator[tuple[pa.Table, str]]:
    """The cells of each partition, in the order in which they come, and its folder (see `part_of`)."""
    byte = partitions_of(table.column("key"))
    for number in np.unique(byte).tolist():
        yield table.take(np.flatnonzero(byte == number)), f"{number:02x}/"


def merge_segments(
    store: Store, folder: str, read: Callable[[str], tuple[str, pa.Table] | None], *, partitioned: bool, at_least: int
) -> int:
    """Merge small segments, `MERGED_BYTES` at a time so that memory stays bounded; returns how many were merged.

    The cells of a table that is large, and not yet in partitions, are moved there where it may be `partitioned`.
    Readers see every cell at every moment, and a merge that is killed leaves some cells twice, which is as good.
    `read` gives what made a segment's cells, and the cells.
    """
    by_part: dict[str, list[tuple[str, int]]] = {}
    for name, size in list_segments(store, folder):
        by_part.setdefault(part_of(name), []).append((name, size))
    merged = 0
    try:
        for part, entries in by_part.items():
            spread = partitioned and not part and sum(size for _, size in entries) >= PARTITIONED_BYTES
            some = [entry for entry in entries if spread or entry[1] < SMALL_SEGMENT_BYTES]
            if len(some) < at_least and not spread:
                continue
            for names in _groups(some):
                _merge(store, folder, read, names, part, spread=spread)
            merged += len(some)
    except NotInStoreError:  # another builder is merging the same segments: leave it to them
        return 0
    return merged


def _merge(
    store: Store,
    folder: str,
    read: Callable[[str], tuple[str, pa.Table] | None],
    names: Sequence[str],
    part: str,
    *,
    spread: bool,
) -> None:
    by_maker: dict[str, list[tuple[str, pa.Table]]] = {}
    for name in names:
        if (segment := read(name)) is not None:
            by_maker.setdefault(segment[0], []).append((name, segment[1]))
    for maker, some in by_maker.items():
        if len(some) < 2 and not spread:
            continue
        whole = settle([table for _, table in some])
        parts = by_partition(whole) if spread else ((whole, part),)
        kept = [write_segment(store, folder, cells, maker, where) for cells, where in parts]
        for name, _ in some:
            if name not in kept:
                store.delete(f"{folder}/{name}")


def _groups(entries: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Names in groups of about `MERGED_BYTES`."""
    group: list[str] = []
    total = 0
    for name, size in entries:
        if group and total + size > MERGED_BYTES:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def is_scattered(entries: Sequence[tuple[str, int]]) -> bool:
    """Whether a table lies in so many small segments that merging them is worth it."""
    small = Counter(part_of(name) for name, size in entries if size < SMALL_SEGMENT_BYTES)
    return small.pop("", 0) > MANY_SEGMENTS or any(count > MANY_IN_PARTITION for count in small.values())
