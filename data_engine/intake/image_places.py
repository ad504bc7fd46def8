"""Pictures by their sha256, wherever they lie.

Files of a source folder are read where they are; pictures that came inside records or were drawn go to one spool file.

Input: places noted while a source is read. Output: original bytes on demand, so that no step or shard ever needs all
pictures in memory. The spool is scratch: it lives as long as the build. `ImagePlaces` pickles as a few names and a
table of offsets, so that workers on this machine or on a shared file system read for themselves.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import InfiMmrError

_FILE, _SPOOL = 0, 1


class ImagePlaces:
    """An `ImageSource` (see `shared.images`) over files and a spool file."""

    def __init__(self, spool: Path) -> None:
        self._spool_path = spool
        self._roots: list[str] = []
        self._places: dict[bytes, tuple[int, Any, int]] = {}
        self._writer: BinaryIO | None = None
        self._end = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file and the lock behind."""
        self.flush()
        return {"spool": self._spool_path, "roots": self._roots, "places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open for reading only."""
        self._spool_path = state["spool"]
        self._roots = state["roots"]
        self._places = state["places"]
        self._writer, self._end, self._lock = None, 0, threading.Lock()

    def __len__(self) -> int:
        """Distinct pictures."""
        return len(self._places)

    def __contains__(self, sha256: str) -> bool:
        """Whether a picture is known."""
        return bytes.fromhex(sha256) in self._places

    def add_file(self, sha256: str, path: Path, size: int) -> None:
        """Note a picture that lies in a file."""
        folder, name = str(path.parent), path.name
        if not self._roots or self._roots[-1] != folder:
            if folder in self._roots:
                index = self._roots.index(folder)
            else:
                self._roots.append(folder)
                index = len(self._roots) - 1
        else:
            index = len(self._roots) - 1
        self._places.setdefault(bytes.fromhex(sha256), (_FILE, (index, name), size))

    def add_bytes(self, sha256: str, data: bytes) -> None:
        """Keep a picture in the spool, once."""
        key = bytes.fromhex(sha256)
        if key in self._places:
            return
        if self._writer is None:
            self._writer = self._spool_path.open("ab")
        try:
            self._writer.write(data)
        except OSError as error:
            raise InfiMmrError(
                f"cannot keep images in {self._spool_path.parent}: {os.strerror(error.errno or 0)}", "Free some space"
            ) from error
        self._places[key] = (_SPOOL, self._end, len(data))
        self._end += len(data)

    def flush(self) -> None:
        """Make everything spooled readable; adding goes on afterwards."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def size(self, sha256: str) -> int:
        """Length of a picture's encoded bytes."""
        return self._places[bytes.fromhex(sha256)][2]

    def get(self, sha256: str) -> bytes:
        """Original bytes of a picture.

        Raises:
            InfiMmrError: not among the build's pictures, unreadable, or changed since the source was read.

        """
        place = self._places.get(bytes.fromhex(sha256))
        if place is None:
            raise InfiMmrError(f"no image with sha256 {sha256[:16]} in this build", "Build again")
        kind, where, length = place
        data: bytes
        try:
            if kind == _FILE:
                path = Path(self._roots[where[0]]) / where[1]
                data = path.read_bytes()
            else:
                path = self._spool_path
                self.flush()
                with path.open("rb") as spool:
                    spool.seek(where)
                    data = spool.read(length)
        except OSError as error:
            raise InfiMmrError(f"image {path.name} cannot be read: {error.strerror}", "Check the source") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InfiMmrError(f"image {path.name} changed while it was being built", "Build again when it is at rest")
        return data
