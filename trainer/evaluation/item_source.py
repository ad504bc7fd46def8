"""Where the items of a task file are, and how its records become those of a known benchmark.

Input: the table `source` of a task file, and raw records. Output: records with the names that `shared.benchmark_files`
knows, and rows completed by what only the task file says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from shared.benchmark_files import ID_FIELDS, literal_list
from shared.benchmark_golds import LETTERS
from shared.config import Strict

_OPTION_HEAD = re.compile(r"^\s*\(?([A-Ha-h])\s*[).:：、．]\s*(.+)$", re.DOTALL)
Names = str | tuple[str, ...]


class Derived(Strict):
    """A field that is a part of another one."""

    field: str = Field(description="The file's field.")
    pattern: str = Field(description="Regular expression; its first group is the part.")


class ItemSource(Strict):
    """Where items come from, and which column of a file serves which role."""

    location: str = Field(
        default="", description="File or folder, from the task file's folder; or a dataset; empty: named like the task."
    )
    columns: dict[str, Names] = Field(
        default={},
        description="Role = column, or columns of which the first that is there counts; an empty id counts the items.",
    )
    where: dict[str, Names] = Field(default={}, description="Only items whose field has this value, or one of these.")
    keep: tuple[str, ...] = Field(default=(), description="Further fields for groups, question and scorer.")
    derived: dict[str, Derived] = Field(default={}, description="Fields that are a part of another one: name = part.")
    golds: dict[str, str] = Field(default={}, description="Golds spelled otherwise: what the file has = what is meant.")
    alternatives: bool = Field(default=False, description="A gold that is a list names several right answers.")


ROLES = ("id", "question", "answer", "choices", "images", "category")
_CANONICAL = {"id": "pid", "question": "question", "answer": "answer", "choices": "options", "images": "images"}


@dataclass(frozen=True)
class ItemReader:
    """Reads records as the task file says."""

    told: ItemSource
    folder: Path

    def place(self) -> str | None:
        """File, folder or dataset reference that the items come from; None: the dataset named like the task."""
        if not self.told.location:
            return None
        path = Path(self.told.location).expanduser()
        here = path if path.is_absolute() else self.folder / path
        return str(here) if here.exists() else self.told.location

    def prepare(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record with the names that `shared.benchmark_files` knows; None for one that `where` leaves out."""
        for name, wanted in self.told.where.items():
            if str(record.get(name)) not in ((wanted,) if isinstance(wanted, str) else wanted):
                return None
        out = dict(record)
        if self.told.columns.get("id") == "":
            out = {name: value for name, value in out.items() if name not in ID_FIELDS}
        for role, names in self.told.columns.items():
            column = next((n for n in ((names,) if isinstance(names, str) else names) if n in record), None)
            if column is not None and role in _CANONICAL:
                out[_CANONICAL[role]] = record[column]
        gold = out.get("answer")
        if isinstance(gold, str | int | bool) and str(gold) in self.told.golds:
            out["answer"] = self.told.golds[str(gold)]
        if self.told.alternatives:
            golds = _listed(gold)
            out["answer"] = golds[0] if golds else gold
        return out

    def complete(self, row: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """The row with what only the task file knows: kept fields, its category, further right answers."""
        kept = {name: record[name] for name in self.told.keep if record.get(name) is not None}
        if self.told.alternatives and (golds := _listed(record.get(self._gold_column(record)))):
            kept["alternatives"] = golds[1:]
        for name, part in self.told.derived.items():
            found = re.search(part.pattern, str(record.get(part.field, ""))[:1000])
            kept |= {name: found[1]} if found is not None and found.groups() else {}
        names = self.told.columns.get("category", ())
        category = next((record[n] for n in ((names,) if isinstance(names, str) else names) if record.get(n)), None)
        choices = _without_heads(row["choices"]) if "choices" in self.told.columns else row["choices"]
        return {
            **row,
            "extra": {**row["extra"], **kept},
            "category": str(category) if category is not None else row["category"],
            "choices": choices,
        }

    def _gold_column(self, record: Mapping[str, Any]) -> str:
        names = self.told.columns.get("answer", "answer")
        return next((n for n in ((names,) if isinstance(names, str) else names) if n in record), "answer")


def _without_heads(choices: Sequence[str]) -> list[str]:
    """Options without the letters in front of them, where each has its own (We-Math writes `A. 3; B. 5`)."""
    heads = [_OPTION_HEAD.match(choice) for choice in choices]
    if choices and all(head is not None and head[1].upper() == LETTERS[n] for n, head in enumerate(heads)):
        return [head[2].strip() for head in heads if head is not None]
    return list(choices)


def _listed(gold: Any) -> list[str]:
    """Items of a gold that is a list, also of one written as text."""
    found = literal_list(gold) if isinstance(gold, str) and gold.strip().startswith("[") else gold
    return [str(one) for one in found] if isinstance(found, list | tuple) else []
