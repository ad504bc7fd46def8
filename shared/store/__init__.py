"""A store: a folder, NFS or a bucket that keeps files under relative paths, the same way for everybody.

`open_store("./store")`, `open_store("s3://bucket/prefix")`, or any URL of obstore. What a store does is `base`;
`folder` and `bucket` do it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from shared.errors import UsageError
from shared.store.base import (
    READ_BYTES,
    Entry,
    NotInStoreError,
    Ranges,
    Store,
    StoreFullError,
    StorePathError,
    default_store_url,
    is_url,
    shown_url,
)

__all__ = [
    "READ_BYTES",
    "Entry",
    "NotInStoreError",
    "Ranges",
    "Store",
    "StoreFullError",
    "StorePathError",
    "default_store_url",
    "open_store",
    "path_of",
    "shown_url",
]


def open_store(url_or_path: str | Path | Store) -> Store:
    """Open a folder (created on the first write) or a URL: ``s3://``, ``gs://``, ``az://``, ``file://`` ..."""
    if isinstance(url_or_path, Store):
        return url_or_path
    text = str(url_or_path)
    if not text.strip():
        raise UsageError("the store has an empty name", "Name a folder or a URL, or leave --store out for ./store")
    if not is_url(text) or text.startswith("file://"):
        from shared.store.folder import FolderStore

        return FolderStore(Path(path_of(text)).expanduser().absolute())
    from shared.store.bucket import BucketStore

    return BucketStore(text)


def path_of(words: str) -> str:
    """Return the path that a ``file://`` URL names, `?` and `#` being parts of names; other words as they are.

    Raises:
        UsageError: it names a file of another machine.

    """
    if not words.startswith("file://"):
        return words
    host, slash, path = words.removeprefix("file://").partition("/")
    if host not in {"", "localhost"}:
        raise UsageError(f"{words} names a file of another machine", "Write file:///PATH for one of this machine")
    return unquote(slash + path)
