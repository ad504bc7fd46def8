"""How many cells a step looked for and how many of them it made, whatever the blocks in which its rows lay.

Two blocks may look for the same cell: rows of equal words, a picture that both show. Each notes a hash of every cell it
looked for, and whether it made it; the notes meet by hash. A cell that some block made was made now, any other one was
found: `computed` are distinct cells that were not stored when the step began, `reused` distinct cells that were. A
worker that is lost may have stored cells and noted none: `FirstLooks` tells who does its work again what it missed.

Hashes are of 64 bits: among ten million cells the chance that two are taken for one is about 3e-6.
Not covered: cells that models are asked for, which meet in buckets anyway (`ask_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.blocks import Parts, over
from shared.fingerprint import bytes_hash

if TYPE_CHECKING:
    import polars as pl

    from data_engine.runners.protocol import Runner
    from shared.annotations import AnnotationTable

BLOCKS_PER_BUCKET = 8
"""Notes of as many blocks are counted together: 2 MB a table that a step looks into."""


def noted(keys: Sequence[str], made: Iterable[str], table: str = "") -> pl.DataFrame:
    """Cells that were looked for, some of them twice, as notes: `cell` (uint64), `made` (bool).

    `table` tells the cells of a step's tables apart.
    """
    import polars as pl

    looked_for = pl.Series("cell", list(dict.fromkeys(keys)), dtype=pl.String)
    fresh = looked_for.is_in(pl.Series(list(made), dtype=pl.String).implode())
    return pl.DataFrame([(looked_for + table).hash(seed=0), fresh.alias("made")])


@dataclass(frozen=True)
class CellNotes:
    """Notes of the blocks of one step.

    Attributes:
        parts: Where they lie.
        blocks: Row blocks of the build.

    """

    parts: Parts
    blocks: int

    @property
    def _buckets(self) -> int:
        return max(1, self.blocks // BLOCKS_PER_BUCKET)

    def write(self, number: int, notes: pl.DataFrame) -> None:
        """Leave the notes of a block, or of another part of the work, under a number of its own."""
        bucket = (notes["cell"].to_numpy() % np.uint64(self._buckets)).astype(np.int64)
        self.parts.write_grouped(number, notes, bucket, self._buckets)

    def first(self, number: int) -> FirstLooks:
        """What the work under a number missed at first."""
        return FirstLooks(self.parts, number)

    def count(self, runner: Runner, numbers: Sequence[int]) -> tuple[int, int]:
        """Distinct cells made and found, of the notes under `numbers`; these are gone afterwards."""
        told = list(over(runner, _count, range(self._buckets), (self.parts, numbers), away=self._buckets > 1))
        self.parts.delete(numbers)
        return sum(one["made"] for one in told), sum(one["found"] for one in told)


@dataclass(frozen=True)
class FirstLooks:
    """What was missing when the work under a number first looked: one bit a cell, in a file of each look.

    Attributes:
        parts: Where the step's notes lie.
        number: Of the work.

    """

    parts: Parts
    number: int

    def missing(self, table: AnnotationTable, keys: Iterable[str]) -> list[str]:
        """Distinct keys that have no cell, or had none at first: they are made again, which stores the same."""
        distinct = list(dict.fromkeys(keys))
        look = bytes_hash("\n".join((table.folder, *distinct)).encode())
        path = f"{self.parts.folder}.first/{self.number:06d}-{look[:32]}"
        now = set(table.missing(distinct))
        lacks = np.fromiter((key in now for key in distinct), bool, len(distinct))
        first = self.parts.store.find(path)
        if first is not None:
            lacks |= np.unpackbits(np.frombuffer(first, np.uint8), count=len(distinct)).astype(bool)
        told = np.packbits(lacks).tobytes()
        if lacks.any() and told != first:
            self.parts.store.put(path, told, durable=False)
        return [key for key, lacking in zip(distinct, lacks.tolist(), strict=True) if lacking]


def _count(bucket: int, job: tuple[Parts, Sequence[int]]) -> dict[str, Any]:
    parts, numbers = job
    notes = parts.read_group(numbers, bucket)
    made = notes.filter("made")["cell"].n_unique()
    return {"made": made, "found": notes["cell"].n_unique() - made}
