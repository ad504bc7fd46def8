"""sha256 of files, remembered by path, size and times, so that an unchanged 5 GB is not read again.

The memory is one SQLite file in the user's cache folder (`shared.caches`). It only saves time: where it cannot be
written, files are read. A file counts as unchanged while size, inode, modification and change time are; a file younger
than two seconds when its reading began is never remembered, because a later write could share its times.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.caches import cache_folder
from shared.errors import InfiMmrError
from shared.fingerprint import file_hash

YOUNG_SECONDS = 2.0
"""Age below which times do not tell whether a file changed: some file systems keep them as coarsely as 2 s (FAT)."""


def file_hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """sha256 (64 hex digits) of each file; one that is not there, no plain file or unreadable is absent."""
    oldest = time.time_ns() - int(YOUNG_SECONDS * 1e9)
    wanted = list(dict.fromkeys(paths))
    stamps = {path: stamp for path in wanted if (stamp := _stamp(path)) is not None}
    memory = open_memory()
    known = _recall(memory, stamps) if memory is not None else {}
    unknown = [path for path in stamps if path not in known]
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        fresh = {path: digest for path, digest in zip(unknown, pool.map(_hash, unknown), strict=True) if digest}
    if memory is not None:
        settled = {path: stamp for path, stamp in stamps.items() if max(stamp[1:3]) < oldest}
        lasting = {path: fresh[path] for path in fresh if path in settled and _stamp(path) == settled[path]}
        _remember(memory, lasting, stamps)
        memory.close()
    return {**known, **fresh}


def needed_hashes(files: Sequence[Path], what: str = "") -> dict[Path, str]:
    """As `file_hashes`, of files that must all be there.

    Raises:
        InfiMmrError: one of them cannot be read.

    """
    hashes = file_hashes(files)
    if lost := [file.name for file in files if file not in hashes]:
        raise InfiMmrError(f"{what}{lost[0]} cannot be read", "Check the file and its permissions")
    return hashes


def remembered(paths: Iterable[Path]) -> set[Path]:
    """Those whose hash is known without reading them."""
    memory = open_memory()
    if memory is None:
        return set()
    stamps = {path: stamp for path in paths if (stamp := _stamp(path)) is not None}
    known = _recall(memory, stamps)
    memory.close()
    return set(known)


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        info = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat, and 39,000 files are common
    except OSError:
        return None
    if not stat.S_ISREG(info.st_mode):  # a pipe would be waited for
        return None
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError:
        return ""


def open_memory() -> sqlite3.Connection | None:
    """Open the memory, made where it is missing; None where that cannot be done."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        memory = sqlite3.connect(folder / "file_hashes.sqlite", timeout=10)
        memory.execute(
            "CREATE TABLE IF NOT EXISTS files"
            " (path TEXT PRIMARY KEY, size INT, mtime INT, ctime INT, inode INT, hash TEXT)"
        )
        memory.execute("CREATE TABLE IF NOT EXISTS listings (key TEXT PRIMARY KEY, value TEXT)")
    except (OSError, sqlite3.Error):
        return None
    return memory


def _recall(memory: sqlite3.Connection, stamps: dict[Path, tuple[int, int, int, int]]) -> dict[Path, str]:
    known: dict[Path, str] = {}
    paths = list(stamps)
    try:
        for start in range(0, len(paths), 500):
            part = {str(path): path for path in paths[start : start + 500]}
            marks = ",".join("?" * len(part))
            query = f"SELECT path, size, mtime, ctime, inode, hash FROM files WHERE path IN ({marks})"  # noqa: S608  # only question marks are put in
            for name, *stamp, digest in memory.execute(query, list(part)):
                if tuple(stamp) == stamps[part[name]]:
                    known[part[name]] = digest
    except sqlite3.Error:
        return known
    return known


def _remember(
    memory: sqlite3.Connection, fresh: dict[Path, str], stamps: dict[Path, tuple[int, int, int, int]]
) -> None:
    rows = [(str(path), *stamps[path], digest) for path, digest in fresh.items()]
    try:
        with memory:
            memory.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)
    except sqlite3.Error:
        return
