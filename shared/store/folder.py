"""A store that is a folder, on a local disk or on NFS.

New files are written under ``<root>/.tmp`` (same file system), flushed to the disk and then linked to their name:
linking fails where the name is taken, also over NFS, so that one writer wins and no reader meets half a file. A writer
holds a `flock` on its temporary file while it writes; `remove_dead_temporaries` takes away those that nobody holds.

Not covered: file systems without `flock`. Where hard links are missing, a lock file stands in for the link's refusal.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from shared.errors import InfiMmrError
from shared.store.base import Entry, Store, StoreFullError, checked_path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
TEMPORARY_FOLDER = ".tmp"
FOLDER_PIECE_BYTES = 1 << 20
"""Pieces that stay in the processor's cache between reading, hashing and writing (8 MiB cost half as much again)."""
_WRITE_OUT_BYTES = 32 << 20
"""So many bytes after each other go to the disk while the next ones are read and hashed, not all at the last flush."""
_NO_COPY_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.ENODEV, errno.EBADF}
LOCK_FOLDER = ".locks"


@contextmanager
def folder_told(root: Path, what: str = "store", option: str = "--store") -> Iterator[None]:
    """Turn what the operating system refuses meanwhile in a folder, named with `option`, into one line."""
    try:
        yield
    except OSError as error:
        raise _refused(error, root, what, option) from error


def _refused(error: OSError, root: Path, what: str = "store", option: str = "--store") -> InfiMmrError:
    if error.errno in _FULL:
        free = "Free space (data-engine gc), then run it again"
        return StoreFullError(f"the disk of the {what} {root} is full", free)
    if error.errno in _FORBIDDEN:
        said = f"no permission in the {what} {root} ({error.strerror})"
        return InfiMmrError(said, f"Ask for access or pass {option}")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return InfiMmrError(f"{root} or a part of it is a file, not a folder", f"Pass another {option}")
    return InfiMmrError(
        f"the {what} {root} failed: {error.strerror or error}", "Look at the disk or mount, then run it again"
    )


