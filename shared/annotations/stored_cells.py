"""An annotation table whose values stay on the store: only which file holds which key is in memory.

For large values (embeddings: 6 KB each) and cells that workers read themselves. Keys, files and the rule by which two
values of one key are settled are those of `AnnotationTable`; both read what either wrote.
Of a file that is opened for its keys only these are read, from an object store too.
Not covered: reading single cells (workers read whole files, one at a time).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.annotations.segments import SegmentSetAsideError, maker_of, move_aside, smallest_value, verified
from shared.annotations.table import AnnotationTable
from shared.store import NotInStoreError, Ranges, Store


@dataclass(frozen=True)
class _Read:
    """What a process knows of a table's keys; see `StoredCells`."""

    names: tuple[str, ...]
    hashes: np.ndarray
    files: np.ndarray
    values: pa.Schema | None
    foreign: tuple[tuple[str, pa.ChunkedArray], ...]


_READ: OrderedDict[tuple[str, str, str], _Read] = OrderedDict()
_READ_TABLES = 6
"""Tables whose keys a process remembers: those that the steps of a build look into by turns."""


class StoredCells(AnnotationTable):
    """As `AnnotationTable`; 12 bytes of memory per cell, whatever its key and value.

    A process that opens a table again, as for each row block, reads only the keys of segments that came since.

    Merged cells stay together as they were written, for readers of rows that were judged together; `PartitionedCells`
    are for readers by key.
    """

    partitioned = False

    def places(self, keys: Iterable[str]) -> list[str]:
        """File (its name in the table's folder) of each key; empty for an unknown one."""
        wanted = list(keys)
        self._load(wanted)
        place, known = self._find(wanted)
        names = self._names
        return [names[file] if here else "" for file, here in zip(place.tolist(), known.tolist(), strict=True)]

    def columns(self, keys: Sequence[str]) -> pa.Table | None:
        """One row per distinct known key, in the order given, read from the store; None where nothing is known."""
        distinct = list(dict.fromkeys(keys))
        files = self.places(distinct)
        known = [key for key, file in zip(distinct, files, strict=True) if file]
        if not known:
            return None if self._values is None else self._schema().empty_table()
        return read_cells((self.store, self.step, self.context), known, [file for file in files if file])

    def rows(self, keys: Sequence[str]) -> pa.Table | None:
        """As `columns`."""
        return self.columns(keys)

    def refresh(self) -> None:
        """Forget what was read, so that cells which others stored meanwhile are seen."""
        super().refresh()
        self._names: list[str] = []
        self._hashes = np.empty(0, np.uint64)
        """Of all keys, sorted."""
        self._files = np.empty(0, np.int32)
        """File of each key, in the same order."""
        self._new: list[tuple[int, pa.ChunkedArray]] = []
        """Keys of files that are not among these yet."""

    def __len__(self) -> int:
        """Number of known cells."""
        self._load()
        return len(self._hashes)

    def _load(self, keys: Sequence[str] | None = None) -> None:
        super()._load(keys)
        if self._new:
            self._sort_in()
            self._remember()

    def _known(self, keys: Sequence[str]) -> list[bool]:
        known: list[bool] = self._find(keys)[1].tolist()
        return known

    def _find(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Number of the file of each key, and whether there is one."""
        if len(self._hashes) == 0 or len(keys) == 0:
            return np.zeros(len(keys), np.int32), np.zeros(len(keys), bool)
        wanted = _hashes_of(pa.array(keys, pa.string()))
        place = np.searchsorted(self._hashes, wanted).clip(max=len(self._hashes) - 1)
        return self._files[place], self._hashes[place] == wanted

    def _read_all(self, names: Sequence[str]) -> None:
        names = self._not_remembered(names)

        def keys_of(name: str) -> tuple[pa.Schema, pa.ChunkedArray] | None:
            try:
                return keys_in(pa.PythonFile(Ranges(self.store, f"{self.folder}/{name}"), mode="r"))
            except (pa.ArrowException, OSError):
                data = verified(self.store, self.folder, name)
            if data is None:
                return None
            try:
                return keys_in(pa.BufferReader(data))
            except (pa.ArrowException, OSError):
                move_aside(self.store, self.folder, name, data)
                return None

        def keys_in(source: pa.NativeFile) -> tuple[pa.Schema, pa.ChunkedArray]:
            with pq.ParquetFile(source) as file:
                return file.schema_arrow, file.read(columns=["key"]).column("key")

        with ThreadPoolExecutor(max_workers=8) as readers:
            found = list(readers.map(keys_of, names))
        for name, read in zip(names, found, strict=True):
            if read is None:
                continue
            schema, keys = read
            if self._values is None:
                plain = schema.remove_metadata()
                self._values = plain.remove(plain.get_field_index("key"))
            if self.made_by and maker_of(schema) != self.made_by:
                self._foreign.append((maker_of(schema), keys))
            self._place(name, keys)

    @property
    def _whose(self) -> tuple[str, str, str]:
        return self.store.url, self.folder, self.made_by

    def _not_remembered(self, names: Sequence[str]) -> Sequence[str]:
        """Take up what this process knows of a table that is just opened; names of the files that are new to it."""
        known = _READ.get(self._whose)
        there = set(known.names) if known is not None else set()
        if self._names or known is None or not there <= set(names):
            return names
        self._names, self._hashes, self._files = list(known.names), known.hashes, known.files
        self._values, self._foreign = self._values or known.values, list(known.foreign)
        return [name for name in names if name not in there]

    def _remember(self) -> None:
        read = _Read(tuple(self._names), self._hashes, self._files, self._values, tuple(self._foreign))
        _READ[self._whose] = read
        _READ.move_to_end(self._whose)
        if len(_READ) > _READ_TABLES:
            _READ.popitem(last=False)

    def _take_up(self, table: pa.Table, name: str) -> None:
        if name not in self._names:
            self._place(name, table.column("key"))

    def _place(self, name: str, keys: pa.ChunkedArray) -> None:
        self._new.append((len(self._names), keys))
        self._names.append(name)

    def _sort_in(self) -> None:
        """Put new keys among those known; of several files that hold a key, the settled one is kept."""
        fresh = pa.chunked_array([chunk for _, keys in self._new for chunk in keys.chunks], pa.string())
        hashes = np.concatenate([self._hashes, _hashes_of(fresh)])
        numbers = [np.full(len(keys), number, np.int32) for number, keys in self._new]
        files = np.concatenate([self._files, *numbers])
        order = np.argsort(hashes, kind="stable")
        hashes, files = hashes[order], files[order]
        first = np.append(True, hashes[1:] != hashes[:-1]) if len(hashes) else np.empty(0, bool)
        begin = np.flatnonzero(first)
        sizes = np.diff(np.append(begin, len(hashes)))
        several: dict[str, tuple[int, list[int]]] = {}
        for start, size in zip(begin[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            holders = list(dict.fromkeys(files[start : start + size].tolist()))
            # The last one is new: it stands behind those known.
            key = fresh[int(order[start + size - 1]) - len(self._hashes)].as_py()
            if len(holders) > 1:
                several[key] = (start, holders)
        self._new = []
        for key, file in self._settled({key: holders for key, (_, holders) in several.items()}).items():
            files[several[key][0]] = file
        self._hashes, self._files = hashes[begin], files[begin]

    def _settled(self, several: dict[str, list[int]]) -> dict[str, int]:
        """Which of the files that hold a key has the value that every reader takes."""
        here = (self.store, self.step, self.context)
        best = {key: files[0] for key, files in several.items()}
        for place in range(1, max((len(files) for files in several.values()), default=0)):
            keys = [key for key, files in several.items() if len(files) > place]
            old = read_cells(here, keys, [self._names[best[key]] for key in keys]).to_pylist()
            new = read_cells(here, keys, [self._names[several[key][place]] for key in keys]).to_pylist()
            for key, *values in zip(keys, old, new, strict=True):
                if values[0] != values[1] and smallest_value(values) == 1:
                    best[key] = several[key][place]
        return best


class PartitionedCells(StoredCells):
    """As `StoredCells`, moved into partitions when merged."""

    partitioned = True


def _forget(store: Store, folder: str) -> None:
    """Let no table of `folder` be opened with what is remembered: a listing may name a segment that is gone by now."""
    for whose in [whose for whose in _READ if whose[:2] == (store.url, folder)]:
        _READ.pop(whose, None)


def _hashes_of(keys: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """64 bits of each key: two of ten million keys are taken for each other with a chance of 3 in a million."""
    import polars as pl

    found: np.ndarray = pl.Series("key", pl.from_arrow(keys), dtype=pl.String).hash(seed=0).to_numpy()
    return found


def read_cells(table: tuple[Store, str, str], keys: Sequence[str], files: Sequence[str]) -> pa.Table:
    """Cells of distinct `keys` in the order given, each from its file; one file is in memory at a time.

    Args:
        table: Store, step and context: what a worker needs to find the table.
        keys: Known keys.
        files: From `StoredCells.places`, one per key.

    Raises:
        SegmentSetAsideError: A file was damaged, or went away and no other holds its cells; the same work done again
            finds its cells missing.
    """
    store, step, context = table
    folder = AnnotationTable(store, step, context).folder
    by_file: dict[str, list[str]] = {}
    for key, file in zip(keys, files, strict=True):
        by_file.setdefault(file, []).append(key)
    parts = []
    for file, wanted in by_file.items():
        try:
            data = verified(store, folder, file)
        except NotInStoreError as error:  # another builder merged it with others meanwhile, or set it aside
            now = StoredCells(store, step, context).places(wanted)
            if "" in now or file in now:
                _forget(store, folder)
                message = f"annotation segment {folder}/{file} went away while it was needed"
                raise SegmentSetAsideError(message, "Run the same command: its cells are asked again.") from error
            parts.append(read_cells(table, wanted, now))
            continue
        if data is None:
            _forget(store, folder)
            message = f"annotation segment {folder}/{file} is damaged and was set aside"
            raise SegmentSetAsideError(message, "Run the same command: its cells are asked again.")
        read = pq.read_table(pa.BufferReader(data))
        rows = pc.index_in(pa.array(wanted, pa.string()), value_set=read.column("key").combine_chunks())
        parts.append(read.take(rows))
    order = {key: row for row, key in enumerate(key for wanted in by_file.values() for key in wanted)}
    return pa.concat_tables(parts).take(pa.array([order[key] for key in keys], pa.int64()))
