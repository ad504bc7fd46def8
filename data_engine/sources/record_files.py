"""Sets of many JSON files that hold one record each: a folder per problem (Geometry3K), a file per problem (MATH).

Input: a `TablePlace` and what the recipe tells of columns. Output: `RecordFiles`, small to pickle, whose records know
their folder, by which the names of their pictures are read, and list the pictures beside them as `__images__`. Each
file is opened once per reading. A file that is torn or no object ends the reading with its name; files beside the
records and folders without one are told.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_engine.sources.columns import guess_columns
from data_engine.sources.picture_values import PICTURE_SUFFIXES
from data_engine.sources.records import FiledRecord
from data_engine.sources.table_choice import PACKED, kind_of
from data_engine.sources.table_files import BATCH_ROWS, Batch, batched, empty, telling
from data_engine.sources.table_place import TablePlace
from data_engine.sources.table_shards import IMAGES, KEY
from data_engine.sources.table_texts import opened_bytes
from shared.errors import InfiMmrError

_PROBED = 8
"""Files that are looked at before a set is taken as such."""
_MOST_BYTES = 16 << 20
"""Of one record. What is longer is a list of them, or broken."""


@dataclass(frozen=True)
class RecordFiles:
    """Files that hold one record each.

    Attributes:
        root: Folder of the place.
        names: Relative names, in order.
        alone: Whether each lies in a folder of its own, so that all pictures there are its own; else those are that
            begin with its name.
        listed: Pictures by folder, of a place from which they are fetched; None where the folder itself is asked.

    """

    root: Path
    names: tuple[str, ...]
    alone: bool
    listed: Mapping[str, Sequence[str]] | None = None

    def batches(self, what: str, rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """Batches of the records.

        Raises:
            InfiMmrError: a file cannot be read, or holds no object; the message names it.

        """
        yield from batched(self._records(what), rows)

    def _records(self, what: str) -> Iterator[tuple[FiledRecord, int]]:
        named: dict[str, Mapping[str, Sequence[str]]] = {}
        for name in self.names:
            folder, _, tail = name.rpartition("/")
            record, size = _read(self.root / name, what, name)
            found = FiledRecord(record, folder)
            stem = tail.rpartition(".")[0]
            if self.alone:
                beside: Sequence[str] = self._pictures(folder)
            else:
                if folder not in named:
                    named[folder] = _by_beginning(self._pictures(folder))
                beside = named[folder].get(stem, ())
            found.setdefault(KEY, folder if self.alone else f"{folder}/{stem}".lstrip("/"))
            if beside:
                found.setdefault(IMAGES, list(beside))
            yield found, size

    def _pictures(self, folder: str) -> Sequence[str]:
        if self.listed is not None:
            return self.listed.get(folder, ())
        return _pictures(entry.name for entry in os.scandir(self.root / folder))


def find_record_files(
    place: TablePlace, told: Mapping[str, Sequence[str]], what: str
) -> tuple[RecordFiles, list[str]] | None:
    """The files of a place as one record each, and what to tell of others; None where they hold lists or lines.

    Raises:
        InfiMmrError: a file cannot be read.

    """
    names = place.chosen.names
    if len(names) < 2 or any(kind_of(name) != "json" or name.lower().endswith(PACKED) for name in names):
        return None
    kinds = Counter(map(_kind, names))
    folders = {name.rpartition("/")[0] for name in names}
    kind, most = kinds.most_common(1)[0]
    # Names that come back in several folders: the file of that name is the record, or one beside it.
    wanted = [one for one, count in kinds.most_common() if count > 1] if most > 1 and len(folders) > 1 else [""]
    likely = None
    for kind in wanted:
        group = tuple(name for name in names if not kind or _kind(name) == kind)
        first = [_object(place.root / name) for name in group[:: max(len(group) // _PROBED, 1)][:_PROBED]]
        objects = [one for one in first if one]
        if not objects or 2 * sum(one is not None for one in first) <= len(first):
            continue
        try:
            guess_columns(objects, told, what=what)
        except InfiMmrError:
            likely = likely or ((kind, group) if all(map(_is_record, objects)) else None)
            continue
        likely = kind, group
        break
    if likely is None:
        return None
    kind, group = likely
    alone = len({name.rpartition("/")[0] for name in group}) == len(group)
    listed = None
    if place.remote is not None:
        listed = {folder: _pictures(files) for folder, (_, files) in place.remote_folders.items()}
    return RecordFiles(place.root, group, alone, listed), _notes(place, kind, group)


def _read(file: Path, what: str, name: str) -> tuple[dict[str, Any], int]:
    with telling(file, what, name):
        with opened_bytes(file) as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise InfiMmrError(f"is longer than {_MOST_BYTES} bytes, others hold one record each", "Name files = [...]")
        if not data.strip():
            raise empty()
        try:
            value = json.loads(data.decode("utf-8", "surrogateescape"))
        except json.JSONDecodeError as error:
            raise InfiMmrError(f"is truncated or not valid JSON ({error.msg})", "Fetch it again") from error
        except RecursionError as error:
            raise InfiMmrError("is nested too deeply", "Fetch it again") from error
        if not isinstance(value, dict):
            said = f"holds a {type(value).__name__}, where the files beside it hold one record each"
            raise InfiMmrError(said, "Leave it out: files = [...] names those to read")
    return value, len(data)


def _object(file: Path) -> dict[str, Any] | None:
    """The object that a file holds, empty where it is torn (told when it is read); None for everything else."""
    try:
        with file.open("rb") as stream:
            if not stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                return None
        return _read(file, "", "")[0]
    except (OSError, InfiMmrError):
        return {}


def _is_record(value: Mapping[str, Any]) -> bool:
    """Whether an object may be a record of unknown columns, and no dict of records or head of a list of them."""
    listed = any(isinstance(v, list) and v and all(isinstance(one, dict) for one in v) for v in value.values())
    return not listed and any(isinstance(v, str) for v in value.values())


def _kind(name: str) -> str:
    """What the names of files that say the same of different records share: `*` stands for the folder's own name."""
    folder, _, tail = name.rpartition("/")
    own = folder.rpartition("/")[2]
    rest = tail.removeprefix(own)
    return f"*{rest}" if own and rest != tail and not rest[:1].isalnum() else tail


