"""Finds for every row the benchmark item nearest in meaning: cosine of embeddings of pictures and words together.

Writes, one row per row id and benchmark: `id` (str), `benchmark` (str), `benchmark_revision` (str), `item` (str, the
nearest item's id), `score` (float, its cosine, -1 to 1), `evidence` (str, JSON: both texts and pictures where the score
reaches `evidence_from`, else `{}`). The best item is kept at any score, so that a changed threshold (0.95 in the paper,
set in `assemble`) needs no new embedding and no new comparison. Vectors stay on the store: workers of the runner read
them and search, so that neither they nor this process hold them all.
Failures: rows that could not be embedded.
Record: `models` (with `parity`: lowest cosine with the reference's vectors), `coverage` (benchmark -> items embedded),
`planted_duplicates` (kind -> planted, found at the recipe's threshold, recall).
Source: Infi-MMR, data decontamination, second stage (GME embeddings, cosine above 0.95).
Not covered: the threshold's decision (assemble), shared text (decontaminate_ngrams).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_engine.ask_blocks import Asked, as_one_block, ask_blocks, merged
from data_engine.ask_job import AskingRows, Job
from data_engine.blocks import Parts, RowBlocks
from data_engine.decontamination import planting
from data_engine.decontamination.embed import (
    Embedded,
    Embedding,
    FirstOf,
    HeldImages,
    embedded,
    embedding_of,
    lines_of,
    parity,
)
from data_engine.decontamination.embedding_search import Backend, Compared, compare, nearest
from data_engine.step import BenchmarkItems, StepContext, StepResult
from shared.annotations import AnnotationTable, StoredCells
from shared.config import NO_IDENTITY, Strict
from shared.fingerprint import bytes_hash, fingerprint
from shared.vlm.checkpoint import engine_identity, engine_record
from shared.vlm.spec import EngineSpec

if TYPE_CHECKING:
    import polars as pl

    from shared.images import ImageSource

NAME = "decontaminate_embeddings"
CELL_VERSION = "nearest/2"

DEFAULT_THRESHOLD = 0.95
"""The paper's; a recipe's `assemble.cosine_threshold` overrides it for counting planted duplicates."""

EXCERPT = 600
"""Characters of each text in the evidence."""


class Settings(Strict):
    """How rows and items are embedded and compared."""

    engine: EngineSpec = Field(description="The checkpoint that embeds, and how it is driven.")
    reference: str | None = Field(
        default=None, description="Safetensors file of reference vectors for the parity check; None: not checked."
    )
    evidence_from: float = Field(default=0.85, ge=-1, le=1, description="Cosine from which both texts are kept.")
    backend: Backend = Field(
        default="auto",
        description="'auto' takes faiss where it drives a GPU, else numpy; no part of a build's identity.",
        json_schema_extra=NO_IDENTITY,
    )
    planted_duplicates: int = Field(
        default=8,
        ge=0,
        validation_alias=planting.NAMES,
        description="Planted duplicates per kind of edit and benchmark; 0: none.",
    )


@dataclass(frozen=True, kw_only=True)
class _Nearest(Embedding, AskingRows):
    """Embeds rows and finds the best items of each.

    Attributes:
        settings: The step's.

    """

    settings: Settings

    order = ("id", "benchmark")

    def lines(self, context: StepContext) -> pl.DataFrame:
        return lines_of(context.rows.select("id", "question", "image_hashes"))

    def found(self, lines: pl.DataFrame, job: Job) -> tuple[pl.DataFrame, dict[str, int]]:
        """Best items of some rows; rows that failed are put aside."""
        import polars as pl

        (cells,) = job.tables
        assert isinstance(cells, StoredCells)  # noqa: S101  as `embedding_of` makes it
        keys = lines["key"].unique(maintain_order=True)
        missing = cells.missing(keys.to_list())
        failed = pl.DataFrame(
            [(key, job.failed[f"{key}/0"]) for key in missing if f"{key}/0" in job.failed],
            schema={"key": pl.String, "reason": pl.String},
            orient="row",
        )
        job.at("failed").write(job.bucket, lines.select("id", "key").join(failed, on="key"))
        known = keys.filter(~keys.is_in(missing)).to_list()
        spread, backend = job.spread, self.settings.backend
        found = compare(cells, job.given, known, backend, spread=spread) if job.given else []
        frames = [
            _shown(lines.join(best, on="key", maintain_order="left"), one, self.settings.evidence_from)
            for one, best in zip(job.given or (), found, strict=True)
        ]
        return pl.concat([_nothing(), *frames]), {"absent": len(missing) - failed.height}


_DESCRIPTION = "embed rows and items"


@dataclass(frozen=True)
class _Others:
    """What is embedded with the rows: items of benchmarks, then the copies by which the step measures itself."""

    benchmarks: list[BenchmarkItems]
    copies: list[tuple[list[str], pl.DataFrame, ImageSource]]
    images: ImageSource
    lines: list[pl.DataFrame]

    @classmethod
    def of(cls, context: StepContext, settings: Settings) -> _Others:
        """Those of a build."""
        import polars as pl

        benchmarks = [benchmark for benchmark in context.benchmarks if benchmark.rows.height]
        copies = [planted(benchmark, settings.planted_duplicates) for benchmark in benchmarks]
        others = [benchmark.rows for benchmark in benchmarks] + [frame for _, frame, _ in copies]
        sources = [context.images, *(one.images for one in benchmarks), *(images for _, _, images in copies)]
        lines = [
            lines_of(frame.select(pl.lit(None, pl.String).alias("id"), "question", "image_hashes")) for frame in others
        ]
        return cls(benchmarks, copies, FirstOf(sources), lines)


def _asking(context: StepContext, settings: Settings) -> _Nearest:
    return _Nearest(**{**embedding_of(context, settings.engine), "name": NAME}, settings=settings)


def _ask(
    context: StepContext,
    asking: _Nearest,
    blocks: RowBlocks,
    others: _Others,
    given: Callable[[Asked], list[Compared]] | None = None,
) -> Asked:
    unit, description = "texts", _DESCRIPTION
    lines, images = others.lines, others.images
    return ask_blocks(context, asking, blocks, images, unit=unit, description=description, others=lines, given=given)


def known_vectors(context: StepContext, blocks: RowBlocks, settings: Settings) -> int:
    """How many distinct contents of rows and items are embedded already; the others are asked for, for a plan."""
    others = _Others.of(context, settings)
    asked = _ask(context, _asking(context, settings), blocks, others)
    frames = 1 + len(others.benchmarks)
    return sum(asked.distinct[:frames]) - sum(asked.fresh[:frames])


def run(context: StepContext, settings: Settings) -> StepResult:
    """Embed rows and items, compare all with all, keep the best item of each benchmark for every row."""
    return as_one_block(run_blocks, context, settings)


def run_blocks(context: StepContext, blocks: RowBlocks, settings: Settings) -> StepResult:
    """`run` for rows in blocks."""
    others = _Others.of(context, settings)
    benchmarks, copies, description = others.benchmarks, others.copies, _DESCRIPTION
    keys = [some["key"].to_list() for some in others.lines]
    asking = _asking(context, settings)
    items: list[Embedded] = []
    embedded_copies: list[Embedded] = []

    def compared(asked: Asked) -> list[Compared]:
        """What rows are compared with, once it is embedded."""
        made = embedded(asking, asked, keys, description=description, rows=_failures([]))[1:]
        items[:], embedded_copies[:] = made[: len(benchmarks)], made[len(benchmarks) :]
        return [_compared(context, settings, *one) for one in zip(benchmarks, items, strict=True)]

    asked = _ask(context, asking, blocks, others, given=compared)
    assert asked.job is not None  # noqa: S101  `ask_blocks` says what workers were told
    failed = _failures([asked.job.at("failed").read(number) for number in range(asked.job.buckets)])
    told = embedded(asking, asked, keys, description=description, rows=failed)
    checked = parity(context, settings.engine, Path(settings.reference) if settings.reference else None)
    coverage = {
        benchmark.name: {NAME: {"items": benchmark.rows.height, "embedded": benchmark.rows.height - len(one.failures)}}
        for benchmark, one in zip(benchmarks, items, strict=True)
    }
    outcomes = [
        outcome
        for (kinds, _, _), embedding, of in zip(copies, embedded_copies, items, strict=True)
        for outcome in _outcomes(context, settings, kinds, embedding, of)
    ]
    return StepResult(
        annotations=_nothing().drop("part"),
        computed=sum(one.computed for one in told[: 1 + len(benchmarks)]),
        reused=sum(one.reused for one in told[: 1 + len(benchmarks)]),
        failures=failed.select("id", "reason") if failed.height else None,
        warnings=[*(warning for one in told for warning in one.warnings), *checked["warnings"]],
        record={
            "models": [{"step": NAME, **engine_record(settings.engine), "parity": checked}],
            "coverage": coverage,
            "planted_duplicates": {NAME: planting.recall(outcomes)},
        },
        parts=Parts(blocks.store, NAME),
        one_per_row=bool(asked.counts["one_per_row"]),
    )


def _failures(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`id`, `key` and `reason` of the rows that could not be embedded."""
    import polars as pl

    return pl.concat([pl.DataFrame(schema=dict.fromkeys(("id", "key", "reason"), pl.String)), *parts]).sort("id")


