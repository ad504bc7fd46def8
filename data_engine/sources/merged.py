"""Several sources of one recipe as one: each record comes with the part of the recipe that it belongs to.

Input: opened sources by the names that the recipe gives them (`[sources.NAME]`), with limit and weight of each.
Output: a `Source` whose rows name their part in `origin`, so that ids begin with its name and the column `source_name`
says which. A part with a weight below 1 gives the rows whose hash falls into that share: the same ones in every build.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_engine.sources.base import Count, InPieces, Origin, Piece, Rejection, Source, SourceRow, notes_of
from shared.fingerprint import fingerprint

_SHARE_DIGITS = 13
"""Hex digits of a hash that say where in 0..1 a row falls: 52 bits, as many as a float holds exactly."""


@dataclass(frozen=True)
class Part:
    """One source of several.

    Attributes:
        source: What is read.
        limit: Records read from its front; 0 reads all.
        weight: Share of its rows that is taken.

    """

    source: Source
    limit: int = 0
    weight: float = 1.0


class Merged:
    """The source made of several; see `Source` for the attributes."""

    name = "merged"
    licence = ""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.read: Counter[str] = Counter()
        """Records taken of each part, once `rows` is through."""
        self.location = ", ".join(dict.fromkeys(part.source.location for part in self.parts.values()))
        self.taken = "; ".join(f"{name}: {part.source.taken}" for name, part in self.parts.items())

    @property
    def notes(self) -> Sequence[str]:
        """What the parts say, each under its name."""
        return [f"{name}: {note}" for name, part in self.parts.items() for note in notes_of(part.source)]

    @property
    def revision(self) -> str:
        """Short form of the hash over all parts."""
        return f"sha256:{self.fingerprint()[:16]}"

    def fingerprint(self) -> str:
        """Hash over the parts' names and contents."""
        return fingerprint({name: part.source.fingerprint() for name, part in self.parts.items()})

    def count(self) -> int | None:
        """Records where all parts know theirs and none is drawn from by weight."""
        counts = [part.source.count() if part.weight == 1 else None for part in self.parts.values()]
        limits = [part.limit for part in self.parts.values()]
        known = [min(count, limit or count) for count, limit in zip(counts, limits, strict=True) if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def pieces(self) -> list[MergedPiece]:
        """See `InPieces`; none where one of the parts must be read as a whole, or from its front."""
        found: list[MergedPiece] = []
        for name, part in self.parts.items():
            source = part.source
            pieces = source.pieces() if isinstance(source, InPieces) and not part.limit else ()
            if not pieces:
                return []
            origin = Origin(name, source.location, source.revision)
            found += [MergedPiece(piece, origin, part.weight) for piece in pieces]
        return found

    def placed(self, pieces: Sequence[MergedPiece], counts: Sequence[Count]) -> list[MergedPiece]:
        """See `InPieces`."""
        found: list[MergedPiece] = []
        by_part = itertools.groupby(zip(pieces, counts, strict=True), key=lambda pair: pair[0].origin.name)
        for name, pairs in by_part:
            some, known = zip(*pairs, strict=True)
            source: Any = self.parts[name].source
            placed = source.placed([one.piece for one in some], known)
            found += [dataclasses.replace(some[0], piece=piece) for piece in placed]
        return found

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record taken, part after part."""
        self.read.clear()
        for name, part in self.parts.items():
            source = part.source
            items = itertools.islice(source.rows(), part.limit) if part.limit else source.rows()
            origin: Origin | None = None
            for item in items:
                if not _falls_within(item, part.weight):
                    continue
                # Some sources know their revision only once they have been read.
                origin = origin or Origin(name, source.location, source.revision)
                self.read[name] += 1
                yield dataclasses.replace(item, origin=origin)


@dataclass(frozen=True)
class MergedPiece:
    """A piece of one of the sources; see `Piece`, and `Part` for the weight."""

    piece: Piece
    origin: Origin
    weight: float

    @property
    def height(self) -> int | None:
        """Records, of which those that are taken become rows."""
        return self.piece.height

    @property
    def size(self) -> int:
        """Bytes to read, about."""
        return self.piece.size

    def count(self) -> Count:
        """Count the records."""
        return self.piece.count()

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record taken."""
        taken = (item for item in self.piece.rows() if _falls_within(item, self.weight))
        yield from (dataclasses.replace(item, origin=self.origin) for item in taken)


def _falls_within(item: SourceRow | Rejection, weight: float) -> bool:
    if weight >= 1:
        return True
    digest = fingerprint([item.source_id, item.question, item.answer])
    return int(digest[:_SHARE_DIGITS], 16) / float(16**_SHARE_DIGITS) < weight


def parts_of(source: Source) -> dict[str, Source]:
    """Sources by the names that their rows have: of a merged one its parts, of another itself."""
    if isinstance(source, Merged):
        return {name: part.source for name, part in source.parts.items()}
    return {source.name: source}
