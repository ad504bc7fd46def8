"""Finds for every row the benchmark item nearest in meaning: cosine of embeddings of pictures and words together.

Writes, one row per row id and benchmark: `id` (str), `benchmark` (str), `benchmark_revision` (str), `item` (str, the
nearest item's id), `score` (float, its cosine, -1 to 1), `evidence` (str, JSON: both texts and pictures where the score
reaches `evidence_from`, else `{}`). The best item is kept at any score, so that a changed threshold (0.95 in the paper,
set in `assemble`) needs no new embedding and no new comparison.
Failures: rows that could not be embedded.
Record: `models`, `parity` (lowest cosine with the reference's vectors), `coverage` (benchmark -> items embedded),
`canaries` (kind -> planted, found at the recipe's threshold, recall).
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

from data_engine.annotations import AnnotationTable
from data_engine.decontamination import canaries
from data_engine.decontamination.embed import HeldImages, embed_rows, parity
from data_engine.decontamination.embedding_search import Backend, nearest
from data_engine.steps.base import StepContext, StepResult
from shared.config import Strict
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash, fingerprint
from shared.vlm.spec import EngineSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from data_engine.decontamination.embed import Embedded
    from data_engine.steps.base import BenchmarkItems, ImageSource

NAME = "decontaminate_embeddings"
CELL_VERSION = "nearest/1"

DEFAULT_THRESHOLD = 0.95
"""The paper's; a recipe's `assemble.cosine_threshold` overrules it for counting canaries."""

EXCERPT = 600
"""Characters of each text in the evidence."""


class Settings(Strict):
    """How rows and items are embedded and compared."""

    engine: EngineSpec = Field(description="The checkpoint that embeds, and how it is driven.")
    reference: str | None = Field(
        default=None, description="Safetensors file of reference vectors for the parity check; None: not checked."
    )
    evidence_from: float = Field(default=0.85, ge=-1, le=1, description="Cosine from which both texts are kept.")
    backend: Backend = Field(default="auto", description="'auto' takes faiss where it drives a GPU, else numpy.")
    canaries: int = Field(default=8, ge=0, description="Planted copies per kind of edit and benchmark; 0: none.")


def run(context: StepContext, settings: Settings) -> StepResult:
    """Embed rows and items, compare all with all, keep the best item of each benchmark for every row."""
    import polars as pl

    started = time.monotonic()
    warnings: list[str] = []
    rows = embed_rows(context, settings.engine, context.rows, context.images, description="embed rows")
    checked = parity(context, settings.engine, Path(settings.reference) if settings.reference else None)
    warnings += [*rows.warnings, *checked.warnings]
    computed, reused = rows.computed, rows.reused
    frames, coverage, planted = [_frame([])], {}, []
    for benchmark in context.benchmarks:
        if benchmark.rows.height == 0:
            continue
        description = f"embed {benchmark.name}"
        items = embed_rows(context, settings.engine, benchmark.rows, benchmark.images, description=description)
        computed, reused = computed + items.computed, reused + items.reused
        warnings += items.warnings
        coverage[benchmark.name] = {
            NAME: {"items": benchmark.rows.height, "embedded": benchmark.rows.height - len(items.failures)}
        }
        frames.append(_compare(context, settings, benchmark, rows, items))
        planted.extend(_canaries(context, settings, benchmark, items))
    ids = context.rows["id"].to_list()
    failures = {"id": [ids[row] for row in rows.failures], "reason": list(rows.failures.values())}
    return StepResult(
        annotations=pl.concat(frames).sort("id", "benchmark"),
        computed=computed,
        reused=reused,
        seconds=time.monotonic() - started,
        failures=pl.DataFrame(failures, schema={"id": pl.String, "reason": pl.String}) if rows.failures else None,
        warnings=warnings,
        record={
            "models": [{"step": NAME, **settings.engine.record()}],
            "parity": checked.record(),
            "coverage": coverage,
            "canaries": {NAME: canaries.recall(planted)},
        },
    )


def _compare(
    context: StepContext, settings: Settings, benchmark: BenchmarkItems, rows: Embedded, items: Embedded
) -> pl.DataFrame:
    """Best item of one benchmark for every row; rows that were compared before are read."""
    import pyarrow as pa

    about = {
        "step": NAME,
        "version": CELL_VERSION,
        "engine": settings.engine.identity(),
        "benchmark": benchmark.name,
        "items": fingerprint([benchmark.rows["id"].to_list(), items.keys, sorted(items.failures)]),
    }
    schema = pa.schema([("item", pa.int64()), ("score", pa.float64())])
    table = AnnotationTable(context.store, NAME, fingerprint(about), schema, about)
    wanted = set(table.missing(rows.keys))
    first = {
        key: row for row, key in reversed(list(enumerate(rows.keys))) if key in wanted and row not in rows.failures
    }
    places = sorted(first.values())
    if places:
        best, score = nearest(rows.vectors[places], items.vectors, settings.backend)
        cells = {
            "key": [rows.keys[row] for row in places],
            "item": pa.array(best),
            "score": pa.array(score.astype(np.float64)),
        }
        table.append_table(pa.table(cells))
    known = table.lookup(rows.keys)
    item_ids, ids = benchmark.rows["id"].to_list(), context.rows["id"].to_list()
    found = []
    for row, key in enumerate(rows.keys):
        cell = known.get(key)
        if cell is None:
            continue
        near = cell["score"] >= settings.evidence_from
        evidence = _evidence(context.rows, row, benchmark.rows, cell["item"]) if near else {}
        found.append(
            {
                "id": ids[row],
                "benchmark": benchmark.name,
                "benchmark_revision": benchmark.revision,
                "item": item_ids[cell["item"]],
                "score": round(cell["score"], 6),
                "evidence": json.dumps(evidence, ensure_ascii=False, sort_keys=True),
            }
        )
    return _frame(found)


def _evidence(rows: pl.DataFrame, row: int, items: pl.DataFrame, item: int) -> dict[str, Any]:
    def shown(frame: pl.DataFrame, place: int) -> dict[str, Any]:
        return {
            "text": (frame["question"][place] or "")[:EXCERPT],
            "images": list(frame["image_hashes"][place] if frame["image_hashes"][place] is not None else ()),
        }

    return {"row": shown(rows, row), "item": shown(items, item)}


def _canaries(
    context: StepContext, settings: Settings, benchmark: BenchmarkItems, items: Embedded
) -> list[tuple[str, bool]]:
    """Plant copies of the items, embed them, say of each kind and copy whether it reaches the threshold."""
    import polars as pl

    if not settings.canaries:
        return []
    columns = [benchmark.rows[name].to_list() for name in ("id", "question", "choices", "image_hashes")]
    originals = [
        canaries.Original(i, q or "", tuple(c or ()), tuple(p or ())) for i, q, c, p in zip(*columns, strict=True)
    ]
    made = list(canaries.plant(originals, benchmark.images.get, settings.canaries))
    if not made:
        return []
    own = {bytes_hash(data): data for copy in made for data in copy.images}
    frame = pl.DataFrame(
        {
            "question": [copy.question for copy in made],
            "image_hashes": [list(canaries.image_hashes(copy, originals)) for copy in made],
        },
        schema={"question": pl.String, "image_hashes": pl.List(pl.String)},
    )
    description = f"embed planted copies of {benchmark.name}"
    embedded = embed_rows(
        context, settings.engine, frame, _Both(HeldImages(own), benchmark.images), description=description
    )
    _, score = nearest(embedded.vectors, items.vectors, settings.backend)
    threshold = float(context.recipe.get("assemble", {}).get("cosine_threshold", DEFAULT_THRESHOLD))
    return [(copy.kind, bool(value >= threshold)) for copy, value in zip(made, score.tolist(), strict=True)]


class _Both:
    """Pictures of planted copies first, those of the benchmark behind them; small to pickle as both are."""

    def __init__(self, first: ImageSource, second: ImageSource) -> None:
        self.first, self.second = first, second

    def get(self, sha256: str) -> bytes:
        """Original bytes of the picture."""
        try:
            return self.first.get(sha256)
        except InfiMmrError:
            return self.second.get(sha256)


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
