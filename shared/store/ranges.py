"""A file of a store as Python reads files: in the ranges that are asked for."""

from __future__ import annotations

import io

from shared.store.base import NotInStoreError, Store


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
