"""Records of a tar shard in WebDataset's layout: members that share a name up to its first dot are one record.

`000012.jpg`, `000012.json` and `000012.txt` become one record: the fields of the JSON object, `txt`, `cls` and other
text members under their ending, and all pictures in order as `__images__` (bytes with their names). Members are read,
never extracted; links, devices, names that leave the shard and oversized members make their record unreadable. Pickled
and numpy members are left closed.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_engine.sources.records import Record, Unreadable

IMAGES = "__images__"
KEY = "__key__"
_PICTURES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jp2", "img"}
_TEXTS = {"txt", "text", "cls", "cls2", "index", "id", "question", "answer", "caption", "transcript"}
_MAX_MEMBER = 64 << 20


def shard_records(file: Path) -> Iterator[tuple[Record, int]]:
    """Records of a shard with their sizes in bytes.

    Raises:
        OSError, ValueError: no tar archive, or one that is cut off.

    """
    key, problem, size = "", "", 0
    members: dict[str, tuple[str, bytes]] = {}
    try:
        with tarfile.open(file, "r|*") as shard:
            while (member := shard.next()) is not None:
                shard.members = []  # type: ignore[attr-defined]  # the archive keeps a note of every member otherwise
                if member.isdir():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                here = f"{folder}/{stem}" if folder else stem
                if here != key:
                    if key:
                        yield _record(key, members, problem), size
                    key, members, problem, size = here, {}, "", 0
                why = _refused(member)
                if why:
                    problem = problem or f"{member.name}: {why}"
                    continue
                opened = shard.extractfile(member)
                data = opened.read() if opened is not None else b""
                size += len(data)
                members[ending.lower()] = (member.name, data)
    except tarfile.TarError as error:
        raise OSError(f"no whole tar archive: {error}") from error
    if key:
        yield _record(key, members, problem), size


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
