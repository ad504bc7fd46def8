"""What a step asks (`Asking`), about the rows of a build (`AskingRows`), and what workers are told of it (`Job`).

A line says what is looked for: the key of a cell or of several, its table, and what the step needs beside them.
Not covered: how lines become asks, cells and findings (`ask_blocks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_engine.blocks import Parts, RowBlocks
from data_engine.step import StepContext
from shared.annotations import AnnotationTable, partitions_of

if TYPE_CHECKING:
    import polars as pl

    from shared.store import Store
    from shared.vlm.spec import EngineSpec, Sampling


SPREAD_FROM = 2**14
"""Missing cells of a table from which they are stored by partition: 64 and more in each."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked, of whom, and where cells lie; picklable.

    Attributes:
        name: Of the step: its parts on scratch, its progress.
        tables: Where cells lie; a line says which it means.
        words: System prompt and user's words for each table; empty words: each ask has its own.
        engine: Who is asked.
        sampling: How; None embeds.
        asks_per_line: Asks that a line makes.
        all_pictures: Whether an ask shows all pictures of a row, so that its engine must take so many.

    """

    name: str
    tables: tuple[AnnotationTable, ...]
    words: tuple[tuple[str, str], ...]
    engine: EngineSpec
    sampling: Sampling | None
    asks_per_line: int = 1
    all_pictures: bool = False

    def asks(self, lines: pl.DataFrame, context: StepContext) -> pl.DataFrame:
        """Asks of distinct lines, in the order in which they are asked.

        `key` and `table`, and where they are not the table's words and the picture whose hash the key is: `text`,
        `images`, `seed`.
        """
        del context
        return lines.select("key", "table").sort("table", "key")

    def value(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Value columns of an answer."""
        return answer


class AskingRows(Asking, ABC):
    """What a step asks about rows, block by block, and finds. Each such step has one of its own."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Earlier steps whose annotations `lines` reads, where they ran."""
    order: ClassVar[tuple[str, ...]] = ("id",)
    """Columns by which annotations are sorted."""

    @abstractmethod
    def lines(self, context: StepContext) -> pl.DataFrame:
        """What is looked for in the rows of `context`: `key`, `table` (int32), other columns as the step needs."""

    @abstractmethod
    def found(self, lines: pl.DataFrame, job: Job) -> tuple[pl.DataFrame, dict[str, int]]:
        """Annotations of some lines, with the lines' column `part`, and counts that are summed up.

        Of the counts `absent` is known here: cells that are neither stored nor failed.
        """


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        asking: The step's.
        context: Without rows, pictures and benchmarks; `results` of the needed steps.
        store: Scratch.
        blocks: Row blocks.
        parts: Parts of lines: those of the row blocks, then others (benchmark items).
        buckets: Number of buckets.
        entries: Listing of each table.
        failed: Reason by `key/table` of the asks that failed.
        given: What the step gives its `found`.
        bucket: The one that is worked on.

    """

    asking: Asking
    context: StepContext
    store: Store
    blocks: RowBlocks | None
    parts: int
    buckets: int
    entries: Sequence[list[tuple[str, int]]] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    given: Any = None
    bucket: int = 0

    @property
    def about_rows(self) -> AskingRows:
        """The step's, where it goes through row blocks."""
        assert isinstance(self.asking, AskingRows)  # noqa: S101  `ask_blocks` takes no other
        return self.asking

    def many(self, cells: int) -> bool:
        """Whether so many cells of a table are stored by partition at once."""
        return self.buckets > 1 and cells >= SPREAD_FROM

    @property
    def spread(self) -> bool:
        """Whether what is found about each row is stored by partition."""
        return self.blocks is not None and self.many(self.blocks.height)

    def at(self, name: str) -> Parts:
        """Parts of one kind."""
        return Parts(self.store, f"{self.asking.name}.{name}")

    @property
    def own(self) -> int:
        """Parts of lines that are about rows."""
        return 1 if self.blocks is None else len(self.blocks.heights)

    @property
    def tables(self) -> list[AnnotationTable]:
        """The tables as they were listed."""
        return [table.as_listed(entries) for table, entries in zip(self.asking.tables, self.entries, strict=True)]

    def lines(self, bucket: int) -> pl.DataFrame:
        """Lines of a bucket, part by part."""
        return self.at("lines").read_group(range(self.parts), bucket)

    def write_lines(self, part: int, lines: pl.DataFrame) -> None:
        """Put lines into their buckets."""
        import polars as pl

        bucket = partitions_of(lines["key"].to_arrow()).astype(np.int64) * self.buckets // 256
        self.at("lines").write_grouped(part, lines.with_columns(part=pl.lit(part, pl.Int32)), bucket, self.buckets)
