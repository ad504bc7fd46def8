"""Pictures that no column names in full: `tables/{__key__}.png`, by an id of the record (TabMWP), or `{image_index}`.

Input: a `TablePlace`, records of a sample, columns by role. Output: a pattern for the role `images`, whose braces hold
columns (`columns.value_at` fills them), where it leads to a picture for most records; and what to tell of it, or
of pictures that lie there unnamed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_engine.sources.columns import PICTURE_WORDS, value_at
from data_engine.sources.picture_values import PICTURE_SUFFIXES, picture_values
from data_engine.sources.table_place import TablePlace

_MOST_FOLDERS = 64
_DEEP = 3
_SHOWN = 64
"""Records whose pictures are looked for."""
_FEW = 4
"""Records that tell an id from any other number."""


def name_pictures(
    place: TablePlace, sample: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, ...]]
) -> tuple[str, str]:
    """A pattern and what to tell; the pattern is empty where columns name pictures themselves or nothing fits."""
    if not _nameless(sample, columns.get("images", ())):
        return "", ""
    shown = sample[:: max(len(sample) // _SHOWN, 1)][:_SHOWN]
    lying: list[str] = []
    for folder, ending, first in _folders(place):
        lying.append(f"{folder}{first}")
        for column in _identifying(sample):
            pattern = f"{folder}{{{column}}}{ending}"
            names = [value_at(record, pattern) for record in shown]
            if names and 2 * sum(bool(name) and place.has(str(name)) for name in names) > len(names):
                return pattern, f"images taken from {pattern}: none is named by a column (columns.images overrides)"
    if lying and not columns.get("images") and place.location not in place.chosen.names:
        said = 'images = "folder/{column}.png" names them by a column'
        return "", f"images lie there that no column names, and are left out: {', '.join(lying[:3])}, ... ({said})"
    return "", ""


def _nameless(sample: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    """Whether records have no pictures, or such as lie elsewhere on the net."""
    parts = (part for name in names for record in sample for part in picture_values(value_at(record, name)))
    return all(isinstance(part, str) and part.startswith(("http://", "https://")) for part in parts)


def _folders(place: TablePlace) -> Iterator[tuple[str, str, str]]:
    """Folders with pictures below the place, with the commonest ending there and the first name."""
    waiting = [""]
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            return
        folder = waiting.pop(0)
        inner, files = place.inside(folder.rstrip("/"))
        if folder.count("/") < _DEEP:
            waiting += [f"{folder}{name}/" for name in inner]
        first = next((name for name in files if name.lower().endswith(PICTURE_SUFFIXES)), None)
        if first is not None:
            yield folder, f".{first.rpartition('.')[2]}", first


def _identifying(sample: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns that may stand in a picture's name: called like a picture, or with a value of its own in each record."""
    found: dict[str, bool] = {}
    for name in dict.fromkeys(name for record in sample for name in record):
        values = [value for record in sample if (value := record.get(name)) not in (None, "")]
        if not values or "{" in name or "}" in name or not all(type(v) in {str, int} for v in values):
            continue
        pictured = not PICTURE_WORDS.isdisjoint(re.findall(r"[a-z]+", name.lower()))
        if pictured or (len(values) >= _FEW and len(set(values)) == len(values) == len(sample)):
            found[name] = pictured
    return sorted(found, key=lambda name: not found[name])
