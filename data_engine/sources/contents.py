"""What a source of files is made of, in pieces that workers hash where they lie: its files, and pictures they name.

Input: names and places. Output: pairs of a relative name and a content's sha256 (`missing` where there is no file). The
fingerprint over all pairs is the same whoever hashed them (`places.pairs_fingerprint`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from data_engine.sources.file_hashes import file_hashes
from data_engine.sources.table_rows import picture_files
from shared.errors import InfiMmrError
from shared.images import PathRefused

if TYPE_CHECKING:
    from data_engine.sources.base import FileImage
    from data_engine.sources.file_pieces import TablePiece

MUCH, MANY = 1 << 30, 1 << 14
"""Bytes, and records that name pictures, from which on workers hash them: seconds of work, as their start takes."""


class Contents(Protocol):
    """A part of a source's contents; small to pickle."""

    pictures: bool
    """Whether these are pictures, of which several parts may name the same."""

    def pairs(self) -> list[tuple[str, str]]:
        """Names and hashes."""


@dataclass(frozen=True)
class FileContents:
    """Some files of a source."""

    what: str
    names: Sequence[str]
    files: Sequence[Path]
    pictures = False

    def pairs(self) -> list[tuple[str, str]]:
        """Names and hashes.

        Raises:
            InfiMmrError: a file cannot be read.

        """
        hashes = file_hashes(self.files)
        for name, file in zip(self.names, self.files, strict=True):
            if file not in hashes:
                raise InfiMmrError(f"{self.what}: {name} cannot be read", "Check the file and its permissions")
        return [(name, hashes[file]) for name, file in zip(self.names, self.files, strict=True)]


@dataclass(frozen=True)
class PictureContents:
    """Pictures that the records of a piece name."""

    piece: TablePiece
    columns: Sequence[str] | None
    inside: bool
    pictures = True

    def pairs(self) -> list[tuple[str, str]]:
        """Names and hashes, each picture once."""
        paths: dict[str, Path] = {}
        for batch in self.piece.batches(self.columns):
            for record in batch.records():
                paths |= paths_of(picture_files(record, self.piece.reading, inside=self.inside))
        found = file_hashes(paths.values())
        return [(name, found.get(path, "missing")) for name, path in paths.items()]


def paths_of(images: Iterable[FileImage]) -> dict[str, Path]:
    """Files of pictures by name; names that lead out of the source's folder are left out."""
    found: dict[str, Path] = {}
    for image in images:
        try:
            found[image.name] = image.path()
        except PathRefused:
            continue
    return found
