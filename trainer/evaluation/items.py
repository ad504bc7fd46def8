"""Items of a benchmark, from its dataset version in the store or from a published file.

Input: a benchmark's name and, optionally, `--source`: a file, a folder, or a dataset reference (`math500@v2`).
Output: `ItemSet`: the items in order and the record of where they come from. Pictures are read only when asked for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.answers import answer_kind
from shared.benchmark import Item
from shared.benchmarks import PAPER
from shared.code_points import carried_value
from shared.errors import InfiMmrError, UsageError
from shared.fingerprint import file_hash, fingerprint
from shared.item_source import read_benchmark
from trainer.evaluation.tasks import task


@dataclass(frozen=True, slots=True)
class ItemSet:
    """Items of one benchmark and where they come from (`record` goes into the result, without any absolute path)."""

    items: list[Item]
    record: dict[str, Any]


def parse_sources(pairs: Sequence[str]) -> dict[str, str]:
    """`--source NAME=PATH` options as a dict.

    Raises:
        UsageError: a pair without `=`.

    """
    sources: dict[str, str] = {}
    for pair in pairs:
        name, separator, place = pair.partition("=")
        if not separator or not name.strip() or not place.strip():
            message = f"--source {pair!r} is not NAME=PATH"
            raise UsageError(message, "For example --source math500=math500.parquet")
        sources[name.strip().lower()] = place.strip()
    return sources


def load_items(name: str, source: str | None, store: str | None, *, images: bool, limit: int | None = None) -> ItemSet:
    """Items of benchmark `name`.

    Raises:
        InfiMmrError: no dataset version and no source, a source that cannot be read, no item in it, or a scorer that
            cannot be run.

    """
    own = task(name).items
    named = source is not None
    source = own.place() if source is None else source
    if source is not None and (Path(source).exists() or not _is_reference(source)):
        if own.told.split and own.own and not named:
            message = f"task {name}: source.split is for a dataset version, and {source} is a file or folder"
            raise UsageError(message, "Choose its records by source.files or source.where")
        found = _from_file(name, source, images=images, limit=limit)
        found.record["from"] = "file" if named else "task file"
    else:
        found = _from_version(name, source or name, store, images=images, limit=limit)
        if source is not None and not named:
            found.record["from"] = "task file's dataset version"
    if not found.items:
        raise InfiMmrError(f"benchmark {name}: none of its records is an item", _NO_ITEM[bool(own.told.where)])
    trial = task(name).trial
    if trial is not None:
        trial(found.items[0])
    return found


_NO_ITEM = {True: "Correct source.where in the task file: no record fits it", False: "Name another file or dataset"}


def _is_reference(source: str) -> bool:
    return "/" not in source and "\\" not in source and "." not in source.partition("@")[0]


def _from_file(name: str, source: str, *, images: bool, limit: int | None) -> ItemSet:
    own = task(name).items
    files = own.files(name, source)
    items = [_item(name, row) for row in itertools.islice(read_benchmark(name, source, own, images=images), limit)]
    record = {
        "from": "file",
        "files": [file.name for file in files],
        "rows": len(items),
        "fingerprint": fingerprint([file_hash(file) for file in files]),
        "mended_golds": sum("mends" in item.extra for item in items),
    }
    return ItemSet(items, record)


def _item(name: str, row: Mapping[str, Any]) -> Item:
    pictures = tuple(image["bytes"] for image in row["images"])
    # Results are JSON and Parquet: what neither can hold is replaced, here as in a build.
    row = carried_value({field: value for field, value in row.items() if field != "images"})
    choices = tuple(row["choices"])
    return Item(
        benchmark=name,
        key=row["source_id"],
        question=row["question"],
        answer=row["answer"],
        kind=kind_of(row["answer"], choices),
        choices=choices,
        images=pictures,
        missing_images=tuple(row["missing_images"]),
        category=row["category"],
        extra={**row["extra"], "answer_raw": row["answer_raw"]},
        problem=row["problem"],
    )


def kind_of(answer: str, choices: Sequence[str]) -> str:
    """The grader's kind of a gold; `text` where the gold cannot be read at all."""
    return answer_kind(answer, choices or None) if answer.strip() else "text"


def _from_version(name: str, reference: str, store: str | None, *, images: bool, limit: int | None) -> ItemSet:
    from shared.dataset_version import open_dataset
    from shared.dataset_version.iterate import rows_of
    from shared.store import default_store_url, open_store

    place = open_store(default_store_url(store))
    try:
        version = open_dataset(reference, place)
    except InfiMmrError as error:
        message = f"benchmark {name}: no items. {error.message[:1].upper()}{error.message[1:]}"
        step = f"Build them with `data-engine build {name}`, or name a file with --source {name}=PATH"
        if name not in PAPER:
            step = f"Name its published file or folder with --source {name}=PATH, or [source] location in a task file"
        raise InfiMmrError(message, step) from error
    if split := task(name).items.told.split:
        version = version.of_split(split)
    columns = ["id", "question", "answer", "answer_raw", "answer_kind", "choices", "category", "extra", "source_id"]
    # Shards order rows by hash: results read best in the benchmark's own order, and its first items are meant by limit.
    keys = sorted((row["source_id"] for row in rows_of(version.files(), ["source_id"])), key=_own_order)
    wanted = set(keys[:limit])
    rows = rows_of(version.files(), [*columns, *(["images"] if images else [])])
    items = [_item_of_version(name, row) for row in rows if row["source_id"] in wanted]
    items.sort(key=lambda item: _own_order(item.key))
    manifest = version.manifest
    record = {
        "from": "dataset version",
        "dataset": f"{version.name}@{version.version}",
        "rows": len(items),
        "label": manifest.label,
        "profile": manifest.profile,
        "fingerprint": manifest.fingerprint,
        "rejected": manifest.rejected,
        "mended_golds": sum("mends" in item.extra for item in items),
    }
    return ItemSet(items, record)


def _own_order(key: str) -> tuple[int, str]:
    """Sorts `2` before `10`, as the benchmarks number their items."""
    return len(key), key


def _item_of_version(name: str, row: Mapping[str, Any]) -> Item:
    extra = carried_value(json.loads(row["extra"] or "{}"))  # escapes in it may spell half a character
    pictures = [image["bytes"] for image in row.get("images") or ()]
    return Item(
        benchmark=name,
        key=row["source_id"],
        question=row["question"],
        answer=row["answer"],
        kind=row["answer_kind"],
        choices=tuple(row["choices"]),
        images=tuple(data for data in pictures if data),
        missing_images=(*extra.get("missing_images", ()), *("without bytes" for data in pictures if not data)),
        category=row["category"],
        extra={**extra, "answer_raw": row["answer_raw"], "row_id": row["id"]},
    )
