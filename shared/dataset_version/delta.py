"""Send only the bytes that the other side lacks.

`DeltaPlan` cuts the shards that the target already has (older versions of the dataset) and the new ones by content,
and says for each new shard which ranges are there and which are new. A folder puts the whole shard together at once,
from its own bytes and the new ones. A bucket cannot copy ranges by itself, so there the new bytes become one
``.pack`` file and a small ``.map.json`` says from which ranges of which files the shard is made; maps name whole
files and packs, never other maps. Whoever reads the shard (`mapped_pieces`) verifies its hash as for any other.

Equal stretches of two files become equal pieces wherever they lie: a new caption prompt changes a few narrow columns of
a shard; the pictures beside them are the same bytes at other offsets. Cutting by content (and not every so many bytes)
finds them again without knowing Parquet. The rule: a cut may follow a byte ``0x65`` whose next six bytes hash to a
multiple of 128, about every 32 KiB of compressed pictures; pieces are at least `SMALLEST` and at most `LARGEST` bytes
long. Looking for one byte value first keeps this faster than hashing the pieces. Same idea: FastCDC (Xia et al., USENIX
ATC 2016) and the Hub's Xet.

Not covered: tools that read Parquet straight from a bucket (for them push with `whole=True`), and adversarial files,
which only cost savings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.dataset_version.manifest import Shard
from shared.dataset_version.names import blob_path, checked_sha256, map_path, pack_path
from shared.errors import InfiMmrError
from shared.store import READ_BYTES, Store

SMALLEST = 4 << 10
LARGEST = 128 << 10
_MARK = 0x65
_WINDOW = 6
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - 7)
_BLOCK = 4 << 20
BLOB, PACK, NEW = "blob", "pack", "new"
_AHEAD = 4
_WORTH_IT = 0.1
"""A shard that shares less than this with what is there is sent whole: one plain file is worth more."""


class Run(NamedTuple):
    """A range of a shard: where its bytes lie. `kind` is `blob`, `pack`, or `new` (in the shard itself, at `start`)."""

    kind: str
    sha256: str
    start: int
    length: int


class DeltaPlan:
    """The pieces of shards that the target has, by hash."""

    def __init__(self, bases: Iterable[tuple[Shard, Path]]) -> None:
        """Index the bases: shards that the target has, each with a local file of the same bytes."""
        self._where: dict[bytes, tuple[str, int, int]] = {}
        self._data: dict[str, np.ndarray] = {}
        for shard, file in bases:
            data = self._data[shard.sha256] = _mapped(file)
            for digest, start, stop in pieces_by_hash(data):
                self._where.setdefault(digest, (shard.sha256, start, stop - start))

    def runs(self, file: Path) -> list[Run] | None:
        """Return the runs that make up a new shard, or None if too little of it is there."""
        data = _mapped(file)
        runs: list[Run] = []
        for digest, start, stop in pieces_by_hash(data):
            found = self._where.get(digest)
            _append(runs, Run(BLOB, *found) if found else Run(NEW, "", start, stop - start))
        runs = self._stretched(runs, data)
        there = sum(run.length for run in runs if run.kind != NEW)
        return runs if there and there >= _WORTH_IT * len(data) else None

    def _stretched(self, runs: list[Run], data: np.ndarray) -> list[Run]:
        """Let known runs grow over their new neighbours as far as the bytes agree: pieces end where they were cut."""
        grown: list[Run] = []
        waiting = list(reversed(runs))
        while waiting:
            run = waiting.pop()
            if run.kind == NEW and grown and grown[-1].kind == BLOB:
                last = grown[-1]
                base = self._data[last.sha256][last.start + last.length :]
                same = _equal_bytes(base[: run.length], data[run.start : run.start + run.length])
                grown[-1] = last._replace(length=last.length + same)
                run = run._replace(start=run.start + same, length=run.length - same)
            if run.kind == NEW and run.length and waiting and waiting[-1].kind == BLOB:
                following = waiting.pop()
                base = self._data[following.sha256][: following.start]
                same = _equal_bytes(base[::-1][: run.length], data[run.start : run.start + run.length][::-1])
                waiting.append(following._replace(start=following.start - same, length=following.length + same))
                run = run._replace(length=run.length - same)
            if run.length:
                _append(grown, run)
        return grown


def joined_pieces(file: Path, runs: list[Run], target: Store | None) -> Iterator[bytes]:
    """Yield a shard: its new bytes from the local `file`, the others from a folder's own blobs (None: left out)."""
    with file.open("rb") as opened:
        for run in runs:
            for start, length in _ranges(run):
                if run.kind == NEW:
                    opened.seek(start)
                    yield opened.read(length)
                elif target is not None:
                    yield target.get_range(run_path(run), start, length)


