"""Asks models about rows in blocks: neither the driver nor a worker holds all rows, asks or cells.

Lines (what is looked for: a key, and what the step needs beside it) are made from each row block and put into buckets
by the first byte of the key, which are also the partitions of annotation tables. A worker that has a bucket reads its
part of the tables only: it finds which cells are missing and lays their asks ready. Whoever asks (the local runner, or
workers of a cluster) reads asks there and stores cells itself (`stored_asks`); counts and failures come back. Then each
bucket's cells become findings, which are put beside the row blocks. The driver tells buckets apart by their numbers.

The bytes of a version do not depend on the runner, on how rows lie in blocks, or on who stored a cell.
Not covered: what is asked and what is found (`Asking` of each step), how workers are found (runners).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.ask_job import Asking, AskingRows, Job
from data_engine.blocks import Parts, RowBlocks, again_where_damaged, over, without_runner
from data_engine.intake.staging import within_reach
from data_engine.runners.local import LocalRunner
from data_engine.step import StepContext, StepResult
from data_engine.stored_asks import Kept, StoredAsks, write_asks
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    import polars as pl

    from data_engine.runners.protocol import Runner
    from shared.annotations import AnnotationTable
    from shared.images import ImageSource
    from shared.store import Store

BUCKET_KEYS = 2**13
"""Keys of a bucket, about: 50 MB of vectors."""

PASSES = 3
"""Times that cells are asked for which were stored and then found damaged."""


@dataclass
class Asked:
    """What asking gave.

    Attributes:
        fresh: Cells asked now, failed ones too; by frame: rows, then what else was given (see `Job.parts`).
        distinct: Different cells looked for, by frame.
        failed: Reason by `key/table`.
        warnings: Restarts, losses.
        elsewhere: Cells found that something else than this code and library made: maker -> cells.
        counts: From the step's `found`.
        answered: Whether anybody answers; a plan asks nobody.
        job: What workers were told.

    """

    fresh: list[int]
    distinct: list[int]
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    elsewhere: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    answered: bool = True
    job: Job | None = None

    @property
    def computed(self) -> int:
        """Cells asked now and answered."""
        return sum(self.fresh) - len(self.failed)

    @property
    def reused(self) -> int:
        """Cells found."""
        return sum(self.distinct) - sum(self.fresh)


def ask_blocks(
    context: StepContext,
    asking: AskingRows,
    blocks: RowBlocks,
    images: ImageSource,
    *,
    unit: str,
    description: str = "",
    others: Sequence[pl.DataFrame] = (),
    given: Callable[[Asked], Any] | None = None,
) -> Asked:
    """Ask what a step asks about all rows; its annotations are in `Parts` of its name afterwards.

    Args:
        context: The build.
        asking: The step's.
        blocks: Rows.
        images: Pictures of the asks.
        unit: Of progress.
        description: Of progress; empty: the step's name.
        others: More lines, whose cells are asked with those of the rows and belong to none.
        given: Makes what `found` needs once all is asked.

    Raises:
        InfiMmrError: cells that workers say they stored are not there.

    """
    hands, job = _job(context, asking, blocks, len(blocks.heights) + len(others), blocks.height)
    pictures = max(one["pictures"] for one in over(hands, _write_lines, blocks.numbers, job))
    pictures *= asking.all_pictures
    for number, lines in enumerate(others, start=job.own):
        job.write_lines(number, lines)
    first: Asked | None = None
    for _ in range(PASSES):
        asked, job = ask_lines(context, job, images, unit=unit, description=description, pictures=pictures)
        if first is not None:  # what was stored a moment ago is no cell found
            more = [*first.warnings, *asked.warnings]
            asked = dataclasses.replace(first, failed=asked.failed, warnings=more, counts=Counter())
        first = asked
        job = dataclasses.replace(job, given=given(asked) if given is not None else None)
        for one in over(hands, _find, range(job.buckets), job):
            asked.counts.update(one)
        if not asked.counts["absent"] or not asked.answered:
            break
    else:
        message = f"{asked.counts['absent']} answers were stored and are not found in {context.store.url}"
        raise InfiMmrError(message, "See that every worker reaches that very store, then use the same command")
    asked.job = job
    gathered = list(over(hands, _gather, blocks.numbers, job))
    asked.counts["one_per_row"] = int(all(one["one_per_row"] for one in gathered))
    job.at("lines").delete(range(job.parts))
    job.at("found").delete(range(job.buckets))
    return asked


def ask_frame(
    context: StepContext, asking: Asking, lines: pl.DataFrame, images: ImageSource, *, unit: str, description: str
) -> Asked:
    """Ask for some lines that the driver holds; who reads the cells looks them up."""
    with scratch_of(context) as scratch:
        _, job = _job(dataclasses.replace(context, scratch=scratch), asking, None, 1, lines.height)
        job.write_lines(0, lines)
        asked, job = ask_lines(context, job, images, unit=unit, description=description)
        job.at("lines").delete([0])
    return asked


def as_one_block(
    run_blocks: Callable[[StepContext, RowBlocks, Any], StepResult], context: StepContext, settings: Any
) -> StepResult:
    """Run a step that takes blocks on the rows of `context`; its annotations are in the result."""
    with scratch_of(context) as scratch:
        blocks = RowBlocks(scratch, "rows.alone", (context.rows.height,))
        blocks.write(0, context.rows)
        results = {}
        for name, result in context.results.items():
            parts = Parts(scratch, f"{name}.alone")
            parts.write(0, result.annotations)
            results[name] = dataclasses.replace(result, parts=parts)
        alone = dataclasses.replace(context, results=results, scratch=scratch)
        found = again_where_damaged(run_blocks, alone, blocks, settings)
        return dataclasses.replace(found, annotations=found.by_block.read(0), parts=None)


@contextlib.contextmanager
def scratch_of(context: StepContext) -> Iterator[Store]:
    """Yield the build's scratch; without a build a temporary folder."""
    from data_engine.scratch import scratch_folder
    from shared.store import open_store

    if context.scratch is not None:
        yield context.scratch
        return
    with scratch_folder(None) as folder:
        yield open_store(folder)


