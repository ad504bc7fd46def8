"""What every source hands over: rows as the source means them, or a typed reason why a record cannot be one.

Input: a place (hub id, folder, file, or `mini`). Output: `SourceRow` or `Rejection`, one per record, in the source's
order; nothing is dropped and no record is fatal. Pictures are named, not loaded: `ingest` reads, hashes and checks
them.
Not covered: duplicate keys and conflicting answers (they need all rows: `ingest`), judging (steps).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shared.answers import gold_answer
from shared.answers.parse.words import letters_in
from shared.images import safe_join
from shared.placeholders import IMAGE_TAG, PICTURE_MARK

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
    """A picture whose bytes came inside the record."""

    data: bytes
    name: str


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


class Split(Protocol):
    """Consecutive records of a source that can be read alone; small to pickle.

    Attributes:
        height: How many they are.

    """

    @property
    def height(self) -> int:
        """See above."""

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in the source's order."""


def splits_of(source: Source) -> Sequence[Split]:
    """Parts of a source that workers can read where its files lie, in order; none where it is read as a whole.

    Such a source names no pictures.
    """
    find: Callable[[], Sequence[Split]] | None = getattr(source, "splits", None)
    return find() if find is not None else ()


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


_TAG = re.compile(r"<\s*image\s*\d*\s*>", re.IGNORECASE)
_OPTION = re.compile(r"(?<![A-Za-z0-9])\(([A-Ha-h])\)\s*")
_DOTTED_OPTION = re.compile(r"(?:^|(?<=\s))([A-H])\s?[.．、:：]\s*", re.MULTILINE)
_NO_OPTION = (IMAGE_TAG, "\n\n", r"\]", r"\qquad")
"""What stands in a text between two letters that is no option: pictures, prose, formulas that hold several."""
_LONGEST_OPTION = 200
"""Characters; what is longer between two letters is prose."""
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


def fit_image_tags(question: str, images: int) -> tuple[str, str]:
    """Give a question one `<image>` per image; returns the text and the mend made (empty for none).

    Where the plain tags are as many as the images, numbered ones (`<image1>`) are references in words and stay; else
    they count as tags and are renamed. Marks that are never references (`<ImageHere>`, Qwen's own placeholder) become
    tags; where the tags in front are as many, the marks say better where the pictures stand, and where tags are enough
    without them, they go. Too few tags: the missing ones go in front, which keeps the order that the source lists its
    images in. More tags than images means that a picture is missing: that is no mend, see `ValueError`.

    Raises:
        ValueError: more tags than images.

    """
    question, moved = _fit_marks(question, images)
    if question.count(IMAGE_TAG) == images:
        return question, moved
    tags = len(_TAG.findall(question))
    if tags > images:
        raise ValueError(f"{tags} image tags and {images} images")
    text = _TAG.sub(IMAGE_TAG, question)
    if tags == images:
        return text, moved or "numbered image tags renamed"
    return IMAGE_TAG * (images - tags) + "\n" + text.lstrip(), f"{images - tags} of {images} image tags put in front"


def _fit_marks(question: str, images: int) -> tuple[str, str]:
    """Turn marks of pictures into tags, or take them out where the tags are enough; with the mend made."""
    marks = len(PICTURE_MARK.findall(question))
    if not marks:
        return question, ""
    tags = question.count(IMAGE_TAG)
    bare = re.sub(rf"^\s*(?:{IMAGE_TAG}\s*)+", "", question)
    if tags == images == marks and IMAGE_TAG not in bare:
        return PICTURE_MARK.sub(IMAGE_TAG, bare), "image tags put where the question marks its pictures"
    if tags == images:
        return PICTURE_MARK.sub("", question), "marks of pictures beside the image tags taken out"
    return PICTURE_MARK.sub(IMAGE_TAG, question), "marks of pictures renamed to image tags"


def words_of(question: str) -> str:
    """The question without image tags and outer blanks."""
    return _TAG.sub("", PICTURE_MARK.sub("", question)).strip()


def choices_in_question(question: str, answer: str = "") -> tuple[str, ...]:
    """Options that a question lists itself as `(A) ... (B) ...`, on lines or in a row; empty where it does not.

    Takes the last run of consecutive letters from A on, at least two; an option ends at the next letter, the last one
    at its line's end. Any other lettering (points of a figure, parts of a question) breaks the run.
    With dots (`A. ... B. ...`), which prose has as well, it takes three letters or more, short texts, and an `answer`
    that is one of the letters or texts.
    """
    found = _options(question, list(_OPTION.finditer(question)))
    if found or not answer:
        return found
    listed = _options(question, list(_DOTTED_OPTION.finditer(question)))
    dotted = tuple(text.removesuffix("##").strip() for text in listed)
    if len(dotted) < 3 or not all(text and len(text) <= _LONGEST_OPTION for text in dotted):
        return ()
    if any(text.count("$") % 2 or any(mark in text for mark in _NO_OPTION) for text in dotted):
        return ()
    letters, _ = letters_in(answer) or (frozenset(), "")
    named = len(letters) == 1 and letters <= {chr(65 + place) for place in range(len(dotted))}
    return dotted if named or answer in dotted else ()


def _options(question: str, marks: list[re.Match[str]]) -> tuple[str, ...]:
    """Texts behind the last run of consecutive letters, which must be the last letters there are."""
    start = max((index for index, mark in enumerate(marks) if mark[1] in "Aa"), default=None)
    if start is None:
        return ()
    lower = marks[start][1].islower()
    run = []
    for offset, mark in enumerate(marks[start:]):
        if mark[1] != chr((97 if lower else 65) + offset):
            break
        run.append(mark)
    if len(run) < 2 or start + len(run) != len(marks):
        return ()
    ends = [mark.start() for mark in run[1:]] + [len(question)]
    texts = [question[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True)]
    texts[-1] = texts[-1].split("\n")[0].strip()
    return tuple(texts) if all(texts) else ()


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