def write_map(store: Store, shard: Shard, runs: list[Run], pack_sha256: str) -> None:
    """Write the map of a shard whose new bytes lie in a pack. Runs of mapped shards become runs of files."""
    resolved: list[Run] = []
    packed = 0
    maps: dict[str, list[Run] | None] = {}
    for run in runs:
        if run.kind == NEW:
            _append(resolved, Run(PACK, pack_sha256, packed, run.length))
            packed += run.length
            continue
        if run.sha256 not in maps:
            maps[run.sha256] = None if store.exists(blob_path(run.sha256)) else read_map(store, run.sha256)
        inner = maps[run.sha256]
        for part in [run] if inner is None else _within(inner, run.start, run.length):
            _append(resolved, part)
    content = {"format": 1, "sha256": shard.sha256, "bytes": shard.bytes, "runs": [list(run) for run in resolved]}
    store.put(map_path(shard.sha256), json.dumps(content, separators=(",", ":")).encode())


def read_map(store: Store, sha256: str) -> list[Run]:
    """Return the runs of a mapped shard. Raises `NotInStoreError` or, for a damaged map, `InfiMmrError`."""
    data = store.get(map_path(sha256))
    try:
        content = json.loads(data)
        runs = [Run(kind, checked_sha256(of), int(start), int(length)) for kind, of, start, length in content["runs"]]
        sound = content["format"] == 1 and content["sha256"] == sha256
    except (ValueError, KeyError, TypeError):
        sound, runs = False, []
    if not sound or any(run.kind not in {BLOB, PACK} or run.start < 0 or run.length <= 0 for run in runs):
        raise InfiMmrError(f"the map of shard {sha256[:12]} in {store.url} is damaged", "Push the version again")
    return runs


def mapped_pieces(store: Store, sha256: str, near: Store | None = None) -> Iterator[bytes]:
    """Yield a mapped shard's bytes, some ranges ahead; blobs that the store `near` has are read there."""
    calls: list[tuple[Store, str, int, int]] = []
    for run in read_map(store, sha256):
        path = run_path(run)
        origin = near if near is not None and run.kind == BLOB and near.exists(path) else store
        calls += [(origin, path, start, length) for start, length in _ranges(run)]
    with ThreadPoolExecutor(_AHEAD) as pool:
        pending = [pool.submit(origin.get_range, path, at, length) for origin, path, at, length in calls[:_AHEAD]]
        for upcoming in range(len(calls)):
            piece = pending.pop(0).result()
            if upcoming + _AHEAD < len(calls):
                origin, path, at, length = calls[upcoming + _AHEAD]
                pending.append(pool.submit(origin.get_range, path, at, length))
            yield piece


def run_path(run: Run) -> str:
    """Return the path of the file in which a run lies."""
    return blob_path(run.sha256) if run.kind == BLOB else pack_path(run.sha256)


def _append(runs: list[Run], run: Run) -> None:
    """Add a run, joined to the last one where both lie side by side in one file."""
    if runs:
        last = runs[-1]
        if (last.kind, last.sha256, last.start + last.length) == (run.kind, run.sha256, run.start):
            runs[-1] = last._replace(length=last.length + run.length)
            return
    runs.append(run)


def _within(runs: list[Run], start: int, length: int) -> Iterator[Run]:
    """Yield the parts of a mapped shard's runs that make up its range of `length` bytes from `start` on."""
    position = 0
    for run in runs:
        first, last = max(start, position), min(start + length, position + run.length)
        if first < last:
            yield run._replace(start=run.start + first - position, length=last - first)
        position += run.length


def _ranges(run: Run) -> Iterator[tuple[int, int]]:
    """Yield the start and length of each read of a run."""
    end = run.start + run.length
    for start in range(run.start, end, READ_BYTES):
        yield start, min(READ_BYTES, end - start)


def _equal_bytes(left: np.ndarray, right: np.ndarray) -> int:
    """Return how many leading bytes of both are equal."""
    length = min(len(left), len(right))
    differ = np.flatnonzero(left[:length] != right[:length])
    return int(differ[0]) if len(differ) else length


def _mapped(file: Path) -> np.ndarray:
    return np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.empty(0, dtype=np.uint8)


def cuts(data: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the pieces of `data` (uint8, any length), in order and without gaps."""
    start = 0
    for candidate in _candidates(data):
        while candidate - start > LARGEST:
            yield start, start + LARGEST
            start += LARGEST
        if candidate - start >= SMALLEST:
            yield start, candidate
            start = candidate
    while start < len(data):
        stop = min(start + LARGEST, len(data))
        yield start, stop
        start = stop


def pieces_by_hash(data: np.ndarray) -> Iterator[tuple[bytes, int, int]]:
    """Yield (sha256 digest, start, stop) of the pieces of `data`."""
    for start, stop in cuts(data):
        yield hashlib.sha256(data[start:stop].data).digest(), start, stop


def _candidates(data: np.ndarray) -> Iterator[int]:
    for offset in range(0, len(data) - _WINDOW, _BLOCK):
        block = data[offset : offset + _BLOCK + _WINDOW]
        marks = np.flatnonzero(block[: len(block) - _WINDOW] == _MARK)
        window = np.zeros(len(marks), dtype=np.uint64)
        for distance in range(1, _WINDOW + 1):
            window = (window << np.uint64(8)) | block[marks + distance]
        for mark in marks[(window * _MULTIPLIER) >> _SHIFT == 0].tolist():
            yield offset + mark + 1
