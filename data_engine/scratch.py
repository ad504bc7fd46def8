"""Scratch of builds: held while in use, and removed by others when its owner was killed.

A folder is held by a lock on a file in it, and swept by the next build or `data-engine gc`. A place in a bucket,
`scratch/build-x/`, is held by the lease `scratch/build-x.lease`, which its build renews; `gc` removes it once that has
lapsed.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from shared.dataset_version.leases import holding, is_dead, read_lease
from shared.errors import InfiMmrError
from shared.store import Entry, Store, open_store

SCRATCH = "scratch"
"""Folder of a store in which builds have their scratch."""
_PREFIX = "build-"
_LEASE = ".lease"
_UNLOCKED_SECONDS = 3600.0
_TRIES = 100


@contextlib.contextmanager
def scratch_folder(near: Path | None) -> Iterator[Path]:
    """Yield a new empty folder, under `near` (a store's folder) or the system's temp folder; gone afterwards.

    A folder whose lock nobody holds belonged to a build that was killed: it is removed here.

    Raises:
        InfiMmrError: the folder cannot be made.

    """
    base = near / SCRATCH if near is not None else Path(tempfile.gettempdir()) / f"infi-mmr-{os.getuid()}"
    try:
        folder = _made_in(base)
        lock = (folder / ".lock.new").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / ".lock.new").rename(folder / ".lock")  # held before another build can see it
        _sweep(base)
    except OSError as error:
        raise InfiMmrError(
            f"cannot make a scratch folder in {base}: {error.strerror}", "Check its permissions and free space"
        ) from error
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            base.rmdir()


def _made_in(base: Path) -> Path:
    """A new folder in `base`, which a build that ends takes away while it is empty."""
    tries = itertools.count(1)
    while True:
        try:
            base.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except (FileExistsError, FileNotFoundError):
            if next(tries) == _TRIES:
                raise


def _sweep(base: Path, *, dry_run: bool = False) -> list[str]:
    """Remove the folders under `base` that nobody holds; returns their names."""
    dead: list[str] = []
    try:
        folders = list(base.glob(f"{_PREFIX}*"))
    except FileNotFoundError:  # a build that ended took it away
        return dead
    for folder in folders:
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            try:
                lock = held.enter_context((folder / ".lock").open("rb"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused: in use
            except FileNotFoundError:
                # Just being made; or a worker wrote it when its build was gone, and nobody will hold it.
                if time.time() - folder.stat().st_mtime < _UNLOCKED_SECONDS:
                    continue
            dead.append(folder.name)
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
    return dead


def remove_dead_scratch(store: Store, *, minimum_age: float, dry_run: bool = False) -> list[Entry]:
    """Remove what killed builds left on scratch, never what a running build holds; returns the files.

    A place without a lease (its build ended while workers still wrote, or knew of no leases) goes `minimum_age` seconds
    after its last file was written.
    """
    places: dict[str, list[Entry]] = {}
    for entry in store.list(SCRATCH):
        places.setdefault(entry.path.split("/")[1].removesuffix(_LEASE), []).append(entry)
    near = store.local_path(SCRATCH)
    if near is not None:
        dead = _sweep(near, dry_run=dry_run)
        return [entry for name in dead for entry in places.get(name, ())]
    removed = []
    for name, entries in places.items():
        held = read_lease(store, f"{SCRATCH}/{name}{_LEASE}")
        age = time.time() - max(entry.modified for entry in entries)
        if is_dead(held) if held else age > minimum_age:
            removed += sorted(entries, key=lambda entry: entry.path.endswith(_LEASE))  # the lease goes last
    for entry in [] if dry_run else removed:
        store.delete(entry.path)
    return removed


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
    with holding(store, f"{place}{_LEASE}"):
        try:
            yield store.below(place)
        finally:
            # Listed by its prefix in the store itself: whatever `below` opened, nothing else can be removed.
            for entry in list(store.list(place)):
                if entry.path.startswith(f"{place}/"):
                    store.delete(entry.path)


@contextlib.contextmanager
def passing_scratch(store: Store) -> Iterator[Store]:
    """Yield scratch beside `store` that all workers reach, for work before a build has its own."""
    near = store.local_path("scratch")
    with (
        scratch_folder(near.parent if near is not None else None) as folder,
        scratch_store(store, folder, elsewhere=True) as reach,
    ):
        yield reach
