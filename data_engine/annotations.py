"""Cells that a step found, stored as soon as they are known and found again by any later build of any team.

A table belongs to a step and a *context*: the fingerprint of what was asked (model, revision, dtype, prompt text,
parameters). Its rows are keyed by what was asked about (sha256 of an image, row hash, text hash). One changed prompt is
another context, so it re-asks only what that prompt asks.

On the store: `annotations/<step>/<context>/<sha256 of the file>.parquet`, small immutable segments written with
create-if-absent (so many builders append at once without locks), and `about.json` saying in words what was asked.
Columns of a segment: `key` (string) and the step's own value columns.

The same key in two segments (two builders asked at once and a model answered differently) is settled the same way by
every reader, whatever the order or compaction: the value whose canonical JSON has the smallest sha256 wins.

A segment of a model's cells says in its metadata what made them (`made_by`: library, version, code). Keys do not hold
it, so that an update of vLLM or of a comment asks nothing again; a build tells how many cells others made.

Not covered: failed cells (never stored, so that they are asked again), garbage collection (the catalogue).
"""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError
from shared.store import NotInStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from shared.store import Store

MANY_SEGMENTS = 256
"""Small segments above which opening a table merges them: 256 reads of a local file cost about 0.1 s."""

SMALL_SEGMENT_BYTES = 16 * 2**20
"""Segments below this are merged; larger ones are left alone, so that old cells are not rewritten over and over."""

_MAKER = b"made_by"
MERGED_BYTES = 64 * 2**20
"""Segments are merged up to about this size."""