def _compared(context: StepContext, settings: Settings, benchmark: BenchmarkItems, items: Embedded) -> Compared:
    """One benchmark, its items embedded, and where the best item of each row is found."""
    import pyarrow as pa

    about = {
        "step": NAME,
        "version": CELL_VERSION,
        "engine": engine_identity(settings.engine),
        "benchmark": benchmark.name,
        "items": fingerprint([benchmark.rows["id"].to_list(), items.keys, sorted(items.failures)]),
    }
    schema = pa.schema([("item", pa.int64()), ("score", pa.float64())])
    table = AnnotationTable(context.store, NAME, fingerprint(about), schema, about)
    rows = benchmark.rows.select("id", "question", "image_hashes")
    return Compared(benchmark.name, benchmark.revision, rows, items.vectors, table, merged(context, table))


def _shown(found: pl.DataFrame, one: Compared, evidence_from: float) -> pl.DataFrame:
    """Annotations of rows with `item` and `score`, and their `part`."""
    import polars as pl

    found = found.with_row_index("row")
    near = found.filter(pl.col("score") >= evidence_from)
    evidence = [
        json.dumps({"row": _excerpt(found, row), "item": _excerpt(one.rows, item)}, ensure_ascii=False, sort_keys=True)
        for row, item in near.select("row", "item").iter_rows()
    ]
    shown = near.select("row", pl.Series("evidence", evidence, dtype=pl.String))
    return found.join(shown, on="row", how="left", maintain_order="left").select(
        "id",
        benchmark=pl.lit(one.name),
        benchmark_revision=pl.lit(one.revision),
        item=one.rows["id"].gather(found["item"]),
        score=pl.col("score").round(6),
        evidence=pl.col("evidence").fill_null("{}"),
        part="part",
    )


