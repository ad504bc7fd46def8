"""Fingerprints: sha256 of canonical JSON, refusing whatever has no canonical form.

Literals are identity; places and hardware are not. A `Path`, a `set` or an arbitrary object inside a fingerprint would
make two equal builds differ (or two different ones agree), so they raise `TypeError` naming where they stand.

Rows are identified by them: stable across rebuilds, machines and stores, and different where the content differs.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

HEX_DIGITS = 16
"""16 hex digits are 64 bits: among 10 million rows the chance of any collision is about 3e-6 (n^2 / 2^65)."""


def fingerprint(value: object) -> str:
    """Return the sha256 (64 hex digits) of `value` as canonical JSON (sorted keys, no spaces, UTF-8).

    Takes None, bool, int, finite float, str, enum members (by value), list, tuple, dict with str keys and pydantic
    models, nested at will. An int and an equal float differ; a list and an equal tuple do not.

    Raises:
        TypeError: for anything else, naming the path within `value` (``$.steps[2].folder``).
    """
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def canonical_json(value: object) -> str:
    """Return the text that `fingerprint` hashes."""
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def bytes_hash(data: bytes) -> str:
    """Return the sha256 (64 hex digits) of `data`."""
    return hashlib.sha256(data).hexdigest()


def file_hash(path: Path | str) -> str:
    """Return the sha256 (64 hex digits) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_hash(question: str, answer: str, choices: Sequence[str], image_hashes: Sequence[str]) -> str:
    """Return the sha256 (64 hex digits) of what a solver sees and must answer, order included.

    Metadata (category, pass rates, the source's key) is left out: the same problem under another key has the same hash.
    """
    return fingerprint(
        {"question": question, "answer": answer, "choices": list(choices), "image_hashes": list(image_hashes)}
    )


def row_id(source_name: str, source_id: str, row_hash: str) -> str:
    """Return `SOURCE-16HEX`, the hash covering the source's own key and the content.

    Two rows of one source with equal keys but other content, or equal content under two keys, get two ids.
    """
    digest = fingerprint([source_name, source_id, row_hash])
    return f"{source_name}-{digest[:HEX_DIGITS]}"


def _plain(value: object, where: str) -> object:
    if isinstance(value, enum.Enum):
        return _plain(value.value, where)
    if value is None or isinstance(value, bool | int | str):
        # A str or int subclass hashes by its plain value.
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"cannot fingerprint {value} at {where}: only finite numbers have a canonical form")
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"cannot fingerprint the key {key!r} at {where}: keys must be str")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    fields = getattr(type(value), "model_fields", None)
    if isinstance(fields, dict):
        return {name: _plain(getattr(value, name), f"{where}.{name}") for name in fields}
    raise TypeError(f"cannot fingerprint a {type(value).__name__} at {where}: give its content instead")
