"""What a store does. Everything that a team shares lives in one store.

Content-addressed shards, dataset manifests, tags, annotation segments. The operations are the few that a folder and an
object store can both do atomically:

- `put_new` creates a file or says that it is there: whole, durable, one winner among racing writers.
- `put` replaces a file as a whole; only for mutable caches.
- `compare_and_set` replaces a small file if it still holds what the caller saw.

Paths are relative, `/`-separated, each segment of `[A-Za-z0-9._@+=-]` and not starting with a dot, so that no name, tag
or manifest can lead outside the root. Credentials come from where obstore (and the AWS tools) look for them; no URL is
shown with its user, password or query.

Not covered: permissions and encryption (the folder's or the bucket's own), renaming, symbolic links (never followed).
"""

from __future__ import annotations

import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import InfiMmrError

STORE_VARIABLE = "INFI_MMR_STORE"
READ_BYTES = 8 << 20
"""Pieces in which a long file is read: large enough that no per-call cost shows, small enough for many in flight."""

_SEGMENT = re.compile(r"[A-Za-z0-9_@+=-][A-Za-z0-9._@+=-]{0,254}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+]+://")


class StorePathError(InfiMmrError):
    """A path that a store refuses, because it could lead outside its root or cannot exist on every kind of store."""


class NotInStoreError(InfiMmrError):
    """The file is not there."""


class StoreFullError(InfiMmrError):
    """The disk, the quota or the largest file size is reached."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a listing: `path` relative to the root, `size` in bytes, `modified` in seconds since 1970."""

    path: str
    size: int
    modified: float = 0.0


def checked_path(path: str) -> str:
    """Return `path` unchanged, or raise `StorePathError` if a segment is empty, hidden or has an odd character."""
    if not isinstance(path, str) or not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        message = f"{path!r} is not a path inside a store"
        raise StorePathError(message, "Segments are letters, digits and ._@+=- and start with no dot")
    return path


def is_url(address: str) -> bool:
    """Whether an address names a scheme rather than a folder."""
    return _SCHEME.match(address) is not None


def shown_url(url: str) -> str:
    """Return `url` without user, password, query and fragment: the only form that is printed or written down."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def default_store_url(option: str | None = None) -> str:
    """Return the store to use: the command's option, else `$INFI_MMR_STORE`, else `./store`."""
    return option if option is not None else os.environ.get(STORE_VARIABLE) or "./store"


class Store(ABC):
    """Files under one root, opened with `open_store`; instances can be pickled, used from threads and processes."""

    def __init__(self, address: str) -> None:
        """Remember where the store is; nothing is touched."""
        self._address = address

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by address: the other process opens its own connections."""
        return (type(self), (self._address,))

    def __repr__(self) -> str:
        """Show the address without credentials."""
        return f"Store({self.url!r})"

    @property
    def url(self) -> str:
        """The address as it may be shown: without user, password and query."""
        return shown_url(self._address)

    def below(self, path: str) -> Store:
        """A store of its own in the folder `path` of this one; a URL keeps its query and fragment behind the path."""
        place = re.split("[?#]", self._address, maxsplit=1)[0] if is_url(self._address) else self._address
        return type(self)(f"{place.rstrip('/')}/{checked_path(path)}{self._address[len(place) :]}")

    @property
    def is_folder(self) -> bool:
        """Whether files are reachable as local paths."""
        return False

    def local_path(self, path: str) -> Path | None:
        """Return where `path` lies on this machine (whether it exists or not), or None in an object store."""
        checked_path(path)
        return None

    @abstractmethod
    def get(self, path: str) -> bytes:
        """Return a file's bytes. Raises `NotInStoreError`."""

    def find(self, path: str) -> bytes | None:
        """Return a file's bytes, or None where it is absent."""
        with suppress(NotInStoreError):
            return self.get(path)
        return None

    @abstractmethod
    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on (fewer at the end of the file). Raises `NotInStoreError`."""

    @abstractmethod
    def head(self, path: str) -> Entry | None:
        """Return a file's size and time, or None where it is absent."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files under the folder `prefix` (all of them for the empty one), hidden ones left out, unsorted."""

    @abstractmethod
    def folders(self, prefix: str) -> Sequence[str]:
        """Return the sorted names of the folders directly under the folder `prefix`."""

    @abstractmethod
    def put(self, path: str, data: bytes | Path, *, durable: bool = True) -> None:
        """Write a file, replacing it as a whole: a reader sees the old bytes or the new. For mutable caches only.

        `durable=False` spares the flush to the disk for what is worth nothing after a power cut.
        """

    @abstractmethod
    def put_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file from its pieces, replacing it as a whole, holding only a few pieces at a time."""

    @abstractmethod
    def put_new(self, path: str, data: bytes | Path) -> bool:
        """Create a file, whole and durable; return False, and change nothing, where it already exists."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file; no error where it is absent."""

    @abstractmethod
    def compare_and_set(self, path: str, expected: bytes | None, new: bytes) -> bool:
        """Write `new` if the file holds `expected` (None: if it is absent); return whether it was written."""

    def exists(self, path: str) -> bool:
        """Return whether the file is there."""
        return self.head(path) is not None

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a file's bytes in order. Raises `NotInStoreError`."""
        return map(bytes, self.views(path))

    @abstractmethod
    def views(self, path: str) -> Iterator[memoryview]:
        """Yield a file's bytes in order, each piece good only until the next is asked for. Raises `NotInStoreError`.

        For who hashes or writes each piece and keeps none: where a store can, no piece costs memory of its own.
        """

    def _absent(self, path: str) -> NotInStoreError:
        return NotInStoreError(f"{path} is not in the store {self.url}", "Look at its name and at --store")


class Ranges(io.RawIOBase):
    """A file of a store that is read in ranges, as Parquet's readers ask for them."""

    def __init__(self, store: Store, path: str) -> None:
        super().__init__()
        entry = store.head(path)
        if entry is None:
            raise NotInStoreError(f"{path} is not in the store", "It was merged with others meanwhile: try again.")
        self._store, self._path, self._size, self._at = store, path, entry.size, 0

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def readable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move there."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, all that follow where it is negative."""
        length = min(size if size >= 0 else self._size, self._size - self._at)
        data = self._store.get_range(self._path, self._at, length) if length > 0 else b""
        self._at += len(data)
        return data