def ask_lines(
    context: StepContext, job: Job, images: ImageSource, *, unit: str, description: str = "", pictures: int = 0
) -> tuple[Asked, Job]:
    """Ask what is missing of the cells that lines look for; tables of the job returned are listed anew."""
    asking, hands = job.asking, _hands(context.runner)
    job = dataclasses.replace(job, entries=[merged(context, table, away=job.own > 1) for table in asking.tables])
    told = list(over(hands, _lay_ready, range(job.buckets), job))
    frames = range(1 + job.parts - job.own)
    fresh, distinct = ([sum(one[name][frame] for one in told) for frame in frames] for name in ("fresh", "distinct"))
    asked = Asked(fresh, distinct)
    elsewhere: Counter[str] = Counter()
    for one in told:
        elsewhere.update(one["elsewhere"])
    asked.elsewhere = dict(sorted(elsewhere.items()))
    count = sum(asked.fresh)
    if count:
        missing = [sum(one["missing"][table] for one in told) for table in range(len(asking.tables))]
        spread = frozenset(n for n, some in enumerate(missing) if job.many(some))
        asks = StoredAsks(job.at("asks"), [sum(one["missing"]) for one in told], asking.words)
        keeper = Kept(asking.tables, asking.value, spread)
        task = context.progress.task(description or asking.name, count, unit=unit, known=sum(asked.distinct) - count)
        engine = asking.engine
        if pictures > engine.max_images:
            engine = engine.model_copy(update={"max_images": pictures})
        reach = within_reach(context, images, asks)
        try:
            asked.warnings = context.runner.ask(engine, asks, keeper, images=reach, sampling=asking.sampling, task=task)
        finally:
            keeper.flush()
        task.done()
        asked.failed, asked.answered = keeper.failed, keeper.taken > 0
    job.at("asks").delete(range(job.buckets))
    job = dataclasses.replace(job, failed=asked.failed, entries=[table.listing() for table in asking.tables])
    return asked, job


def merged(context: StepContext, table: AnnotationTable, *, away: bool = False) -> list[tuple[str, int]]:
    """Listing of a table, which a worker merges first where that is worth it."""
    entries = table.listing()
    if not table.wants_merging(entries):
        return entries
    list(over(_hands(context.runner), _merge, [0], table, away=away))
    return table.listing()


