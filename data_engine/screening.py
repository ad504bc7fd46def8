"""What a build would take of each record, told in one pass that costs about as much as reading the records.

Input: an opened `Table`. Output: a `Census`: rows, refused records by reason, answers by kind, pictures. Records whose
question holds nothing odd are judged column by column (`column_looks`), or by answer and options alone (`_settled`);
every other record goes through `table_row`, the very code of a build, so that both ways agree (tests compare them).
Of many different golds the grader reads a part, the rest is told in the proportions seen; pictures are decoded up to
`MOST_DECODED`. Both are told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.column_looks import CHOICE, NOTES, OPEN, PLAIN_KINDS, UNSURE, Flags, Looks, look
from data_engine.intake.ingest import carried_row
from data_engine.sources.base import BytesImage, FileImage, Rejection, SourceRow
from data_engine.sources.conversations import first_exchange
from data_engine.sources.given_answers import OPTION_PLACE, as_letter, final_answer_of
from data_engine.sources.picture_values import NoPictureError, picture, picture_values
from data_engine.sources.table_rows import table_row
from data_engine.tally import NOT_READ, READ, Tally, texts
from shared.answers import ANSWER_KINDS, answer_kind
from shared.image_tags import IMAGE_TAG
from shared.images import ImageRefused, PathRefused, inspect_image
from shared.option_lists import LETTERS, MAY_LIST, choices_in_question

if TYPE_CHECKING:
    import polars as pl

    from data_engine.sources.records import Record
    from data_engine.sources.table import Table
    from data_engine.sources.table_files import Batch

MOST_DECODED = 1_000
GOLDS_AT_LEAST, GOLDS_PER_RECORDS = 2_000, 4_000
"""So many different golds have their kind read by the grader, and one more per so many records."""
_EXAMPLES = 3
_HEADED = re.compile(r"^\s*\(?[A-Ha-h]\s*[).:：、．]")


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
    for batch in _ahead(table.batches(looked_at=counter.looked_at)):
        left = limit - counter.found.records if limit else len(batch)
        counter.batch(batch, min(left, len(batch)))
        if limit and counter.found.records >= limit:
            break
    return counter.finish()


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches, each read while the one before is judged."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


@dataclass
class _Taken:
    """Rows taken one by one within a batch."""

    keys: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)

    def add(self, key: str, problem: str, answer: str, kind: int) -> None:
        self.keys.append(key)
        self.problems.append(problem)
        self.answers.append(answer)
        self.kinds.append(kind)


class _Counter:
    """The pass itself."""

    def __init__(self, table: Table, *, quick: bool) -> None:
        self._reading = table.reading
        columns = table.columns
        self._names = {role: columns.get(role, ("",))[0] for role in ("id", "question", "answer", "choices", "images")}
        several = any(len(columns.get(role, ())) > 1 or "." in name for role, name in self._names.items())
        asked = (record.get(self._names["question"]) for record in table.sample)
        self._talks = any(not isinstance(value, str) and first_exchange(value) is not None for value in asked)
        answers_apart = columns["question"] != columns["answer"]
        self._quick = quick and not several and self._talks != answers_apart
        self.looked_at = sorted({name for name in self._names.values() if name}) if self._quick else ()
        """Columns that judge most records."""
        self._first = {"index": 0, "index1": 1}.get(table.form)
        """The number of the first option, where numbers beside options are places."""
        self.found = Census()
        self._kinds_of: dict[str, int] = {}
        self._judged = 0
        self._tally = Tally()
        self._one = _Taken()
        self._seen: dict[int, tuple[str, ...]] = {}

    def batch(self, batch: Batch, size: int) -> None:
        """Judge the first `size` records of a batch."""
        start = self.found.records
        taken = np.zeros(len(batch), dtype=bool)
        if self._quick:
            looks = look(batch, start, self._names, talks=self._talks, first=self._first)
            looks.plain[size:] = False
            self._look_at_pictures(batch, looks.questions, looks.plain)
            taken = self._take_columns(looks)
            left = np.flatnonzero(looks.plain & ~taken)
            if len(left):
                taken[[place for place in left.tolist() if self._settled(looks, place)]] = True
        self.found.records += size
        rest = np.flatnonzero(~taken[:size]).tolist()
        for place, record in zip(rest, batch.at(rest), strict=True):
            self._count(record, start + place)
        if len(self.found.examples) < _EXAMPLES:
            shown = np.flatnonzero(taken)[: _EXAMPLES - len(self.found.examples)].tolist()
            rows = (table_row(r, start + p, self._reading) for p, r in zip(shown, batch.at(shown), strict=True))
            self.found.examples += [row for row in rows if isinstance(row, SourceRow)]
        one, self._one = self._one, _Taken()
        self._tally.add(texts(one.keys), texts(one.problems), texts(one.answers), np.array(one.kinds, dtype=np.int8))

    def _take_columns(self, looks: Looks) -> Flags:
        """Take the plain records whose columns tell answer and kind; returns which."""
        import polars as pl

        kinds = looks.kinds
        told = looks.joined.is_not_null().to_numpy() if looks.joined is not None else False
        free = looks.plain & (~looks.optional | told)
        # Options that a question lists make it a choice, which a letter is anyway.
        if (places := np.flatnonzero(free & looks.lists & (kinds != CHOICE))).size:
            asked = looks.questions.gather(pl.Series(places)).to_list()
            free[places] = [MAY_LIST.search(question) is None for question in asked]
        open_ = np.flatnonzero(free & (kinds == OPEN))
        kinds[open_] = [
            self._kind_of(gold, beyond_columns=True) for gold in looks.answers.gather(pl.Series(open_)).to_list()
        ]
        taken: Flags = free & (kinds != UNSURE)
        rows = pl.Series(taken)
        for note, count in enumerate(np.bincount(looks.notes[taken], minlength=len(NOTES)).tolist()):
            if note and count:
                self.found.notes[NOTES[note]] += count
        problems = looks.questions
        if (taken & looks.spaced).any():
            spaced = pl.Series(np.flatnonzero(taken & looks.spaced))
            single = problems.gather(spaced).str.replace_all(r"\s+", " ").str.strip_chars()
            problems = problems.clone().scatter(spaced, single)
        if looks.joined is not None:
            problems = (problems + "\x1f" + looks.joined).zip_with(looks.joined.is_not_null(), problems)
        problems = problems.filter(rows)
        if self._names["images"]:
            places = np.flatnonzero(taken).tolist()
            asked = problems.to_list()
            problems = texts(
                [self._with_pictures(q, self._seen.get(p, ())) for q, p in zip(asked, places, strict=True)]
            )
            for question, place in zip(asked, places, strict=True):
                self._note_pictures(question, self._seen.get(place, ()))
        self._tally.add(looks.keys.filter(rows), problems, looks.answers.filter(rows), kinds[taken])
        return taken

    def _settled(self, looks: Looks, place: int) -> bool:
        """Take a record with a plain question by its answer and options; False for one that `table_row` must judge."""
        key, question, raw = looks.keys[place], looks.questions[place], looks.raw[place]
        options = looks.options.get(place, ())
        if raw.lstrip()[:1] == "[" or "<|" in raw or any(_HEADED.match(option) for option in options):
            return False
        shown = tuple(option.strip() for option in options)
        notes: tuple[str, ...]
        if shown and self._first is not None:
            spot = int(raw) - self._first if raw.isascii() and raw.isdigit() else -1
            if not 0 <= spot < len(shown):
                return False
            answer, notes, reason = LETTERS[spot], (OPTION_PLACE,), ""
        else:
            answer, notes, reason = final_answer_of(raw)
        if reason:
            return False
        if shown and self._first is None:
            answer, how = as_letter(answer, shown)
            notes = (*notes, how) if how else notes
        seen = self._seen.get(place, ())
        choices = shown or (choices_in_question(question, answer) if MAY_LIST.search(question) else ())
        self._count_notes(notes)
        self._note_pictures(question, seen)
        self._one.add(key, self._problem(question, shown, seen), answer, CHOICE if choices else self._kind_of(answer))
        return True

    def _note_pictures(self, question: str, seen: Sequence[str]) -> None:
        self.found.images += len(seen)
        if seen and IMAGE_TAG not in question:
            self.found.notes[f"{len(seen)} of {len(seen)} image tags put in front"] += 1

    def _look_at_pictures(self, batch: Batch, questions: pl.Series, plain: Flags) -> None:
        """Find the pictures of plain records, by place; records with any doubt are plain no more."""
        self._seen = {}
        if not self._names["images"]:
            return
        values = batch.values(self._names["images"])
        asked = questions.to_list()
        for place in np.flatnonzero(plain).tolist():
            parts = picture_values(values[place])
            seen = self._pictures(parts) if asked[place].count(IMAGE_TAG) in {0, len(parts)} else None
            if seen is None:
                plain[place] = False
            else:
                self._seen[place] = seen

    def _pictures(self, parts: list[Any]) -> tuple[str, ...] | None:
        """What tells the pictures of a record apart; None where one of them needs a closer look."""
        seen: list[str] = []
        for part in parts:
            try:
                image = picture(part, self._reading.find)
            except NoPictureError:
                return None
            if self._picture_refusal(image) is not None:
                return None
            seen.append(_mark(image))
        return tuple(seen)

    def _problem(self, question: str, options: Sequence[str], seen: Sequence[str]) -> str:
        """What tells problems apart: words, options of their own column, pictures."""
        return self._with_pictures("\x1f".join([" ".join(question.split()), *options]), seen)

    def _with_pictures(self, problem: str, seen: Sequence[str]) -> str:
        if seen and IMAGE_TAG not in problem:
            problem = f"{IMAGE_TAG * len(seen)} {problem}"
        return "\x1f".join([problem, *seen]) if seen else problem

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

    def _take(self, row: SourceRow) -> None:
        if len(self.found.examples) < _EXAMPLES:
            self.found.examples.append(row)
        self.found.images += len(row.images)
        self._count_notes(row.extra.get("mends", ()))
        kind = CHOICE if row.choices else self._kind_of(row.answer)
        # Options that were written into the question are taken out of its words again, as plain records have them.
        asked, _, written = row.question.partition("\nChoices: (A) ")
        own = row.choices if written else ()
        self._one.add(row.source_id, self._problem(asked, own, tuple(map(_mark, row.images))), row.answer, kind)

    def _count_notes(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.found.notes[note.split(":")[0]] += 1

    def _kind_of(self, answer: str, *, beyond_columns: bool = False) -> int:
        """Place in `ANSWER_KINDS` of a gold without options; `NOT_READ` where it is told by proportion.

        `beyond_columns`: it is none of `PLAIN_KINDS`.
        """
        known = self._kinds_of.get(answer)
        if known is not None:
            return known
        for pattern, kind in () if beyond_columns else _COMPILED:
            if pattern.fullmatch(answer):
                return ANSWER_KINDS.index(kind)
        if self._judged >= GOLDS_AT_LEAST + self.found.records // GOLDS_PER_RECORDS:
            return NOT_READ
        self._judged += 1
        self._kinds_of[answer] = READ + ANSWER_KINDS.index(answer_kind(answer))
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
        self.found.rows, self.found.answer_kinds, self.found.estimated, removed = self._tally.count()
        self.found.refused += removed
        return self.found


_COMPILED = tuple((re.compile(pattern), kind) for pattern, kind in PLAIN_KINDS.items())


def _is_whole(row: SourceRow) -> bool:
    """Whether a row holds no half characters, which a build refuses."""
    try:
        "".join((row.question, row.answer, *row.choices)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _mark(image: FileImage | BytesImage) -> str:
    return str(hash(image.data)) if isinstance(image, BytesImage) else image.name
