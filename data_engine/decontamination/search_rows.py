"""Nearest items for rows whose vectors are on the store, found by a runner's workers: nobody holds all vectors.

Workers are told keys and files and read the vectors themselves; items are sent to each worker in blocks, and only the
best item and its cosine come back. With one benchmark block (up to `ITEMS_AT_ONCE` items, all benchmarks together)
every vector is read once.

Not covered: which rows and items (the step), the product itself (`embedding_search`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.decontamination.embed import vectors_of
from data_engine.decontamination.embedding_search import EQUAL, nearest
from shared.annotations import read_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from data_engine.decontamination.embed import Embedded
    from data_engine.decontamination.embedding_search import Backend, Places, Vectors
    from data_engine.runners import Runner
    from shared.progress import Task

ROWS_AT_ONCE = 4096
"""Rows of one batch: 25 MB of 1,536 numbers each."""

ITEMS_AT_ONCE = 2**16
"""Items sent to the workers at once: 400 MB of 1,536 numbers each, in the memory that a machine's workers share."""


def nearest_items(
    runner: Runner,
    rows: Embedded,
    wanted: Sequence[Places],
    items: Sequence[Embedded],
    *,
    backend: Backend,
    task: Task | None = None,
) -> list[tuple[Places, Vectors]]:
    """Best item of some rows for each of several benchmarks.

    Args:
        runner: Whose workers search.
        rows: Embedded rows.
        wanted: For each benchmark the rows that are compared with it, int64, ascending; all of them embedded.
        items: Each benchmark's embedded items, at least one.
        backend: As for `nearest`.
        task: Progress in rows, once per group of blocks.

    Returns:
        For each benchmark, in the order of its `wanted`: index of the best item (int64) and its cosine (float32).

    """
    found = [(np.zeros(len(some), np.int64), np.full(len(some), -np.inf, np.float32)) for some in wanted]
    everyone = np.unique(np.concatenate([np.empty(0, np.int64), *wanted]))
    files = rows.cells.places(rows.keys[row] for row in everyone.tolist())
    # Rows of one file together: a worker reads few files.
    order = sorted(range(len(everyone)), key=files.__getitem__)
    for blocks in _groups_of_blocks(items, [len(some) > 0 for some in wanted]):
        given = {
            "cells": (rows.cells.store, rows.cells.step, rows.cells.context),
            "blocks": [(number, first, items[number].part(first, last)) for number, first, last in blocks],
            "backend": backend,
        }
        numbers = sorted({number for number, _, _ in blocks})
        batches = (
            _batch(rows.keys, everyone[part], [files[place] for place in part], {n: wanted[n] for n in numbers})
            for part in (order[start : start + ROWS_AT_ONCE] for start in range(0, len(order), ROWS_AT_ONCE))
        )
        for batch in runner.map_batches(nearest_batch, batches, broadcast=given, task=task):
            lines = [batch.column(name).to_numpy() for name in ("benchmark", "row", "item", "score")]
            for number in numbers:
                row, item, score = (column[lines[0] == number] for column in lines[1:])
                _keep_better(*found[number], np.searchsorted(wanted[number], row), item, score)
    return found


def nearest_batch(batch: pa.Table, given: dict[str, Any]) -> pa.Table:
    """Best item in each block for the rows of a batch.

    Args:
        batch: `row` (its number), `key`, `file`, and for each benchmark n of the blocks `in_n` (bool): compare with it.
        given: `cells` (store, step, context), `blocks` (benchmark, index of the first item, float32 [items, dim]),
            `backend`.

    Returns:
        One line per row and block: `benchmark`, `row`, `item` (its index in the benchmark), `score`.

    """
    import pyarrow as pa

    keys = batch.column("key").to_pylist()
    distinct = dict(zip(keys, batch.column("file").to_pylist(), strict=True))
    vectors = vectors_of(read_cells(given["cells"], list(distinct), list(distinct.values())), keys)
    best: dict[int, tuple[Places, Places, Vectors]] = {}
    for number, first, items in given["blocks"]:
        chosen = np.flatnonzero(batch.column(f"in_{number}").to_numpy())
        item, score = nearest(vectors[chosen], items, given["backend"])
        if number in best:
            _keep_better(*best[number][1:], np.arange(len(chosen)), item + first, score)
        else:
            best[number] = (chosen, item + first, score)
    row = batch.column("row").to_numpy()
    lines = [(np.full(len(chosen), n, np.int64), row[chosen], item, score) for n, (chosen, item, score) in best.items()]
    columns = [np.concatenate(column) for column in zip(*lines, strict=True)]
    return pa.Table.from_arrays([pa.array(column) for column in columns], ["benchmark", "row", "item", "score"])


def _keep_better(best: Places, cosine: Vectors, places: Places, item: Places, score: Vectors) -> None:
    """Put `item` and `score` at `places` where they are better than what is there."""
    better = score > cosine[places] + np.float32(EQUAL)
    best[places[better]], cosine[places[better]] = item[better], score[better]


def _groups_of_blocks(items: Sequence[Embedded], used: Sequence[bool]) -> Iterator[list[tuple[int, int, int]]]:
    """Blocks (benchmark, first item, last item) of all benchmarks in groups of at most `ITEMS_AT_ONCE` items."""
    group: list[tuple[int, int, int]] = []
    free = ITEMS_AT_ONCE
    for number, some in enumerate(items):
        first = 0
        while used[number] and first < len(some.keys):
            last = min(first + free, len(some.keys))
            group.append((number, first, last))
            free -= last - first
            first = last
            if free == 0:
                yield group
                group, free = [], ITEMS_AT_ONCE
    if group:
        yield group


def _batch(keys: Sequence[str], rows: Places, files: Sequence[str], wanted: dict[int, Places]) -> pa.Table:
    import pyarrow as pa

    columns = {
        "row": pa.array(rows),
        "key": [keys[row] for row in rows.tolist()],
        "file": files,
        **{f"in_{number}": pa.array(np.isin(rows, some)) for number, some in wanted.items()},
    }
    return pa.table(columns)
