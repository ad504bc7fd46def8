"""What a build would take of each record, told in one pass that costs about as much as reading the records.

Input: an opened `Table`. Output: a `Census`: rows, refused records by reason, answers by kind, pictures. Plain
records are judged column by column (`_looks`); every record that holds anything else goes through `table_row`, the very
code of a build, so that both ways agree (tests compare them).
Of many different golds the grader reads a part (`golds_read`), the rest is told in the proportions seen; pictures are
decoded up to `MOST_DECODED`. Both are told.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.intake.ingest import carried_row
from data_engine.sources.base import BytesImage, FileImage, Rejection, SourceRow
from data_engine.sources.picture_values import NoPictureError, picture, picture_values
from data_engine.sources.table_rows import table_row
from shared.answers import ANSWER_KINDS, answer_kind, grade
from shared.images import ImageRefused, PathRefused, inspect_image
from shared.placeholders import IMAGE_TAG

if TYPE_CHECKING:
    import polars as pl

    from data_engine.sources.table import Table
    from data_engine.sources.table_files import Batch, Record

MOST_DECODED = 1_000
GOLDS_AT_LEAST, GOLDS_PER_RECORDS = 4_000, 1_000
"""So many different golds have their kind read by the grader, and one more per so many records."""
_EXAMPLES = 3
PLAIN_KINDS = {
    r"-?\d{1,15}": "integer",
    r"-?\d{1,12}\.\d{1,12}": "decimal",
    r"-?\\frac\{\d{1,9}\}\{\d{1,9}\}|-?\d{1,9}/\d{1,9}": "fraction",
    r"[A-J]": "choice",
}
"""Golds whose kind needs no grader (a test holds them to it)."""
_LETTERED = re.compile(r"(?<![A-Za-z0-9])[(（]?[Aa]\s*[).:：、．）]")
"""Where a question may list its options."""
_LETTERS = [f"{letter}{gap}{mark}" for letter in "Aa" for gap in ("", " ", "\n") for mark in ").:：、．）"]
"""One of these stands wherever `_LETTERED` finds something (two blanks between are no public set's)."""
_SIMPLE = r"^[-+0-9A-Za-z.,/^*(){}\\_ ]*[0-9][-+0-9A-Za-z.,/^*(){}\\_ ]*$"
"""With no word of four letters besides commands: an answer as it stands, whatever its kind."""


@dataclass
class Census:
    """What was counted. `decoded` of `images` pictures were decoded; kinds of `estimated` rows told by proportion."""

    records: int = 0
    rows: int = 0
    images: int = 0
    decoded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    answer_kinds: Counter[str] = field(default_factory=Counter)
    estimated: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    examples: list[SourceRow] = field(default_factory=list)
    refusals: dict[str, list[Rejection]] = field(default_factory=dict)


def take_census(table: Table, limit: int = 0, *, quick: bool = True) -> Census:
    """Count what a build would take of `table` (of its first `limit` records; 0: of all); `quick` spares plain ones."""
    counter = _Counter(table, quick=quick)
    for batch in table.batches():
        left = limit - counter.found.records if limit else len(batch)
        counter.batch(batch, min(left, len(batch)))
        if limit and counter.found.records >= limit:
            break
    return counter.finish()


class _Counter:
    """The pass itself. Per row taken: hashes of key and problem, the answer, the place of its kind (-1: not read)."""

    def __init__(self, table: Table, *, quick: bool) -> None:
        self._reading = table.reading
        columns = table.columns
        self._names = {role: columns.get(role, ("",))[0] for role in ("id", "question", "answer", "choices", "images")}
        several = any(len(columns.get(role, ())) > 1 or "." in name for role, name in self._names.items())
        self._quick = quick and not several and columns["question"] != columns["answer"]
        self._quick = self._quick and ("choices" not in columns or table.form == "text")
        self.found = Census()
        self._kinds_of: dict[str, int] = {}
        self._judged = 0
        self._keys, self._problems, self._kinds = array("q"), array("q"), array("b")
        self._answers: list[pl.Series] = []
        self._fresh: list[str] = []
        """Answers since the last of `_answers`: a million texts take a third of the memory as columns."""

    def batch(self, batch: Batch, size: int) -> None:
        """Judge the first `size` records of a batch."""
        start = self.found.records
        if self._quick:
            looks = _looks(batch, self._names, start)
            plain = looks["plain"].to_numpy().copy()
            plain[size:] = False
            self._look_at_pictures(batch, plain)
            self._take_plain(looks, plain)
        else:
            plain = np.zeros(len(batch), dtype=bool)
        self.found.records += size
        rest = np.flatnonzero(~plain[:size]).tolist()
        for place, record in zip(rest, batch.at(rest), strict=True):
            self._count(record, start + place)
        if len(self.found.examples) < _EXAMPLES:
            shown = np.flatnonzero(plain)[: _EXAMPLES - len(self.found.examples)].tolist()
            rows = (table_row(r, start + p, self._reading) for p, r in zip(shown, batch.at(shown), strict=True))
            self.found.examples += [row for row in rows if isinstance(row, SourceRow)]

    def _take_plain(self, looks: pl.DataFrame, plain: np.ndarray[Any, Any]) -> None:
        """Take the plain records; those whose answer needs a closer look are plain no more."""
        import polars as pl

        questions = looks["question"].to_list()
        for place in np.flatnonzero(plain & looks["lettered"].to_numpy()).tolist():
            plain[place] = _LETTERED.search(questions[place]) is None
        kinds = looks["kind"].to_numpy().copy()
        open_ = np.flatnonzero(plain & (kinds == _OPEN))
        golds = looks["answer"].gather(open_).to_list()
        kinds[open_] = [self._kind_of(gold) for gold in golds]
        plain &= kinds != _UNSURE
        taken = looks.filter(pl.Series(plain))
        shown = [self._seen.get(place, ()) for place in np.flatnonzero(plain).tolist()]
        problems = []
        for question, seen in zip(taken["question"].to_list(), shown, strict=True):
            text = " ".join(question.split()) if "  " in question or "\n" in question else question
            if seen and IMAGE_TAG not in text:
                problems.append(hash((f"{IMAGE_TAG * len(seen)} {text}", (), seen)))
                self.found.notes[f"{len(seen)} of {len(seen)} image tags put in front"] += 1
            else:
                problems.append(hash((text, (), seen)))
        self._problems.extend(problems)
        self._keys.extend(map(hash, zip(taken["key"].to_list(), problems, taken["answer"].to_list(), strict=True)))
        self._keep_answers()
        self._answers.append(taken["answer"])
        self._kinds.frombytes(kinds[plain].astype(np.int8).tobytes())
        self.found.images += sum(map(len, shown))

    def _look_at_pictures(self, batch: Batch, plain: np.ndarray[Any, Any]) -> None:
        """Find the pictures of plain records, by place; records with any doubt are plain no more."""
        self._seen: dict[int, tuple[Any, ...]] = {}
        if not self._names["images"]:
            return
        values = batch.values(self._names["images"])
        questions = batch.texts(self._names["question"]).to_list()
        for place in np.flatnonzero(plain).tolist():
            parts = picture_values(values[place])
            seen = self._pictures(parts) if questions[place].count(IMAGE_TAG) in {0, len(parts)} else None
            if seen is None:
                plain[place] = False
            else:
                self._seen[place] = seen

    def _pictures(self, parts: list[Any]) -> tuple[Any, ...] | None:
        """What tells the pictures of a record apart; None where one of them needs a closer look."""
        seen: list[Any] = []
        for part in parts:
            try:
                image = picture(part, self._reading.find)
            except NoPictureError:
                return None
            if self._picture_refusal(image) is not None:
                return None
            seen.append(_mark(image))
        return tuple(seen)

    def _count(self, record: Record, position: int) -> None:
        """Judge one record as a build does."""
        row = table_row(record, position, self._reading)
        if isinstance(row, SourceRow) and not _is_whole(row):
            row = carried_row(row)
        if isinstance(row, SourceRow):
            reason = next(filter(None, map(self._picture_refusal, row.images)), None)
            if reason is None:
                self._take(row)
                return
            row = Rejection(row.source_id, *reason, row.question, row.answer_raw)
        self.found.refused[row.reason] += 1
        seen = self.found.refusals.setdefault(row.reason, [])
        if len(seen) < _EXAMPLES:
            seen.append(row)

    def _keep_answers(self) -> None:
        import polars as pl

        if self._fresh:
            self._answers.append(pl.Series("answer", self._fresh, dtype=pl.String))
            self._fresh = []

    def _take(self, row: SourceRow) -> None:
        if len(self.found.examples) < _EXAMPLES:
            self.found.examples.append(row)
        self.found.images += len(row.images)
        self._count_notes(row.extra.get("mends", ()))
        words = " ".join(row.question.split())
        problem = hash((words, row.choices, tuple(map(_mark, row.images))))
        self._problems.append(problem)
        self._keys.append(hash((row.source_id, problem, row.answer)))
        self._fresh.append(row.answer)
        self._kinds.append(ANSWER_KINDS.index("choice") if row.choices else self._kind_of(row.answer))

    def _count_notes(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.found.notes[note.split(":")[0]] += 1

    def _kind_of(self, answer: str) -> int:
        """Place in `ANSWER_KINDS` of a gold without options; -1 where it is told by proportion."""
        known = self._kinds_of.get(answer)
        if known is not None:
            return known
        for pattern, kind in _COMPILED:
            if pattern.fullmatch(answer):
                return ANSWER_KINDS.index(kind)
        if self._judged >= GOLDS_AT_LEAST + self.found.records // GOLDS_PER_RECORDS:
            return -1
        self._judged += 1
        self._kinds_of[answer] = ANSWER_KINDS.index(answer_kind(answer))
        return self._kinds_of[answer]

    def _picture_refusal(self, image: FileImage | BytesImage) -> tuple[str, str] | None:
        """(reason, detail) of a picture that a build would refuse; beyond `MOST_DECODED` only of one that is absent."""
        try:
            path = image.path() if isinstance(image, FileImage) else None
            if path is not None and not path.is_file():
                return "image_missing", image.name
            if self.found.decoded < MOST_DECODED:
                self.found.decoded += 1
                inspect_image(path.read_bytes() if path is not None else image.data)  # type: ignore[union-attr]
        except PathRefused as error:
            return error.reason, image.name
        except ImageRefused as error:
            return f"image_refused:{error.reason}", image.name
        except OSError as error:
            return "image_missing", f"{image.name}: {error.strerror}"
        return None

    def finish(self) -> Census:
        """Take out what occurs twice or with different answers, count kinds and share out those not read."""
        import polars as pl

        keys, problems = (np.frombuffer(part, dtype=np.int64) for part in (self._keys, self._problems))
        kinds = np.frombuffer(self._kinds, dtype=np.int8)
        kept = np.ones(len(kinds), dtype=bool)
        for place in _again(keys):
            kept[place] = False
            self.found.refused["duplicate_id"] += 1
        self._keep_answers()
        golds = pl.concat(self._answers) if self._answers else pl.Series("answer", [], dtype=pl.String)
        for group in _same(np.where(kept, problems, np.arange(len(problems)))):
            answers = list(dict.fromkeys(golds[place] for place in group if kept[place]))
            if len(answers) > 1 and not all(grade(other, answers[0]).correct for other in answers[1:]):
                for place in group:
                    self.found.refused["conflicting_answers"] += bool(kept[place])
                    kept[place] = False
        self.found.rows = int(kept.sum())
        counts = Counter({kind: int((kinds[kept] == place).sum()) for place, kind in enumerate(ANSWER_KINDS)})
        self.found.answer_kinds, self.found.estimated = shared_out(counts, self.found.rows)
        return self.found


_UNSURE, _OPEN = -2, -3
_COMPILED = tuple((re.compile(pattern), kind) for pattern, kind in PLAIN_KINDS.items())


def _looks(batch: Batch, names: dict[str, str], start: int) -> pl.DataFrame:
    """Key, question, answer, whether a record is plain (pictures aside), and its answer's kind, a row each.

    A kind is a place in `ANSWER_KINDS`; `_OPEN`: to be read, `_UNSURE`: `table_row` must judge the record.
    """
    import polars as pl

    question, answer = pl.col("question"), pl.col("answer")
    columns = {
        "question": batch.texts(names["question"]),
        "answer": batch.texts(names["answer"], numbers=True),
        "key": batch.texts(names["id"], numbers=True)
        if names["id"]
        else pl.Series([None] * len(batch), dtype=pl.String),
    }
    rest = question.str.replace_all(IMAGE_TAG, "", literal=True) if names["images"] else question
    plain = (
        question.is_not_null()
        & answer.is_not_null()
        & (rest.str.strip_chars() != "")
        & ~rest.str.contains("<", literal=True)
        & ~question.str.contains_any(["[IMG]", "![", "\f", "\0"])
    )
    if names["choices"]:
        plain &= pl.Series([not value for value in batch.values(names["choices"])], dtype=pl.Boolean)
    simple = (
        answer.str.contains(_SIMPLE)
        & ~answer.str.contains(r"^\{|\\right|boxed")
        & ~answer.str.replace_all(r"\\[A-Za-z]+", " ").str.contains(r"[A-Za-z]{4,}")
        & (answer.str.len_chars() <= 60)
        & (answer.str.strip_chars() == answer)
    )
    kind = pl.when(simple).then(pl.lit(_OPEN)).otherwise(pl.lit(_UNSURE))
    for pattern, name in PLAIN_KINDS.items():
        kind = pl.when(answer.str.contains(f"^(?:{pattern})$")).then(pl.lit(ANSWER_KINDS.index(name))).otherwise(kind)
    places = pl.int_range(start, start + len(batch)).cast(pl.String)
    return pl.DataFrame(columns).select(
        pl.col("key").fill_null(places),
        question,
        answer,
        lettered=question.str.contains_any(_LETTERS).fill_null(value=False),
        plain=plain.fill_null(value=False),
        kind=kind.fill_null(_UNSURE).cast(pl.Int16),
    )


def _is_whole(row: SourceRow) -> bool:
    """Whether a row holds no half characters, which a build refuses."""
    try:
        "".join((row.question, row.answer, *row.choices)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _mark(image: FileImage | BytesImage) -> Any:
    return hash(image.data) if isinstance(image, BytesImage) else image.name


def _again(keys: np.ndarray[Any, Any]) -> list[int]:
    """Places of values that occurred before."""
    _, first = np.unique(keys, return_index=True)
    seen = np.zeros(len(keys), dtype=bool)
    seen[first] = True
    return [int(place) for place in np.flatnonzero(~seen)]


def _same(values: np.ndarray[Any, Any]) -> list[list[int]]:
    """Groups of places that hold the same value, two or more."""
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order]) != 0) + 1
    sizes = np.diff(np.concatenate([[0], ends, [len(values)]]))
    starts = np.concatenate([[0], ends])[sizes > 1]
    return [order[start : start + size].tolist() for start, size in zip(starts, sizes[sizes > 1], strict=True)]


def shared_out(counts: Counter[str], rows: int) -> tuple[Counter[str], int]:
    """Counts that add up to `rows`: what is missing is given in the proportions of those there; and how many it was."""
    seen = Counter({kind: n for kind, n in counts.items() if n})
    total, left = sum(seen.values()), rows - sum(seen.values())
    if left <= 0 or not total:
        return seen, 0
    out = Counter({kind: n + left * n // total for kind, n in seen.items()})
    out[seen.most_common(1)[0][0]] += rows - sum(out.values())
    return out, left
