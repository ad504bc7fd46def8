"""Records of a tar shard in WebDataset's layout: members that share a name up to its first dot are one record.

`000012.jpg`, `000012.json` and `000012.txt` become one record: the fields of the JSON object, `txt`, `cls` and other
text members under their ending, and all pictures in order as `__images__` (bytes with their names). Members are read,
never extracted; links, devices, names that leave the shard and oversized members make their record unreadable. Pickled
and numpy members are left closed.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from data_engine.sources.picture_values import FileBytes
from data_engine.sources.records import Record, Unreadable

IMAGES = "__images__"
KEY = "__key__"
_PICTURES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jp2", "img"}
_TEXTS = {"txt", "text", "cls", "cls2", "index", "id", "question", "answer", "caption", "transcript"}
_MAX_MEMBER = 64 << 20


def _zstd(file: Path, _mode: str) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(file), compression="zstd")


_PACKED: dict[bytes, Callable[[Path, str], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open, b"\x5d\x00\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}  # fmt: skip
"""How packed shards begin and what reads them: what lies in such a shard lies nowhere else."""
_CHUNK = 1 << 20


def shard_records(file: Path, start: int = 0, end: int = 0) -> Iterator[tuple[Record, int]]:
    """Records of a shard with their sizes in bytes; or those of one of its `shard_pieces`.

    Raises:
        OSError, ValueError: no tar archive, or one that is cut off.

    """
    with _opened(file, start, end) as (shard, plain):
        for key, some in groupby(_members(shard, end), key=_key):
            members: dict[str, tuple[str, bytes]] = {}
            problem, size = "", 0
            for member in some:
                if why := _refused(member):
                    problem = problem or f"{member.name}: {why}"
                    continue
                opened = shard.extractfile(member)
                data = opened.read() if opened is not None else b""
                if plain and not member.issparse():
                    data = FileBytes(data)
                    data.file, data.offset = file, member.offset_data
                size += len(data)
                members[member.name.rpartition("/")[2].partition(".")[2].lower()] = (member.name, data)
            if key:
                yield _record(key, members, problem), size


def shard_pieces(file: Path, rows: int, size: int) -> tuple[int, list[tuple[int, int, int]]]:
    """How many records a shard has, and its pieces: first byte, byte behind (0 for the end), and records.

    In each are at most `rows` records, and `size` bytes or one record more. None where it is packed, or states what
    holds for all members behind. Where it is not packed, the members' contents are passed over.

    Raises:
        OSError, ValueError: as `shard_records`.

    """
    cuts: list[list[int]] = []
    with _opened(file) as (shard, plain):
        for key, some in groupby(_members(shard), key=_key):
            at = next(some).offset
            if not cuts or cuts[-1][1] >= rows or at - cuts[-1][0] >= size:
                cuts.append([at, 0])
            cuts[-1][1] += bool(key)
        free = plain and not shard.pax_headers
    ends = [*(at for at, _ in cuts[1:]), 0]
    pieces = [(at, end, held) for (at, held), end in zip(cuts, ends, strict=True)] if cuts and free else []
    return sum(held for _, held in cuts), pieces


def _unpacking(file: Path) -> Callable[[Path, str], Any] | None:
    with file.open("rb") as start:
        head = start.read(6)
    return next((opening for mark, opening in _PACKED.items() if head.startswith(mark)), None)


@contextmanager
def _opened(file: Path, start: int = 0, end: int = 0) -> Iterator[tuple[tarfile.TarFile, bool]]:
    """A shard, from a byte on where it is not packed, and whether it is not."""
    unpacking = _unpacking(file)
    mode: Any = "r:" if unpacking is None else "r|"
    try:
        with (unpacking or Path.open)(file, "rb") as data:
            if start:
                data.seek(start)
            with tarfile.open(fileobj=data, mode=mode, tarinfo=_Member) as shard:
                yield shard, unpacking is None
                rest: Any = shard.fileobj
                if unpacking is None:
                    rest.seek(shard.offset)
                while not end and (tail := rest.read(_CHUNK)):
                    if tail.count(0) < len(tail):
                        raise OSError("more stands behind the end of the tar archive")
    except (tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise OSError(f"no whole tar archive: {error}") from error


class _Member(tarfile.TarInfo):
    """A member. `tarfile` takes a header that is cut off, or is none, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise OSError(f"no whole tar archive: {error} at byte {tarfile_.offset}") from error


def _members(shard: tarfile.TarFile, end: int = 0) -> Iterator[tarfile.TarInfo]:
    while (member := shard.next()) is not None:
        if 0 < end <= member.offset:
            return
        shard.members = []  # type: ignore[attr-defined]  # the archive keeps a note of every member otherwise
        if not member.isdir():
            yield member


def _key(member: tarfile.TarInfo) -> str:
    """What the members of one record share: the name up to its first dot."""
    folder, _, base = member.name.rpartition("/")
    stem = base.partition(".")[0]
    return f"{folder}/{stem}" if folder else stem


def _refused(member: tarfile.TarInfo) -> str:
    """Why a member is not read; empty where it is."""
    if not member.isreg():
        return "a link or device, not a file"
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        return "its name leads out of the shard"
    return f"{member.size} bytes, limit {_MAX_MEMBER}" if member.size > _MAX_MEMBER else ""


def _record(key: str, members: dict[str, tuple[str, bytes]], problem: str) -> Record:
    if problem:
        return Unreadable(problem)
    record: dict[str, Any] = {KEY: key}
    pictures = []
    for ending, (name, data) in members.items():
        kind = ending.rsplit(".", 1)[-1]
        try:
            if kind in _PICTURES:
                pictures.append({"bytes": data, "path": name})
            elif kind == "json":
                value = json.loads(data)
                record |= value if isinstance(value, dict) else {ending: value}
            elif kind in _TEXTS:
                record[ending] = data.decode("utf-8-sig").strip()
        except (ValueError, RecursionError) as error:
            return Unreadable(f"{name}: {str(error)[:100]}")
    if pictures:
        record[IMAGES] = pictures
    return record
