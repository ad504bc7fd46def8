"""Where the items of a task file are, and how its records become those of a known benchmark.

Input: the table `source` of a task file, and raw records. Output: records with the names that `shared.benchmark_files`
knows, and rows completed by what only the task file says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from shared.benchmark_files import ANSWER_FIELDS, ID_FIELDS, QUESTION_FIELDS, literal_list
from shared.config import Strict
from shared.errors import InfiMmrError, did_you_mean
from shared.images import file_inside
from shared.option_lists import without_letters

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
        description="Role = column, or columns of which the first that is there counts; an empty id counts the items.",
    )
    where: dict[str, Names] = Field(default={}, description="Only items whose field has this value, or one of these.")
    files: tuple[str, ...] = Field(default=(), description="Names or patterns of the files of a folder; empty: all.")
    pictures: str = Field(default="", description="Folder beside the file where images' names start from.")
    keep: tuple[str, ...] = Field(default=(), description="Further fields for groups, question and scorer.")
    derived: dict[str, Derived] = Field(default={}, description="Fields that are a part of another one: name = part.")
    golds: dict[str, str] = Field(default={}, description="Golds spelled otherwise: what the file has = what is meant.")
    alternatives: bool = Field(default=False, description="A gold that is a list names several right answers.")


ROLES = ("id", "question", "answer", "choices", "images", "category")
OF_EVERY_ITEM = ("key", "answer", "kind", "category", "level", "subset")
"""Fields that an item has whatever its file says."""
_CANONICAL = {"id": "pid", "question": "question", "answer": "answer", "choices": "options", "images": "images"}


@dataclass(frozen=True)
class ItemReader:
    """Reads records as the task file says."""

    told: ItemSource = field(default_factory=ItemSource)
    folder: Path = Path()
    groups: Mapping[str, Names] = field(default_factory=dict)
    """Tables that a user's task file names: name -> fields."""
    own: bool = False
    """Whether the file is a user's; published files of one benchmark may differ in fields that ours keep."""

    def place(self) -> str | None:
        """File, folder or dataset reference that the items come from; None: the dataset named like the task."""
        if not self.told.location:
            return None
        path = Path(self.told.location).expanduser()
        here = path if path.is_absolute() else self.folder / path
        return str(here) if here.exists() else self.told.location

    def chosen(self, files: Sequence[Path], task: str) -> list[Path]:
        """The files of a folder that `files` means, all where it is empty.

        Raises:
            InfiMmrError: none of them fits.

        """
        patterns = self.told.files
        if not patterns or len(files) == 1:
            return list(files)
        found = [file for file in files if any(fnmatch(file.name, pattern) for pattern in patterns)]
        if not found:
            names = ", ".join(file.name for file in files[:5])
            raise InfiMmrError(f"task {task}: no file fits {', '.join(patterns)} (there are {names})", "Name the file")
        return found

    def check(self, records: Sequence[Mapping[str, Any]], file: Path, task: str) -> None:
        """Raise where none of a file's first records has a field that the task needs.

        Raises:
            InfiMmrError: names the field and those that are there.

        """
        known = list(dict.fromkeys(name for record in records for name in record))
        for role, default in (("question", (*QUESTION_FIELDS, "Body")), ("answer", ANSWER_FIELDS)):
            self._check(f"source.columns.{role}", self.told.columns.get(role, default), known, file, task)
        for role in self.told.columns.keys() - {"id"}:
            self._check(f"source.columns.{role}", self.told.columns[role], known, file, task)
        for name in self.told.where:
            self._check("source.where", name, known, file, task)
        for name in self.told.keep if self.own else ():
            self._check("source.keep", name, known, file, task)
        for group, names in self.groups.items():
            if not {*self.told.derived, *OF_EVERY_ITEM} & set(several(names)):
                self._check(f"groups.{group}", names, known, file, task)

    @staticmethod
    def _check(key: str, names: Names, known: Sequence[str], file: Path, task: str) -> None:
        wanted = several(names)
        if wanted and known and not set(wanted) & set(known):
            words = " or ".join(wanted)
            raise InfiMmrError(
                f"task {task}: {file.name} has no field {words} for {key} (its fields: {', '.join(known[:30])})",
                f"{did_you_mean(wanted[0], known).rstrip('.')}. Name it in the task file: {key}",
            )

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
            column = next((name for name in several(names) if name in record), None)
            if column is not None and role in _CANONICAL:
                out[_CANONICAL[role]] = record[column]
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

    def complete(self, row: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """The row with what only the task file knows: kept fields, its category, further right answers."""
        grouped = (name for names in self.groups.values() for name in several(names) if name not in OF_EVERY_ITEM)
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
        return {
            **row,
            "extra": {**row["extra"], **kept},
            "category": str(category) if category is not None else row["category"],
            "choices": choices,
        }


def several(names: Names) -> tuple[str, ...]:
    """Names of fields, where one may stand alone."""
    return (names,) if isinstance(names, str) else names


def _listed(gold: Any) -> list[str]:
    """Items of a gold that is a list, also of one written as text."""
    found = literal_list(gold) if isinstance(gold, str) and gold.strip().startswith("[") else gold
    return [str(one) for one in found] if isinstance(found, list | tuple) else []
