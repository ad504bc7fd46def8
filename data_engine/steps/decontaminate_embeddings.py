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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from data_engine.decontamination import planting
from data_engine.decontamination.embed import FirstOf, HeldImages, embed_frames, parity
from data_engine.decontamination.embedding_search import Backend
from data_engine.decontamination.search_rows import nearest_items
from data_engine.step import StepContext, StepResult
from shared.annotations import AnnotationTable
from shared.config import NO_IDENTITY, Strict
from shared.fingerprint import bytes_hash, fingerprint
from shared.vlm.identity import engine_identity, engine_record
from shared.vlm.spec import EngineSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from data_engine.decontamination.embed import Embedded
    from data_engine.decontamination.embedding_search import Places
    from data_engine.step import BenchmarkItems
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


def run(context: StepContext, settings: Settings) -> StepResult:
    """Embed rows and items, compare all with all, keep the best item of each benchmark for every row."""
    import polars as pl

    started = time.monotonic()
    benchmarks = [benchmark for benchmark in context.benchmarks if benchmark.rows.height]
    copies = [planted(benchmark, settings.planted_duplicates) for benchmark in benchmarks]
    frames = [
        (context.rows, context.images),
        *((benchmark.rows, benchmark.images) for benchmark in benchmarks),
        *((frame, images) for _, frame, images in copies),
    ]
    rows, *others = embed_frames(context, settings.engine, frames, description="embed rows and items")
    items, embedded_copies = others[: len(benchmarks)], others[len(benchmarks) :]
    checked = parity(context, settings.engine, Path(settings.reference) if settings.reference else None)
    warnings = [*rows.warnings, *(warning for one in others for warning in one.warnings), *checked.warnings]
    compared = [_Compared(context, settings, *one) for one in zip(benchmarks, items, strict=True)]
    _search(context, settings, rows, compared)
    coverage = {
        one.benchmark.name: {
            NAME: {"items": one.benchmark.rows.height, "embedded": one.benchmark.rows.height - len(one.items.failures)}
        }
        for one in compared
    }
    outcomes = [
        outcome
        for one, (kinds, _, _), embedded in zip(compared, copies, embedded_copies, strict=True)
        for outcome in one.found_duplicates(kinds, embedded)
    ]
    ids = context.rows["id"].to_list()
    failures = {"id": [ids[row] for row in rows.failures], "reason": list(rows.failures.values())}
    return StepResult(
        annotations=pl.concat([_frame([]), *(one.found(rows) for one in compared)]).sort("id", "benchmark"),
        computed=rows.computed + sum(one.computed for one in items),
        reused=rows.reused + sum(one.reused for one in items),
        seconds=time.monotonic() - started,
        failures=pl.DataFrame(failures, schema={"id": pl.String, "reason": pl.String}) if rows.failures else None,
        warnings=warnings,
        record={
            "models": [{"step": NAME, **engine_record(settings.engine), "parity": checked.record()}],
            "coverage": coverage,
            "planted_duplicates": {NAME: planting.recall(outcomes)},
        },
    )


