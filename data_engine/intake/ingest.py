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
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from data_engine.intake.image_places import ImagePlaces
from data_engine.sources.base import BytesImage, FileImage, Rejection, Source, SourceRow
from data_engine.sources.file_hashes import file_hashes
from shared.code_points import broken_characters, carried, carried_value
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash, fingerprint
from shared.ids import row_hash, row_id
from shared.images import DEFAULT_LIMITS, ImageLimits, ImageRefused, PathRefused, inspect_image

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from shared.progress import Task
    from shared.store import Store

INSPECTION_VERSION = 2
"""Raised when `inspect_image` decides otherwise for the same bytes."""

_WINDOW = 128
_FLUSH = 2048


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


@dataclass(frozen=True)
class _Picture:
    sha256: str
    name: str
    data: bytes | None
    path: Path | None
    size: int


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
                item = _rejected(item, "unreadable", f"{name}: {found}")
                break
    values = ((name, getattr(item, name)) for name in _CARRIED[type(item)])
    # Most records hold nothing that must change: they pass as they are. NaN is no number equal to itself.
    changed = {name: new for name, value in values if (new := carried_value(value)) is not value and new != value}
    return dataclasses.replace(item, **changed) if changed else item


def limited(items: Iterator[SourceRow | Rejection], limit: int) -> Iterator[SourceRow | Rejection]:
    """The first `limit` items; all of them where it is 0."""
    return itertools.islice(items, limit) if limit else items


def checked_records(
    items: Iterator[SourceRow | Rejection], places: ImagePlaces, memory: Inspections, task: Task | None
) -> Iterator[Rejection | tuple[SourceRow, list[_Picture]]]:
    """Read, hash and inspect pictures, a window of records at a time; decoders let go of Python's lock."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        while window := list(itertools.islice(items, _WINDOW)):
            if any(isinstance(item, SourceRow) and item.images for item in window):
                yield from _checked_window(window, pool, places, memory)
            else:
                yield from (item if isinstance(item, Rejection) else (item, []) for item in window)
            if task is not None:
                task.advance(len(window))


def _checked_window(
    window: list[SourceRow | Rejection], pool: ThreadPoolExecutor, places: ImagePlaces, memory: Inspections
) -> Iterator[Rejection | tuple[SourceRow, list[_Picture]]]:
    files = _hash_files(window)
    found = list(pool.map(_pictures, window, itertools.repeat(files)))
    memory.recall({p.sha256 for pictures in found if isinstance(pictures, list) for p in pictures})
    checks = pool.map(_inspect, found, itertools.repeat(memory))
    for item, pictures, refused in zip(window, found, checks, strict=True):
        if isinstance(item, Rejection):
            yield item
        elif isinstance(pictures, Rejection):
            yield pictures
        elif refused is not None:
            yield _reject(item, refused[0], refused[1])
        else:
            for picture in pictures:
                if picture.path is not None:
                    places.add_file(picture.sha256, picture.path, picture.size)
                elif picture.data is not None:
                    places.add_bytes(picture.sha256, picture.data)
            yield item, pictures
    memory.store_new()


def _hash_files(window: Iterable[SourceRow | Rejection]) -> dict[Path, str]:
    paths = []
    for item in window:
        for image in item.images if isinstance(item, SourceRow) else ():
            if isinstance(image, FileImage):
                try:
                    paths.append(image.path())
                except PathRefused:
                    continue
    return file_hashes(path for path in paths if path.is_file())


def _pictures(item: SourceRow | Rejection, files: Mapping[Path, str]) -> list[_Picture] | Rejection:
    if isinstance(item, Rejection):
        return item
    pictures = []
    for image in item.images:
        if isinstance(image, BytesImage):
            name = carried(image.name.replace("\\", "/"))
            pictures.append(_Picture(bytes_hash(image.data), name, image.data, None, len(image.data)))
            continue
        try:
            path = image.path()
        except PathRefused as error:
            return _reject(item, error.reason, image.name or "neither bytes nor a path")
        digest = files.get(path)
        if digest is None:
            if path.is_file():  # there, and no hash: it must not pass as missing
                raise InfiMmrError(f"image {image.name} cannot be read", "Check its permissions and the disk")
            return _reject(item, "image_missing", image.name or "neither bytes nor a path")
        pictures.append(_Picture(digest, carried(image.name), None, path, path.stat().st_size))
    return pictures


def _reject(row: SourceRow, reason: str, detail: str) -> Rejection:
    return _rejected(row, reason, carried(detail))


def _rejected(row: SourceRow, reason: str, detail: str) -> Rejection:
    return Rejection(row.source_id, reason, detail, row.question, row.answer_raw, row.origin)


def _inspect(pictures: list[_Picture] | Rejection, memory: Inspections) -> tuple[str, str] | None:
    if isinstance(pictures, Rejection):
        return None
    for picture in pictures:
        reason = memory.reason(picture)
        if reason:
            return f"image_refused:{reason}", picture.name
    return None


class Inspections:
    """Which pictures can be used, by content: remembered in the store as annotations of the step `inspect_images`."""

    def __init__(self, store: Store | None, limits: ImageLimits) -> None:
        self._limits = limits
        self._known: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._table: Any = None
        self.inspected = 0
        self.remembered = 0
        if store is not None:
            import pyarrow as pa

            from shared.annotations import AnnotationTable

            context = fingerprint({"version": INSPECTION_VERSION, **dataclasses.asdict(limits)})
            self._table = AnnotationTable(
                store, "inspect_images", context, values=pa.schema([pa.field("reason", pa.string(), nullable=False)])
            )

    def recall(self, hashes: set[str]) -> None:
        """Look up what is stored about these pictures."""
        ask = sorted(hashes - self._known.keys())
        if self._table is None or not ask:
            return
        found = self._table.lookup(ask)
        self.remembered += len(found)
        self._known |= {key: str(value["reason"]) for key, value in found.items()}

    def reason(self, picture: _Picture) -> str:
        """Return why a picture cannot be used; empty where it can."""
        known = self._known.get(picture.sha256)
        if known is not None:
            return known
        data = picture.data
        if data is None and picture.path is not None:
            try:
                data = picture.path.read_bytes()
            except OSError as error:
                raise InfiMmrError(f"image {picture.name} cannot be read: {error.strerror}", "Check it") from error
        try:
            inspect_image(data or b"", limits=self._limits)
            reason = ""
        except ImageRefused as error:
            reason = error.reason
        self._new[picture.sha256] = reason
        return reason

    def store_new(self) -> None:
        """Keep fresh findings at hand, and store them when there are many."""
        self._known |= self._new
        if len(self._new) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Store fresh findings."""
        self.inspected += len(self._new)
        if self._table is not None:
            self._table.append([{"key": key, "reason": reason} for key, reason in sorted(self._new.items())])
        self._new = {}