def _job(context: StepContext, asking: Asking, blocks: RowBlocks | None, parts: int, rows: int) -> tuple[Runner, Job]:
    """What workers are told at first, and who they are."""
    import polars as pl

    store = context.scratch if blocks is None else blocks.store
    assert store is not None  # noqa: S101  callers give a scratch where they give no blocks
    buckets = 1
    while buckets < 256 and rows * asking.asks_per_line > buckets * BUCKET_KEYS:
        buckets *= 2
    hands = _hands(context.runner)
    slim = without_runner(context) if hands is context.runner else context
    needs = asking.needs if isinstance(asking, AskingRows) else ()
    ran = {name: result for name, result in context.results.items() if name in needs}
    needed = {name: dataclasses.replace(result, annotations=pl.DataFrame()) for name, result in ran.items()}
    nothing: Any = None
    slim = dataclasses.replace(slim, rows=pl.DataFrame(), images=nothing, benchmarks=(), results=needed, scratch=None)
    return hands, Job(asking, slim, store, blocks, parts, buckets)


def _hands(runner: Runner) -> Runner:
    """Who works on blocks: a runner of this machine that only counts asks or notes them must find what they are."""
    return runner if runner.name == "ray" else LocalRunner()


def _merge(number: int, table: AnnotationTable) -> dict[str, Any]:
    del number
    return {"merged": table.compact()}


def _write_lines(block: int, job: Job) -> dict[str, Any]:
    """Make the lines of a row block."""
    assert job.blocks is not None  # noqa: S101  only then it has a number
    rows = job.blocks.read(block)
    results = {
        name: dataclasses.replace(result, annotations=result.by_block.read(block))
        for name, result in job.context.results.items()
    }
    rows = rows.drop("image_names", strict=False)
    job.write_lines(block, job.about_rows.lines(dataclasses.replace(job.context, rows=rows, results=results)))
    return {"pictures": max(map(len, rows["image_hashes"]), default=0)}


def _lay_ready(bucket: int, job: Job) -> dict[str, Any]:
    """Find what is missing of a bucket, and lay asks for it ready."""
    import polars as pl

    asking = job.asking
    lines = job.lines(bucket).with_columns(frame=(pl.col("part") - (job.own - 1)).clip(0))
    distinct = lines.unique(["key", "table"], keep="first", maintain_order=True)
    asks = asking.asks(distinct, job.context)
    missing: list[int] = []
    elsewhere: Counter[str] = Counter()
    new = pl.Series("new", [False] * asks.height, dtype=pl.Boolean)
    for number, table in enumerate(job.tables):
        here = asks["table"] == number
        keys = asks.filter(here)["key"].to_list()
        wanted = table.missing(keys) if keys else []
        elsewhere.update(table.made_elsewhere(keys) if keys else {})
        new |= here & asks["key"].is_in(wanted)
        missing.append(len(wanted))
    asks = asks.filter(new)
    write_asks(job.at("asks"), bucket, asks)
    frames = range(1 + job.parts - job.own)
    if len(frames) == 1:
        return {"missing": missing, "fresh": [asks.height], "distinct": [len(new)], "elsewhere": elsewhere}
    first = distinct.join(asks.select("key", "table"), on=["key", "table"], how="semi")["frame"]
    every = lines.unique(["key", "table", "frame"])["frame"]
    return {
        "missing": missing,
        "fresh": [int((first == frame).sum()) for frame in frames],
        "distinct": [int((every == frame).sum()) for frame in frames],
        "elsewhere": elsewhere,
    }


def _find(bucket: int, job: Job) -> dict[str, Any]:
    """Turn the cells of a bucket into annotations, by row block."""
    import polars as pl

    job = dataclasses.replace(job, bucket=bucket)
    frame, counts = job.about_rows.found(job.lines(bucket).filter(pl.col("part") < job.own), job)
    job.at("found").write_grouped(bucket, frame.drop("part"), frame["part"].to_numpy().astype(np.int64), job.own)
    return counts


def _gather(block: int, job: Job) -> dict[str, Any]:
    """Lay the annotations of a row block beside it."""
    frame = job.at("found").read_group(range(job.buckets), block).sort(job.about_rows.order)
    Parts(job.store, job.asking.name).write(block, frame)
    return {"one_per_row": bool(frame["id"].is_unique().all()) if "id" in frame.columns else True}
