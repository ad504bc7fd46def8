"""Nearest benchmark item of every row by exact cosine, in chunks, so that memory stays small.

Input: float32 vectors, L2-normalised. Output: the best item and its cosine for every row, also below any threshold, so
that a changed threshold needs nothing computed again.

Exact on purpose: 40,000 rows against 15,000 items of 1,536 numbers are 1.8 Tflop of matrix product, seconds on a few
cores; an approximate index saves nothing at this size and may miss the one hit that matters. The product is done by
numpy's BLAS, row block by item block: `ROWS` x `ITEMS` cosines are 8 MB and stay in a core's cache long enough for the
maximum to be taken. Where a faiss that drives a GPU is installed (no group has one), the product is done there.

A matrix product rounds differently on other numbers of rows and threads. So of items within `EQUAL` of the best the
first is taken, and its cosine is summed again in float64: machines and batch sizes agree.

Vectors of rows are read from the store where they are compared, those of items are given (`compare`); best items are
cells by the content of a row, so that each row is compared once with each benchmark.

Not covered: making the vectors (`embed`), which rows (the step), thresholds (`assemble`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_engine.decontamination.embed import vectors_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from shared.annotations import AnnotationTable, StoredCells

    Vectors = npt.NDArray[np.float32]
    Places = npt.NDArray[np.int64]

ROWS = 512
ITEMS = 4096
"""Rows and items of one product; 8 MB of cosines."""

EQUAL = 1e-6
"""Cosines that differ by less are equal: about ten roundings of float32."""

Backend = Literal["auto", "numpy", "faiss"]


def nearest(rows: Vectors, items: Vectors, backend: Backend = "auto") -> tuple[Places, Vectors]:
    """Best item of each row.

    Args:
        rows: float32 [rows, dim], L2-normalised or zero.
        items: float32 [items, dim], at least one.
        backend: `auto` takes faiss where it drives a GPU, else numpy.

    Returns:
        Index of the item with the highest cosine, int64 [rows] (with numpy the first of those within `EQUAL` of it);
        and its cosine, float32 [rows].

    Raises:
        ValueError: No items, or vectors of different widths.

    """
    if len(items) == 0 or rows.shape[1:] != items.shape[1:]:
        message = f"cannot compare {rows.shape} rows with {items.shape} items: same width and at least one item needed"
        raise ValueError(message)
    if backend == "faiss" or (backend == "auto" and _faiss_gpus()):
        best = _nearest_faiss(rows, items)
        return best, _cosines(rows, items, best)
    best = np.zeros(len(rows), np.int64)
    score = np.full(len(rows), -np.inf, np.float32)
    product = np.empty((min(ROWS, len(rows)), min(ITEMS, len(items))), np.float32)
    for first in range(0, len(rows), ROWS):
        block = np.ascontiguousarray(rows[first : first + ROWS], np.float32)
        inside = slice(first, first + len(block))
        for start in range(0, len(items), ITEMS):
            some = items[start : start + ITEMS]
            cosines = product[: len(block), : len(some)]
            if cosines.flags.c_contiguous:
                np.matmul(block, some.T, out=cosines)
            else:
                cosines = block @ some.T
            value = cosines.max(axis=1)
            place = (cosines >= value[:, None] - np.float32(EQUAL)).argmax(axis=1)
            better = value > score[inside] + np.float32(EQUAL)
            score[inside][better] = value[better]
            best[inside][better] = place[better] + start
    return best, _cosines(rows, items, best)


def _cosines(rows: Vectors, items: Vectors, best: Places) -> Vectors:
    """Cosine of each row with its item, summed in float64."""
    score = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), ROWS):
        part = slice(first, first + ROWS)
        score[part] = np.einsum("rd,rd->r", rows[part].astype(np.float64), items[best[part]].astype(np.float64))
    return score


def _faiss_gpus() -> int:
    try:
        import faiss
    except ImportError:
        return 0
    count = getattr(faiss, "get_num_gpus", None)
    return int(count()) if count is not None else 0


def _nearest_faiss(rows: Vectors, items: Vectors) -> Places:
    import faiss

    index = faiss.IndexFlatIP(items.shape[1])
    if _faiss_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(np.ascontiguousarray(items, np.float32))
    _, place = index.search(np.ascontiguousarray(rows, np.float32), 1)
    best: Places = place[:, 0].astype(np.int64)
    return best


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
