"""A store: a folder, NFS or a bucket that keeps files under relative paths, the same way for everybody.

`open_store("./store")`, `open_store("s3://bucket/prefix")`, or any URL of obstore. What a store does is `base`;
`folder` and `bucket` do it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

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
    "shown_url",
]


def open_store(url_or_path: str | Path | Store) -> Store:
    """Open a folder (created on the first write) or a URL: ``s3://``, ``gs://``, ``az://``, ``file://`` ..."""
    if isinstance(url_or_path, Store):
        return url_or_path
    text = str(url_or_path)
    if not is_url(text) or text.startswith("file://"):
        from shared.store.folder import FolderStore

        folder = unquote(urlsplit(text).path) if text.startswith("file://") else text
        return FolderStore(Path(folder).expanduser().absolute())
    from shared.store.bucket import BucketStore

    return BucketStore(text)
