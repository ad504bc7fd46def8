"""A source over named files, for readers of other packages: all of it but its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.sources.file_hashes import needed_hashes
from data_engine.sources.places import files_revision
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from data_engine.sources.base import Rejection, SourceRow


class FileSource:
    """A `Source` whose rows depend on files alone.

    Args:
        name: What row ids begin with where the recipe does not say.
        settings: The recipe's `[source]` (`data_engine.recipe.SourceSettings`).
        files: Everything that decides the rows, pictures aside, which are hashed when they are read.
        rows: Called to read; one row or rejection per record, in the same order every time.

    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        settings: Any,
        files: Iterable[Path],
        rows: Callable[[], Iterator[SourceRow | Rejection]],
    ) -> None:
        paths = sorted(files)
        hashes = needed_hashes(paths)
        if not paths:
            raise InfiMmrError(f"{settings.location} holds no file of reader {name}", "Check source.location")
        self.name = settings.name or name
        self.location = Path(settings.location).name or settings.location
        self.licence = settings.licence
        self.taken = ", ".join(path.name for path in paths)
        self._fingerprint, self.revision = files_revision([(path.name, hashes[path]) for path in paths])
        self._rows = rows

    def fingerprint(self) -> str:
        """Hash over the files' contents."""
        return self._fingerprint

    def count(self) -> int | None:
        """Not known beforehand."""
        return None

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """What the reader finds."""
        return self._rows()
