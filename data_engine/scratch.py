"""Scratch folders of builds: locked while in use, and swept by the next build when their owner was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InfiMmrError
from shared.store import Store, open_store

SCRATCH = "scratch"
"""Folder of a store in which builds have their scratch."""
_PREFIX = "build-"


@contextlib.contextmanager
def scratch_folder(near: Path | None) -> Iterator[Path]:
    """Yield a new empty folder, under `near` (a store's folder) or the system's temp folder; gone afterwards.

    A folder whose lock nobody holds belonged to a build that was killed: it is removed here.

    Raises:
        InfiMmrError: the folder cannot be made.

    """
    base = near / SCRATCH if near is not None else Path(tempfile.gettempdir()) / f"infi-mmr-{os.getuid()}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        _sweep(base)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = (folder / ".lock").open("wb")
    except OSError as error:
        raise InfiMmrError(
            f"cannot make a scratch folder in {base}: {error.strerror}", "Check its permissions and free space"
        ) from error
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            base.rmdir()


def _sweep(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            with (folder / ".lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # In use, or another machine's on a shared file system, or just being made.
            continue


@contextlib.contextmanager
def scratch_store(store: Store, folder: Path, *, elsewhere: bool) -> Iterator[Store]:
    """Yield a store for what a build's workers hand each other; what lies in it is gone afterwards.

    It is `folder`, or a place in `store` where workers may run on other machines (`elsewhere`) and `store` is a bucket:
    nothing else is within reach of them all.
    """
    if store.is_folder or not elsewhere:
        yield open_store(folder)
        return
    place = f"{SCRATCH}/{folder.name}"
    try:
        yield store.below(place)
    finally:
        # Listed by its prefix in the store itself: whatever `below` opened, nothing else can be removed.
        for entry in list(store.list(place)):
            if entry.path.startswith(f"{place}/"):
                store.delete(entry.path)
