"""Rows of a build in blocks on its scratch, so that neither the driver nor a worker ever holds them all.

A block holds the rows whose ids lie in one range: ids end in a hash, so that blocks are of about equal size, and blocks
one after the other are the rows sorted by id. `Parts` are frames in Arrow files, one per number, under one folder;
a file can be written in groups (`write_grouped`) of which a reader fetches its own only: with one file per writer and
one group per reader, rows change hands without anybody seeing all of them. `over` runs a function for each number on
the build's runner; what it returns are a few counts.

Not covered: who removes scratch (`data_engine.scratch`; in a bucket `Parts.delete`).
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shared.annotations import SegmentSetAsideError, set_aside, tell_aside
from shared.errors import InfiMmrError
from shared.store import Ranges, Store

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.runners.protocol import Runner
    from shared.progress import Task

Answer = TypeVar("Answer")

BLOCK_ROWS = 2**15
"""Rows of a block at most, about: 30 MB of text, and some seconds of work in a step without a model."""

_NOTHING = -1

TRIES = 3
"""Times that work meets one damaged segment before it ends."""

GROUP_ROWS = 2**14
"""Rows of a group that are worked on at once where groups are free to choose."""


@dataclass(frozen=True)
class Parts:
    """Frames by number, one file each.

    Attributes:
        store: The build's scratch, within reach of all workers.
        folder: Where in it.

    """

    store: Store
    folder: str

    def path(self, number: int) -> str:
        """File of a part."""
        return f"{self.folder}/{number:06d}.arrow"

    def write(self, number: int, frame: pl.DataFrame) -> None:
        """Write one part as a whole; the same part written twice is there once."""
        self._put(number, frame.to_arrow(), [frame.height])

    def write_grouped(self, number: int, frame: pl.DataFrame, group: np.ndarray, groups: int) -> None:
        """Write one part sorted by `group` (0 to `groups` - 1, one per row), so that each can be read alone."""
        order = np.argsort(group, kind="stable")
        self._put(number, frame[order].to_arrow(), np.bincount(group, minlength=groups).tolist())

    def read(self, number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows of a part, groups one after the other."""
        import polars as pl

        with self._reader(number, columns) as reader:
            found = pl.from_arrow(reader.read_all())
        assert isinstance(found, pl.DataFrame)  # noqa: S101  # for the type checker: a table makes a frame
        return found

    def read_group(self, numbers: Iterable[int], group: int | range) -> pl.DataFrame:
        """One group of several parts, or some, part by part."""
        import polars as pl
        import pyarrow as pa

        batches: list[pa.RecordBatch] = []
        for number in numbers:
            with self._reader(number, None) as reader:
                batches += map(reader.get_batch, [group] if isinstance(group, int) else group)
        found = pl.from_arrow(pa.Table.from_batches(batches))
        assert isinstance(found, pl.DataFrame)  # noqa: S101  # as above
        return found

    def delete(self, numbers: Iterable[int]) -> None:
        """Remove parts that nobody reads any more."""
        for number in numbers:
            self.store.delete(self.path(number))

    def _put(self, number: int, table: pa.Table, sizes: Sequence[int]) -> None:
        import pyarrow as pa

        out = pa.BufferOutputStream()
        table = table.combine_chunks()
        with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            start = 0
            for size in sizes:
                some = table.slice(start, size).combine_chunks().to_batches()
                none = pa.RecordBatch.from_pylist([], schema=table.schema)
                writer.write_batch(some[0] if some else none)
                start += size
        self.store.put(self.path(number), out.getvalue().to_pybytes(), durable=False)

    def _reader(self, number: int, columns: Sequence[str] | None) -> Any:
        import pyarrow as pa

        near = self.store.local_path(self.path(number))
        source = pa.memory_map(str(near)) if near is not None else pa.PythonFile(Ranges(self.store, self.path(number)))
        options = pa.ipc.IpcReadOptions()
        if columns is not None:
            names = pa.ipc.open_file(source).schema.names
            options = pa.ipc.IpcReadOptions(included_fields=[names.index(name) for name in columns])
        return pa.ipc.open_file(source, options=options)


