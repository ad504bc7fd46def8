"""A source's records to row blocks: read in parts, settled by buckets, put in order block by block.

Input: a `Source`. Output: `IngestedBlocks`, the same rows and ledger entries as `ingest` gives, in files on the build's
scratch. A source whose files can be read in pieces is counted and read by a cluster's workers, pictures included; any
other, and on one machine, part after part. What must be seen together (rows that repeat each other, problems with
several answers) meets in buckets by a hash of the problem: 8 bytes a record are all that is held here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.blocks import GROUP_ROWS, Parts, RowBlocks, block_of, blocks_for, over
from data_engine.intake.image_checks import Inspections, Picture, checked_records
from data_engine.intake.image_places import ImagePlaces, NewPlaces, PlaceFiles, bucket_of, write_places
from data_engine.intake.ingest import (
    carried_row,
    ledger_entry,
    ledger_frame,
    ledger_of,
    limited,
    noted,
    row_of,
    rows_frame,
    without_conflicts,
    without_repeats,
)
from data_engine.intake.placing import placed_pieces
from data_engine.sources.base import InPieces, Origin, Piece, Rejection, Source, SourceRow
from shared.errors import InfiMmrError
from shared.images import DEFAULT_LIMITS

if TYPE_CHECKING:
    import polars as pl

    from data_engine.runners.protocol import Runner
    from shared.progress import Task
    from shared.store import Store

PART_ROWS = 2**14
"""Records that are rows in Python's memory at once: about 60 MB of text."""

_UNKNOWN_GROUPS = 2**8
"""Groups that parts are written in where nobody knows how many records come, each part of a block: as many as blocks
of 8 million rows."""

FEW_BYTES = 2**24
"""A source as small as this is read here: a cluster's workers take longer to start."""

_READERS = 2
"""Threads by which a worker, one of many on its machine, reads and checks pictures."""

_POSITIONS = 2**32
"""Records that a part of a source can have: a record's position is its part's number times this and its place."""
_TOLD = ("position", "id", "source_id", "question", "answer", "choices", "image_hashes")


@dataclass
class IngestedBlocks:
    """What a source gave: rows and rejections (ledger entries) by block, and how many records and pictures."""

    rows: RowBlocks
    rejections: Parts
    rejected: int
    records: int
    inspected: int
    remembered: int
    warnings: list[str] = field(default_factory=list)
    mends: dict[str, int] = field(default_factory=dict)

    def ledger(self, block: int) -> pl.DataFrame:
        """Entries of the records of one block that cannot be rows."""
        return self.rejections.read(block)


@dataclass(frozen=True)
class _Job:
    """What a worker that reads, settles or sorts is told.

    Attributes:
        store: Annotations.
        scratch: Where parts lie.
        source: What is read; None where the job needs no source, so that none is sent.
        blocks: Number of blocks; while parts are written, that of their groups.
        pieces: Of the source, that workers read; empty where it is read here.
        inspected: Segments of what is known of pictures, where workers read them.
        pictured: Numbers of parts of pictures.
        parts: Number of parts.
        groups: Groups of each part, as many or several times as many as blocks.
        buckets: Number of buckets.
        conflicts: Whether problems with several answers are removed.
        twice: uint64, sorted: hashes of problems that occur more than once.
        gone: int64, sorted: positions of removed records.
        repeats: int64, sorted: positions of records that repeat another one.

    """

    store: Store
    scratch: Store
    source: Any
    blocks: int
    pieces: tuple[Piece, ...] = ()
    inspected: list[tuple[str, int]] | None = None
    pictured: tuple[int, ...] = ()
    parts: int = 0
    groups: int = 1
    buckets: int = 0
    conflicts: bool = True
    twice: Any = None
    gone: Any = None
    repeats: Any = None

    def at(self, name: str) -> Parts:
        """Parts of one kind."""
        return Parts(self.scratch, name)


