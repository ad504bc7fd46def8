"""One stamp over all files that a source names, so that an unchanged folder of pictures is recognised at a glance.

Input: a folder and the relative names of the files that count. Output: a `Listing` whose stamp changes with any file's
name, kind, size, inode, modification or change time, taken with one directory scan instead of a question per file. What
was computed from the files' contents is remembered under the stamp, in the same SQLite file as `file_hashes`.

A folder that holds links, or names that need more than a glance (`a/./b`), has no listing: then `file_hashes` looks at
every file. A file younger than two seconds when the listing was taken could be written again without a trace in its
times: such a listing is never remembered.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_engine.sources.file_hashes import YOUNG_SECONDS, open_memory
from shared.images import PathRefused, safe_join

_ODD = {"", ".", ".."}


@dataclass(frozen=True)
class Listing:
    """What the files looked like when they were listed."""

    stamp: str
    """sha256 over the folder and each file's name, kind, size, inode and times; absent files count as absent."""
    settled: bool
    """Whether every file was old enough that a later change shows in its times."""


def list_files(root: Path, names: Iterable[str]) -> Listing | None:
    """Return the listing of the files `names` under `root`; None where links or odd names stand in the way.

    Names that `safe_join` refuses for their words alone are left out: no source reads them.
    """
    started = time.time_ns()
    base = os.path.realpath(root)
    folders: dict[str, set[str]] = defaultdict(set)
    for name in names:
        head, _, tail = name.rpartition("/")
        folders[head].add(tail)
    lines: list[str] = []
    newest = 0
    for head, tails in sorted(folders.items()):
        plain = {tail for tail in tails if _is_plain(tail, nested=bool(head))} if _is_plain_folder(head) else set()
        if not all(_is_refused(base, f"{head}/{tail}" if head else tail) for tail in tails - plain):
            return None
        found = _scan(base, head, plain) if plain else {}
        if found is None:
            return None
        for tail in sorted(plain):
            info = found.get(tail)
            if info is None:
                lines.append(f"{head}/{tail}\0absent")
                continue
            newest = max(newest, info.st_mtime_ns, info.st_ctime_ns)
            stamp = (stat.S_IFMT(info.st_mode), info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
            lines.append(f"{head}/{tail}\0{stamp}")
    digest = hashlib.sha256("\n".join([base, *lines]).encode("utf-8", "surrogatepass")).hexdigest()
    return Listing(digest, settled=newest < started - int(YOUNG_SECONDS * 1e9))


def recall(key: str) -> str | None:
    """Return what was remembered under `key`."""
    memory = open_memory()
    if memory is None:
        return None
    try:
        found = memory.execute("SELECT value FROM listings WHERE key = ?", [key]).fetchone()
    except sqlite3.Error:
        return None
    finally:
        memory.close()
    return str(found[0]) if found else None


def remember(key: str, value: str) -> None:
    """Keep `value` under `key`; where the cache cannot be written, nothing is kept and only time is lost."""
    memory = open_memory()
    if memory is None:
        return
    try:
        with memory:
            memory.execute("INSERT OR REPLACE INTO listings VALUES (?, ?)", [key, value])
    except sqlite3.Error:
        return
    finally:
        memory.close()


def _is_plain(tail: str, *, nested: bool) -> bool:
    """Whether a file's name is an ordinary one, so that joining it to its folder is all there is to it."""
    if not tail.isascii() and unicodedata.normalize("NFD", tail) != unicodedata.normalize("NFC", tail):
        return False  # the file may bear the other form
    return tail not in _ODD and "\\" not in tail and "\0" not in tail and (nested or ":" not in tail)


def _is_plain_folder(head: str) -> bool:
    return not head or (":" not in head and "\\" not in head and "\0" not in head and _ODD.isdisjoint(head.split("/")))


def _is_refused(base: str, name: str) -> bool:
    try:
        safe_join(base, name)
    except PathRefused:
        return True
    return False


def _scan(base: str, head: str, wanted: set[str]) -> dict[str, os.stat_result] | None:
    """Stats of the wanted files of one folder; empty where there is no such folder, None where a link is met."""
    place = base
    for part in head.split("/") if head else ():
        place = f"{place}/{part}"
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            return {}
        if stat.S_ISLNK(mode):
            return None
        if not stat.S_ISDIR(mode):
            return {}
    try:
        with os.scandir(place) as entries:
            chosen = [entry for entry in entries if entry.name in wanted]
    except OSError:
        return {}
    # In the order of inodes, so that a disk whose metadata is not in memory is read from front to back.
    chosen.sort(key=os.DirEntry.inode)
    found: dict[str, os.stat_result] = {}
    for entry in chosen:
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISLNK(info.st_mode):
            return None
        found[entry.name] = info
    return found
