"""From a source's records to the build's rows: pictures hashed and checked, identities given, bad records told apart.

Input: a `Source`. Output: `Ingested`: rows in the schema without picture bytes, sorted by id; the places of their
pictures; and one ledger entry per record that cannot be a row. Records in = rows + rejections, always.
Whether a picture can be used is remembered by its content in the store, so that a later build decodes none again.
Not covered: judging rows (steps), near duplicates (`dedup_minhash`); here only the same row twice, and the same problem
with another answer.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from data_engine.intake.image_checks import Inspections, Picture, checked_records, rejected
from data_engine.sources.base import Rejection, Source, SourceRow
from data_engine.sources.given_answers import told_apart
from shared.code_points import broken_characters, carried_value
from shared.fingerprint import fingerprint, row_hash, row_id
from shared.images import DEFAULT_LIMITS, ImageLimits

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.intake.image_places import ImagePlaces
    from shared.progress import Task
    from shared.store import Store


@dataclass
class Ingested:
    """What a source gave: `rows` and `rejections` as frames, and how many records and pictures there were."""

    rows: pl.DataFrame
    rejections: pl.DataFrame
    records: int
    inspected: int
    remembered: int
    warnings: list[str] = field(default_factory=list)
    mends: Mapping[str, int] = field(default_factory=dict)


def ingest(
    source: Source,
    places: ImagePlaces,
    store: Store | None,
    *,
    limit: int = 0,
    check_conflicts: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
    task: Task | None = None,
) -> Ingested:
    """Read all records of `source` (at most `limit`, 0 for all).

    Peak memory: a window of 128 records with their pictures, and the rows without pictures.
    """
    memory = Inspections(store, limits)
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    records = 0
    for item in checked_records(map(carried_row, limited(source.rows(), limit)), places, memory, task):
        records += 1
        if isinstance(item, Rejection):
            bad.append(ledger_entry(source, item))
        else:
            good.append(row_of(source, *item))
    memory.flush()
    places.flush()
    good, twice = without_repeats(good)
    # The id alone cannot tell repeats apart in the ledger: number them.
    for number, (row, _, _) in enumerate(twice, start=1):
        row["id"] = f"{row['id']}.repeat{number}"
    if check_conflicts:
        good, conflicting = without_conflicts(good)
        twice += conflicting
    bad += [ledger_of(row, reason, evidence) for row, reason, evidence in twice]
    rows = rows_frame(good).sort("id")
    absent, mends = noted(rows)
    warnings = [f"{source.name}: images of {absent} of {records} items are not there: text only"] if absent else []
    return Ingested(
        rows=rows,
        rejections=ledger_frame(bad),
        records=records,
        inspected=memory.inspected,
        remembered=memory.remembered,
        warnings=warnings,
        mends=dict(sorted(mends.items())),
    )


def noted(rows: pl.DataFrame) -> tuple[int, dict[str, int]]:
    """How many rows lack pictures, and what was mended how often."""
    import polars as pl

    absent, mends = 0, Counter[str]()
    some = rows["extra"].filter(rows["extra"].str.contains_any(["missing_images", '"mends"']).fill_null(value=False))
    for text in some.cast(pl.String):
        extra = json.loads(text)
        absent += bool(extra.get("missing_images"))
        for mend in extra.get("mends", []):
            mends[str(mend["why"] if isinstance(mend, dict) else mend).split(":")[0]] += 1
    return absent, dict(mends)


_CARRIED = {
    kind: tuple(field.name for field in fields(kind) if field.name != "origin") for kind in (SourceRow, Rejection)
}


def carried_row(item: SourceRow | Rejection) -> SourceRow | Rejection:
    """Refuse a record whose words cannot be written as UTF-8; replace such characters everywhere else."""
    if isinstance(item, SourceRow):
        for name, texts in (("question", (item.question,)), ("answer", (item.answer,)), ("options", item.choices)):
            if found := broken_characters("".join(texts)):
                item = rejected(item, "unreadable", f"{name}: {found}")
                break
    values = ((name, getattr(item, name)) for name in _CARRIED[type(item)])
    # Most records hold nothing that must change: they pass as they are. NaN is no number equal to itself.
    changed = {name: new for name, value in values if (new := carried_value(value)) is not value and new != value}
    return dataclasses.replace(item, **changed) if changed else item


def limited(items: Iterator[SourceRow | Rejection], limit: int) -> Iterator[SourceRow | Rejection]:
    """The first `limit` items; all of them where it is 0."""
    return itertools.islice(items, limit) if limit else items


def row_of(source: Source, row: SourceRow, pictures: list[Picture]) -> dict[str, Any]:
    """A row of the schema, without the pictures' bytes, and `image_names`."""
    origin = row.origin or source
    hashes = [picture.sha256 for picture in pictures]
    digest = row_hash(row.question, row.answer, row.choices, hashes)
    known = row.pass_rate_large is not None or row.pass_rate_small is not None
    rates = {"pass_rate_large": row.pass_rate_large, "pass_rate_small": row.pass_rate_small}
    return {
        "id": row_id(origin.name, row.source_id, digest),
        "question": row.question,
        "answer": row.answer,
        "answer_kind": "",
        "choices": list(row.choices),
        "image_types": [None] * len(hashes),
        "captions": [None] * len(hashes),
        "category": row.category,
        "source": row.source,
        "difficulty": rates if known else None,
        "answer_raw": row.answer_raw,
        "extra": json.dumps(row.extra, ensure_ascii=False, sort_keys=True, default=str) if row.extra else None,
        "source_name": origin.name,
        "source_id": row.source_id,
        "source_location": origin.location,
        "source_revision": origin.revision,
        "row_hash": digest,
        "image_hashes": hashes,
        "image_names": [picture.name for picture in pictures],
    }


