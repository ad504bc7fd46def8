"""An annotation table whose values stay on the store: only which file holds which key is in memory.

For large values (embeddings: 6 KB each) and cells that workers read themselves. Keys, files and the rule by which two
values of one key are settled are those of `AnnotationTable`; both read what either wrote.
Of a file that is opened for its keys only these are read, from an object store too.
Not covered: reading single cells (workers read whole files, one at a time).
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from data_engine.annotations import AnnotationTable, maker_of, smallest_value
from shared.store import NotInStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from shared.store import Store


class StoredCells(AnnotationTable):
    """As `AnnotationTable`; about 200 bytes of memory per cell, whatever its value."""

    def places(self, keys: Iterable[str]) -> list[str]:
        """File (its name in the table's folder) of each key; empty for an unknown one."""
        self._load()
        return [self._names[self._file_of[key]] if key in self._file_of else "" for key in keys]

    def columns(self, keys: Sequence[str]) -> pa.Table | None:
        """One row per distinct known key, in the order given, read from the store; None where nothing is known."""
        self._load()
        known = [key for key in dict.fromkeys(keys) if key in self._file_of]
        if not known:
            return None if self._values is None else self._schema().empty_table()
        return read_cells((self.store, self.step, self.context), known, self.places(known))

    def refresh(self) -> None:
        """Forget what was read, so that cells which others stored meanwhile are seen."""
        super().refresh()
        self._names: list[str] = []
        self._file_of: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of known cells."""
        self._load()
        return len(self._file_of)

    def _known(self, keys: Sequence[str]) -> list[bool]:
        return [key in self._file_of for key in keys]

    def _read_all(self, names: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        def keys_of(name: str) -> tuple[pa.Schema, pa.ChunkedArray]:
            source = pa.PythonFile(Ranges(self.store, f"{self.folder}/{name}"), mode="r")
            with pq.ParquetFile(source) as file:
                return file.schema_arrow, file.read(columns=["key"]).column("key")

        with ThreadPoolExecutor(max_workers=8) as readers:
            found = list(readers.map(keys_of, names))
        if self._values is None and found:
            schema = found[0][0].remove_metadata()
            self._values = schema.remove(schema.get_field_index("key"))
        for name, (schema, keys) in zip(names, found, strict=True):
            if self.made_by and maker_of(schema) != self.made_by:
                self._foreign.append((maker_of(schema), keys))
            self._place(name, keys.to_pylist())

    def _take_up(self, table: pa.Table, name: str) -> None:
        if name not in self._names:
            self._place(name, table.column("key").to_pylist())

    def _place(self, name: str, keys: Sequence[str]) -> None:
        number = len(self._names)
        self._names.append(name)
        twice = [key for key in keys if self._file_of.get(key, number) != number]
        before = {key: self._names[self._file_of[key]] for key in twice}
        self._file_of.update(dict.fromkeys(keys, number))
        if twice:
            here = (self.store, self.step, self.context)
            old = read_cells(here, twice, [before[key] for key in twice]).to_pylist()
            new = read_cells(here, twice, [name] * len(twice)).to_pylist()
            for key, *values in zip(twice, old, new, strict=True):
                if smallest_value(values) == 0:
                    self._file_of[key] = self._names.index(before[key])


def read_cells(table: tuple[Store, str, str], keys: Sequence[str], files: Sequence[str]) -> pa.Table:
    """Cells of distinct `keys` in the order given, each from its file; one file is in memory at a time.

    Args:
        table: Store, step and context: what a worker needs to find the table.
        keys: Known keys.
        files: From `StoredCells.places`, one per key.

    Raises:
        NotInStoreError: A file went away and no other holds its cells.

    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    store, step, context = table
    folder = AnnotationTable(store, step, context).folder
    by_file: dict[str, list[str]] = {}
    for key, file in zip(keys, files, strict=True):
        by_file.setdefault(file, []).append(key)
    parts = []
    for file, wanted in by_file.items():
        try:
            read = pq.read_table(pa.BufferReader(store.get(f"{folder}/{file}")))
        except NotInStoreError:  # another builder merged it with others meanwhile
            now = StoredCells(store, step, context).places(wanted)
            if "" in now or file in now:
                raise
            parts.append(read_cells(table, wanted, now))
        else:
            rows = pc.index_in(pa.array(wanted, pa.string()), value_set=read.column("key").combine_chunks())
            parts.append(read.take(rows))
    order = {key: row for row, key in enumerate(key for wanted in by_file.values() for key in wanted)}
    return pa.concat_tables(parts).take(pa.array([order[key] for key in keys], pa.int64()))


class Ranges(io.RawIOBase):
    """A file of a store that is read in ranges, as Parquet's readers ask for them."""

    def __init__(self, store: Store, path: str) -> None:
        super().__init__()
        entry = store.head(path)
        if entry is None:
            message = f"{path} is not in the store"
            raise NotInStoreError(message, "It was merged with others meanwhile: try again.")
        self._store, self._path, self._size, self._at = store, path, entry.size, 0

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def readable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move there."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, all that follow where it is negative."""
        length = min(size if size >= 0 else self._size, self._size - self._at)
        data = self._store.get_range(self._path, self._at, length) if length > 0 else b""
        self._at += len(data)
        return data
