"""Rows for training: deterministic, evenly divided over ranks, fit for torch's DataLoader without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from shared.errors import UsageError


class Rows:
    """The rows of one rank as dicts of Python values (images as ``{"bytes", "path"}``).

    All rows are laid in one order: the stored one, or for a `seed` the row groups shuffled and the rows within each
    shuffled (PCG64 of seed and epoch). Rank r of W takes the slice ``[r*n//W, (r+1)*n//W)``, so that ranks are
    disjoint, complete, differ by one row at most, and each reads only the row groups that it needs. Within a
    DataLoader, its workers divide the slice in the same way. `set_epoch` gives another order. The object can be
    pickled and iterated again and again.
    """

    def __init__(self, files: Sequence[Path], rank: int, world_size: int, seed: int | None) -> None:
        """Take local Parquet files, this rank, the number of ranks, and a seed or None for the stored order."""
        if world_size < 1 or not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} of {world_size} does not exist", "Use 0 <= rank < world_size")
        self.files = list(files)
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.epoch = 0
        self._groups = row_groups(self.files)
        self._slice = _slice(sum(rows for _, _, rows in self._groups), rank, world_size)

    def __len__(self) -> int:
        """Return the rows of this rank (over all its DataLoader workers)."""
        return self._slice[1] - self._slice[0]

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently from now on, if there is a seed."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        start, stop = self._share()
        shuffled = None if self.seed is None else np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        order: Any = range(len(self._groups)) if shuffled is None else shuffled.permutation(len(self._groups))
        position = 0
        for index in order:
            file, group, rows = self._groups[int(index)]
            # Every rank draws for every group, so that all agree on the order.
            within = np.arange(rows) if shuffled is None else shuffled.permutation(rows)
            chosen = within[max(0, start - position) : max(0, stop - position)]
            position += rows
            if len(chosen):
                with pq.ParquetFile(file) as parquet:
                    table = parquet.read_row_group(group)
                for row in chosen:
                    yield table.slice(int(row), 1).to_pylist()[0]

    def _share(self) -> tuple[int, int]:
        start, stop = self._slice
        torch_data = sys.modules.get("torch.utils.data")
        worker = torch_data.get_worker_info() if torch_data is not None else None
        if worker is not None:
            first, last = _slice(stop - start, worker.id, worker.num_workers)
            start, stop = start + first, start + last
        return start, stop


def _slice(total: int, part: int, parts: int) -> tuple[int, int]:
    return part * total // parts, (part + 1) * total // parts


def row_groups(files: Sequence[Path]) -> list[tuple[Path, int, int]]:
    """Return (file, row group, rows) for all row groups in order."""
    groups = []
    for file in files:
        with pq.ParquetFile(file) as parquet:
            about = parquet.metadata
            groups += [(file, group, about.row_group(group).num_rows) for group in range(about.num_row_groups)]
    return groups


def rows_of(files: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of Parquet files in the stored order, 64 in memory at a time; `columns` where named."""
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=64, columns=columns):
                yield from batch.to_pylist()