def _outcomes(
    context: StepContext, settings: Settings, kinds: Sequence[str], copies: Embedded, items: Embedded
) -> list[tuple[str, bool]]:
    """Say of each planted duplicate's kind whether it reaches the threshold."""
    asked = [row for row in range(len(kinds)) if row not in copies.failures]
    reached: dict[int, float] = {}
    if asked:
        _, score = nearest(copies.vectors[asked], items.vectors, settings.backend)
        reached = dict(zip(asked, score.tolist(), strict=True))
    threshold = float(context.recipe.get("assemble", {}).get("cosine_threshold", DEFAULT_THRESHOLD))
    return [(kind, reached.get(row, 0.0) >= threshold) for row, kind in enumerate(kinds)]


def planted(benchmark: BenchmarkItems, per_kind: int) -> tuple[list[str], pl.DataFrame, ImageSource]:
    """Planted duplicates of a benchmark's items: their kinds, their rows, and where their pictures are."""
    import polars as pl

    originals = planting.Original.of(benchmark.rows)
    made = list(planting.plant(originals, benchmark.images.get, per_kind))
    own = {bytes_hash(data): data for copy in made for data in copy.images}
    frame = pl.DataFrame(
        {
            "question": [copy.question for copy in made],
            "image_hashes": [list(planting.image_hashes(copy, originals)) for copy in made],
        },
        schema={"question": pl.String, "image_hashes": pl.List(pl.String)},
    )
    return [copy.kind for copy in made], frame, FirstOf([HeldImages(own), benchmark.images])


def _excerpt(rows: pl.DataFrame, row: int) -> dict[str, Any]:
    images = rows["image_hashes"][row]
    return {"text": (rows["question"][row] or "")[:EXCERPT], "images": [] if images is None else images.to_list()}


def _nothing() -> pl.DataFrame:
    """No annotations, with the lines' `part`."""
    import polars as pl

    texts = dict.fromkeys(("id", "benchmark", "benchmark_revision", "item"), pl.String)
    return pl.DataFrame(schema={**texts, "score": pl.Float64, "evidence": pl.String, "part": pl.Int32})
