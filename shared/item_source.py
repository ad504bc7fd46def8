"""Items of a benchmark as its file or a task file says: how its records become those that are known.

Input: the table `source` of a task file or of a benchmark's own file, and a published file or folder. Output: rows with
the names that `shared.benchmark_files` knows, completed by what only the table says. Both halves read a benchmark here
(`read_benchmark`): what is scored and what rows are compared with are the same items.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field, field_validator

from shared.benchmark_files import (
    ANSWER_FIELDS,
    CHOICE_FIELDS,
    ID_FIELDS,
    IMAGE_FIELDS,
    QUESTION_FIELDS,
    BenchmarkRow,
    OneItem,
    benchmark_files,
    file_records,
    read_record,
    unreadable_row,
)
from shared.benchmarks import benchmark
from shared.config import Strict, build_model, read_toml
from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.images import file_inside
from shared.option_lists import literal_list, without_letters

Names = str | tuple[str, ...]


class Derived(Strict):
    """A field that is a part of another one."""

    field: str = Field(description="The file's field.")
    pattern: str = Field(description="Regular expression; its first group is the part.")

    @field_validator("pattern")
    @classmethod
    def _names_a_part(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError) as error:
            message = f"no regular expression ({error})"
            raise ValueError(message) from error
        if not groups:
            raise ValueError("no group: put the part that is meant into brackets")
        return pattern


class ItemSource(Strict):
    """Where items come from, and which column of a file serves which role."""

    location: str = Field(
        default="", description="File or folder, from the task file's folder; or a dataset; empty: named like the task."
    )
    split: str = Field(default="", description="Split of a dataset that has splits; empty takes every row.")
    columns: dict[str, Names] = Field(
        default={},
        description="Role = column, or columns of which the first that is there counts; of choices each is an option; "
        "an empty id counts the items.",
    )
    where: dict[str, Names] = Field(default={}, description="Only items whose field has this value, or one of these.")
    files: tuple[str, ...] = Field(default=(), description="Names or patterns of the files of a folder; empty: all.")
    pictures: str = Field(default="", description="Folder beside the file where images' names start from.")
    beside: str = Field(default="", description="Image beside a file that holds one item, where the item names none.")
    keep: tuple[str, ...] = Field(default=(), description="Further fields for groups, question and scorer.")
    derived: dict[str, Derived] = Field(default={}, description="Fields that are a part of another one: name = part.")
    golds: dict[str, str] = Field(default={}, description="Golds spelled otherwise: what the file has = what is meant.")
    alternatives: bool = Field(default=False, description="A gold that is a list names several right answers.")


_HEAD = 256
"""Records of a file that are looked at for the fields it has."""
ROLES = ("id", "question", "answer", "choices", "images", "category")
OF_EVERY_ITEM = ("key", "answer", "kind", "category", "level", "subset")
"""Fields that an item has whatever its file says."""
_CANONICAL = {"id": "pid", "question": "question", "answer": "answer", "choices": "options", "images": "images"}


class _Told(pydantic.BaseModel):
    """What a task file says of its items; its other words are the evaluation's (`trainer.evaluation.task_files`)."""

    source: ItemSource = ItemSource()