def _notes(place: TablePlace, kind: str, group: Sequence[str]) -> list[str]:
    """What is told of a set: which files are records, which are none, and folders that lack one."""
    told = [f"one record per file: {len(group)} {kind or 'JSON'} files"]
    taken = set(group)
    others = Counter(_kind(name) for name in place.chosen.names if name not in taken)
    if others:
        shown = [f"{count} {name}" for name, count in others.most_common(5)]
        told.append(f"no records, left aside: {', '.join(shown)}{', ...' if len(others) > 5 else ''}")
    if kind:
        held = {name.rpartition("/")[0] for name in group}
        usual = {_kind(f"{folder}/{name}") for folder in sorted(held)[:_PROBED] for name in place.inside(folder)[1]}
        parents = sorted({folder.rpartition("/")[0] for folder in held})
        below = (f"{parent}/{name}".lstrip("/") for parent in parents for name in place.inside(parent)[0])
        lost = [
            folder
            for folder in below
            if folder not in held and usual & {_kind(f"{folder}/{name}") for name in place.inside(folder)[1]}
        ]
        if lost:
            shown = lost[:5]
            told.append(f"no {kind} in {len(lost)} folders: {', '.join(shown)}{', ...' if len(lost) > 5 else ''}")
    return told


def _pictures(names: Any) -> list[str]:
    return sorted(name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith("."))


def _by_beginning(pictures: Sequence[str]) -> dict[str, list[str]]:
    """Pictures by what their names begin with, up to any mark: `12_a.png` is one of `12` and of `12_a`."""
    found: dict[str, list[str]] = {}
    for name in pictures:
        stem = name.rpartition(".")[0]
        for end in (*(mark.start() for mark in re.finditer(r"[\W_]", stem)), len(stem)):
            found.setdefault(stem[:end], []).append(name)
    return found