def ingest_blocks(
    source: Source,
    places: ImagePlaces,
    store: Store,
    scratch: Store,
    runner: Runner,
    *,
    limit: int = 0,
    check_conflicts: bool = True,
    expected: int | None = None,
    task: Task | None = None,
) -> IngestedBlocks:
    """Read all records of `source` (at most `limit`, 0 for all) into blocks on `scratch`.

    As many blocks as `expected` records make; None, where nobody knows, as those make that were there.
    """
    pieces = _pieces_of(source, runner, task) if runner.name == "ray" and not limit else ()
    if pieces and expected is None:
        expected = sum(piece.height or 0 for piece in pieces)
        if task is not None:
            task.total = expected
    job = _Job(store, scratch, source, blocks_for(expected or 0), conflicts=check_conflicts)
    if pieces:
        # The source itself, with what its guesses were made from, stays here.
        named = Origin(source.name, source.location, source.revision)
        listed = _inspected(store, runner)
        told = _read_pieces(_with(job, source=named, pieces=pieces, inspected=listed), source, runner, task)
    else:
        memory, new = Inspections(store, DEFAULT_LIMITS), NewPlaces(scratch, 0)
        items = checked_records(map(carried_row, limited(source.rows(), limit)), new, memory, task)
        entries = (_entry(source, item) for item in items)
        told = []
        while (part := list(itertools.islice(entries, PART_ROWS))) or not told:
            if expected is None and not told and len(part) == PART_ROWS:  # more may come: how many is seen at the end
                job = _with(job, blocks=_UNKNOWN_GROUPS)
            records = _write_part(len(told), part, job)
            told.append({"parts": [records], "pictures": _write_pictures(len(told), new, memory, job)})
        memory.flush()
    parts = sum(len(one["parts"]) for one in told)
    records = sum(sum(one["parts"]) for one in told)
    blocks = min(job.blocks, blocks_for(records))
    pictured = tuple(number for number, one in enumerate(told) if one["pictures"])
    job = _with(job, pictured=pictured, parts=parts, blocks=blocks, groups=job.blocks, source=None)
    job = _settled(job, runner)
    count = Counter[str]()
    heights, rejected, absent, mends = [], 0, 0, Counter[str]()
    for one in over(runner, _sort_block, range(job.blocks), job):
        heights.append(one["height"])
        rejected += one["rejected"]
        absent += one["absent"]
        mends.update(one["mends"])
        count.update(one["seen"])
    for name in ("raw", "refused", "problems"):
        job.at(name).delete(range(parts))
    job.at("pictures").delete(pictured)
    places.looks_in(PlaceFiles(scratch, blocks, count["pictures"], shared=bool(pieces)))
    warnings = [f"{source.name}: images of {absent} of {records} items are not there: text only"] if absent else []
    return IngestedBlocks(
        rows=RowBlocks(scratch, "rows", tuple(heights)),
        rejections=job.at("rejected"),
        rejected=rejected,
        records=records,
        inspected=count["inspected"],
        remembered=count["remembered"],
        warnings=warnings,
        mends=dict(sorted(mends.items())),
    )


def _with(job: _Job, **changes: Any) -> _Job:
    return dataclasses.replace(job, **changes)


def _pieces_of(source: Source, runner: Runner, task: Task | None) -> tuple[Piece, ...]:
    """Pieces of the source that workers read; none where it is small, or must be read as a whole."""
    pieces = source.pieces() if isinstance(source, InPieces) else ()
    if not isinstance(source, InPieces) or sum(piece.size for piece in pieces) <= FEW_BYTES:
        return ()
    return placed_pieces(source, pieces, runner, task)


def _inspected(store: Store, runner: Runner) -> list[tuple[str, int]]:
    """Listing of what is known of pictures, which a worker merges first where earlier ones left many segments."""
    table = Inspections(store, DEFAULT_LIMITS).table
    listed: list[tuple[str, int]] = table.listing()
    if not table.wants_merging(listed):
        return listed
    with contextlib.suppress(OSError, InfiMmrError):  # a store that takes nothing is read as it lies there
        for _ in over(runner, _merge, [0], table, away=True):
            pass
    merged: list[tuple[str, int]] = table.listing()
    return merged