class FolderStore(Store):
    """Files below one folder, created on the first write."""

    def __init__(self, root: str | Path) -> None:
        """Name the folder; nothing is touched."""
        super().__init__(str(root))
        self.root = Path(root)

    @property
    def is_folder(self) -> bool:
        """Always true."""
        return True

    def local_path(self, path: str) -> Path:
        """Return where `path` lies."""
        return self.root / checked_path(path)

    def get(self, path: str) -> bytes:
        """Return a file's bytes. Raises `NotInStoreError`."""
        with self.reading(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return file.read()

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on. Raises `NotInStoreError`."""
        with self.reading(path) as descriptor:
            return os.pread(descriptor, length, start)

    def views(self, path: str) -> Iterator[memoryview]:
        """Yield a file's bytes in order, all in one buffer. Raises `NotInStoreError`."""
        with self.reading(path) as descriptor, open(descriptor, "rb", closefd=False, buffering=0) as file:
            yield from _views(file)

    def head(self, path: str) -> Entry | None:
        """Return a file's size and time, or None where it is absent."""
        with folder_told(self.root), suppress(FileNotFoundError, NotADirectoryError):
            status = self.local_path(path).lstat()
            return Entry(path, status.st_size, status.st_mtime)
        return None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files under the folder `prefix`, hidden ones left out."""
        top = self.local_path(prefix.rstrip("/")) if prefix else self.root
        for folder, names, files in os.walk(top):
            names[:] = [name for name in names if not name.startswith(".")]
            for name in files:
                if name.startswith("."):
                    continue
                path = Path(folder, name)
                # A file may go between the listing and this line: another gc, a replaced cache.
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    yield Entry(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime)

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly under `prefix`."""
        top = self.local_path(prefix.rstrip("/")) if prefix else self.root
        with folder_told(self.root), suppress(FileNotFoundError, NotADirectoryError), os.scandir(top) as found:
            return sorted(e.name for e in found if e.is_dir() and not e.name.startswith("."))
        return []

    def put(self, path: str, data: bytes | Path, *, durable: bool = True) -> None:
        """Write a file, replacing it as a whole; one that is worth nothing after a power cut need not be durable."""
        self._replace(path, [data] if isinstance(data, bytes) else file_views(data), durable=durable)

    def put_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file from its pieces, replacing it as a whole."""
        self._replace(path, pieces, durable=True)

    def _replace(self, path: str, pieces: Iterable[bytes | memoryview], *, durable: bool) -> None:
        target = self.local_path(path)
        with self.temporary() as temporary:
            copy_pieces(pieces, temporary, durable=durable)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            if durable:
                sync_folder(target.parent)

    def put_new(self, path: str, data: bytes | Path) -> bool:
        """Create a file, whole and durable; return False where it exists."""
        if self.exists(path):
            return False
        with self.temporary() as temporary:
            copy_pieces([data] if isinstance(data, bytes) else file_views(data), temporary)
            return self.adopt(temporary, path)

    def adopt(self, temporary: Path, path: str) -> bool:
        """Give a finished file of this file system its name, if the name is free. The file must be flushed already."""
        target = self.local_path(path)
        with folder_told(self.root):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with self._locked(path):
                    if target.exists():
                        return False
                    shutil.copy2(temporary, f"{target}.part")
                    Path(f"{target}.part").replace(target)
            sync_folder(target.parent)
        return True

    def delete(self, path: str) -> None:
        """Remove a file; no error where it is absent."""
        with folder_told(self.root):
            self.local_path(path).unlink(missing_ok=True)

    def prune(self, prefix: str) -> None:
        """Remove the empty folders under `prefix`; only where nobody writes there: a writer may have just made one."""
        for folder, _, _ in os.walk(self.local_path(prefix), topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()

    def compare_and_set(self, path: str, expected: bytes | None, new: bytes) -> bool:
        """Write `new` if the file holds `expected`, under a lock that the kernel frees when its holder dies."""
        with self._locked(path):
            same = self.find(path) == expected
            if same:
                self.put(path, new)
            return same

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield a new, empty file in the store's file system; it is gone afterwards, whatever happened."""
        folder = self.root / TEMPORARY_FOLDER
        path = folder / uuid.uuid4().hex
        with folder_told(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield path
            finally:
                path.unlink(missing_ok=True)
                os.close(descriptor)

    @contextmanager
    def temporary_folder(self, parent: str) -> Iterator[Path]:
        """Yield a new hidden folder inside the folder `parent`, to be renamed to its name or removed afterwards.

        A temporary file of the same name is held meanwhile: over NFS a lock on a folder cannot be had.
        """
        base = self.local_path(parent)
        with self.temporary() as mark:
            path = base / f".tmp-{mark.name}"
            path.mkdir(parents=True)
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def dead_temporaries(self) -> Sequence[tuple[Path, int]]:
        """Return the temporary files and folders whose writer is gone, each with the bytes that removing it frees."""
        marks = self.root / TEMPORARY_FOLDER
        dead = [path for path in marks.glob("*") if _nobody_holds(path)]
        for folder in self.root.glob("datasets/*/.tmp-*"):
            mark = marks / folder.name.removeprefix(".tmp-")
            if mark in dead or not mark.exists():
                dead.append(folder)
        return [(path, _own_bytes(path)) for path in dead]

    def remove_dead_temporaries(self) -> None:
        """Remove what `dead_temporaries` returns, folders before the files that mark them."""
        for path, _ in reversed(self.dead_temporaries()):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """Yield the descriptor of a file that is opened for reading. Raises `NotInStoreError`."""
        with folder_told(self.root):
            try:
                descriptor = os.open(self.local_path(path), os.O_RDONLY | os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                raise self._absent(path) from None
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        lock = self.root / LOCK_FOLDER / hashlib.sha256(path.encode()).hexdigest()[:32]
        with folder_told(self.root):
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _lock_file(lock)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(descriptor)


def _lock_file(lock: Path) -> int:
    """Hold the lock file of this name; its last holder removed it, so look whether it is still the same file."""
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)


def copy_pieces(pieces: Iterable[bytes | memoryview], target: Path, *, durable: bool = True) -> tuple[str, int]:
    """Write `pieces` into the existing file `target`, flushed if `durable`; return its sha256 and size.

    Each piece is hashed and written before the next is asked for, so that views of one buffer do.
    """
    digest = hashlib.sha256()
    size = written_out = 0
    with target.open("r+b", buffering=0) as file:
        for piece in pieces:
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
            size += len(piece)
            if durable and size - written_out >= _WRITE_OUT_BYTES:
                _start_writing(file.fileno(), written_out, size - written_out)
                written_out = size
        if durable:
            os.fsync(file.fileno())
    return digest.hexdigest(), size


def copy_file(source: int, target: Path) -> tuple[str, int]:
    """Copy an open file (its descriptor, at the start) into the existing file `target`, flushed.

    Returns the sha256 and the size of what `target` then holds; the caller knows what they must be. The kernel copies
    (and shares the blocks, or lets the server copy, where the file system can), and each stretch is hashed where it
    arrived: two calls for 32 MiB, so that threads which copy side by side seldom wait for Python's own lock.
    """
    with target.open("r+b", buffering=0) as file:
        try:
            digest, size = _copied_in_kernel(source, file.fileno())
        except OSError as error:
            if error.errno not in _NO_COPY_IN_KERNEL:
                raise
            digest, size = "", 0
        if size == os.fstat(source).st_size:
            os.fsync(file.fileno())
            return digest, size
    os.lseek(source, 0, os.SEEK_SET)
    with open(source, "rb", closefd=False, buffering=0) as file:
        return copy_pieces(_views(file), target)


def _copied_in_kernel(source: int, target: int) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    while True:
        start = size
        while size < start + _WRITE_OUT_BYTES and (
            copied := os.copy_file_range(source, target, start + _WRITE_OUT_BYTES - size, size, size)
        ):
            size += copied
        if size == start:
            return digest.hexdigest(), size
        # Nobody else has this file, so that it cannot become shorter under the mapping.
        with mmap.mmap(target, size - start, prot=mmap.PROT_READ, offset=start) as arrived:
            digest.update(arrived)
        _start_writing(target, start, size - start)


def _start_writing(descriptor: int, start: int, length: int) -> None:
    """Let Linux begin to write these pages and go on at once; it drops none that is not on the disk."""
    os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def file_views(path: Path) -> Iterator[memoryview]:
    """Yield a local file's bytes in order, each piece good only until the next is asked for."""
    with path.open("rb", buffering=0) as file:
        yield from _views(file)


def _views(file: FileIO) -> Iterator[memoryview]:
    # One buffer for the whole file: fresh memory for each piece took twice the processor time of hashing it.
    buffer = memoryview(bytearray(FOLDER_PIECE_BYTES))
    while length := file.readinto(buffer):
        yield buffer[:length]


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, without which a name may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nobody_holds(path: Path) -> bool:
    with suppress(OSError), path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _own_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    statuses = [file.stat() for file in files]
    return sum(status.st_size for status in statuses if status.st_nlink == 1)
