"""Blobs: files under the hash of their bytes, which no version owns and every version can share.

`put_blob` brings a file in, `blob_pieces` reads one, `fetch_blob` writes one to a local file and refuses any other
bytes than the hash promises. A blob that is there is believed only after its bytes were hashed; if they are damaged,
the good bytes at hand replace them (a rebuild or a repeated pull heals, and nothing else does).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from shared.dataset_version.names import blob_path, is_version, map_path
from shared.errors import InfiMmrError
from shared.store import NotInStoreError, Store
from shared.store.folder import FolderStore, copy_file, copy_pieces, file_views, sync_folder

PARALLEL_FILES = 4


def put_blob(store: Store, source: Path) -> tuple[str, int, bool]:
    """Bring a local file in; return its sha256, its size and whether it is new to the store.

    On a folder the hash is that of the very bytes that were written.
    """
    if isinstance(store, FolderStore):
        with store.temporary() as temporary:
            sha256, size = copy_pieces(file_views(source), temporary)
            return sha256, size, _adopt_blob(store, temporary, sha256, size)
    sha256, size = hash_pieces(file_views(source))
    new = not has_blob(store, sha256, size)
    if new:
        send_blob(store, map(bytes, file_views(source)), sha256, size)
    return sha256, size, new


def send_blob(store: Store, pieces: Iterable[bytes | memoryview], sha256: str, size: int) -> None:
    """Write a blob from its pieces, refusing any other bytes than `sha256` and `size` promise.

    A folder keeps no piece, so `Store.views` will do; a bucket's client holds several, which must then be `bytes`.
    """
    if isinstance(store, FolderStore):
        with store.temporary() as temporary:
            _must_be(copy_pieces(pieces, temporary), sha256, size, "arrived")
            _adopt_blob(store, temporary, sha256, size)
        return
    digest = hashlib.sha256()
    sent = 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal sent
        for piece in pieces:
            digest.update(piece)
            sent += len(piece)
            yield piece

    path = blob_path(sha256)
    store.put_pieces(path, counted())
    entry = store.head(path)
    arrived = entry.size if entry else 0
    if (digest.hexdigest(), sent) != (sha256, size) or arrived != size:
        store.delete(path)
        _must_be((digest.hexdigest(), min(sent, arrived)), sha256, size, "arrived")


def copy_blob(source: FolderStore, target: FolderStore, sha256: str, size: int) -> None:
    """Copy a blob from folder to folder; the bytes that arrived are hashed, and any others refused."""
    with source.reading(blob_path(sha256)) as descriptor, target.temporary() as temporary:
        _must_be(copy_file(descriptor, temporary), sha256, size, "arrived")
        _adopt_blob(target, temporary, sha256, size)


def has_blob(store: Store, sha256: str, size: int, *, check_bytes: bool | None = None) -> bool:
    """Return whether a blob is there, whole: right size and right hash.

    `check_bytes` says whether its bytes are read for it; None reads them on a folder only, because a bucket's server
    checks what it keeps.
    """
    if check_bytes is None:
        check_bytes = store.is_folder
    entry = store.head(blob_path(sha256))
    if entry is None and (store.is_folder or not store.exists(map_path(sha256))):
        return False
    if entry is not None and entry.size != size:
        return False
    try:
        return not check_bytes or hash_blob(store, sha256) == (sha256, size)
    except NotInStoreError:
        return False


def blob_is_mapped(store: Store, sha256: str) -> bool:
    """Return whether a bucket keeps this blob as ranges of other files."""
    return not store.is_folder and not store.exists(blob_path(sha256)) and store.exists(map_path(sha256))


def blob_pieces(store: Store, sha256: str) -> Iterator[bytes]:
    """Yield a blob's bytes in order, from where it lies whole or from the ranges of its map. Not yet verified."""
    if store.is_folder or store.exists(blob_path(sha256)):
        return store.pieces(blob_path(sha256))
    from shared.dataset_version.delta import mapped_pieces

    return mapped_pieces(store, sha256)


def hash_blob(store: Store, sha256: str) -> tuple[str, int]:
    """Return the sha256 and the size of the bytes that are there under this name. Raises `NotInStoreError`."""
    if store.is_folder or store.exists(blob_path(sha256)):
        return hash_pieces(store.views(blob_path(sha256)))
    return hash_pieces(blob_pieces(store, sha256))


def read_blob(store: Store, sha256: str, size: int) -> bytes:
    """Return a small blob's bytes, verified. Raises `InfiMmrError` where they are damaged."""
    data = b"".join(blob_pieces(store, sha256))
    _must_be(hash_pieces([data]), sha256, size, "is")
    return data


def hash_pieces(pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Return the sha256 and the size of some pieces together."""
    digest = hashlib.sha256()
    size = 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _must_be(found: tuple[str, int], sha256: str, size: int, verb: str) -> None:
    if found != (sha256, size):
        message = f"shard {sha256[:12]} {verb} damaged: {found[1]} of {size} bytes, sha256 {found[0][:12]}"
        raise InfiMmrError(message, "Run it again; if it stays, verify the version in the store it comes from")


def _adopt_blob(store: FolderStore, temporary: Path, sha256: str, size: int) -> bool:
    """Give the whole and right bytes in `temporary` their name; return whether the name is new."""
    if store.adopt(temporary, blob_path(sha256)):
        return True
    if has_blob(store, sha256, size):
        return False
    # The name is taken by damaged bytes: put the good ones in their place, and in each version that links them.
    target = store.local_path(blob_path(sha256))
    damaged = target.stat()
    for linked in store.root.glob("datasets/*/v*/*"):
        status = linked.lstat()
        if is_version(linked.parent.name) and (status.st_ino, status.st_dev) == (damaged.st_ino, damaged.st_dev):
            link_over(store, temporary, linked)
            sync_folder(linked.parent)
    link_over(store, temporary, target)
    sync_folder(target.parent)
    return False


def link_over(store: FolderStore, source: Path, target: Path) -> None:
    """Make `target` a hard link of `source`, or a copy where links are missing. The caller flushes the name."""
    with store.temporary() as beside:
        beside.unlink()
        try:
            os.link(source, beside)
        except OSError:
            beside.touch()
            copy_pieces(file_views(source), beside)
        beside.replace(target)
