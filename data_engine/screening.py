"""What a build would take of each record, told in one pass that costs about as much as reading the records.

Input: an opened `Table`. Output: a `Census`: rows, refused records by reason, answers by kind, pictures. Records whose
question holds nothing odd are judged column by column (`column_looks`), or by answer and options alone (`_settled`);
every other record goes through `table_row`, the very code of a build, so that both ways agree (tests compare them).
Of many different golds the grader reads a part (`gold_kinds`), the rest is told in the proportions seen; pictures are
decoded up to `MOST_DECODED`. Both are told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.column_looks import NOTES, Flags, Looks, look
from data_engine.gold_kinds import CHOICE, UNSURE
from data_engine.intake.ingest import carried_row
from data_engine.sources.base import BytesImage, FileImage, Rejection, SourceRow
from data_engine.sources.columns import TOLD_ONLY, columns_read, value_at
from data_engine.sources.conversations import first_exchange
from data_engine.sources.given_answers import OPTION_PLACE, as_letter, final_answer_of
from data_engine.sources.picture_values import NoPictureError, picture, picture_values
from data_engine.sources.table_rows import choices_of, table_row
from data_engine.tally import Tally, list_hashes, texts
from shared.image_tags import IMAGE_TAG
from shared.images import ImageRefused, PathRefused, inspect_image
from shared.option_lists import LETTERS, MAY_LIST, choices_in_question

if TYPE_CHECKING:
    import polars as pl

    from data_engine.sources.records import Record
    from data_engine.sources.table import Table
    from data_engine.sources.table_files import Batch

MOST_DECODED = 1_000
_EXAMPLES = 3
_HEADED = re.compile(r"^\s*\(?[A-Ha-h]\s*[).:：、．]")


@dataclass
class Census:
    """What was counted. `decoded` of `images` pictures were decoded; kinds of `estimated` rows told by proportion.

    `drawn` golds were read for these proportions.
    """

    records: int = 0
    rows: int = 0
    images: int = 0
    decoded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    answer_kinds: Counter[str] = field(default_factory=Counter)
    estimated: int = 0
    drawn: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    examples: list[SourceRow] = field(default_factory=list)
    refusals: dict[str, list[Rejection]] = field(default_factory=dict)


def take_census(table: Table, limit: int = 0, *, quick: bool = True) -> Census:
    """Count what a build would take of `table` (of its first `limit` records; 0: of all); `quick` spares plain ones."""
    counter = _Counter(table, quick=quick)
    named = [name for role, names in table.columns.items() if role not in TOLD_ONLY for name in names]
    columns = columns_read(named)
    for batch in _ahead(table.batches(columns, looked_at=counter.looked_at)):
        left = limit - counter.found.records if limit else len(batch)
        counter.batch(batch, min(left, len(batch)))
        if limit and counter.found.records >= limit:
            break
    return counter.finish()


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches, each read while the one before is judged, and the first while Polars is imported."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        import polars as pl  # noqa: F401

        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


class _Counter:
    """The pass itself."""

    def __init__(self, table: Table, *, quick: bool) -> None:
        self._reading = table.reading
        columns = table.columns
        self._options = columns.get("choices", ())
        self._names = {role: columns.get(role, ("",))[0] for role in ("id", "question", "answer", "choices", "images")}
        several = any(len(columns.get(role, ())) > 1 or {".", "{"} & set(name) for role, name in self._names.items())
        asked = (record.get(self._names["question"]) for record in table.sample)
        self._talks = any(not isinstance(value, str) and first_exchange(value) is not None for value in asked)
        answers_apart = columns["question"] != columns["answer"]
        self._quick = quick and not several and not table.filed and self._talks != answers_apart
        self.looked_at = sorted({name for name in self._names.values() if name}) if self._quick else ()
        """Columns that judge most records."""
        self._first = {"index": 0, "index1": 1}.get(table.form)
        """The number of the first option, where numbers beside options are places."""
        self.found = Census()
        self._tally = Tally()
        self._one: list[tuple[str, str, Sequence[str], str, bool]] = []
        """Of rows taken one by one: key, problem, options, answer, whether they are choices."""
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
        if self._one:
            self._join()

    def _join(self) -> None:
        keys, problems, options, answers, choice = zip(*self._one, strict=True)
        sizes = np.array([len(some) for some in options], dtype=np.int64)
        listed = texts([option for some in options for option in some])
        mixed = list_hashes(listed, np.cumsum(sizes) - sizes, sizes)
        kinds = np.where(np.array(choice, dtype=bool), CHOICE, UNSURE)
        self._tally.add(texts(keys), texts(problems), texts(answers), kinds, mixed)
        self._one = []

    def _take_columns(self, looks: Looks) -> Flags:
        """Take the plain records whose columns tell answer and kind; returns which."""
        import polars as pl

        kinds = looks.kinds
        free = looks.plain & (~looks.optional | looks.told)
        # Options that a question lists make it a choice, which a letter is anyway.
        if (places := np.flatnonzero(free & looks.lists & (kinds != CHOICE))).size:
            asked = looks.questions.gather(places).to_list()
            free[places] = [MAY_LIST.search(question) is None for question in asked]
        taken: Flags = free & (kinds != UNSURE)
        every, rows = bool(taken.all()), pl.Series(taken)
        for note, count in enumerate(np.bincount(looks.notes[taken], minlength=len(NOTES)).tolist()):
            if note and count:
                self.found.notes[NOTES[note]] += count
        problems = looks.questions
        if (taken & looks.spaced).any():
            spaced = np.flatnonzero(taken & looks.spaced)
            single = problems.gather(spaced).str.replace_all(r"\s+", " ").str.strip_chars()
            problems = problems.clone().scatter(spaced, single)
        keys, problems, answers = (
            part if every else part.filter(rows) for part in (looks.keys, problems, looks.answers)
        )
        if self._names["images"]:
            places = np.flatnonzero(taken).tolist()
            asked = problems.to_list()
            problems = texts(
                [self._with_pictures(q, self._seen.get(p, ())) for q, p in zip(asked, places, strict=True)]
            )
            for question, place in zip(asked, places, strict=True):
                self._note_pictures(question, self._seen.get(place, ()))
        mixed = None if looks.mixed is None else looks.mixed[taken]
        self._tally.add(keys, problems, answers, kinds[taken], mixed)
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
        problem = self._with_pictures(" ".join(question.split()), seen)
        self._one.append((key, problem, shown, answer, bool(choices)))
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

    def _with_pictures(self, problem: str, seen: Sequence[str]) -> str:
        """What tells problems apart besides options of their own column: words, pictures."""
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
                shown = [value_at(record, name) for name in self._options] if isinstance(record, Mapping) else []
                self._take(row, row.choices if choices_of(shown) else ())
                return
            row = Rejection(row.source_id, *reason, row.question, row.answer_raw)
        self.found.refused[row.reason] += 1
        seen = self.found.refusals.setdefault(row.reason, [])
        if len(seen) < _EXAMPLES:
            seen.append(row)

    def _take(self, row: SourceRow, own: Sequence[str]) -> None:
        """Take a row; `own` are its options where a column of theirs holds them."""
        if len(self.found.examples) < _EXAMPLES:
            self.found.examples.append(row)
        self.found.images += len(row.images)
        self._count_notes(row.extra.get("mends", ()))
        # Options that were written into the question are taken out of its words again, as plain records have them.
        asked = row.question.partition("\nChoices: (A) ")[0] if own else row.question
        problem = self._with_pictures(" ".join(asked.split()), tuple(map(_mark, row.images)))
        self._one.append((row.source_id, problem, own, row.answer, bool(row.choices)))

    def _count_notes(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.found.notes[note.split(":")[0]] += 1

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
            return error.reason, error.detail
        except ImageRefused as error:
            return f"image_refused:{error.reason}", image.name
        except OSError as error:
            return "image_missing", f"{image.name}: {error.strerror}"
        return None

    def finish(self) -> Census:
        """Take out what occurs twice or with different answers, count kinds and share out those not read."""
        found = self.found
        found.rows, found.answer_kinds, found.estimated, found.drawn, removed = self._tally.count()
        found.refused += removed
        return found


def _is_whole(row: SourceRow) -> bool:
    """Whether a row holds no half characters, which a build refuses."""
    try:
        "".join((row.question, row.answer, *row.choices)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _mark(image: FileImage | BytesImage) -> str:
    return str(hash(image.data)) if isinstance(image, BytesImage) else image.name
