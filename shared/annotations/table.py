"""`AnnotationTable`: the cells of one step in one context, looked up and appended."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.annotations.merging import (
    PARTITIONED_BYTES,
    by_partition,
    is_scattered,
    merge_segments,
    part_of,
    partitions_of,
)
from shared.annotations.segments import distinct, list_segments, maker_of, read_segment, write_segment
from shared.errors import InfiMmrError
from shared.store import NotInStoreError, Store


class AnnotationTable:
    """The known cells of one step in one context; of a partitioned table only what was asked for is read.

    Args:
        store: The store that holds annotations.
        step: Step name, e.g. `caption_images`.
        context: Fingerprint (hex) of what was asked.
        values: Arrow schema of the value columns, without `key`. None: taken from the first segment or the first table
            appended (bulk steps that append Arrow tables); `append` of dictionaries needs it.
        about: What was asked, in JSON values; written once beside the segments for people.
        made_by: What makes the cells that are appended; empty where it is not told.
        folder: Where its segments lie on the store; empty: `annotations/<step>/<context>`.
    """

    partitioned = True
    """Whether merging moves cells into partitions."""
    _given: list[tuple[str, int]] | None = None
    """What `listing` found, where somebody else listed the table."""

    def __init__(
        self,
        store: Store,
        step: str,
        context: str,
        values: pa.Schema | None = None,
        about: Mapping[str, Any] | None = None,
        *,
        made_by: str = "",
        folder: str = "",
    ) -> None:
        self.made_by = made_by
        self.store = store
        self.step = step
        self.context = context
        self.folder = folder or f"annotations/{step}/{context[:32]}"
        self._values = values
        self._about = about
        self._told = False
        self._opened = False
        self.refresh()

    def lookup(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Known cells among `keys`: key -> value columns. Unknown keys are absent from the result."""
        found = self.columns(list(keys))
        if found is None:
            return {}
        rows = found.drop_columns(["key"]).to_pylist()
        return dict(zip(found.column("key").to_pylist(), rows, strict=True))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Distinct keys that have no cell yet, in the order given."""
        wanted = list(dict.fromkeys(keys))
        self._load(wanted)
        return [key for key, known in zip(wanted, self._known(wanted), strict=True) if not known]

    def columns(self, keys: Sequence[str]) -> pa.Table | None:
        """Bulk `lookup`: one row per distinct known key, in the order given, with `key` and the value columns.

        None where the table is empty and its value columns are not known.
        """
        self._load(keys)
        if self._table is None:
            return None if self._values is None else self._schema().empty_table()
        wanted = pa.array(dict.fromkeys(keys), pa.string())
        return self._table.take(pc.index_in(wanted, value_set=self._table.column("key")).drop_null())

    def rows(self, keys: Sequence[str]) -> pa.Table | None:
        """As `columns`, in no promised order, and without copying where every known cell is asked for."""
        self._load(keys)
        if self._table is None:
            return self.columns(keys)
        wanted = pc.is_in(self._table.column("key"), value_set=pa.array(keys, pa.string()))
        return self._table if pc.all(wanted).as_py() else self._table.filter(wanted)

    def append(self, cells: Sequence[Mapping[str, Any]], *, spread: bool = False) -> None:
        """Store cells (`key` and value columns each); they are durable when this returns. Empty input does nothing."""
        if not cells:
            return
        self.append_table(pa.Table.from_pylist([dict(cell) for cell in cells], schema=self._schema()), spread=spread)

    def takes(self, values: pa.Schema) -> None:
        """Say what the value columns are, where nothing says so yet: then nothing is read to know it."""
        self._values = self._values or values

    def append_table(self, table: pa.Table, *, spread: bool = False) -> None:
        """Store a table with `key` and the value columns; durable when this returns. Empty input does nothing.

        A table that was not read yet, or was refreshed, is not read for this and keeps nothing in memory. `spread` puts
        cells into their partitions at once: for so many that a partition's are worth a segment of their own.
        """
        if table.num_rows == 0:
            return
        if self._values is None:
            self._load()  # what is stored already says of which types the values are
        if self._values is None:
            self._values = table.drop_columns(["key"]).schema
        table = table.select(self._schema().names).cast(self._schema())
        if self._about is not None and not self._told:
            about = json.dumps(self._about, indent=1, sort_keys=True, ensure_ascii=False)
            self.store.put_new(f"{self.folder}/about.json", about.encode())
            self._told = True
        for cells, part in by_partition(table) if spread else ((table, ""),):
            name = write_segment(self.store, self.folder, cells, self.made_by, part)
            if self._loaded:
                self._take_up(cells, name)

    def made_elsewhere(self, keys: Iterable[str]) -> dict[str, int]:
        """Known cells among `keys` that something else than `made_by` made: maker -> cells. Empty maker: not told."""
        asked = list(dict.fromkeys(keys))
        self._load(asked)
        wanted = pa.array(asked, pa.string())
        found: Counter[str] = Counter()
        for maker, column in self._foreign:
            found[maker] += int(pc.sum(pc.is_in(wanted, value_set=column)).as_py() or 0)
        return {maker: count for maker, count in sorted(found.items()) if count}

    def compact(self, *, at_least: int = 2) -> int:
        """Merge small segments (`merge_segments`); returns how many were merged, 0 where another builder does it."""
        merged = merge_segments(self.store, self.folder, self._read, partitioned=self.partitioned, at_least=at_least)
        if merged:
            self.refresh()
        return merged

    def fresh(self) -> Self:
        """The table as if it had just been opened."""
        other = copy.copy(self)
        vars(other)["_given"] = None
        other.refresh()
        return other

    def listing(self) -> list[tuple[str, int]]:
        """Names and sizes of the table's segments, for `as_listed`."""
        return list_segments(self.store, self.folder)

    def wants_merging(self, entries: Sequence[tuple[str, int]]) -> bool:
        """Whether a table that is listed so is read better once `compact` went over it."""
        whole = sum(size for name, size in entries if not part_of(name))
        return is_scattered(entries) or (self.partitioned and whole >= PARTITIONED_BYTES)

    def as_listed(self, entries: list[tuple[str, int]]) -> Self:
        """The table for a reader who neither lists nor merges it: what others stored since `entries` is not seen."""
        other = copy.copy(self)
        vars(other).update(_given=entries, _opened=True)
        other.refresh()
        return other

    def refresh(self) -> None:
        """Forget what was read, so that cells which others stored meanwhile are seen."""
        self._loaded = False
        self._waiting: dict[str, list[str]] = {}
        """Segments of partitions that were not asked for yet."""
        self._table: pa.Table | None = None
        self._fresh: list[pa.Table] = []
        self._foreign: list[tuple[str, pa.ChunkedArray]] = []

    def __len__(self) -> int:
        """Number of known cells."""
        self._load()
        return 0 if self._table is None else self._table.num_rows

    def _schema(self) -> pa.Schema:
        if self._values is None:
            message = f"annotation table of step {self.step} has no value columns yet"
            raise InfiMmrError(message, "Name them when the table is opened.")
        return pa.schema([pa.field("key", pa.string(), nullable=False), *self._values])

    def _load(self, keys: Sequence[str] | None = None) -> None:
        """Read what is stored, where this was not done yet, and take in what was appended since.

        Of a partitioned table the partitions of `keys` are read; None: all.
        """
        try:
            self._load_listed()
            if self._waiting:
                byte = None if keys is None else np.unique(partitions_of(pa.array(keys, pa.string()))).tolist()
                wanted = list(self._waiting) if byte is None else [f"{number:02x}/" for number in byte]
                names = [name for part in wanted for name in self._waiting.pop(part, ())]
                if names:
                    self._read_all(names)
        except NotInStoreError:  # another builder merged it between our listing and our reading
            self._given = None
            self.refresh()  # what was appended lies on the store, too
            self._load(keys)
        if self._fresh:
            self._table = distinct([self._table, *self._fresh] if self._table else self._fresh)
            self._fresh = []

    def _load_listed(self) -> None:
        """List what is stored, merge what lies in too many pieces, and read what is in no partition."""
        if self._loaded:
            return
        entries = self.listing() if self._given is None else self._given
        if not self._opened and is_scattered(entries):
            self._opened = True  # before: merging refreshes
            with suppress(OSError, InfiMmrError):  # a store that takes nothing is read as it lies there
                self.compact()
            entries = self.listing()
        self._opened = True
        for name, _ in entries:
            self._waiting.setdefault(part_of(name), []).append(name)
        self._read_all(self._waiting.pop("", []))
        self._loaded = True

    def _known(self, keys: Sequence[str]) -> list[bool]:
        """Whether each key has a cell; the table is loaded."""
        if self._table is None:
            return [False] * len(keys)
        known: list[bool] = pc.is_in(pa.array(keys, pa.string()), value_set=self._table.column("key")).to_pylist()
        return known

    def _read_all(self, names: Sequence[str]) -> None:
        """Read more segments that are there."""
        with ThreadPoolExecutor(max_workers=8) as readers:  # an object store answers many small reads at once
            read = [one for one in readers.map(self._read, names) if one is not None]
        self._foreign += [(by, table.column("key")) for by, table in read if self.made_by and by != self.made_by]
        tables = [table for _, table in read]
        if tables:
            self._table = distinct(tables if self._table is None else [self._table, *tables])

    def _take_up(self, table: pa.Table, name: str) -> None:
        """Remember a table that was appended after loading and lies in segment `name`."""
        del name
        self._fresh.append(table)

    def _read(self, name: str) -> tuple[str, pa.Table] | None:
        """What made a segment's cells, and the cells; None where it is damaged."""
        table = read_segment(self.store, self.folder, name)
        if table is None:
            return None
        if self._values is None:
            self._values = table.drop_columns(["key"]).schema.remove_metadata()
        return maker_of(table.schema), table.select(self._schema().names).cast(self._schema())