@dataclass(frozen=True)
class RowBlocks(Parts):
    """The rows of a build, block by block.

    Attributes:
        heights: Rows of each block.

    """

    heights: tuple[int, ...] = ()

    @property
    def height(self) -> int:
        """All rows."""
        return sum(self.heights)

    @property
    def numbers(self) -> range:
        """Numbers of the blocks."""
        return range(len(self.heights))

    @property
    def starts(self) -> np.ndarray:
        """Number of the first row of each block among all rows, and of the row after the last: int64 [blocks + 1]."""
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(self.heights, dtype=np.int64)))

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows: for steps that look at all of them at once."""
        import polars as pl

        return pl.concat([self.read(number, columns) for number in self.numbers])


def blocks_for(rows: int) -> int:
    """How many blocks so many rows make: a power of two, so that ids are cut by their first bits."""
    count = 1
    while rows > count * BLOCK_ROWS:
        count *= 2
    return count


def block_of(ids: pl.Series, count: int) -> np.ndarray:
    """Block of each row by the hash that its id ends in: int64 [rows]."""
    if count == 1:
        return np.zeros(len(ids), np.int64)
    hashes = ids.str.slice(-16).str.decode("hex").to_list()
    whole = np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64)
    return (whole >> np.uint64(64 - (count.bit_length() - 1))).astype(np.int64)


def over(
    runner: Runner,
    function: Callable[[int, Any], dict[str, Any]],
    numbers: Iterable[int],
    job: Any,
    *,
    task: Task | None = None,
    away: bool = False,
) -> Iterator[dict[str, Any]]:
    """`function(number, job)` for each number on the runner's workers, in order; JSON values come back.

    What it computes, a worker leaves in parts and annotation tables. It may run twice where a worker is lost, so it
    must write the same then. A runner works on a single number by itself; `away` says that it is too large for that.
    """
    import pyarrow as pa

    # With a second number, at which nothing is done, the first one is sent away, too.
    asked = [*numbers, _NOTHING] if away else numbers
    tables = (pa.table({"number": pa.array([number], pa.int64())}) for number in asked)
    for told in runner.map_batches(_Numbered(function), tables, broadcast=job):
        found = json.loads(told.column("told")[0].as_py())
        if found is None:
            continue
        tell_aside(found.pop("aside"))
        if task is not None:
            task.advance(int(found.get("rows", 0)))
        yield found


@dataclass(frozen=True)
class _Numbered:
    """A function of a number as runners call functions of tables."""

    function: Callable[[int, Any], dict[str, Any]]

    @property
    def __name__(self) -> str:
        """Of the function."""
        return self.function.__name__

    def __call__(self, table: pa.Table, job: Any) -> pa.Table:
        import pyarrow as pa

        number = table.column("number")[0].as_py()
        if number == _NOTHING:
            return pa.table({"told": ["null"]})
        found = again_where_damaged(self.function, number, job)
        return pa.table({"told": [json.dumps({**found, "aside": set_aside()})]})


def again_where_damaged(function: Callable[..., Answer], *given: Any) -> Answer:
    """`function(*given)`, again where it meets a damaged segment: that is set aside then, and its cells are asked.

    Raises:
        InfiMmrError: `TRIES` times it met the same segment.

    """
    met: Counter[str] = Counter()
    while True:
        try:
            return function(*given)
        except SegmentSetAsideError as error:
            met[error.message] += 1
            if met[error.message] >= TRIES:
                message = f"{error.message}, {TRIES} times over"
                raise InfiMmrError(message, "Look for what damages or removes it, then run the same again.") from error


def without_runner(context: Any) -> Any:
    """A step's context as workers are given it: they work by themselves and tell nobody."""
    from data_engine.runners.local import LocalRunner
    from shared.progress import Progress

    return dataclasses.replace(context, runner=LocalRunner(), progress=Progress())
