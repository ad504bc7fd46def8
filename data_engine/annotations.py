"""Cells that a step found, stored as soon as they are known and found again by any later build of any team.

A table belongs to a step and a *context*: the fingerprint of what was asked (model, revision, dtype, prompt text,
parameters). Its rows are keyed by what was asked about (sha256 of an image, row hash, text hash). One changed prompt is
another context, so it re-asks only what that prompt asks.

On the store: `annotations/<step>/<context>/<sha256 of the file>.parquet`, small immutable segments written with
create-if-absent (so many builders append at once without locks), and `about.json` saying in words what was asked.
Columns of a segment: `key` (string) and the step's own value columns. Large tables lie in 256 partitions, folders named
by the first byte of the key (`<context>/3f/<sha256>.parquet`); who asks for few keys then reads their partitions only.
Builds with many asks write there at once; tables that grew cell by cell, older ones too, are moved over when merged.

A segment that cannot be read, or whose bytes are not those that its name promises, is never believed: it is moved to
`<context>/damaged/`, named (`set_aside`), and its cells are asked again.

The same key in two segments (two builders asked at once and a model answered differently) is settled the same way by
every reader, whatever the order or compaction: the value whose canonical JSON has the smallest sha256 wins.

A segment of a model's cells says in its metadata what made them (`made_by`: library, version, code). Keys do not hold
it, so that an update of vLLM or of a comment asks nothing again; a build tells how many cells others made.

Not covered: failed cells (never stored, so that they are asked again), garbage collection (the catalogue).
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import InfiMmrError
from shared.store import NotInStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Self

    import pyarrow as pa

    from shared.store import Store

MANY_SEGMENTS = 256
"""Small segments above which opening a table merges them: 256 reads of a local file cost about 0.1 s."""

SMALL_SEGMENT_BYTES = 16 * 2**20
"""Segments below this are merged; larger ones are left alone, so that old cells are not rewritten over and over."""

_MAKER = b"made_by"
MERGED_BYTES = 64 * 2**20
"""Segments are merged up to about this size."""

PARTITIONED_BYTES = 64 * 2**20
"""Size from which merging moves a table's cells into partitions: below it all of them are read as quickly as a few."""

MANY_IN_PARTITION = 32
"""Small segments of one partition above which it is merged when it is opened."""

_SEGMENT = re.compile(r"(?:([0-9a-f]{2})/)?([0-9a-f]{64})\.parquet")
_ASIDE: list[str] = []


class SegmentSetAsideError(InfiMmrError):
    """A segment turned out damaged or gone while its values were read: the same work done again asks its cells."""


def set_aside() -> list[str]:
    """Sentences about damaged segments that this process moved away since it was last asked."""
    told = list(dict.fromkeys(_ASIDE))
    _ASIDE.clear()
    return told


def tell_aside(told: Iterable[str]) -> None:
    """Take over what another process moved away."""
    _ASIDE.extend(told)


def verified(store: Store, folder: str, name: str) -> bytes | None:
    """Bytes of a segment; None where they are not what its name promises, and it was set aside.

    Raises:
        NotInStoreError: another builder merged it meanwhile.

    """
    data = store.get(f"{folder}/{name}")
    while not _is_promised(data, name):
        if move_aside(store, folder, name, data):
            return None
        data = store.get(f"{folder}/{name}")
    return data


def move_aside(store: Store, folder: str, name: str, data: bytes) -> bool:
    """Move a damaged segment, read as `data`, to where no reader looks, and note it.

    False, and nothing is moved, where good bytes lie there by now: another builder moved it and stored its cells anew.
    """
    kept = f"{folder}/damaged/{name.replace('/', '-')}.{len(data)}"
    store.put_new(kept, data)
    try:
        now = store.get(f"{folder}/{name}")
    except NotInStoreError:
        now = data
    if now != data and _is_promised(now, name):
        return False
    store.delete(f"{folder}/{name}")
    _ASIDE.append(f"annotation segment {folder}/{name} was damaged; it lies in {kept}, and its cells were asked again")
    return True


def _is_promised(data: bytes, name: str) -> bool:
    """Whether a segment's bytes are those that its name promises."""
    return f"{hashlib.sha256(data).hexdigest()}.parquet" == name.rsplit("/", 1)[-1]


