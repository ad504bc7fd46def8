"""Runs judging steps over rows in blocks: each worker judges a block where it lies, and a few counts come back.

A step whose findings about a row need no other row (`BY_BLOCK` in its module) runs as it is, once per block, and its
annotations stay on scratch. One that compares rows with each other, or asks a model, has a `run_blocks` of its own.
A step of another package goes by blocks, too, unless it says that it needs all rows at once (`NEEDS_ALL_ROWS`) or asks
a model (`engine` in its settings): then it gets them, and its annotations are laid beside the blocks afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from data_engine.blocks import Parts, RowBlocks, again_where_damaged, block_of, over, without_runner
from data_engine.cell_counts import CellNotes
from data_engine.plugins import OwnStep
from data_engine.step import StepContext, StepResult
from data_engine.step_order import STEP_ORDER, step_module

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class _Job:
    """What a worker is told: the build, the step and its settings, where rows and findings lie."""

    own: OwnStep | None
    """A step of a file: before its settings, whose class it brings where it arrives."""
    context: StepContext
    name: str
    settings: Any
    blocks: RowBlocks

    @property
    def parts(self) -> Parts:
        """The step's annotations."""
        return _parts_of(self.name, self.blocks)

    @property
    def notes(self) -> CellNotes:
        """Cells that blocks looked for."""
        return CellNotes(Parts(self.blocks.store, f"{self.parts.folder}.cells"), len(self.blocks.heights))


def _parts_of(name: str, blocks: RowBlocks) -> Parts:
    """Where a step's annotations lie; those of others apart, whose names may be those of parts of ours (`rows`)."""
    return Parts(blocks.store, name if name in STEP_ORDER else f"others.{name}")


def run_step(name: str, settings: Any, context: StepContext, blocks: RowBlocks) -> StepResult:
    """Run a step of a recipe on all rows; its annotations are in parts, one per block."""
    module = step_module(name, settings)
    own = module if isinstance(module, OwnStep) else None
    if hasattr(module, "run_blocks"):
        found: StepResult = again_where_damaged(module.run_blocks, context, blocks, settings)
        return found
    if getattr(module, "BY_BLOCK", False):
        return _run_by_block(_Job(own, without_runner(context), name, settings, blocks), context)
    if own is not None and not hasattr(settings, "engine"):
        context = without_runner(context)  # its functions are known to this process alone
    rows = blocks.frame([one for one in _columns(blocks) if one != "image_names"])
    whole = {other: replace(result, annotations=_whole(result, blocks)) for other, result in context.results.items()}
    result = again_where_damaged(module.run, replace(context, rows=rows, results=whole), settings)
    return _lay_beside(name, result, blocks)


def _columns(blocks: RowBlocks) -> list[str]:
    return blocks.read(0).columns


def _whole(result: StepResult, blocks: RowBlocks) -> pl.DataFrame:
    """A result's annotations in one frame."""
    import polars as pl

    if result.parts is None or result.annotations.height:
        return result.annotations
    # A package's frame of a block without findings may have no columns.
    return pl.concat([result.parts.read(block) for block in blocks.numbers], how="diagonal_relaxed")


def _run_by_block(job: _Job, context: StepContext) -> StepResult:
    import polars as pl

    task = context.progress.task(job.name, job.blocks.height)
    told = list(over(context.runner, _run_block, job.blocks.numbers, job, task=task))
    task.done()
    warnings = dict.fromkeys(text for one in told for text in one["warnings"])
    failures = [entry for one in told for entry in one["failures"]]
    computed, reused = (sum(one[name] for one in told) for name in ("computed", "reused"))
    if all(one["noted"] for one in told):
        computed, reused = job.notes.count(context.runner, job.blocks.numbers)
    return StepResult(
        annotations=pl.DataFrame(),
        computed=computed,
        reused=reused,
        failures=pl.DataFrame(failures, infer_schema_length=None).unique(maintain_order=True) if failures else None,
        warnings=list(warnings),
        record=told[0]["record"],
        parts=job.parts,
        one_per_row=all(one["one_per_row"] for one in told),
    )


def _run_block(block: int, job: _Job) -> dict[str, Any]:
    """Judge one block. What a step tells of its benchmarks is the same for each: the first one tells it."""
    rows = job.blocks.read(block)
    settings = job.settings
    if block and getattr(settings, "planted_duplicates", 0):
        settings = settings.model_copy(update={"planted_duplicates": 0})
    ours = job.name in STEP_ORDER  # none of ours that goes by block looks at what others found
    results = job.context.results if ours else results_of(job.context.results, block)
    context = replace(job.context, rows=rows.drop("image_names"), results=results, first=job.notes.first(block))
    result = (job.own or step_module(job.name)).run(context, settings)
    job.parts.write(block, result.annotations)
    if result.cells is not None:
        job.notes.write(block, result.cells)
    return {
        "rows": rows.height,
        "computed": result.computed,
        "reused": result.reused,
        "noted": result.cells is not None,
        "failures": [] if result.failures is None else _reasons(result.failures),
        "warnings": list(result.warnings),
        "record": dict(result.record) if block == 0 else {},
        "one_per_row": _one_per_row(result.annotations),
    }


def _reasons(failures: pl.DataFrame) -> list[dict[str, Any]]:
    """Failures without columns of a package's own, whose values may be no JSON."""
    return failures.select(name for name in ("id", "image_hash", "reason") if name in failures.columns).to_dicts()


def _one_per_row(annotations: pl.DataFrame) -> bool:
    return "id" not in annotations.columns or bool(annotations["id"].is_unique().all())


def _lay_beside(name: str, result: StepResult, blocks: RowBlocks) -> StepResult:
    """Put a step's annotations beside the rows that they are about."""
    import polars as pl

    parts, found = _parts_of(name, blocks), result.annotations
    count = len(blocks.heights)
    if "id" in found.columns:
        block = pl.Series("block", block_of(found["id"], count)) if count > 1 else None
        for number in blocks.numbers:
            parts.write(number, found if block is None else found.filter(block == number))
        return replace(result, parts=parts, one_per_row=_one_per_row(found))
    for number in blocks.numbers:
        shown = blocks.read(number, ["image_hashes"])["image_hashes"].explode().drop_nulls().unique()
        everyone = count == 1 or "image_hash" not in found.columns
        parts.write(number, found if everyone else found.filter(pl.col("image_hash").is_in(shown.implode())))
    return replace(result, parts=parts)


def results_of(results: Mapping[str, StepResult], block: int) -> dict[str, StepResult]:
    """What the steps found about the rows of one block."""
    found = {}
    for name, result in results.items():
        annotations = result.by_block.read(block)
        numbers = ("row", "of_row") if name == "dedup_minhash" else ()
        found[name] = replace(result, annotations=annotations.drop(*numbers) if numbers else annotations)
    return found