@dataclass(frozen=True)
class ItemReader:
    """Reads records as the task file says."""

    told: ItemSource = field(default_factory=ItemSource)
    folder: Path = Path()
    fields: Mapping[str, Names] = field(default_factory=dict)
    """Fields that a user's task file names outside its source (groups, clusters, ...), by the key that names them."""
    own: bool = False
    """Whether the file is a user's; published files of one benchmark may differ in fields that ours keep."""

    def place(self) -> str | None:
        """File, folder or dataset reference that the items come from; None: the dataset named like the task."""
        if not self.told.location:
            return None
        path = Path(self.told.location).expanduser()
        here = path if path.is_absolute() else self.folder / path
        return str(here) if here.exists() else self.told.location

    def files(self, name: str, path: str | Path) -> list[Path]:
        """The files of the benchmark `name` at `path`: of a folder those that the table `files` means.

        Raises:
            InfiMmrError: nothing readable there, or none of them fits.

        """
        files, patterns = benchmark_files(name, path), self.told.files
        if not patterns or len(files) == 1:
            return files
        found = [file for file in files if any(fnmatch(file.name, pattern) for pattern in patterns)]
        if not found:
            names = ", ".join(file.name for file in files[:5])
            message = f"{self._what} {name}: no file fits {', '.join(patterns)} (there are {names})"
            raise InfiMmrError(message, "Name some of them: source.files = [...]")
        return found

    @property
    def _what(self) -> str:
        return "task" if self.own else "benchmark"

    def check(self, records: Sequence[Mapping[str, Any]], file: Path, task: str, *, scored: bool = True) -> None:
        """Raise where none of a file's first records has a field that the task needs.

        Items that are not `scored` need a question, and what `where` chooses by.

        Raises:
            InfiMmrError: names the field and those that are there.

        """
        known = list(dict.fromkeys(name for record in records for name in record))
        questions = (*QUESTION_FIELDS, "Body")
        told = self.told.columns.get("question")
        # A mirror's question counts whatever it is called, where nothing but the question is asked for.
        wanted = questions if told is None else told if scored else (*several(told), *questions)
        self._check("source.columns.question", wanted, known, file, task)
        for name in self.told.where:
            self._check("source.where", name, known, file, task)
        if not scored:
            return
        self._check("source.columns.answer", self.told.columns.get("answer", ANSWER_FIELDS), known, file, task)
        for role in self.told.columns.keys() - {"id"}:
            self._check(f"source.columns.{role}", self.told.columns[role], known, file, task)
        for name in self.told.keep if self.own else ():
            self._check("source.keep", name, known, file, task)
        inner = (name for one in records if isinstance(held := one.get("metadata"), Mapping) for name in held)
        known = list(dict.fromkeys((*known, *inner)))
        for key, names in self.fields.items():
            if not {*self.told.derived, *OF_EVERY_ITEM} & set(several(names)):
                self._check(key, names, known, file, task)

    def _check(self, key: str, names: Names, known: Sequence[str], file: Path, task: str) -> None:
        wanted = several(names)
        if wanted and known and not set(wanted) & set(known):
            words = " or ".join(wanted)
            fields = f"(its fields: {', '.join(known[:30])})"
            hint = f"{did_you_mean(wanted[0], known).rstrip('.')}. Name it in {'the' if self.own else 'a'} task file"
            message = f"{self._what} {task}: {file.name} has no field {words} for {key} {fields}"
            raise InfiMmrError(message, f"{hint}: {key}")

    def prepare(self, record: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
        """The record with the names that `shared.benchmark_files` knows; None for one that `where` leaves out.

        `folder` is where the record's file lies.
        """
        for name, wanted in self.told.where.items():
            if str(record.get(name)) not in several(wanted):
                return None
        out = dict(record)
        if self.told.columns.get("id") == "":
            out = {name: value for name, value in out.items() if name not in ID_FIELDS}
        for role, names in self.told.columns.items():
            there = [record[name] for name in several(names) if name in record]
            if there and role in _CANONICAL:
                options = role == "choices" and len(there) > 1  # one a column, as in most tables
                out[_CANONICAL[role]] = [one for one in there if one not in (None, "")] if options else there[0]
        if self.told.beside and isinstance(record, OneItem) and not any(out.get(field) for field in IMAGE_FIELDS):
            out["images"] = [self.told.beside]
        if self.told.pictures and (pictures := out.get("images")):
            out["images"] = [
                self._placed(one, folder) for one in (pictures if isinstance(pictures, list) else [pictures])
            ]
        gold = out.get("answer")
        if isinstance(gold, str | int | bool) and str(gold) in self.told.golds:
            out["answer"] = self.told.golds[str(gold)]
        if self.told.alternatives:
            golds = _listed(gold)
            out["answer"] = golds[0] if golds else gold
        return out

    def _placed(self, picture: Any, folder: Path) -> Any:
        """A picture's name with the folder that it starts from, where it lies there."""
        name = f"{self.told.pictures.strip('/')}/{picture}"
        return name if isinstance(picture, str) and file_inside(folder, name) else picture

    def complete(self, row: BenchmarkRow, record: Mapping[str, Any]) -> BenchmarkRow:
        """The row with what only the task file knows: kept fields, its category, further right answers."""
        grouped = (name for names in self.fields.values() for name in several(names) if name not in OF_EVERY_ITEM)
        kept = {name: record[name] for name in (*self.told.keep, *grouped) if record.get(name) is not None}
        if self.told.alternatives:
            names = several(self.told.columns.get("answer", "answer"))
            golds = _listed(next((record[name] for name in names if name in record), record.get("answer")))
            kept |= {"alternatives": golds[1:]} if golds else {}
        for name, part in self.told.derived.items():
            found = re.search(part.pattern, str(record.get(part.field, ""))[:1000])
            kept |= {name: found[1]} if found is not None and found.groups() else {}
        category = next((record[n] for n in several(self.told.columns.get("category", ())) if record.get(n)), None)
        choices = without_letters(row["choices"]) if "choices" in self.told.columns else row["choices"]
        row["extra"] |= kept
        row["category"] = str(category) if category is not None else row["category"]
        row["choices"] = choices
        return row


def declared_reader(name: str) -> ItemReader:
    """How the benchmark `name` of this project says that its items are read; of one without a file, as they are."""
    found = benchmark(name)
    return ItemReader(build_model(dict(found.task), _Told, what="task", file=found.file.name).source)


def reader_of_file(path: Path) -> ItemReader:
    """How a task file of the user's own says that its items are read.

    Raises:
        UsageError: no such file, or a wrong key or value in its table `source`.

    """
    told = build_model(read_toml(path, "task"), _Told, what="task", file=path.name).source
    return ItemReader(checked_source(told, path), path.parent, own=True)


def checked_source(told: ItemSource, path: Path) -> ItemSource:
    """The table `source` of a task file.

    Raises:
        UsageError: a column for a role that items do not have.

    """
    for role in told.columns:
        if role not in ROLES:
            raise UsageError(f"task {path.name}: source.columns has no role {role!r}", did_you_mean(role, ROLES))
    return told


def read_benchmark(
    name: str, path: str | Path, own: ItemReader | None = None, *, images: bool = True, scored: bool = True
) -> Iterator[BenchmarkRow]:
    """Items of the benchmark `name` in file order, read as `own` says, else as its file of this project does.

    An id that occurs again gets a number. Without `images` no picture is read: `images` and `missing_images` stay
    empty; the `<image>` tags remain. Items that are not to be `scored` need no field but a question.

    Raises:
        InfiMmrError: the path is absent, of an unknown format, unreadable as a whole, or lacks a field.

    """
    own = own or declared_reader(name)
    seen: Counter[str] = Counter()
    for file in own.files(name, path):
        records = file_records(file)
        # A Parquet file's first record has all fields; a line of JSON may lack some.
        head = list(itertools.islice(records, 1 if file.suffix == ".parquet" else _HEAD))
        own.check([record for record in head if record is not None], file, name, scored=scored)
        for index, record in enumerate(itertools.chain(head, records)):
            if record is None:
                yield unreadable_row(file, index)
            elif (prepared := own.prepare(record, file.parent)) is not None:
                row = own.complete(read_record(name, prepared, file, index, images=images), record)
                seen[row["source_id"]] += 1
                if (again := seen[row["source_id"]]) > 1:
                    row["source_id"] += f"#{again}"
                yield row


def fields_taken(name: str, path: str | Path, own: ItemReader | None = None) -> dict[str, str]:
    """Which column of the file serves which role (id, question, answer, choices, images), from its first row."""
    own = own or declared_reader(name)
    records = (record for file in own.files(name, path) for record in file_records(file))
    first = next((record for record in records if record is not None), {})
    roles = {
        "id": ID_FIELDS, "question": QUESTION_FIELDS, "answer": ANSWER_FIELDS, "choices": CHOICE_FIELDS,
        "images": (*IMAGE_FIELDS, "image_1"),
    }  # fmt: skip
    if own.told.columns.get("id") == "":
        del roles["id"]
    wanted = {role: (*several(own.told.columns.get(role, ())), *fields) for role, fields in roles.items()}
    found = {role: next((field for field in fields if field in first), "") for role, fields in wanted.items()}
    return {role: field for role, field in found.items() if field}


def several(names: Names) -> tuple[str, ...]:
    """Names of fields, where one may stand alone."""
    return (names,) if isinstance(names, str) else names


def _listed(gold: Any) -> list[str]:
    """Items of a gold that is a list, also of one written as text."""
    found = literal_list(gold) if isinstance(gold, str) and gold.strip().startswith("[") else gold
    return [str(one) for one in found] if isinstance(found, list | tuple) else []
