"""How long the steps of a build will take, about: from versions of the store, else from measurements of other machines.

Of a step without a model the rate is that of its slowest version with `MANY` rows or more and this profile (in others
its findings may have been there); of a model step that of the newest version that asked `FEW` times or more.
Not covered: how many calls there will be (`plan`), and what goes on now (`shared.progress`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_engine.recipe import Recipe
    from data_engine.sources.base import Source
    from shared.store import Store

MODEL_STEPS = ("type_images", "caption_images", "decontaminate_embeddings", "rate_difficulty")
ASSUMED = {
    "local": {
        "type_images": 0.05,
        "caption_images": 0.15,
        "decontaminate_embeddings": 0.04,
        "rate_difficulty": 0.05,
        "start": 40.0,
    },
    "full": {
        "type_images": 0.03,
        "caption_images": 0.35,
        "decontaminate_embeddings": 0.05,
        "rate_difficulty": 0.3,
        "start": 120.0,
    },
}
"""Seconds per call and per engine start. `local`: seen on two cores with tiny-vl. `full`: an assumption for one 80 GB
GPU (7B models, 300 and 700 tokens per image), to be replaced by the store's own numbers after the first build."""
PER_ROW = {
    "source": 100e-6,
    "verify_answers": 10e-6,
    "decontaminate_ngrams": 45e-6,
    "dedup_minhash": 85e-6,
    "assemble": 30e-6,
    "shards": 10e-6,
}
"""Seconds per row of text on one core (benchmarks/results/builds_at_scale.json, a million rows)."""
PER_IMAGE = {"source": 0.004, "shards": 0.002}
"""Seconds to read, hash and check, and to write, an image of 130 KB on one busy core (benchmarks/build_memory.py)."""
_OTHER = 20e-6
"""Seconds per row of a step that nobody measured."""
MANY, FEW = 1000, 100


@dataclass(frozen=True)
class Rates:
    """Seconds per row and per call by step, as versions of a store tell them."""

    profile: str
    per_row: Mapping[str, float]
    per_call: Mapping[str, float]

    def seconds(self, step: str, rows: int, images: int, calls: int | None = None) -> float:
        """Seconds of one step; of a model's, whose calls are not known, one per image or row is taken."""
        if step in MODEL_STEPS:
            if calls is None:
                calls = images if step.endswith("_images") else rows
            return calls * self.per_call.get(step, ASSUMED[self.profile][step])
        if step in self.per_row:
            return rows * self.per_row[step]
        return rows * PER_ROW.get(step, _OTHER) + images * PER_IMAGE.get(step, 0.0)

    def assumed(self, step: str) -> bool:
        """Whether no version tells it."""
        return step not in self.per_call and step not in self.per_row


def stored_rates(store: Store, profile: str) -> Rates:
    """Rates of the versions of a store."""
    from shared.dataset_version import list_datasets

    per_row: dict[str, float] = {}
    per_call: dict[str, float] = {}
    manifests = (version.manifest for version in list_datasets(store))
    for manifest in sorted((one for one in manifests if one.profile == profile), key=lambda one: one.created_at):
        for count in manifest.counts:
            if count.name in MODEL_STEPS:
                if count.computed >= FEW:
                    per_call[count.name] = count.seconds / count.computed
            elif count.rows_in >= MANY:
                per_row[count.name] = max(per_row.get(count.name, 0.0), count.seconds / count.rows_in)
    return Rates(profile, per_row, per_call)


def seconds_of(recipe: Recipe, rates: Rates, rows: int, images: int) -> dict[str, float]:
    """Seconds of every step of a build, in order, by the names that its progress has."""
    names = ["source", *(name for name, _ in recipe.steps()), "assemble", "shards"]
    return {name: rates.seconds(name, rows, images) for name in names}


def records_of(source: Source, limit: int = 0) -> int | None:
    """Records of a source, about: where its files do not say how many, by their size; None where that says nothing."""
    parts = getattr(source, "parts", None)
    if parts is not None:
        counts = [records_of(part.source, part.limit) for part in parts.values()]
        known = [count * part.weight for count, part in zip(counts, parts.values(), strict=True) if count is not None]
        return round(sum(known)) if len(known) == len(parts) else None
    count = source.count()
    if count is None and hasattr(source, "about"):
        count = source.about()
    return count if count is None else min(count, limit or count)