def _merge(number: int, table: Any) -> dict[str, Any]:
    del number
    return {"merged": table.compact()}


def _read_pieces(job: _Job, source: Source, runner: Runner, task: Task | None) -> list[dict[str, Any]]:
    """Let workers read the source's pieces."""
    told = list(over(runner, _read_piece, range(len(job.pieces)), job, task=task, away=True))
    read: Counter[str] | None = getattr(source, "read", None)  # of several sources in one: how many of each
    if read is not None:
        read.clear()
        for one in told:
            read.update(one["read"])
    return told


def _read_piece(number: int, job: _Job) -> dict[str, Any]:
    """Read one piece where it lies, part by part."""
    piece = job.pieces[number]
    first = sum(_parts_in(other) for other in job.pieces[:number])
    new, memory = NewPlaces(job.scratch, number), Inspections(job.store, DEFAULT_LIMITS, listed=job.inspected)
    checked = checked_records(map(carried_row, piece.rows()), new, memory, None, _READERS)
    read = Counter[str]()
    entries = (_entry(job.source, item, read) for item in checked)
    told = [
        _write_part(first + part, list(itertools.islice(entries, PART_ROWS)), job) for part in range(_parts_in(piece))
    ]
    next(entries, None)  # to the end: what came or went since it was counted is told there
    memory.flush()
    return {
        "rows": sum(told),
        "parts": told,
        "read": dict(read),
        "pictures": _write_pictures(number, new, memory, job),
    }