def partitions_of(keys: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """First byte of each key, uint8 [keys]; the last byte of its CRC where a key does not begin with two hex digits."""
    import polars as pl

    series = pl.Series("key", pl.from_arrow(keys), dtype=pl.String)
    head = series.str.slice(0, 2)
    byte = pl.select(
        pl.when(head.str.contains(r"^[0-9a-f]{2}$")).then(head).otherwise(pl.lit(None)).str.to_integer(base=16)
    ).to_series()
    odd = byte.is_null()
    if odd.any():
        found = [zlib.crc32(key.encode()) & 255 for key in series.filter(odd).to_list()]
        byte = byte.cast(pl.Int64).scatter(odd.arg_true(), found)
    whole: np.ndarray = byte.to_numpy().astype(np.uint8)
    return whole


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
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(dict.fromkeys(keys), pa.string())
        return self._table.take(pc.index_in(wanted, value_set=self._table.column("key")).drop_null())

    def rows(self, keys: Sequence[str]) -> pa.Table | None:
        """As `columns`, in no promised order, and without copying where every known cell is asked for."""
        self._load(keys)
        if self._table is None:
            return self.columns(keys)
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pc.is_in(self._table.column("key"), value_set=pa.array(keys, pa.string()))
        return self._table if pc.all(wanted).as_py() else self._table.filter(wanted)

    def append(self, cells: Sequence[Mapping[str, Any]], *, spread: bool = False) -> None:
        """Store cells (`key` and value columns each); they are durable when this returns. Empty input does nothing."""
        if not cells:
            return
        import pyarrow as pa

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
            self.store.put_new(f"{self.folder}/about.json", _about_json(self._about))
            self._told = True
        for part, folder in _by_partition(table) if spread else ((table, ""),):
            name = self._put(part, self.made_by, folder)
            if self._loaded:
                self._take_up(part, name)

    def made_elsewhere(self, keys: Iterable[str]) -> dict[str, int]:
        """Known cells among `keys` that something else than `made_by` made: maker -> cells. Empty maker: not told."""
        import pyarrow as pa
        import pyarrow.compute as pc

        asked = list(dict.fromkeys(keys))
        self._load(asked)
        wanted = pa.array(asked, pa.string())
        found: dict[str, int] = {}
        for maker, column in self._foreign:
            count = int(pc.sum(pc.is_in(wanted, value_set=column)).as_py() or 0)
            if count:
                found[maker] = found.get(maker, 0) + count
        return dict(sorted(found.items()))

    def compact(self, *, at_least: int = 2) -> int:
        """Merge small segments, `MERGED_BYTES` at a time so that memory stays bounded; returns how many were merged.

        The cells of a table that is large, and not yet in partitions, are moved there. Readers see every cell at every
        moment, and a merge that is killed leaves some cells twice, which is as good.
        """
        by_folder: dict[str, list[tuple[str, int]]] = {}
        for name, size in self._list():
            by_folder.setdefault(name[:-_NAME], []).append((name, size))
        merged = 0
        try:
            for folder, entries in by_folder.items():
                spread = self.partitioned and not folder and sum(size for _, size in entries) >= PARTITIONED_BYTES
                some = [entry for entry in entries if spread or entry[1] < SMALL_SEGMENT_BYTES]
                if len(some) < at_least and not spread:
                    continue
                for names in _groups(some):
                    self._merge(names, folder, spread=spread)
                merged += len(some)
        except NotInStoreError:  # another builder is merging the same segments: leave it to them
            return 0
        if merged:
            self.refresh()
        return merged

    def _merge(self, names: Sequence[str], folder: str, *, spread: bool) -> None:
        by_maker: dict[str, list[tuple[str, pa.Table]]] = {}
        for name in names:
            read = self._read(name)
            if read is not None:
                by_maker.setdefault(read[0], []).append((name, read[1]))
        for maker, some in by_maker.items():
            if len(some) < 2 and not spread:
                continue
            whole = _settle([table for _, table in some])
            parts = _by_partition(whole) if spread else ((whole, folder),)
            kept = [self._put(part, maker, where) for part, where in parts]
            for name, _ in some:
                if name not in kept:
                    self.store.delete(f"{self.folder}/{name}")

    def fresh(self) -> Self:
        """The table as if it had just been opened."""
        other = copy.copy(self)
        vars(other)["_given"] = None
        other.refresh()
        return other

    def listing(self) -> list[tuple[str, int]]:
        """Names and sizes of the table's segments, for `as_listed`."""
        return self._list()

    def wants_merging(self, entries: Sequence[tuple[str, int]]) -> bool:
        """Whether a table that is listed so is read better once `compact` went over it."""
        whole = sum(size for name, size in entries if len(name) == _NAME)
        return _is_scattered(entries) or (self.partitioned and whole >= PARTITIONED_BYTES)

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
        import pyarrow as pa

        if self._values is None:
            message = f"annotation table of step {self.step} has no value columns yet"
            raise InfiMmrError(message, "Name them when the table is opened.")
        return pa.schema([pa.field("key", pa.string(), nullable=False), *self._values])

    def _list(self) -> list[tuple[str, int]]:
        """Name below the table's folder and size of each segment."""
        if self._given is not None:
            return self._given
        start = len(self.folder) + 1
        entries = ((entry.path[start:], entry.size) for entry in self.store.list(self.folder))
        return sorted((name, size) for name, size in entries if _SEGMENT.fullmatch(name))

    def _load(self, keys: Sequence[str] | None = None) -> None:
        """Read what is stored, where this was not done yet, and take in what was appended since.

        Of a partitioned table the partitions of `keys` are read; None: all.
        """
        try:
            self._load_listed()
            if self._waiting:
                import pyarrow as pa

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
            self._table = _distinct([self._table, *self._fresh] if self._table else self._fresh)
            self._fresh = []

    def _load_listed(self) -> None:
        """List what is stored, merge what lies in too many pieces, and read what is in no partition."""
        if self._loaded:
            return
        entries = self._list()
        if not self._opened and _is_scattered(entries):
            self._opened = True  # before: merging refreshes
            self.compact()
            entries = self._list()
        self._opened = True
        for name, _ in entries:
            self._waiting.setdefault(name[:-_NAME], []).append(name)
        self._read_all(self._waiting.pop("", []))
        self._loaded = True

    def _known(self, keys: Sequence[str]) -> list[bool]:
        """Whether each key has a cell; the table is loaded."""
        if self._table is None:
            return [False] * len(keys)
        import pyarrow as pa
        import pyarrow.compute as pc

        known: list[bool] = pc.is_in(pa.array(keys, pa.string()), value_set=self._table.column("key")).to_pylist()
        return known

    def _read_all(self, names: Sequence[str]) -> None:
        """Read more segments that are there."""
        with ThreadPoolExecutor(max_workers=8) as readers:  # an object store answers many small reads at once
            read = [one for one in readers.map(self._read, names) if one is not None]
        self._foreign += [(by, table.column("key")) for by, table in read if self.made_by and by != self.made_by]
        tables = [table for _, table in read]
        if tables:
            self._table = _distinct(tables if self._table is None else [self._table, *tables])

    def _take_up(self, table: pa.Table, name: str) -> None:
        """Remember a table that was appended after loading and lies in segment `name`."""
        del name
        self._fresh.append(table)

    def _read(self, name: str) -> tuple[str, pa.Table] | None:
        """What made a segment's cells, and the cells; None where it is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = verified(self.store, self.folder, name)
        if data is None:
            return None
        try:
            table = pq.read_table(pa.BufferReader(data))
        except (pa.ArrowInvalid, OSError):
            move_aside(self.store, self.folder, name, data)
            return None
        if self._values is None:
            self._values = table.drop_columns(["key"]).schema.remove_metadata()
        return maker_of(table.schema), table.select(self._schema().names).cast(self._schema())

    def _put(self, table: pa.Table, made_by: str, folder: str = "") -> str:
        import pyarrow.parquet as pq

        if made_by:
            table = table.replace_schema_metadata({_MAKER: made_by})
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", use_dictionary=False, write_statistics=False)
        data = out.getvalue()
        name = f"{folder}{hashlib.sha256(data).hexdigest()}.parquet"
        self.store.put_new(f"{self.folder}/{name}", data)
        return name


_NAME = 64 + len(".parquet")


def _by_partition(table: pa.Table) -> Iterator[tuple[pa.Table, str]]:
    """The cells of each partition, in the order in which they come, and its folder."""
    byte = partitions_of(table.column("key"))
    for number in np.unique(byte).tolist():
        yield table.take(np.flatnonzero(byte == number)), f"{number:02x}/"


def _groups(entries: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Names in groups of about `MERGED_BYTES`."""
    group: list[str] = []
    total = 0
    for name, size in entries:
        if group and total + size > MERGED_BYTES:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _is_scattered(entries: Sequence[tuple[str, int]]) -> bool:
    """Whether a table lies in so many small segments that merging them is worth it."""
    small = Counter(name[:-_NAME] for name, size in entries if size < SMALL_SEGMENT_BYTES)
    return small.pop("", 0) > MANY_SEGMENTS or any(count > MANY_IN_PARTITION for count in small.values())


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