class _Compared:
    """One benchmark, its items embedded, and the best item of each row as far as known."""

    def __init__(self, context: StepContext, settings: Settings, benchmark: BenchmarkItems, items: Embedded) -> None:
        import pyarrow as pa

        self.context, self.settings, self.benchmark, self.items = context, settings, benchmark, items
        about = {
            "step": NAME,
            "version": CELL_VERSION,
            "engine": engine_identity(settings.engine),
            "benchmark": benchmark.name,
            "items": fingerprint([benchmark.rows["id"].to_list(), items.keys, sorted(items.failures)]),
        }
        schema = pa.schema([("item", pa.int64()), ("score", pa.float64())])
        self.table = AnnotationTable(context.store, NAME, fingerprint(about), schema, about)

    def missing(self, rows: Embedded) -> Places:
        """First row of each embedded content that was never compared, ascending."""
        wanted = set(self.table.missing(rows.keys))
        first = {key: row for row, key in reversed(list(enumerate(rows.keys))) if key in wanted}
        return np.array(sorted(row for row in first.values() if row not in rows.failures), np.int64)

    def found(self, rows: Embedded) -> pl.DataFrame:
        """Best item for every row."""
        import polars as pl

        context, benchmark = self.context, self.benchmark
        known = self.table.columns(rows.keys)
        if known is None or known.num_rows == 0:
            return _frame([])
        keys = pl.DataFrame({"id": context.rows["id"], "key": rows.keys}).with_row_index("row")
        cells = pl.DataFrame(pl.from_arrow(known))
        found = keys.join(cells, on="key", maintain_order="left").drop("key")
        near = found.filter(pl.col("score") >= self.settings.evidence_from)
        evidence = [
            json.dumps(_evidence(context.rows, row, benchmark.rows, item), ensure_ascii=False, sort_keys=True)
            for row, item in near.select("row", "item").iter_rows()
        ]
        shown = near.select("row", pl.Series("evidence", evidence, dtype=pl.String))
        return found.join(shown, on="row", how="left", maintain_order="left").select(
            "id",
            benchmark=pl.lit(benchmark.name),
            benchmark_revision=pl.lit(benchmark.revision),
            item=benchmark.rows["id"].gather(found["item"]),
            score=pl.col("score").round(6),
            evidence=pl.col("evidence").fill_null("{}"),
        )

    def found_duplicates(self, kinds: Sequence[str], copies: Embedded) -> list[tuple[str, bool]]:
        """Say of each planted duplicate's kind whether it reaches the threshold."""
        if not kinds:
            return []
        asked = np.array([row for row in range(len(kinds)) if row not in copies.failures], np.int64)
        backend = self.settings.backend
        [(_, score)] = nearest_items(self.context.runner, copies, [asked], [self.items], backend=backend)
        reached = dict(zip(asked.tolist(), score.tolist(), strict=True))
        threshold = float(self.context.recipe.get("assemble", {}).get("cosine_threshold", DEFAULT_THRESHOLD))
        return [(kind, reached.get(row, 0.0) >= threshold) for row, kind in enumerate(kinds)]


def planted(benchmark: BenchmarkItems, per_kind: int) -> tuple[list[str], pl.DataFrame, ImageSource]:
    """Planted duplicates of a benchmark's items: their kinds, their rows, and where their pictures are."""
    import polars as pl

    columns = [benchmark.rows[name].to_list() for name in ("id", "question", "choices", "image_hashes")]
    originals = [
        planting.Original(i, q or "", tuple(c or ()), tuple(p or ())) for i, q, c, p in zip(*columns, strict=True)
    ]
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


def _search(context: StepContext, settings: Settings, rows: Embedded, compared: Sequence[_Compared]) -> None:
    """Compare rows with all benchmarks in one pass and store what was found."""
    import pyarrow as pa

    wanted = [one.missing(rows) for one in compared]
    task = context.progress.task("compare vectors", max((len(some) for some in wanted), default=0))
    items = [one.items for one in compared]
    found = nearest_items(context.runner, rows, wanted, items, backend=settings.backend, task=task)
    task.done()
    for one, some, (best, score) in zip(compared, wanted, found, strict=True):
        cells = {
            "key": pa.array([rows.keys[row] for row in some.tolist()], pa.string()),
            "item": pa.array(best),
            "score": pa.array(score.astype(np.float64)),
        }
        one.table.append_table(pa.table(cells))


def _evidence(rows: pl.DataFrame, row: int, items: pl.DataFrame, item: int) -> dict[str, Any]:
    def shown(frame: pl.DataFrame, place: int) -> dict[str, Any]:
        return {
            "text": (frame["question"][place] or "")[:EXCERPT],
            "images": list(frame["image_hashes"][place] if frame["image_hashes"][place] is not None else ()),
        }

    return {"row": shown(rows, row), "item": shown(items, item)}


def _frame(found: Sequence[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    schema = {
        "id": pl.String,
        "benchmark": pl.String,
        "benchmark_revision": pl.String,
        "item": pl.String,
        "score": pl.Float64,
        "evidence": pl.String,
    }
    return pl.DataFrame(list(found), schema=schema)
