"""What a build found out about each row, kept beside the annotations so that `why` can tell a row's whole story.

Beside them lie small copies of the pictures of those removed rows that a page about the version shows: the rows are in
no shard, and their pictures may be gone when somebody asks.

One annotation table per build key, keyed by row id, with one JSON text per row: the row's source and text, each step's
finding, and the decision. It is written before the version is published; a version whose findings are not in this store
(pulled from another one) still has its shards and its ledger. Where no version came of a build (it was killed, or gave
the bytes of a version that was there), `gc` removes them: a running build holds a lease on its key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_engine.step import BenchmarkItems, StepResult, by_image
from shared.annotations import AnnotationTable, StoredCells
from shared.images import ImageSource, small_jpeg

if TYPE_CHECKING:
    import polars as pl

    from data_engine.assemble import Assembled
    from shared.store import Entry, Store

STEP = "findings"
PICTURES = "findings_pictures"
SHOWN_PER_RULE = 40
MOST_PICTURES = 4
"""Pictures of one row that are kept."""
_PART = 4096


def reason_counts(ledger: pl.DataFrame) -> dict[str, int]:
    """Removed records by rule, as `STEP RULE` (a source's reasons by their own name), most frequent first."""
    import polars as pl

    removed = ledger.filter(pl.col("removed")).group_by("step", "rule").len()
    ordered = removed.sort(["len", "step", "rule"], descending=[True, False, False]).iter_rows()
    return {rule if step == "source" else f"{step} {rule}": count for step, rule, count in ordered}


def first_of(ledger: pl.DataFrame) -> str:
    """One removed record of the most frequent rule in words, for an error."""
    import polars as pl

    counted = ledger.filter(pl.col("removed")).with_columns(pl.len().over("step", "rule").alias("count"))
    row = counted.sort("count", descending=True, maintain_order=True).row(0, named=True)
    evidence = json.loads(row["evidence"])
    detail = evidence.get("detail") or evidence.get("reason") or ""
    return f"for instance {row['source_id']}" + (f": {str(detail)[:120]}" if detail else "")


def shown_entries(ledger: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The ledger's entries that a page shows: the first of each rule, removed before near, highest scores first."""
    import polars as pl

    order = ledger.sort(["removed", "step", "rule", "score", "id"], descending=[True, False, False, True, False])
    place = pl.int_range(pl.len()).over("step", "rule", "removed")
    yield from order.filter(place < SHOWN_PER_RULE).iter_rows(named=True)


def pictures_table(store: Store, build_key: str) -> AnnotationTable:
    """Return the table of small pictures: key a row's id, or `BENCHMARK/ITEM`; `pictures` are JPEG files."""
    import pyarrow as pa

    return AnnotationTable(store, PICTURES, build_key, values=pa.schema([("pictures", pa.list_(pa.binary()))]))


def keep_pictures(  # noqa: PLR0917 - where pictures of rows and items are found
    store: Store,
    build_key: str,
    entries: Sequence[Mapping[str, Any]],
    rows: Callable[[Sequence[str]], Mapping[str, Sequence[str]]],
    benchmarks: Sequence[BenchmarkItems],
    images: ImageSource,
) -> None:
    """Store small pictures of `entries` (see `shown_entries`) and of what they repeat, unless they are there.

    `rows` gives the pictures' hashes of some rows by id.
    """
    hashes = rows([name for e in entries for name in (e["id"], e["item"]) if name])
    wanted: dict[str, tuple[ImageSource, Sequence[str]]] = {}
    for entry in entries:
        repeated = [entry["item"]] if entry["benchmark"] is None else []
        wanted |= {row: (images, hashes.get(row) or ()) for row in (entry["id"], *repeated)}
    for items in benchmarks:
        named = {entry["item"] for entry in entries if entry["benchmark"] == items.name}
        for source_id, some in items.rows.select("source_id", "image_hashes").iter_rows():
            if source_id in named:
                wanted[f"{items.name}/{source_id}"] = (items.images, some or ())
    wanted = {key: (source, some[:MOST_PICTURES]) for key, (source, some) in wanted.items() if some}
    table = pictures_table(store, build_key)
    cells: list[dict[str, Any]] = []
    for key in table.missing(wanted):
        source, some = wanted[key]
        small = [small_jpeg(source.get(sha256)) for sha256 in some]
        cells.append({"key": key, "pictures": [picture for picture in small if picture is not None]})
    table.append(cells)


def findings_table(store: Store, build_key: str, kind: type[AnnotationTable] = AnnotationTable) -> AnnotationTable:
    """Return the table of a build's findings; who writes many takes `StoredCells`, which leaves them on the store."""
    import pyarrow as pa

    return kind(store, STEP, build_key, values=pa.schema([pa.field("story", pa.string(), nullable=False)]))


def unneeded_findings(
    store: Store, keys: set[str], running: Mapping[str, bool], minimum_age: float
) -> tuple[list[Entry], list[Entry]]:
    """Files of findings and pictures of builds that no version names, and those that stay for their age.

    Args:
        store: Where they lie.
        keys: Build keys of the versions.
        running: Build keys with a lease, and whether the build still runs; one that died leaves what goes at once.
        minimum_age: Seconds that the findings of a build without a lease stay after the last were written.

    """
    needed = {key[:32] for key in keys}
    leases = {key[:32]: runs for key, runs in running.items()}
    builds: dict[str, list[Entry]] = {}
    for step in (STEP, PICTURES):
        for entry in store.list(f"annotations/{step}/"):
            builds.setdefault(entry.path.split("/")[2], []).append(entry)
    removed: list[Entry] = []
    young: list[Entry] = []
    for key, entries in builds.items():
        if key in needed or leases.get(key, False):
            continue
        old = max(entry.modified for entry in entries) < time.time() - minimum_age
        (removed if old or key in leases else young).extend(entries)
    return removed, young


def keep_findings(  # noqa: PLR0917 - all that a story is made of
    store: Store,
    build_key: str,
    rows: pl.DataFrame,
    rejections: pl.DataFrame,
    results: Mapping[str, StepResult],
    assembled: Assembled,
) -> None:
    """Store the story of every row and of every rejected record that is not stored yet."""
    table = findings_table(store, build_key, StoredCells)
    if table.missing([*rows["id"].to_list(), *rejections["id"].to_list()]) == []:
        return
    by_id = {
        name: {row.pop("id"): row for row in result.annotations.iter_rows(named=True)}
        for name, result in results.items()
        if "id" in result.annotations.columns and result.one_per_row
    }
    of_images = {
        name: by_image(result.annotations)
        for name, result in results.items()
        if "image_hash" in result.annotations.columns
    }
    cells: list[dict[str, Any]] = []
    for row in rows.iter_rows(named=True):
        steps: dict[str, Any] = {}
        for name in results:
            if name in by_id:
                steps[name] = by_id[name].get(row["id"])
            elif name in of_images:
                found = [of_images[name](sha256, row["question"], row["choices"]) for sha256 in row["image_hashes"]]
                steps[name] = found
        cells.append({"key": row["id"], "story": _story(row, steps, assembled)})
        if len(cells) >= _PART:
            table.append(cells)
            cells = []
    for entry in rejections.iter_rows(named=True):
        story = {"source": {"source_id": entry["source_id"]}, "kept": False, "rejected": entry["rule"]}
        story["evidence"] = json.loads(entry["evidence"])
        cells.append({"key": entry["id"], "story": json.dumps(story, ensure_ascii=False, sort_keys=True)})
    table.append(cells)


def _story(row: Mapping[str, Any], steps: Mapping[str, Any], assembled: Assembled) -> str:
    found = assembled.findings.get(row["id"], [])
    names = ("source_name", "source_id", "source_location", "source_revision", "category", "source", "row_hash")
    story = {
        "source": {name: row[name] for name in names},
        "question": row["question"],
        "answer": row["answer"],
        "answer_raw": row["answer_raw"],
        "choices": row["choices"],
        "images": [
            {"name": name, "sha256": sha256}
            for name, sha256 in zip(row["image_names"], row["image_hashes"], strict=True)
        ],
        "extra": json.loads(row["extra"]) if row["extra"] else {},
        "steps": dict(steps),
        "findings": [{**finding.short(), "evidence": dict(finding.evidence or {})} for finding in found],
        "kept": not any(finding.removes for finding in found),
    }
    return json.dumps(story, ensure_ascii=False, sort_keys=True, default=str)
