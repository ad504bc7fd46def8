"""What a build would take of each record, told in one pass that costs about as much as reading the records.

Input: an opened `Table`. Output: a `Census`: rows, refused records by reason, answers by kind, pictures. Records whose
question holds nothing odd are judged column by column (`_looks`) and by their answer and options alone (`_settled`);
every other record goes through `table_row`, the very code of a build, so that both ways agree (tests compare them).
Of many different golds the grader reads a part, the rest is told in the proportions seen; pictures are decoded up to
`MOST_DECODED`. Both are told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.intake.ingest import carried_row
from data_engine.sources.base import BytesImage, FileImage, Rejection, SourceRow, choices_in_question
from data_engine.sources.conversations import first_exchange
from data_engine.sources.given_answers import BEHIND_HASHES, CLOSING_SENTENCE, OPTION_PLACE, as_letter, final_answer_of
from data_engine.sources.picture_values import NoPictureError, picture, picture_values
from data_engine.sources.table_rows import MAY_LIST, table_row
from data_engine.tally import NOT_READ, Tally, texts
from shared.answers import ANSWER_KINDS, answer_kind
from shared.benchmark_golds import LETTERS
from shared.images import ImageRefused, PathRefused, inspect_image
from shared.placeholders import IMAGE_TAG

if TYPE_CHECKING:
    import polars as pl

    from data_engine.sources.table import Table
    from data_engine.sources.table_files import Batch, Record

MOST_DECODED = 1_000
GOLDS_AT_LEAST, GOLDS_PER_RECORDS = 3_000, 1_000
"""So many different golds have their kind read by the grader, and one more per so many records."""
_EXAMPLES = 3
PLAIN_KINDS = {
    r"-?\d{1,15}": "integer",
    r"-?\d{1,12}\.\d{1,12}": "decimal",
    r"-?\\frac\{\d{1,9}\}\{\d{1,9}\}|-?\d{1,9}/\d{1,9}": "fraction",
    r"[A-J]": "choice",
}
"""Golds whose kind needs no grader (a test holds them to it)."""
_LETTERS = [f"{letter}{gap}{mark}" for letter in "Aa" for gap in ("", " ", "\n") for mark in ").:：、．）"]
"""One of these stands wherever `MAY_LIST` finds something (two blanks between are no public set's)."""
_HEADED = re.compile(r"^\s*\(?[A-Ha-h]\s*[).:：、．]")
_SIMPLE = r"^[-+0-9A-Za-z.,/^*(){}\\_ ]*[0-9][-+0-9A-Za-z.,/^*(){}\\_ ]*$"
"""With no word of four letters besides commands: an answer as it stands, whatever its kind."""
_HASHES = r"####[ \t]*([^\n#]+?)\s*$"
_SENTENCE = r"^\s*(?:[Tt]he\s+)?(?:[Ff]inal\s+|[Cc]orrect\s+)?[Aa]nswer\s*(?:is|:)\s*([^\n]{1,60}?)\s*\.?\s*$"
"""Marks of an answer that `final_answer_of` knows, where they are all there is to a plain answer."""
_UNSURE, _OPEN = -2, -3
_CHOICE = ANSWER_KINDS.index("choice")


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
            looks = self._looks(batch, start)
            plain = looks["plain"].to_numpy().copy()
            plain[size:] = False
            self._look_at_pictures(batch, looks["question"], plain)
            taken = self._take_columns(looks, plain)
            left = np.flatnonzero(plain & ~taken)
            if len(left):
                taken[[place for place in left.tolist() if self._settled(batch, looks, place)]] = True
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

    def _take_columns(self, looks: pl.DataFrame, plain: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Take the plain records with plain answers and no options; returns which."""
        import polars as pl

        kinds = looks["kind"].to_numpy().copy()
        free = plain & ~looks["optional"].to_numpy()
        if (places := np.flatnonzero(free & looks["lettered"].to_numpy())).size:
            asked = looks["question"].gather(places).to_list()
            free[places] = [MAY_LIST.search(question) is None for question in asked]
        open_ = np.flatnonzero(free & (kinds == _OPEN))
        kinds[open_] = [self._kind_of(gold) for gold in looks["answer"].gather(open_).to_list()]
        taken: np.ndarray[Any, Any] = free & (kinds != _UNSURE)
        rows = looks.filter(pl.Series(taken))
        for note, count in rows["note"].value_counts().iter_rows():
            self._count_notes([note] * count if note else [])
        problems = rows["question"]
        if self._names["images"]:
            places = np.flatnonzero(taken).tolist()
            asked = problems.to_list()
            problems = texts([self._problem(q, (), self._seen.get(p, ())) for q, p in zip(asked, places, strict=True)])
            for question, place in zip(asked, places, strict=True):
                self._note_pictures(question, self._seen.get(place, ()))
        elif (odd := problems.str.contains_any(["  ", "\n"])).any():
            spaced = problems.str.replace_all(r"\s+", " ").str.strip_chars()
            problems = problems.zip_with(~odd, spaced)
        self._tally.add(rows["key"], problems, rows["answer"], kinds[taken])
        return taken

    def _settled(self, batch: Batch, looks: pl.DataFrame, place: int) -> bool:
        """Take a record with a plain question by its answer and options; False for one that `table_row` must judge."""
        del batch
        key, question, raw = looks.row(place)[:3]
        options = self._options.get(place, ())
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
        self._one.add(key, self._problem(question, shown, seen), answer, _CHOICE if choices else self._kind_of(answer))
        return True

    def _note_pictures(self, question: str, seen: Sequence[str]) -> None:
        self.found.images += len(seen)
        if seen and IMAGE_TAG not in question:
            self.found.notes[f"{len(seen)} of {len(seen)} image tags put in front"] += 1

    def _looks(self, batch: Batch, start: int) -> pl.DataFrame:
        """Key, question, raw answer, answer and its note, whether the question is plain or has options, and the kind.

        A kind is a place in `ANSWER_KINDS`; `_OPEN`: to be read, `_UNSURE`: to be looked at with `final_answer_of`.
        """
        import polars as pl

        names = self._names
        if self._talks:
            talks = [first_exchange(value) for value in batch.values(names["question"])]
            whole = [t if t and not t.images and not t.later and t.answer is not None else None for t in talks]
            asked, said = texts([t and t.question for t in whole]), texts([t and t.answer for t in whole])  # type: ignore[misc]
        else:
            asked, said = batch.texts(names["question"]), batch.texts(names["answer"], numbers=True)
        unnamed = pl.Series([None] * len(batch), dtype=pl.String)
        keys = batch.texts(names["id"], numbers=True) if names["id"] else unnamed
        self._options: dict[int, list[str]] = {}
        odd_options = np.zeros(len(batch), dtype=bool)
        for place, value in enumerate(batch.values(names["choices"]) if names["choices"] else ()):
            if value:
                good = isinstance(value, list) and all(isinstance(one, str) and "<" not in one for one in value)
                odd_options[place] = not good
                self._options[place] = value if good else []
        places = pl.int_range(start, start + len(batch)).cast(pl.String)
        frame = pl.DataFrame({"question": asked, "answer": said, "key": keys}).with_columns(
            behind=pl.when(pl.col("answer").str.contains("####", literal=True)).then(
                pl.col("answer").str.extract(_HASHES)
            ),
            closing=pl.when(pl.col("answer").str.contains("nswer", literal=True)).then(
                pl.col("answer").str.extract(_SENTENCE)
            ),
        )
        marked = pl.coalesce("behind", "closing")
        plain = _plain_kind(marked).fill_null(_UNSURE) != _UNSURE
        note = pl.when(pl.col("behind").is_not_null()).then(pl.lit(BEHIND_HASHES)).otherwise(pl.lit(CLOSING_SENTENCE))
        frame = frame.with_columns(
            answer=pl.when(plain).then(marked).otherwise(pl.col("answer")),
            note=pl.when(plain).then(note).otherwise(pl.lit("")),
            raw=pl.col("answer"),
        )
        return frame.select(
            pl.col("key").fill_null(places),
            "question",
            "raw",
            "answer",
            "note",
            plain=_plain_question(tagged=bool(names["images"])).fill_null(value=False) & ~pl.Series(odd_options),
            optional=pl.Series([place in self._options for place in range(len(batch))], dtype=pl.Boolean),
            lettered=pl.col("question").str.contains_any(_LETTERS).fill_null(value=False),
            kind=_plain_kind(pl.col("answer")).fill_null(_UNSURE).cast(pl.Int16),
        )

    def _look_at_pictures(self, batch: Batch, questions: pl.Series, plain: np.ndarray[Any, Any]) -> None:
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
        words = " ".join(question.split()) if "  " in question or "\n" in question else question
        if seen and IMAGE_TAG not in words:
            words = f"{IMAGE_TAG * len(seen)} {words}"
        return "\x1f".join([words, *options, *seen]) if options or seen else words

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
        kind = _CHOICE if row.choices else self._kind_of(row.answer)
        # Options that were written into the question are taken out of its words again, as plain records have them.
        asked, _, written = row.question.partition("\nChoices: (A) ")
        own = row.choices if written else ()
        self._one.add(row.source_id, self._problem(asked, own, tuple(map(_mark, row.images))), row.answer, kind)

    def _count_notes(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.found.notes[note.split(":")[0]] += 1

    def _kind_of(self, answer: str) -> int:
        """Place in `ANSWER_KINDS` of a gold without options; `NOT_READ` where it is told by proportion."""
        known = self._kinds_of.get(answer)
        if known is not None:
            return known
        for pattern, kind in _COMPILED:
            if pattern.fullmatch(answer):
                return ANSWER_KINDS.index(kind)
        if self._judged >= GOLDS_AT_LEAST + self.found.records // GOLDS_PER_RECORDS:
            return NOT_READ
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
        self.found.rows, self.found.answer_kinds, self.found.estimated, removed = self._tally.count()
        self.found.refused += removed
        return self.found


_COMPILED = tuple((re.compile(pattern), kind) for pattern, kind in PLAIN_KINDS.items())


def _plain_question(*, tagged: bool) -> pl.Expr:
    """Whether question and answer are texts and the question holds nothing odd; `tagged`: `<image>` may stand in it."""
    import polars as pl

    question = pl.col("question")
    rest = question.str.replace_all(IMAGE_TAG, "", literal=True) if tagged else question
    return (
        question.is_not_null()
        & pl.col("answer").is_not_null()
        & (rest.str.strip_chars() != "")
        & ~rest.str.contains("<", literal=True)
        & ~question.str.contains_any(["[IMG]", "![", "\f", "\0"])
    )


def _plain_kind(answer: pl.Expr) -> pl.Expr:
    """Kind of a plain answer: a place in `ANSWER_KINDS`, `_OPEN` or `_UNSURE`."""
    import polars as pl

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
    return kind


def _is_whole(row: SourceRow) -> bool:
    """Whether a row holds no half characters, which a build refuses."""
    try:
        "".join((row.question, row.answer, *row.choices)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _mark(image: FileImage | BytesImage) -> str:
    return str(hash(image.data)) if isinstance(image, BytesImage) else image.name
