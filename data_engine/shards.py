"""Parquet shards: written by pyarrow, one row group in memory at a time, byte-identical for equal rows.

Layout, with reasons:
- A row's shard is its id's hash modulo a power of two, so that a removed row changes one shard and not all later ones.
- Rows of a shard are sorted by id. A row group closes when its bytes pass the limit, whatever the number of rows.
- Image bytes are PLAIN and uncompressed (they are compressed already; zstd saves nothing and makes one picture cost a
  whole row group), the other columns zstd. Page index on, so that a reader finds a row without reading the pictures.
- The schema's `huggingface` metadata makes `datasets` decode the images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.schema import LEDGER_SCHEMA, row_schema

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.intake.image_places import ImagePlaces

_IMAGE_BYTES = "images.list.element.bytes"
_TEXT_BYTES_PER_ROW = 2000
"""Estimate of a row without pictures, for choosing the number of shards only."""


def shard_count(rows: int, image_bytes: int, shard_bytes: int) -> int:
    """Return the power of two at which shards stay below `shard_bytes` with a fifth to spare for uneven hashing."""
    count = 1
    while (image_bytes + rows * _TEXT_BYTES_PER_ROW) / count > 0.8 * shard_bytes:
        count *= 2
    return count


def shard_of(identity: str, count: int) -> int:
    """Return the shard of a row: the id's 64-bit hash modulo the number of shards."""
    return int(identity.rsplit("-", 1)[-1][:16], 16) % count


def shard_file(name: str, number: int, count: int) -> str:
    """Name of a shard's file."""
    return f"{name}-{number:05d}-of-{count:05d}.parquet"


def shard_numbers(ids: pl.Series, count: int) -> np.ndarray:
    """Shard of each row (see `shard_of`): int64 [rows]."""
    return np.array([shard_of(identity, count) for identity in ids.to_list()], np.int64)


def write_shard(rows: pl.DataFrame, images: ImagePlaces, file: Path, row_group_bytes: int) -> None:
    """Write one shard of rows sorted by id (schema columns without `images`, and `image_names`).

    Peak memory: about three times `row_group_bytes`.
    """
    import pyarrow.parquet as pq

    schema = row_schema(rows.columns)
    texts = [name for name in schema.names if name not in {"images", "difficulty", "rating"}]
    writer = pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        compression={**{_leaf(name): "zstd" for name in texts}, _IMAGE_BYTES: "none"},
        use_dictionary=[_leaf(name) for name in ("source_name", "source_location", "source_revision", "category")],
        write_statistics=["id", "source_id", "row_hash"],
        write_page_index=True,
        store_schema=True,
    )
    # Reading and checking pictures lets go of Python's lock: the pictures of one row group are fetched on every core.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as readers, writer:
        for start, length in _groups(rows, images, row_group_bytes):
            writer.write_table(_table(rows.slice(start, length), images, readers), row_group_size=max(1, length))
        if rows.height == 0:
            writer.write_table(schema.empty_table())


def _leaf(name: str) -> str:
    """Path of the column's leaf in the file: lists add two levels."""
    lists = {"choices", "image_types", "captions", "image_hashes"}
    return f"{name}.list.element" if name in lists else name


def _groups(rows: pl.DataFrame, images: ImagePlaces, row_group_bytes: int) -> Iterator[tuple[int, int]]:
    """Consecutive (start, length) of row groups that close when their bytes pass the limit."""
    start, size = 0, 0
    for index, hashes in enumerate(rows["image_hashes"].to_list()):
        size += _TEXT_BYTES_PER_ROW + sum(images.size(sha256) for sha256 in hashes)
        if size >= row_group_bytes:
            yield start, index + 1 - start
            start, size = index + 1, 0
    if start < rows.height:
        yield start, rows.height - start


def _table(rows: pl.DataFrame, images: ImagePlaces, readers: ThreadPoolExecutor) -> pa.Table:
    import pyarrow as pa

    plain = rows.drop("image_names").to_arrow(compat_level=None)
    columns: list[Any] = []
    schema = row_schema(rows.columns)
    for field in schema:
        if field.name == "images":
            hashes = rows["image_hashes"].to_list()
            data = readers.map(images.get, [sha256 for row in hashes for sha256 in row])
            pictures = [
                [{"bytes": next(data), "path": path} for _, path in zip(row, names, strict=True)]
                for row, names in zip(hashes, rows["image_names"].to_list(), strict=True)
            ]
            columns.append(pa.array(pictures, type=field.type))
        else:
            columns.append(plain.column(field.name).cast(field.type).combine_chunks())
    return pa.Table.from_arrays(columns, schema=schema)


def write_ledger(ledger: pl.DataFrame, file: Path) -> Path:
    """Write the ledger, sorted by id, step, rule and item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = ledger.sort("id", "step", "rule", "item", nulls_last=True).to_arrow(compat_level=None)
    columns = [ordered.column(field.name).cast(field.type).combine_chunks() for field in LEDGER_SCHEMA]
    table = pa.Table.from_arrays(columns, schema=LEDGER_SCHEMA)
    pq.write_table(table, file, compression="zstd", write_page_index=True)
    return file
