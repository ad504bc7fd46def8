"""Segments of annotation tables: how they are named, written, believed and set aside, and which of two values wins."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.errors import InfiMmrError
from shared.store import Store

_MAKER = b"made_by"
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
    In a store that takes nothing it stays where it is, and is believed no more than elsewhere.
    """
    kept = f"{folder}/damaged/{name.replace('/', '-')}.{len(data)}"
    try:
        store.put_new(kept, data)
    except (OSError, InfiMmrError) as error:
        _ASIDE.append(
            f"annotation segment {folder}/{name} is damaged and cannot be moved away ({error}); it is not used"
        )
        return True
    now = store.find(f"{folder}/{name}")
    if now is not None and now != data and _is_promised(now, name):
        return False
    store.delete(f"{folder}/{name}")
    _ASIDE.append(f"annotation segment {folder}/{name} was damaged; it lies in {kept}, and its cells were asked again")
    return True


def _is_promised(data: bytes, name: str) -> bool:
    """Whether a segment's bytes are those that its name promises."""
    return f"{hashlib.sha256(data).hexdigest()}.parquet" == name.rsplit("/", 1)[-1]


def list_segments(store: Store, folder: str) -> list[tuple[str, int]]:
    """Name below `folder` and size in bytes of each segment there, sorted."""
    start = len(folder) + 1
    entries = ((entry.path[start:], entry.size) for entry in store.list(folder))
    return sorted((name, size) for name, size in entries if _SEGMENT.fullmatch(name))


def write_segment(store: Store, folder: str, table: pa.Table, made_by: str, part: str = "") -> str:
    """Store cells durably as a segment of the table in `folder`, in its partition `part`; returns its name there."""
    if made_by:
        table = table.replace_schema_metadata({_MAKER: made_by})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=False, write_statistics=False)
    data = out.getvalue()
    name = f"{part}{hashlib.sha256(data).hexdigest()}.parquet"
    store.put_new(f"{folder}/{name}", data)
    return name


def read_segment(store: Store, folder: str, name: str) -> pa.Table | None:
    """A segment as it lies there; None where it is damaged, and was set aside.

    Raises:
        NotInStoreError: another builder merged it meanwhile.
    """
    data = verified(store, folder, name)
    if data is None:
        return None
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError):
        move_aside(store, folder, name, data)
        return None


def maker_of(schema: pa.Schema) -> str:
    """What a segment's metadata says made its cells; empty where it does not say."""
    return str((schema.metadata or {}).get(_MAKER, b"").decode())


def distinct(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with each key once, in no promised order; nothing is copied where no key repeats."""
    whole = pa.concat_tables(tables)
    return whole if pc.count_distinct(whole.column("key")).as_py() == whole.num_rows else settle(tables)


def settle(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with each key once, sorted by key; of several values the one with the smallest canonical sha256."""
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