def _parts_in(piece: Piece) -> int:
    return -(-(piece.height or 0) // PART_ROWS)


def _entry(
    source: Any, item: Rejection | tuple[SourceRow, list[Picture]], read: Counter[str] | None = None
) -> tuple[bool, dict[str, Any]]:
    """Whether a record is a row, and its row or ledger entry; what its pictures are made of is not needed any more."""
    record = item if isinstance(item, Rejection) else item[0]
    if read is not None and record.origin is not None:
        read[record.origin.name] += 1
    return (False, ledger_entry(source, item)) if isinstance(item, Rejection) else (True, row_of(source, *item))


def _write_pictures(number: int, new: NewPlaces, memory: Inspections, job: _Job) -> int:
    """Write where the pictures of a part lie, by block; how many these are."""
    found = new.taken(memory.seen())
    if found is None:
        return 0
    job.at("pictures").write_grouped(number, found, bucket_of(found["sha256"], job.blocks), job.blocks)
    return found.height


def _write_part(number: int, part: Sequence[tuple[bool, dict[str, Any]]], job: _Job) -> int:
    """Write what one part of the source gave: rows and refused records by block, and hashes of the problems."""
    import polars as pl

    good = [entry for is_row, entry in part if is_row]
    bad = [entry for is_row, entry in part if not is_row]
    places = [number * _POSITIONS + place for place, (is_row, _) in enumerate(part) if is_row]
    problem = np.frombuffer(b"".join(map(_problem_hash, good)), np.uint64)
    rows = rows_frame(good).with_columns(
        position=pl.Series(places, dtype=pl.Int64), problem=pl.Series(problem, dtype=pl.UInt64)
    )
    job.at("raw").write_grouped(number, rows, block_of(rows["id"], job.blocks), job.blocks)
    entries = ledger_frame(bad)
    job.at("refused").write_grouped(number, entries, block_of(entries["id"], job.blocks), job.blocks)
    job.at("problems").write(number, rows.select("problem"))
    return len(part)


def _problem_hash(row: dict[str, Any]) -> bytes:
    """8 bytes that are equal for equal problems; whether they are is seen in the bucket."""
    words = "\x1f".join((" ".join(row["question"].split()), *row["choices"], "\x1e", *row["image_hashes"]))
    return hashlib.blake2b(words.encode(), digest_size=8).digest()


def _settled(job: _Job, runner: Runner) -> _Job:
    """Find the records that must go because of others."""
    parts = [job.at("problems").read(number)["problem"].to_numpy() for number in range(job.parts)]
    problem = np.sort(np.concatenate([np.empty(0, np.uint64), *parts]))
    again = np.flatnonzero(problem[1:] == problem[:-1])
    none = np.empty(0, np.int64)
    if len(again) == 0:
        return _with(job, gone=none, repeats=none)
    job = _with(job, twice=np.unique(problem[again]), buckets=1 + 2 * len(again) // GROUP_ROWS)
    del problem, parts
    for _ in over(runner, _pick_twice, range(job.parts), job):
        pass
    for _ in over(runner, _settle_bucket, range(job.buckets), job, away=job.blocks > 1):
        pass
    job.at("twice").delete(range(job.parts))
    found = [job.at("removed").read(bucket, ["position", "repeat"]) for bucket in range(job.buckets)]
    gone = np.concatenate([none, *(one["position"].to_numpy() for one in found)])
    repeats = np.concatenate([none, *(one.filter("repeat")["position"].to_numpy() for one in found)])
    return _with(job, twice=None, gone=np.sort(gone), repeats=np.sort(repeats))


def _pick_twice(number: int, job: _Job) -> dict[str, Any]:
    """Put the rows of a part whose problem occurs again into buckets by problem."""
    rows = job.at("raw").read(number, [*_TOLD, "problem"])
    problem = rows["problem"].to_numpy()
    place = np.searchsorted(job.twice, problem).clip(max=len(job.twice) - 1)
    chosen = np.flatnonzero(job.twice[place] == problem)
    bucket = (problem[chosen] % np.uint64(job.buckets)).astype(np.int64)
    job.at("twice").write_grouped(number, rows[chosen].drop("problem"), bucket, job.buckets)
    return {}


def _settle_bucket(bucket: int, job: _Job) -> dict[str, Any]:
    """Decide which rows of a bucket go; write their ledger entries by block."""
    import polars as pl

    rows = job.at("twice").read_group(range(job.parts), bucket).sort("position").to_dicts()
    kept, removed = without_repeats(rows)
    repeats = len(removed)
    if job.conflicts:
        removed += without_conflicts(kept)[1]
    entries = ledger_frame([ledger_of(row, reason, evidence) for row, reason, evidence in removed]).with_columns(
        position=pl.Series([row["position"] for row, _, _ in removed], dtype=pl.Int64),
        repeat=pl.Series([place < repeats for place in range(len(removed))], dtype=pl.Boolean),
    )
    job.at("removed").write_grouped(bucket, entries, block_of(entries["id"], job.blocks), job.blocks)
    return {}


def _sort_block(block: int, job: _Job) -> dict[str, Any]:
    """Gather a block's rows from all parts, without those that go, in the order of their ids; and its rejections."""
    import polars as pl

    parts, wide = range(job.parts), job.groups // job.blocks
    groups = range(block * wide, block * wide + wide)
    rows = job.at("raw").read_group(parts, groups)
    rows = rows.filter(~pl.Series(np.isin(rows["position"].to_numpy(), job.gone)))
    rows = rows.drop("position", "problem").sort("id")
    job.at("rows").write(block, rows)
    entries = job.at("refused").read_group(parts, groups)
    if job.buckets:
        removed = job.at("removed").read_group(range(job.buckets), block)
        number = np.searchsorted(job.repeats, removed["position"].to_numpy()) + 1
        again = removed["id"] + pl.Series([f".repeat{one}" for one in number.tolist()], dtype=pl.String)
        # The id alone cannot tell repeats apart in the ledger: they are numbered.
        removed = removed.with_columns(id=pl.when("repeat").then(again).otherwise("id")).drop("position", "repeat")
        entries = pl.concat([entries, removed])
    job.at("rejected").write(block, entries)
    absent, mends = noted(rows)
    told = {"height": rows.height, "rejected": entries.height, "absent": absent, "mends": mends}
    seen = write_places(job.scratch, block, job.at("pictures").read_group(job.pictured, groups)) if job.pictured else {}
    return {**told, "seen": seen}