def row_of(source: Source, row: SourceRow, pictures: list[_Picture]) -> dict[str, Any]:
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
        if len(answers) < 2 or _all_equal(answers, group[0]["choices"]):
            continue
        removed += [
            (row, "conflicting_answers", {"answers": answers, "item": next(o["id"] for o in group if o is not row)})
            for row in group
        ]
    gone = {row["id"] for row, _, _ in removed}
    return [row for row in rows if row["id"] not in gone], removed


def _all_equal(answers: list[str], choices: list[str]) -> bool:
    from shared.answers import grade

    return all(grade(answers[0], other, choices=choices or None).correct for other in answers[1:])


def rows_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows (schema columns without `images`, and `image_names`) as a frame, in the order given."""
    import polars as pl
    import pyarrow as pa

    from shared.schema import ROW_SCHEMA_WITHOUT_IMAGES

    schema = pa.schema(
        [pa.field(f.name, f.type) for f in ROW_SCHEMA_WITHOUT_IMAGES] + [pa.field("image_names", pa.list_(pa.string()))]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # for the type checker: a table makes a frame
    return frame


def ledger_frame(entries: list[dict[str, Any]]) -> pl.DataFrame:
    """Ledger entries as a frame."""
    import polars as pl
    import pyarrow as pa

    from shared.schema import LEDGER_SCHEMA

    schema = pa.schema([pa.field(f.name, f.type) for f in LEDGER_SCHEMA])
    frame = pl.from_arrow(pa.Table.from_pylist(entries, schema=schema))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # as above
    return frame
