"""Assembles rows in blocks: workers decide about a block each, and write its ledger entries, findings and kept rows.

What one block cannot know is gathered first: which rows leave for another reason than being a duplicate, so that the
first duplicate of such a row stays in its place. Then each block is assembled alone; kept rows go to their shards, and
shards and ledger are written by workers from what lies ready for them. The driver keeps counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.assemble import assemble, stand_ins
from data_engine.blocks import Parts, RowBlocks, over
from data_engine.findings import keep_findings, shown_entries
from data_engine.intake.ingest import ledger_frame
from data_engine.shards import shard_count, shard_file, shard_numbers, write_ledger, write_shard
from data_engine.split_rows import contents_of, links_of, split_of_rows
from data_engine.step_blocks import results_of

if TYPE_CHECKING:
    import polars as pl

    from data_engine.intake.image_places import ImagePlaces
    from data_engine.recipe_settings import AssembleSettings, ShardSettings
    from data_engine.runners.protocol import Runner
    from data_engine.step import StepResult
    from shared.progress import Task
    from shared.store import Store


@dataclass(frozen=True)
class AssembledBlocks:
    """The decision about all rows: counts, and where its parts lie."""

    kept: int
    removed: Mapping[str, int]
    near_misses: int
    picture_bytes: int
    shown: list[dict[str, Any]]
    """Ledger entries that a page shows."""
    job: Assembling
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Rows and bytes of pictures by split; empty where the recipe has none."""


@dataclass(frozen=True)
class Assembling:
    """What a worker is told.

    Attributes:
        blocks: The rows.
        rejections: Ledger entries of the source by block.
        results: What the steps found, in parts.
        settings: Thresholds.
        names: (benchmark, item id) to the benchmark's own key.
        images: Sizes and bytes of pictures.
        store: Where findings go; None keeps none.
        build_key: Of the findings.
        groups: Groups of shards that kept rows are written in: at least as many as there are shards.
        stands: For duplicates of a row that leaves: which row stays in its place.
        splits: Fraction by split; empty where rows are not split.

    """

    blocks: RowBlocks
    rejections: Parts
    results: Mapping[str, StepResult]
    settings: AssembleSettings
    names: Mapping[tuple[str, str], str]
    images: ImagePlaces
    store: Store
    build_key: str
    groups: int = 1
    stands: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, float] = field(default_factory=dict)

    def at(self, name: str) -> Parts:
        """Parts of one kind."""
        return Parts(self.blocks.store, name)


def assemble_blocks(runner: Runner, job: Assembling, shard_bytes: int) -> AssembledBlocks:
    """Decide about every row; findings are stored, kept rows lie by shard, the ledger by block."""
    if "dedup_minhash" in job.results:
        job = dataclasses.replace(job, stands=_stands(runner, job))
    sizes = over(runner, _picture_bytes, job.blocks.numbers, job)
    total = sum(one["bytes"] for one in sizes)
    job = dataclasses.replace(job, groups=shard_count(job.blocks.height, total, shard_bytes))
    removed, kept, near, pictures = Counter[str](), 0, 0, 0
    shown: list[dict[str, Any]] = []
    for one in over(runner, _assemble_block, job.blocks.numbers, job):
        removed.update(one["removed"])
        kept, near, pictures = kept + one["kept"], near + one["near"], pictures + one["bytes"]
        shown = list(shown_entries(ledger_frame(shown + one["shown"])))
    splits = _split(job) if job.splits else {}
    return AssembledBlocks(kept, dict(removed), near, pictures, shown, job, splits)


def _split(job: Assembling) -> dict[str, tuple[int, int]]:
    """Decide about all kept rows together, from hashes, and lay their splits beside them; see `split_rows`."""
    import polars as pl

    numbers = job.blocks.numbers
    rows = [job.at("to_split").read(block) for block in numbers]
    links = [job.at("links").read(block) for block in numbers]
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum([one.height for one in rows], dtype=np.int64)))
    chosen = split_of_rows(
        np.concatenate([one["content"].to_numpy() for one in rows]),
        np.concatenate([one["row"].to_numpy() + start for one, start in zip(links, starts, strict=False)]),
        np.concatenate([one["key"].to_numpy() for one in links]),
        list(job.splits.values()),
    )
    names = pl.Series(list(job.splits), dtype=pl.String)
    for block, one, start in zip(numbers, rows, starts, strict=False):
        split = names.gather(pl.Series(chosen[start : start + one.height]))
        # Grouped as the rows are: a reader of a group finds both in one order.
        job.at("split").write_grouped(block, pl.DataFrame({"split": split}), one["group"].to_numpy(), job.groups)
    sizes = np.concatenate([one["bytes"].to_numpy() for one in rows])
    return {
        name: (int((chosen == place).sum()), int(sizes[chosen == place].sum())) for place, name in enumerate(job.splits)
    }


def whole_ledger(job: Assembling) -> pl.DataFrame:
    """Entries of all blocks, for the error of a build that keeps nothing."""
    import polars as pl

    entries = [job.rejections.read(block) for block in job.blocks.numbers]
    for block in job.blocks.numbers:
        rows, results = job.blocks.read(block), results_of(job.results, block)
        entries.append(assemble(rows, results, job.settings, job.names, job.stands).ledger)
    return pl.concat(entries)