class AnnotationTable:
    """The known cells of one step in one context.

    Args:
        store: The store that holds annotations.
        step: Step name, e.g. `caption_images`.
        context: Fingerprint (hex) of what was asked.
        values: Arrow schema of the value columns, without `key`. None: taken from the first segment or the first table
            appended (bulk steps that append Arrow tables); `append` of dictionaries needs it.
        about: What was asked, in JSON values; written once beside the segments for people.
        made_by: What makes the cells that are appended; empty where it is not told.

    """

    def __init__(
        self,
        store: Store,
        step: str,
        context: str,
        values: pa.Schema | None = None,
        about: Mapping[str, Any] | None = None,
        *,
        made_by: str = "",
    ) -> None:
        self.made_by = made_by
        self.store = store
        self.step = step
        self.context = context
        self.folder = f"annotations/{step}/{context[:32]}"
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
        self._load()
        wanted = list(dict.fromkeys(keys))
        return [key for key, known in zip(wanted, self._known(wanted), strict=True) if not known]

    def columns(self, keys: Sequence[str]) -> pa.Table | None:
        """Bulk `lookup`: one row per distinct known key, in the order given, with `key` and the value columns.

        None where the table is empty and its value columns are not known.
        """
        self._load()
        if self._table is None:
            return None if self._values is None else self._schema().empty_table()
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(dict.fromkeys(keys), pa.string())
        return self._table.take(pc.index_in(wanted, value_set=self._table.column("key")).drop_null())

    def rows(self, keys: Sequence[str]) -> pa.Table | None:
        """As `columns`, in no promised order, and without copying where every known cell is asked for."""
        self._load()
        if self._table is None:
            return self.columns(keys)
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pc.is_in(self._table.column("key"), value_set=pa.array(keys, pa.string()))
        return self._table if pc.all(wanted).as_py() else self._table.filter(wanted)

    def append(self, cells: Sequence[Mapping[str, Any]]) -> None:
        """Store cells (`key` and value columns each); they are durable when this returns. Empty input does nothing."""
        if not cells:
            return
        import pyarrow as pa

        self.append_table(pa.Table.from_pylist([dict(cell) for cell in cells], schema=self._schema()))

    def append_table(self, table: pa.Table) -> None:
        """Store a table with `key` and the value columns; durable when this returns. Empty input does nothing.

        A table that was not read yet, or was refreshed, is not read for this and keeps nothing in memory.
        """
        if table.num_rows == 0:
            return
        if self._values is None:
            self._load()  # what is stored already says of which types the values are
        if self._values is None:
            self._values = table.drop_columns(["key"]).schema
        table = table.select(self._schema().names).cast(self._schema())
        if self._about is not None and not self._told:
            self.store.put_new(f"{self.folder}/about.json", _about_json(self._about))
            self._told = True
        name = self._put(table, self.made_by)
        if self._loaded:
            self._take_up(table, name)

    def made_elsewhere(self, keys: Iterable[str]) -> dict[str, int]:
        """Known cells among `keys` that something else than `made_by` made: maker -> cells. Empty maker: not told."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._load()
        wanted = pa.array(dict.fromkeys(keys), pa.string())
        found: dict[str, int] = {}
        for maker, column in self._foreign:
            count = int(pc.sum(pc.is_in(wanted, value_set=column)).as_py() or 0)
            if count:
                found[maker] = found.get(maker, 0) + count
        return dict(sorted(found.items()))

    def compact(self, *, at_least: int = 2) -> int:
        """Merge small segments, `MERGED_BYTES` at a time so that memory stays bounded; returns how many were merged.

        Readers see every cell at every moment.
        """
        entries = [entry for entry in self._list() if entry[1] < SMALL_SEGMENT_BYTES]
        if len(entries) < at_least:
            return 0
        group: list[str] = []
        groups, total = [group], 0
        for name, size in entries:
            if group and total + size > MERGED_BYTES:
                group, total = [], 0
                groups.append(group)
            group.append(name)
            total += size
        try:
            for names in groups:
                self._merge(names)
        except NotInStoreError:  # another builder is merging the same segments: leave it to them
            return 0
        self.refresh()
        return len(entries)

    def _merge(self, names: Sequence[str]) -> None:
        by_maker: dict[str, list[tuple[str, pa.Table]]] = {}
        for name in names:
            maker, table = self._read(name)
            by_maker.setdefault(maker, []).append((name, table))
        for maker, some in by_maker.items():
            if len(some) < 2:
                continue
            kept = self._put(_settle([table for _, table in some]), maker)
            for name, _ in some:
                if name != kept:
                    self.store.delete(f"{self.folder}/{name}")

    def refresh(self) -> None:
        """Forget what was read, so that cells which others stored meanwhile are seen."""
        self._loaded = False
        self._table: pa.Table | None = None
        self._fresh: list[pa.Table] = []
        self._foreign: list[tuple[str, pa.ChunkedArray]] = []

    def __len__(self) -> int:
        """Number of known cells."""
        self._load()
        return 0 if self._table is None else self._table.num_rows

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        if self._values is None:
            message = f"annotation table of step {self.step} has no value columns yet"
            raise InfiMmrError(message, "Name them when the table is opened.")
        return pa.schema([pa.field("key", pa.string(), nullable=False), *self._values])

    def _list(self) -> list[tuple[str, int]]:
        entries = self.store.list(self.folder)
        return sorted(
            (entry.path.rsplit("/", 1)[-1], entry.size) for entry in entries if entry.path.endswith(".parquet")
        )

    def _load(self) -> None:
        """Read what is stored, where this was not done yet, and take in what was appended since."""
        if not self._loaded:
            entries = self._list()
            if not self._opened and sum(size < SMALL_SEGMENT_BYTES for _, size in entries) > MANY_SEGMENTS:
                self._opened = True  # before: merging refreshes
                self.compact()
                entries = self._list()
            self._opened = True
            try:
                self._read_all([name for name, _ in entries])
            except NotInStoreError:  # another builder merged it between our listing and our reading
                self.refresh()
                self._load()
            self._loaded = True
        if self._fresh:
            self._table = _distinct([self._table, *self._fresh] if self._table else self._fresh)
            self._fresh = []

    def _known(self, keys: Sequence[str]) -> list[bool]:
        """Whether each key has a cell; the table is loaded."""
        if self._table is None:
            return [False] * len(keys)
        import pyarrow as pa
        import pyarrow.compute as pc

        known: list[bool] = pc.is_in(pa.array(keys, pa.string()), value_set=self._table.column("key")).to_pylist()
        return known

    def _read_all(self, names: Sequence[str]) -> None:
        """Read the segments that are there."""
        with ThreadPoolExecutor(max_workers=8) as readers:  # an object store answers many small reads at once
            read = list(readers.map(self._read, names))
        self._foreign = [(by, table.column("key")) for by, table in read if self.made_by and by != self.made_by]
        self._table = _distinct([table for _, table in read]) if read else None

    def _take_up(self, table: pa.Table, name: str) -> None:
        """Remember a table that was appended after loading and lies in segment `name`."""
        del name
        self._fresh.append(table)

    def _read(self, name: str) -> tuple[str, pa.Table]:
        """What made a segment's cells, and the cells."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = f"{self.folder}/{name}"
        try:
            table = pq.read_table(pa.BufferReader(self.store.get(path)))
        except pa.ArrowInvalid as error:
            message = f"annotation segment {path} is damaged ({error})"
            raise InfiMmrError(message, "Delete this file; its cells are computed again.") from error
        if self._values is None:
            self._values = table.drop_columns(["key"]).schema.remove_metadata()
        return maker_of(table.schema), table.select(self._schema().names).cast(self._schema())

    def _put(self, table: pa.Table, made_by: str) -> str:
        import pyarrow.parquet as pq

        if made_by:
            table = table.replace_schema_metadata({_MAKER: made_by})
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", use_dictionary=False, write_statistics=False)
        data = out.getvalue()
        name = f"{hashlib.sha256(data).hexdigest()}.parquet"
        self.store.put_new(f"{self.folder}/{name}", data)
        return name


def maker_of(schema: pa.Schema) -> str:
    """What a segment's metadata says made its cells; empty where it does not say."""
    return str((schema.metadata or {}).get(_MAKER, b"").decode())


def _about_json(about: Mapping[str, Any]) -> bytes:
    return json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _distinct(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with each key once, in no promised order; nothing is copied where no key repeats."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pa.concat_tables(tables)
    return whole if pc.count_distinct(whole.column("key")).as_py() == whole.num_rows else _settle(tables)


def _settle(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with each key once, sorted by key; of several values the one with the smallest canonical sha256."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pa.concat_tables(tables).combine_chunks()
    whole = whole.take(pc.sort_indices(whole.column("key")))
    keys = whole.column("key")
    if not pc.any(pc.equal(keys[1:], keys[:-1])).as_py():
        return whole
    keys = keys.to_pylist()
    keep: list[int] = []
    start = 0
    for row in range(1, len(keys) + 1):
        if row < len(keys) and keys[row] == keys[start]:
            continue
        keep.append(start if row == start + 1 else start + smallest_value(whole.slice(start, row - start).to_pylist()))
        start = row
    return whole.take(keep)


def smallest_value(values: Sequence[dict[str, Any]]) -> int:
    """Which of several values of one key is taken: that with the smallest sha256 of its canonical JSON."""
    hashes = [hashlib.sha256(json.dumps(v, sort_keys=True, default=str).encode()).digest() for v in values]
    return hashes.index(min(hashes))
