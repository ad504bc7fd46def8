"""A small file written whole or not at all: beside its place first, flushed, then renamed.

For records, pages and result files, which people and other processes read while they are written. Large files of a
store have their own writers (`shared.store.folder`).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace the file at `path`, text in UTF-8; a device or pipe (`/dev/stdout`) is written to, never replaced.

    Raises:
        OSError: it cannot be written; the file that stood there still stands, and nothing is left beside it.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def made_folder(folder: Path) -> Path:
    """Make the folder that results will go to, before anything is computed for it.

    Raises:
        InfiMmrError: nothing can be made there (`/proc/x` is answered with "no such file").
        OSError: any other refusal, which says itself what is wrong.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise InfiMmrError(f"the folder {folder} cannot be made", "Name another place with --output") from error
    return folder


def json_table(path: Path) -> dict[str, Any]:
    """The object that a file of JSON holds; empty where it cannot be read or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