def _stands(runner: Runner, job: Assembling) -> dict[str, str]:
    """See `stand_ins`; rows are told by their numbers here, and only those that it concerns by their ids."""
    import polars as pl

    others = {name: result for name, result in job.results.items() if name != "dedup_minhash"}
    list(over(runner, _gone, job.blocks.numbers, dataclasses.replace(job, results=others)))
    gone = np.zeros(job.blocks.height, bool)
    for block in job.blocks.numbers:
        gone[job.at("gone").read(block)["row"].to_numpy()] = True
    found = []
    for block in job.blocks.numbers:
        some = job.results["dedup_minhash"].by_block.read(block, ["id", "duplicate_of", "score", "row", "of_row"])
        concerned = gone[some["of_row"].to_numpy()] & ~gone[some["row"].to_numpy()]
        found.append(some.filter(pl.Series(concerned, dtype=pl.Boolean)).select("id", "duplicate_of", "score"))
    return stand_ins(pl.concat(found), job.settings)


def _gone(block: int, job: Assembling) -> dict[str, Any]:
    """Numbers of the rows that leave for another reason than being a duplicate."""
    import polars as pl

    rows = job.blocks.read(block)
    kept = assemble(rows, results_of(job.results, block), job.settings, job.names, fill=False).rows
    away = (~rows["id"].is_in(kept["id"].implode())).arg_true().to_numpy().astype(np.int64)
    job.at("gone").write(block, pl.DataFrame({"row": away + job.blocks.starts[block]}))
    return {}


def _picture_bytes(block: int, job: Assembling) -> dict[str, Any]:
    if not len(job.images):
        return {"bytes": 0}
    hashes = job.blocks.read(block, ["image_hashes"])["image_hashes"]
    return {"bytes": sum(job.images.size(sha256) for some in hashes for sha256 in some)}


def _assemble_block(block: int, job: Assembling) -> dict[str, Any]:
    import polars as pl

    rows, results = job.blocks.read(block), results_of(job.results, block)
    rejections = job.rejections.read(block)
    done = assemble(rows, results, job.settings, job.names, job.stands)
    keep_findings(job.store, job.build_key, rows, rejections, results, done)
    ledger = rejections.vstack(done.ledger)
    job.at("ledger").write(block, ledger)
    groups = shard_numbers(done.rows["id"], job.groups)
    job.at("kept").write_grouped(block, done.rows, groups, job.groups)
    sizes = [sum(map(job.images.size, some)) if len(job.images) else 0 for some in done.rows["image_hashes"]]
    if job.splits:
        told = [contents_of(done.rows), pl.Series("group", groups), pl.Series("bytes", sizes, dtype=pl.Int64)]
        job.at("to_split").write(block, pl.DataFrame(told))
        job.at("links").write(block, links_of(done.rows, results))
    return {
        "kept": done.rows.height,
        "removed": dict(done.removed),
        "near": done.near_misses,
        "bytes": sum(sizes),
        "shown": list(shown_entries(done.ledger)),
    }


@dataclass(frozen=True)
class _ShardJob:
    """What a worker that writes shards is told."""

    job: Assembling
    count: int
    folder: Path
    name: str
    row_group_bytes: int
    split: str = ""

    @property
    def files(self) -> list[Path]:
        """The shards that it writes; a split's name stands in those of its rows."""
        name = f"{self.name}-{self.split}" if self.split else self.name
        return [self.folder / shard_file(name, number, self.count) for number in range(self.count)]


def write_blocks(  # noqa: PLR0917 - what is written, where and how
    runner: Runner, done: AssembledBlocks, folder: Path, name: str, settings: ShardSettings, task: Task | None
) -> tuple[list[Path], Path]:
    """Write shards and ledger from what lies ready; returns the shards in order, and the ledger."""
    sizes = done.splits or {"": (done.kept, done.picture_bytes)}
    group_bytes, away = settings.row_group_megabytes * 10**6, len(done.job.blocks.heights) > 1
    files: list[Path] = []
    for split, (rows, picture_bytes) in sizes.items():
        count = shard_count(rows, picture_bytes, settings.shard_megabytes * 10**6)
        job = _ShardJob(done.job, count, folder, name, group_bytes, split)
        list(over(runner, _write_shard, range(count), job, task=task, away=away))
        files += job.files
    list(over(runner, _write_ledger, [0], _ShardJob(done.job, 1, folder, name, group_bytes), away=away))
    return files, folder / "ledger.parquet"


def _write_shard(number: int, job: _ShardJob) -> dict[str, Any]:
    import polars as pl

    blocks, groups = job.job.blocks.numbers, range(number, job.job.groups, job.count)
    rows = pl.concat([job.job.at("kept").read_group(blocks, group) for group in groups])
    if job.split:
        splits = pl.concat([job.job.at("split").read_group(blocks, group) for group in groups])
        rows = rows.hstack(splits).filter(pl.col("split") == job.split)
    with _renamed(job.files[number]) as file:
        write_shard(rows.sort("id"), job.job.images, file, job.row_group_bytes)
    return {"rows": rows.height}


def _write_ledger(number: int, job: _ShardJob) -> dict[str, Any]:
    import polars as pl

    del number
    ledger = pl.concat([job.job.at("ledger").read(block) for block in job.job.blocks.numbers])
    with _renamed(job.folder / "ledger.parquet") as file:
        write_ledger(ledger, file)
    return {}


@contextlib.contextmanager
def _renamed(file: Path) -> Iterator[Path]:
    """A file of this writer's own that takes its name at the end.

    A worker whose node was given up may still write when another does its work again.
    """
    own = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    yield own
    own.replace(file)
