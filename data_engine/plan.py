"""What a build would do: rows, what is reused, model calls, and an estimate of the time.

Reads the source as a build does and looks every cell up, with a runner that counts what would be asked and asks
nothing; nothing is written but which pictures can be used. Counts of model calls are exact, with one exception that
is said: where pictures are not typed yet, every one of them counts as one caption.

Estimate: sum over steps of (calls x seconds per call) + engines to start x seconds per start + rows and images x
seconds of reading, judging and writing. The rates are those of versions in the store, else assumed (`expected_time`).

Rows lie in blocks on scratch, as in a build: a source is never held as a whole. What a build kept of it is taken from
the store.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from data_engine.blocks import RowBlocks, blocks_for
from shared.fingerprint import fingerprint
from shared.vlm.checkpoint import engine_identity

if TYPE_CHECKING:
    import pyarrow as pa

    from data_engine.build import BuildRequest
    from data_engine.expected_time import Rates
    from data_engine.inputs import Inputs
    from data_engine.intake.in_blocks import IngestedBlocks
    from data_engine.kept_stages import Stages
    from data_engine.runners import Ask, RunnerName
    from data_engine.step import StepContext, StepResult
    from shared.progress import Progress
    from shared.store import Store
    from shared.vlm.spec import EngineSpec, Sampling

READS_PER_BLOCK, WRITES_PER_BLOCK = 12, 10
"""Files of the store that one row block reads and writes in all: cells of each step, findings, and parts on scratch."""
FORMULA = "calls x seconds per call + engine starts x seconds per start + rows and images x seconds of reading, judging"


class CountingRunner:
    """A runner that notes what it is asked and does nothing (see `data_engine.runners.Runner`)."""

    name: RunnerName = "local"

    def __init__(self) -> None:
        self.asked: set[tuple[str, str]] = set()
        self.engines: set[str] = set()

    def ask(
        self, engine: EngineSpec, asks: Iterable[Ask], *_: Any, sampling: Sampling | None = None, **__: Any
    ) -> list[str]:
        """Note the keys; nothing is answered, so that nothing is stored."""
        prefix = fingerprint([engine_identity(engine), sampling.model_dump(mode="json") if sampling else None])
        before = len(self.asked)
        self.asked |= {(prefix, f"{ask.system}{ask.key}") for ask in asks}
        if len(self.asked) > before:
            self.engines.add(f"{engine.model} {engine.runner}")
        return []

    def map_batches(self, *_: Any, **__: Any) -> Iterator[pa.Table]:
        """Give nothing."""
        return iter(())

    def close(self) -> None:
        """Nothing was started."""


def plan_build(request: BuildRequest, progress: Progress) -> dict[str, Any]:
    """Return what a build of `request` would do, as JSON values.

    Raises:
        UsageError, InfiMmrError: as `build` does before it computes anything.

    """
    from data_engine.build import resolve
    from data_engine.inputs import open_inputs
    from shared.dataset_version import find_by_build_key
    from shared.store import open_store

    recipe = resolve(request)
    store = open_store(request.store)
    inputs = open_inputs(recipe)
    build_key = inputs.build_key()
    found = find_by_build_key(store, recipe.name, build_key)
    plan: dict[str, Any] = {
        "dataset": recipe.name,
        "profile": recipe.profile,
        "source": f"{inputs.source.location} ({inputs.source.taken})",
        "build_key": build_key,
        "version": found.version if found is not None else None,
    }
    if found is not None:
        return plan | {"rows": found.manifest.rows, "images": 0, "steps": [], "model_calls": 0, "seconds": 0.0}
    return plan | _count(inputs, store, progress)


def _count(inputs: Inputs, store: Store, progress: Progress) -> dict[str, Any]:
    import polars as pl

    from data_engine.build import no_rows
    from data_engine.expected_time import stored_rates
    from data_engine.inputs import read_benchmarks
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.kept_stages import Stages, read_source
    from data_engine.runners.local import LocalRunner
    from data_engine.scratch import scratch_folder
    from data_engine.step import StepContext
    from shared.store import open_store

    recipe = inputs.recipe
    runner = CountingRunner()
    with scratch_folder(None) as scratch:
        images, reach = ImagePlaces(scratch / "images.spool"), open_store(scratch)
        stages = Stages(inputs, store, reach, LocalRunner(), progress, keeps=False)
        read = read_source(stages, images, limit=recipe.limit, conflicts=recipe.assemble.remove_conflicts)
        if read.records and read.rows.height == 0:
            raise no_rows(recipe.name, pl.concat(map(read.ledger, read.rows.numbers)))
        shown = _distinct_images(read.rows) if len(images) else 0
        benchmarks, items = read_benchmarks(inputs, images, store, progress)
        context = StepContext(
            store=store,
            profile=recipe.profile,
            runner=runner,
            recipe=recipe.as_json(),
            progress=progress,
            rows=pl.DataFrame(),
            images=images,
            benchmarks=benchmarks,
            prompts=recipe.prompts,
            scratch=reach,
        )
        rates = stored_rates(store, recipe.profile)
        steps = _steps(stages, context, read.rows, shown, rates, runner)
        told = _told(stages, read, shown, steps, rates, len(runner.engines))
        told["notes"] += [note for one in items.values() for note in one.warnings]
        return told


def _distinct_images(blocks: RowBlocks) -> int:
    """How many images the rows show; 8 bytes each are held."""
    import numpy as np

    parts = [np.empty(0, np.uint64)]
    for block in blocks.numbers:
        hashes = blocks.read(block, ["image_hashes"])["image_hashes"].explode().drop_nulls().unique()
        parts.append(hashes.hash(seed=0).to_numpy())
    return len(np.unique(np.concatenate(parts)))


def _steps(  # noqa: PLR0917 - what is asked, about what, and how long it takes
    stages: Stages, context: StepContext, blocks: RowBlocks, images: int, rates: Rates, runner: CountingRunner
) -> list[dict[str, Any]]:
    from data_engine.expected_time import MODEL_STEPS
    from shared.vlm.checkpoint import check_hub_id

    steps: list[dict[str, Any]] = []
    results: dict[str, StepResult] = {}
    for name, settings in stages.inputs.recipe.steps():
        entry: dict[str, Any] = {"name": name, "model": None, "model_calls": 0, "reused": 0}
        entry["note"] = "no model: known cells are reused, the rest is computed"
        if getattr(settings, "action", "") == "re-ask":
            entry["note"] = "captions that give the answer away are asked again: how many is known then"
        if name in MODEL_STEPS:
            before = len(runner.asked)
            held = dataclasses.replace(context, results=results)
            entry["reused"] = _ask_step(name, settings, held, blocks, results, runner)
            entry["model"] = settings.engine.model
            entry["model_calls"] = len(runner.asked) - before
            entry["note"] = check_hub_id(settings.engine) if entry["model_calls"] else ""
        entry["seconds"] = round(rates.seconds(name, blocks.height, images, entry["model_calls"]), 1)
        if stages.holds(name):
            entry |= {"note": "found by an earlier build about the same rows", "seconds": 0.0}
        steps.append(entry)
    return steps


def _ask_step(  # noqa: PLR0917 - a step, what it is given, and where its asks are counted
    name: str,
    settings: Any,
    context: StepContext,
    blocks: RowBlocks,
    results: dict[str, StepResult],
    runner: CountingRunner,
) -> int:
    """Let a model step ask the counting runner; returns how many cells it found."""
    from data_engine.step_order import step_module

    if name == "decontaminate_embeddings":
        return int(step_module(name).known_vectors(context, blocks, settings))
    result = results[name] = step_module(name).run_blocks(context, blocks, settings)
    if name == "caption_images":
        types = results["type_images"].by_block
        for block in blocks.numbers:
            typed = types.read(block, ["image_hash"])["image_hash"]
            shown = blocks.read(block, ["image_hashes"])["image_hashes"].explode().drop_nulls().unique()
            untyped = shown.filter(~shown.is_in(typed.implode()))
            runner.asked |= {("caption of an untyped picture", sha256) for sha256 in untyped}
            if len(untyped):
                runner.engines.add(f"{settings.engine.model} {settings.engine.runner}")
    return int(result.reused)


def _told(  # noqa: PLR0917 - everything that was counted
    stages: Stages, read: IngestedBlocks, images: int, steps: list[dict[str, Any]], rates: Rates, starts: int
) -> dict[str, Any]:
    from data_engine.captioning import unfit_captions
    from data_engine.expected_time import ASSUMED
    from data_engine.findings import reason_counts
    from data_engine.sources.base import notes_of

    inputs = stages.inputs
    unfit = unfit_captions(dict(inputs.recipe.steps()).get("caption_images"), inputs.source.location)
    rows, reasons = read.rows.height, Counter[str]()
    for block in read.rows.numbers:
        reasons.update(reason_counts(read.ledger(block)))
    seconds = sum(step["seconds"] for step in steps) + starts * ASSUMED[inputs.recipe.profile]["start"]
    names = ("assemble", "shards") if "rows" in stages.keys else ("source", "assemble", "shards")
    seconds += sum(rates.seconds(name, rows, images) for name in names)
    return {
        "rows": rows,
        "rejected_by_source": read.rejected,
        "reasons": dict(sorted(reasons.items(), key=lambda one: (-one[1], one[0]))),
        "notes": [*notes_of(inputs.source), *([unfit] if unfit else [])],
        "images": images,
        "benchmarks": {name: source.location for name, source in inputs.benchmarks.items()},
        "steps": steps,
        "model_calls": sum(step["model_calls"] for step in steps),
        "engine_starts": starts,
        "seconds": round(seconds, 1),
        "assumed_rates": [step["name"] for step in steps if step["model_calls"] and rates.assumed(step["name"])],
        "store_requests": _requests(inputs, rows, images, steps),
        "formula": FORMULA,
    }


def _requests(inputs: Inputs, rows: int, pictures: int, steps: list[dict[str, Any]]) -> dict[str, int]:
    """Requests of a store that the build makes, about: pictures asked and written, cells by batch, row blocks."""
    settings = dict(inputs.recipe.steps())
    asked = [step for step in steps if step["model"]]
    batches = sum(-(-step["model_calls"] // settings[step["name"]].engine.batch_size) for step in asked)
    blocks = blocks_for(rows)
    calls = sum(step["model_calls"] for step in asked)
    return {
        "reads": (calls if pictures else 0) + pictures + READS_PER_BLOCK * blocks,
        "writes": batches + WRITES_PER_BLOCK * blocks,
    }
