"""The source `table`: any set of problems and answers, by the roles of its columns.

Input: a `TablePlace` and what the recipe tells about it; what it does not tell is guessed from names and values of a
sample (`columns`, `given_answers`) and said in `notes`. Output: rows as every source gives them. Files are read batch
by batch: memory does not grow with the set. Opening reads a sample only; the fingerprint (contents of files and of the
pictures that they name) is made when it is asked for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_engine.sources.base import Count, Rejection, SourceRow
from data_engine.sources.columns import Guess, columns_read, guess_columns, lie_beside, value_at
from data_engine.sources.contents import MANY, MUCH, Contents, FileContents, PictureContents, paths_of
from data_engine.sources.file_hashes import file_hashes, remembered
from data_engine.sources.file_pieces import PIECE_ROWS, Cutter, TablePiece, check_records, cut_where_told
from data_engine.sources.given_answers import Form, guess_form
from data_engine.sources.picture_names import name_pictures
from data_engine.sources.picture_roots import PROBED_NAMES, picture_roots
from data_engine.sources.places import files_revision, short_revision
from data_engine.sources.record_files import find_record_files
from data_engine.sources.records import FiledRecord, Record
from data_engine.sources.table_choice import PACKED, Chosen, kind_of
from data_engine.sources.table_columns import column_batches, column_types
from data_engine.sources.table_files import Batch, column_names, count_rows, read_batches
from data_engine.sources.table_place import TablePlace, open_table_place
from data_engine.sources.table_rows import Reading, choices_of, names_pictures, picture_files, table_row
from shared.errors import InfiMmrError

GUESSED = "columns guessed"
SAMPLE = 512
"""Records of the first file that a guess is made from; of the next files an eighth each."""
_SAMPLED_FILES = 8
_SAMPLED_RECORDS = 128
"""Files that are opened for a guess where each holds one record."""
_TEXTS = {"json", "jsonl", "csv", "tsv"}


class Table:
    """The source `table` at a place; see `Source` for the attributes.

    Attributes:
        columns: Columns by role, several where a role is spread over them.
        form: How numbers beside options are meant.
        notes: What was guessed or left aside and a person should know, a sentence each.
        sample: The records that the guesses were made from.

    """

    name = "table"

    def __init__(
        self,
        place: TablePlace,
        *,
        what: str = "source",
        columns: Mapping[str, Sequence[str]] | None = None,
        answers: Form = "guess",
        pictures: str = "",
        licence: str = "",
    ) -> None:
        self._place = place
        self._what = what
        self._strange: set[str] = set()
        """Files whose first records have no question."""
        self.location = place.location
        self.licence = licence
        told = columns or {}
        each = find_record_files(place, told, what)
        self._each = each[0] if each is not None else None
        """Files that hold one record each."""
        if each is not None:
            place.chosen = Chosen(each[0].names, (*place.chosen.told, *each[1]))
        samples = self._samples()
        guess = self._guess(samples, told)
        self.columns = guess.columns
        self.sample = [record for records in samples.values() for record in records]
        named = ""
        if "images" not in told and not self._inside:
            pattern, named = name_pictures(place, self.sample, self.columns)
            self.columns = {**self.columns, "images": (pattern,)} if pattern else self.columns
        aside = self._left_aside() if self._each is None else ""
        form, said = self._form() if answers == "guess" else (answers, "")
        self.form: Form = form
        plain = Reading(self.columns, form, picture_roots(place, ())[0])
        shown = ((image.name, r) for r in self.sample for image in picture_files(r, plain, inside=self._inside))
        probed = list(itertools.islice(shown, PROBED_NAMES))
        homes = [record.folder for _, record in probed if isinstance(record, FiledRecord)]
        find, where = picture_roots(
            place, [name for name, _ in probed], files=self.files(), told=pictures, folders_of=homes
        )
        self.notes: Sequence[str] = tuple(filter(None, (*place.chosen.told, aside, *guess.told, named, said, where)))
        guessed = [f"{role} from {', '.join(names)}" for role, names in self.columns.items() if role not in told]
        if guessed:
            self.notes = (f"{GUESSED}: {'; '.join(guessed)} (source.columns overrides)", *self.notes)
        self.reading = Reading(
            self.columns, form, find, pictured=lie_beside(self.sample, self.columns.get("images", ()))
        )
        read = ", ".join(place.chosen.names[:3]) + (", ..." if len(place.chosen.names) > 3 else "")
        self.taken = f"{read}: " + ", ".join(f"{role} from {', '.join(c)}" for role, c in self.columns.items())

    @cached_property
    def _content(self) -> tuple[str, str]:
        if self._place.commit:
            # The commit names every byte of the hub's files.
            return files_revision([(self.location, self._place.commit)])
        named = self._named_files().pairs()
        pictures: dict[str, Path] = {}
        for batch in self.batches(self._picture_columns) if self._in_files else ():
            for record in batch.records():
                pictures |= paths_of(picture_files(record, self.reading, inside=self._inside))
        found = file_hashes(pictures.values())
        return files_revision([*named, *((name, found.get(path, "missing")) for name, path in pictures.items())])

    def contents(self, placed: Callable[[Sequence[TablePiece]], Sequence[Any]]) -> list[Contents]:
        """What the fingerprint is made of, in pieces, which `placed` places; none where it is found out quickly."""
        if self._place.commit or self._place.remote is not None:
            return []
        whole = self._named_files()
        sizes = {file: file.stat().st_size for file in whole.files if file.is_file()}
        pieces = placed(self.pieces()) if self._in_files and sum(sizes.values()) > MANY * self._record_bytes else []
        if not pieces and sum(sizes[file] for file in sizes.keys() - remembered(whole.files)) <= MUCH:
            return []
        step = PIECE_ROWS if self._each is not None else 1
        files = [
            replace(whole, names=whole.names[start : start + step], files=whole.files[start : start + step])
            for start in range(0, len(whole.names), step)
        ]
        return [*files, *(PictureContents(piece, self._picture_columns, self._inside) for piece in pieces)]

    def settle(self, digest: str) -> None:
        """Know the fingerprint over all `contents`."""
        self._content = digest, short_revision(digest)

    def _named_files(self) -> FileContents:
        return FileContents(self._what, self.files(), tuple(self._place.files()))

    @property
    def filed(self) -> bool:
        """Whether each record has a file of its own."""
        return self._each is not None

    @property
    def revision(self) -> str:
        """Hub commit, or the short form of the contents' hash."""
        return self._place.commit or self._content[1]

    def fingerprint(self) -> str:
        """Hash over the files and every picture that they name."""
        return self._content[0]

    def files(self) -> tuple[str, ...]:
        """Relative names of the files read."""
        return self._place.chosen.names

    def count(self) -> int | None:
        """Rows where the files say so without being read."""
        if self._each is not None:
            return len(self._each.names)
        counts = [count_rows(file, kind_of(file.name), self._what) for file in self._place.files()]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def about(self) -> int | None:
        """Records of text files by their bytes, and those of records of the sample; None where that says nothing."""
        files = self._place.files()
        if any(file.suffix in PACKED or kind_of(file.name) not in _TEXTS for file in files):
            return None
        named = kind_of(files[0].name) in {"json", "jsonl"}
        texts = (json.dumps(record if named else [*record.values()], default=str) for record in self.sample)
        return round(sum(file.stat().st_size for file in files) * len(self.sample) / max(sum(map(len, texts)), 1))

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in file order."""
        position = 0
        for batch in self.batches():
            for record in batch.records():
                yield table_row(record, position, self.reading)
                position += 1

    def pieces(self) -> list[TablePiece]:
        """See `InPieces`; none where pictures would have to be fetched: that is done for the whole."""
        place = self._place
        remote = place if place.remote is not None else None
        pictured = bool(self.columns.get("images")) or self._inside
        if remote is not None and pictured:
            return []
        cutter = Cutter(self._what, self.reading, remote, pictured, self._in_files, self._record_bytes)
        if self._each is not None:
            return cutter.share(self._each)
        return [piece for file in place.files() for piece in cutter.cut(file, kind_of(file.name))]

    def placed(self, pieces: Sequence[TablePiece], counts: Sequence[Count]) -> list[TablePiece]:
        """See `InPieces`."""
        found: list[TablePiece] = []
        first = 0
        for file, some in itertools.groupby(zip(pieces, counts, strict=True), key=lambda pair: pair[0].file):
            given = list(some)
            whole = replace(given[0][0], where=(), height=None)
            of_file = cut_where_told(given)
            if of_file is None:
                found.append(whole)
                continue
            check_records(file, whole.kind, [count for _, count in of_file], self._what)
            lines = 0
            for piece, count in of_file:
                # Where it was placed before, it knows its lines.
                found.append(replace(piece, height=count.records, first=first, lines=piece.lines or lines))
                first, lines = first + count.records, lines + count.lines
        return found

    def batches(self, columns: Sequence[str] | None = None, *, looked_at: Sequence[str] = ()) -> Iterator[Batch]:
        """Batches of records in file order; the pictures that they name are within reach when they come.

        `looked_at` names columns of which most records will not be asked for the rest: formats of text are then read as
        columns where that is quicker.
        """
        remote = self._place.remote is not None
        types = None if remote or not looked_at else column_types(self.sample, looked_at)
        for batch in self._read(columns, types):
            if remote:
                records = batch.records()
                shown = (picture_files(record, self.reading, inside=self._inside) for record in records)
                self._place.fetch([image.name for images in shown for image in images])
            yield batch

    def _read(self, columns: Sequence[str] | None, types: Mapping[str, Any] | None) -> Iterator[Batch]:
        """Batches of all files; with `types`, formats of text come as columns where that is quicker."""
        if self._each is not None:
            yield from self._each.batches(self._what)
            return
        for file in self._place.files():
            kind = kind_of(file.name)
            if types is not None and kind in _TEXTS:
                yield from column_batches(file, kind, self._what, types)
            else:
                yield from read_batches(file, kind, self._what, columns)

    def _samples(self) -> dict[str, list[Mapping[str, Any]]]:
        """Records of the first files by file; files that say their columns are sampled once per set of columns."""
        if self._each is not None:
            few = replace(self._each, names=self._each.names[:_SAMPLED_RECORDS])
            return {"": [record for part in few.batches(self._what) for record in part.records()]}  # type: ignore[misc]  # none is unreadable
        samples: dict[str, list[Mapping[str, Any]]] = {}
        seen: set[tuple[str, ...]] = set()
        bad: Record | None = None
        for name, file in zip(self.files(), self._place.files(), strict=True):
            known = column_names(file, kind_of(name), self._what)
            if len(samples) >= _SAMPLED_FILES or (known is not None and tuple(known) in seen):
                continue
            seen.add(tuple(known or ()))
            size = SAMPLE // _SAMPLED_FILES if samples else SAMPLE
            items = (r for part in read_batches(file, kind_of(name), self._what, rows=size) for r in part.records())
            taken = list(itertools.islice(items, size))
            bad = bad or next((record for record in taken if isinstance(record, str)), None)
            good = [record for record in taken if not isinstance(record, str)]
            if good:
                samples[name] = good
        if not samples:
            names = ", ".join(self.files()[:_SAMPLED_FILES])
            message = f"{self._what}: no record in {names}{f' ({bad})' if bad else ''}"
            raise InfiMmrError(message, "Name files whose records are objects with named fields")
        return samples

    def _guess(self, samples: dict[str, list[Mapping[str, Any]]], told: Mapping[str, Sequence[str]]) -> Guess:
        """Columns of the first file that has question and answer; samples of files of another kind are dropped."""
        problem: InfiMmrError | None = None
        for records in list(samples.values()):
            try:
                guess = guess_columns(records, told, what=self._what)
            except InfiMmrError as error:
                problem = problem or error
                continue
            strange = [name for name, others in samples.items() if not _has(others, guess.columns["question"])]
            self._strange = {name for name in strange if samples.pop(name)}
            together = [record for part in samples.values() for record in part]
            return guess_columns(together, told, what=self._what)
        raise problem or InfiMmrError(f"{self._what}: no record could be read", "Name files with records")

    def _left_aside(self) -> str:
        """Leave aside files that state their columns and have none for the question; what to tell about it.

        Raises:
            InfiMmrError: a file has the question and not the answer, so that all its rows would be refused.

        """
        kept, left = [], []
        for name, file in zip(self.files(), self._place.files(), strict=True):
            known = column_names(file, kind_of(name), self._what)
            tops = {role: {column.split(".")[0] for column in self.columns[role]} for role in ("question", "answer")}
            states = known is None or bool((tops["question"] | set(self.columns["question"])) & set(known))
            if name in self._strange or not states:
                left.append(name)
                continue
            kept.append(name)
            if known is not None and not (tops["answer"] | set(self.columns["answer"])) & set(known):
                raise InfiMmrError(
                    f"{self._what}: {name} has no column {self.columns['answer'][0]!r} for the role answer"
                    f" (its columns: {', '.join(known)})",
                    "Name the files that belong together with files = [...]",
                )
        self._place.chosen = Chosen(tuple(kept), self._place.chosen.told)
        column = self.columns["question"][0]
        return f"left aside, since they have no column {column}: {', '.join(left[:5])}" if left else ""

    def _form(self) -> tuple[Form, str]:
        if "choices" not in self.columns:
            return "text", ""
        pairs = []
        for record in self.sample:
            try:
                options = choices_of([value_at(record, name) for name in self.columns["choices"]])
            except TypeError:
                continue
            pairs += [(value_at(record, name), options) for name in self.columns["answer"][:1]]
        return guess_form(pairs)

    @cached_property
    def _inside(self) -> bool:
        """Whether pictures stand inside the question: in parts of messages, or named in the text."""
        return any(names_pictures(record, self.columns["question"]) for record in self.sample)

    @cached_property
    def _record_bytes(self) -> float:
        """Of a record, about."""
        texts = (len(v) for record in self.sample for v in record.values() if isinstance(v, str | bytes))
        return max(sum(texts) / len(self.sample), 1.0)

    @cached_property
    def _in_files(self) -> bool:
        """Whether records of the sample name pictures that lie in files."""
        if not self.columns.get("images") and not self._inside:
            return False
        return any(True for record in self.sample for _ in picture_files(record, self.reading, inside=self._inside))

    @property
    def _picture_columns(self) -> list[str] | None:
        """Columns that say which pictures there are; None: all of them."""
        names = self.columns.get("images", ())
        return None if self._inside else columns_read(names)


def opened_table(
    what: str,
    *,
    location: str,
    revision: str = "main",
    files: Sequence[str] = (),
    licence: str = "",
    columns: Mapping[str, str | Sequence[str]] | None = None,
    config: str = "",
    split: str = "",
    answers: Form = "guess",
    pictures: str = "",
    links: str = "",
) -> Table:
    """Find the files of a place (settings as a recipe's `[source]` has them) and guess what is not told.

    Raises:
        InfiMmrError: nothing readable there, a told column that is not, or none for question or answer.

    """
    place = open_table_place(location, revision, config=config, split=split, patterns=files, what=what, links=links)
    told = {r: tuple(filter(None, (c,) if isinstance(c, str) else c)) for r, c in (columns or {}).items()}
    return Table(place, what=what, columns=told, answers=answers, pictures=pictures, licence=licence)


def _has(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bool:
    return any(value_at(record, column) is not None for record in records for column in columns)
