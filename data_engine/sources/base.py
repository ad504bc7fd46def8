"""What every source hands over: rows as the source means them, or a typed reason why a record cannot be one.

Input: a place (hub id, folder, file, or `mini`). Output: `SourceRow` or `Rejection`, one per record, in the source's
order; nothing is dropped and no record is fatal. Pictures are named, not loaded: `ingest` reads, hashes and checks
them.
Not covered: duplicate keys and conflicting answers (they need all rows: `ingest`), judging (steps).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from shared.answers import gold_answer
from shared.images import safe_join

REASONS = (
    "missing_question",
    "missing_answer",
    "unreadable",
    "proof",
    "image_missing",
    "path_escape",
    "remote_url",
    "tag_image_mismatch",
    "model_tokens",
    "has_pictures",
    "wrong_type",
    "no_final_answer",
    "duplicate_id",
    "conflicting_answers",
)
"""Typed reasons; beside these, `image_refused:WHY` with the words of `shared.images.Reason`."""


@dataclass(frozen=True)
class FileImage:
    """A picture in a file below the source's folder, by its relative name."""

    root: Path
    name: str
    links: Path | None = None
    """Where symlinks of the folder may end besides itself (see `shared.images.safe_join`)."""

    def path(self) -> Path:
        """Return the file's path.

        Raises:
            PathRefused: the name leads out of the folder, or is a URL.

        """
        return safe_join(self.root, self.name, self.links)


@dataclass(frozen=True)
class BytesImage:
    """A picture whose bytes came inside the record; `file` where they also lie there, from `offset` on, as they are."""

    data: bytes
    name: str
    file: Path | None = None
    offset: int = 0


@dataclass(frozen=True)
class Origin:
    """Which of several merged sources a record is from: the recipe's name for it, its place and revision."""

    name: str
    location: str
    revision: str


@dataclass(frozen=True)
class SourceRow:
    """One record in the schema's terms. `question` has exactly one `<image>` per image."""

    source_id: str
    question: str
    answer: str
    answer_raw: str
    choices: tuple[str, ...] = ()
    images: tuple[FileImage | BytesImage, ...] = ()
    category: str | None = None
    source: str | None = None
    pass_rate_large: float | None = None
    pass_rate_small: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    """Set where sources are merged."""


@dataclass(frozen=True)
class Rejection:
    """One record that cannot be a row, with the reason (see `REASONS`) and what a person needs to judge it."""

    source_id: str
    reason: str
    detail: str
    question: str = ""
    answer: str = ""
    origin: Origin | None = None


def notes_of(source: Source) -> Sequence[str]:
    """What a source that reads files says to people, kept in the manifest: files that were left out, and why."""
    notes: Sequence[str] = getattr(source, "notes", ())
    return notes


@dataclass(frozen=True)
class Count:
    """What a piece of a source holds.

    Attributes:
        records: Records, those that cannot be read included.
        lines: Lines of a text file.
        why: Why its first line is no record, where none of its lines is one.
        told: Of a piece that cannot be read before it is placed: what its format needs to know of it.

    """

    records: int
    lines: int = 0
    why: str = ""
    told: Sequence[Sequence[int]] = ()


class Piece(Protocol):
    """Consecutive records of a source that can be read alone, where its file lies; small to pickle."""

    @property
    def height(self) -> int | None:
        """How many they are; None where they must be counted."""

    @property
    def size(self) -> int:
        """Bytes to read, about."""

    def count(self) -> Count:
        """Count them: much quicker than reading them."""

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in the source's order."""


@runtime_checkable
class InPieces(Protocol):
    """A source that workers read where its files lie."""

    def pieces(self) -> Sequence[Piece]:
        """Pieces in order; none where it must be read as a whole."""

    def placed(self, pieces: Sequence[Piece], counts: Sequence[Count]) -> Sequence[Piece]:
        """The same records in pieces that know what stands before them; they can be read then.

        Where one does not say how many it holds, it must be counted, and all be placed again.

        Raises:
            InfiMmrError: the counts say that a file holds no records.

        """


class Source(Protocol):
    """A place that rows come from.

    Attributes:
        name: The reader's name, which opens every row id: `virl39k`, `deepscaler`, `math500`.
        location: Hub id or folder name, never an absolute path.
        revision: Hub commit, or `sha256:` and the first 16 digits of the hash over the files read.
        licence: As stated by the recipe.
        taken: What the reader found where, in words.

    """

    name: str
    location: str
    licence: str
    taken: str

    @property
    def revision(self) -> str:
        """See above; some sources know it only after their files were read."""

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in the source's order."""

    def fingerprint(self) -> str:
        """sha256 over everything that decides the rows: file contents or hub commit, never a place."""

    def count(self) -> int | None:
        """Number of records where it is known beforehand."""


_BOX = re.compile(r"^\$*\s*\\boxed\s*\{")


def unbox(text: str) -> str:
    r"""Take one `\boxed{...}` (in dollars or not) off a text that it wraps completely; other texts stay."""
    stripped = text.strip()
    opened = _BOX.match(stripped)
    if opened is None:
        return stripped
    depth = 1
    for place in range(opened.end(), len(stripped)):
        depth += {"{": 1, "}": -1}.get(stripped[place], 0)
        if depth == 0:
            rest = stripped[place + 1 :].strip()
            return stripped[opened.end() : place].strip() if not rest.strip("$") else stripped
    # An unclosed box: the wrapper was meant, the closing brace was lost.
    return stripped


def plain_answer(value: object) -> str:
    """A gold of any type as text: `142.0` is `142`, a list of one is its item; None, NaN and infinities are empty."""
    missing = isinstance(value, float) and not math.isfinite(value)  # how tables write it
    if value is None or missing or isinstance(value, Mapping):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple):
        return plain_answer(value[0]) if value else ""
    return str(value)


def held_answer(answer: str, choices: Sequence[str]) -> tuple[str, str]:
    """The answer inside a gold, and what was done in words: the answer taken out of a solution, or left as it is.

    A gold that says there is no answer, or that it stands elsewhere, gives an empty answer and the reason. A paragraph
    stays: `verify_answers` names it, so that a recipe can keep it.
    """
    held = gold_answer(answer, choices or None)
    if held.answer is not None:
        if not held.taken:
            return answer, ""
        return held.answer.strip(), f"answer taken out of a longer gold ({held.taken})"
    if held.reason in {"missing", "elsewhere"}:
        return "", f"the gold holds no answer ({held.reason})"
    return answer, ""


def pass_rate(value: object) -> float | None:
    """A pass rate from 0 to 1; None for absent values and for -1, which the hub's file writes for `not annotated`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0:
        return float(value)
    return None