def ledger_entry(source: Source, rejection: Rejection) -> dict[str, Any]:
    """Ledger entry of a record that cannot be a row."""
    digest = fingerprint([rejection.question, rejection.answer, rejection.reason, rejection.detail])
    return _entry(
        row_id((rejection.origin or source).name, rejection.source_id, digest),
        rejection.source_id,
        rejection.reason,
        {"detail": rejection.detail[:2000], "question": rejection.question[:2000], "answer": rejection.answer[:500]},
    )


def ledger_of(row: Mapping[str, Any], reason: str, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Ledger entry of a row that goes because of others."""
    item = evidence.get("item")
    told = {"question": row["question"][:2000], "answer": row["answer"][:500], **evidence}
    return _entry(row["id"], row["source_id"], reason, told, item=str(item) if item else None)


def _entry(
    identity: str, source_id: str, rule: str, evidence: Mapping[str, Any], item: str | None = None
) -> dict[str, Any]:
    return {
        "id": identity,
        "source_id": source_id,
        "step": "source",
        "rule": rule,
        "removed": True,
        "benchmark": None,
        "item": item,
        "score": None,
        "evidence": json.dumps(evidence, ensure_ascii=False, sort_keys=True),
    }


_Removed = tuple[dict[str, Any], str, dict[str, Any]]


def without_repeats(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[_Removed]]:
    """Keep the first of rows that share key and content (and so the id)."""
    kept: dict[str, dict[str, Any]] = {}
    removed: list[_Removed] = []
    for row in rows:
        if row["id"] in kept:
            removed.append((row, "duplicate_id", {"item": row["id"], "detail": "the same key and content again"}))
        else:
            kept[row["id"]] = row
    return list(kept.values()), removed


def without_conflicts(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[_Removed]]:
    """Remove problems (question, options, pictures) that occur with answers which the grader tells apart.

    Nobody can say which answer is right, and a wrong one is worse than a missing row.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        problem = [" ".join(row["question"].split()), row["choices"], row["image_hashes"]]
        groups[fingerprint(problem)].append(row)
    removed: list[_Removed] = []
    for group in groups.values():
        answers = list(dict.fromkeys(row["answer"] for row in group))
        if not told_apart(answers, group[0]["choices"]):
            continue
        removed += [
            (row, "conflicting_answers", {"answers": answers, "item": next(o["id"] for o in group if o is not row)})
            for row in group
        ]
    gone = {row["id"] for row, _, _ in removed}
    return [row for row in rows if row["id"] not in gone], removed


def rows_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows (schema columns without `images`, and `image_names`) as a frame, in the order given."""
    import pyarrow as pa

    from shared.schema import ROW_SCHEMA_WITHOUT_IMAGES

    return _frame(rows, [*ROW_SCHEMA_WITHOUT_IMAGES, pa.field("image_names", pa.list_(pa.string()))])


def ledger_frame(entries: list[dict[str, Any]]) -> pl.DataFrame:
    """Ledger entries as a frame."""
    from shared.schema import LEDGER_SCHEMA

    return _frame(entries, LEDGER_SCHEMA)


def _frame(values: list[dict[str, Any]], schema: Iterable[pa.Field]) -> pl.DataFrame:
    import polars as pl
    import pyarrow as pa

    nullable = pa.schema([pa.field(one.name, one.type) for one in schema])
    frame = pl.from_arrow(pa.Table.from_pylist(values, schema=nullable))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # for the type checker: a table makes a frame
    return frame
