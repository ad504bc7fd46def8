"""Images of records: read, hashed and inspected; whether one can be used is remembered by its content in the store."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.sources.base import BytesImage, FileImage, Rejection, SourceRow
from data_engine.sources.file_hashes import file_hashes
from shared.code_points import carried
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash, fingerprint
from shared.images import ImageLimits, ImageRefused, PathRefused, inspect_image

if TYPE_CHECKING:
    from data_engine.intake.image_places import ImagePlaces, NewPlaces
    from shared.progress import Task
    from shared.store import Store

INSPECTION_VERSION = 2
"""Raised when `inspect_image` decides otherwise for the same bytes."""

_WINDOW = 128
_FLUSH = 2048


@dataclass(frozen=True)
class Picture:
    """An image of a record, by its content: its bytes came with the record (and lie in a file, too), or are a file."""

    sha256: str
    name: str
    data: bytes | None
    path: Path | None
    size: int
    offset: int = 0


def checked_records(
    items: Iterator[SourceRow | Rejection],
    places: ImagePlaces | NewPlaces,
    memory: Inspections,
    task: Task | None,
    threads: int = 0,
) -> Iterator[Rejection | tuple[SourceRow, list[Picture]]]:
    """Read, hash and inspect pictures, a window of records at a time; decoders let go of Python's lock.

    `threads` at once; 0: as many as this machine has cores.
    """
    with ThreadPoolExecutor(max_workers=threads or os.cpu_count() or 1) as pool:
        while window := list(itertools.islice(items, _WINDOW)):
            if any(isinstance(item, SourceRow) and item.images for item in window):
                yield from _checked_window(window, pool, places, memory)
            else:
                yield from (item if isinstance(item, Rejection) else (item, []) for item in window)
            if task is not None:
                task.advance(len(window))


def _checked_window(
    window: list[SourceRow | Rejection], pool: ThreadPoolExecutor, places: ImagePlaces | NewPlaces, memory: Inspections
) -> Iterator[Rejection | tuple[SourceRow, list[Picture]]]:
    files = _hash_files(window)
    found = list(pool.map(_pictures, window, itertools.repeat(files)))
    memory.recall({p.sha256 for pictures in found if isinstance(pictures, list) for p in pictures})
    checks = pool.map(_inspect, found, itertools.repeat(memory))
    for item, pictures, refused in zip(window, found, checks, strict=True):
        if isinstance(item, Rejection):
            yield item
        elif isinstance(pictures, Rejection):
            yield pictures
        elif refused is not None:
            yield _reject(item, refused[0], refused[1])
        else:
            for picture in pictures:
                if picture.data is None and picture.path is not None:
                    places.add_file(picture.sha256, picture.path, picture.size)
                elif picture.path is not None:
                    places.add_part(picture.sha256, picture.path, picture.offset, picture.size)
                elif picture.data is not None:
                    places.add_bytes(picture.sha256, picture.data)
            yield item, pictures
    memory.store_new()


def _hash_files(window: Iterable[SourceRow | Rejection]) -> dict[Path, str]:
    paths = []
    for item in window:
        for image in item.images if isinstance(item, SourceRow) else ():
            if isinstance(image, FileImage):
                try:
                    paths.append(image.path())
                except PathRefused:
                    continue
    return file_hashes(path for path in paths if path.is_file())


def _pictures(item: SourceRow | Rejection, files: Mapping[Path, str]) -> list[Picture] | Rejection:
    if isinstance(item, Rejection):
        return item
    pictures = []
    for image in item.images:
        if isinstance(image, BytesImage):
            name = carried(image.name.replace("\\", "/"))
            size, offset = len(image.data), image.offset
            pictures.append(Picture(bytes_hash(image.data), name, image.data, image.file, size, offset))
            continue
        try:
            path = image.path()
        except PathRefused as error:
            return _reject(item, error.reason, error.detail or "neither bytes nor a path")
        digest = files.get(path)
        if digest is None:
            if path.is_file():  # there, and no hash: it must not pass as missing
                raise InfiMmrError(f"image {image.name} cannot be read", "Check its permissions and the disk")
            return _reject(item, "image_missing", image.name or "neither bytes nor a path")
        pictures.append(Picture(digest, carried(image.name), None, path, path.stat().st_size))
    return pictures


def _reject(row: SourceRow, reason: str, detail: str) -> Rejection:
    return rejected(row, reason, carried(detail))


def rejected(row: SourceRow, reason: str, detail: str) -> Rejection:
    """A record as one that cannot be a row."""
    return Rejection(row.source_id, reason, detail, row.question, row.answer_raw, row.origin)


def _inspect(pictures: list[Picture] | Rejection, memory: Inspections) -> tuple[str, str] | None:
    if isinstance(pictures, Rejection):
        return None
    for picture in pictures:
        reason = memory.reason(picture)
        if reason:
            return f"image_refused:{reason}", picture.name
    return None


class Inspections:
    """Which pictures can be used, by content: remembered in the store as annotations of the step `inspect_images`.

    Args:
        store: Where this is remembered; None remembers nothing.
        limits: What a picture may be.
        listed: Listing of the table, for a reader who does not see what was stored since.

    Attributes:
        table: The annotations; None where nothing is remembered.

    """

    def __init__(
        self, store: Store | None, limits: ImageLimits, *, listed: list[tuple[str, int]] | None = None
    ) -> None:
        self._limits = limits
        self._known: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._seen: dict[str, bool] = {}
        self.table: Any = None
        self.inspected = 0
        self.remembered = 0
        if store is not None:
            import pyarrow as pa

            from shared.annotations import AnnotationTable

            context = fingerprint({"version": INSPECTION_VERSION, **dataclasses.asdict(limits)})
            self.table = AnnotationTable(
                store, "inspect_images", context, values=pa.schema([pa.field("reason", pa.string(), nullable=False)])
            )
            self.table = self.table if listed is None else self.table.as_listed(listed)

    def seen(self) -> dict[str, bool]:
        """Pictures met since this was last asked: whether they were inspected now, or remembered."""
        seen, self._seen = self._seen, {}
        return seen

    def recall(self, hashes: set[str]) -> None:
        """Look up what is stored about these pictures."""
        ask = sorted(hashes - self._known.keys())
        if self.table is None or not ask:
            return
        found = self.table.lookup(ask)
        self.remembered += len(found)
        self._seen |= dict.fromkeys(found, False)
        self._known |= {key: str(value["reason"]) for key, value in found.items()}

    def reason(self, picture: Picture) -> str:
        """Return why a picture cannot be used; empty where it can."""
        known = self._known.get(picture.sha256)
        if known is not None:
            return known
        data = picture.data
        if data is None and picture.path is not None:
            try:
                data = picture.path.read_bytes()
            except OSError as error:
                message = f"image {picture.name} cannot be read: {error.strerror}"
                raise InfiMmrError(message, "Make it readable, or remove it: its rows are then refused") from error
        try:
            inspect_image(data or b"", limits=self._limits)
            reason = ""
        except ImageRefused as error:
            reason = error.reason
        self._new[picture.sha256] = reason
        self._seen[picture.sha256] = True
        return reason

    def store_new(self) -> None:
        """Keep fresh findings at hand, and store them when there are many."""
        self._known |= self._new
        if len(self._new) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Store fresh findings."""
        self.inspected += len(self._new)
        if self.table is not None:
            self.table.append([{"key": key, "reason": reason} for key, reason in sorted(self._new.items())])
        self._new = {}
