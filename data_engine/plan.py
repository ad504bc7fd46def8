"""What a build would do: rows, what is reused, model calls, and an estimate of the time.

Reads the source as a build does and looks every cell up, with a runner that counts what would be asked and asks
nothing; nothing is written but which pictures can be used. Counts of model calls are exact, with one exception that
is said: where pictures are not typed yet, every one of them counts as one caption.

Estimate: sum over steps of (calls x seconds per call) + engines to start x seconds per start + pictures x seconds to
read and write each. Seconds per call come from the newest version in the store that computed this step under the same
profile, else from `ASSUMED`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from data_engine.blocks import blocks_for
from shared.fingerprint import fingerprint
from shared.vlm.identity import engine_identity

if TYPE_CHECKING:
    import pyarrow as pa

    from data_engine.build import BuildRequest
    from data_engine.inputs import Inputs
    from data_engine.intake.ingest import Ingested
    from data_engine.runners import Ask, RunnerName
    from data_engine.step import StepContext, StepResult
    from shared.progress import Progress
    from shared.store import Store
    from shared.vlm.spec import EngineSpec, Sampling

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
GPU (7B models, 300 and 700 tokens per picture), to be replaced by the store's own numbers after the first build."""
SECONDS_PER_PICTURE = 0.006
"""Reading, hashing, checking and writing one picture of 130 KB on one busy core (benchmarks/build_memory.py)."""
SECONDS_PER_ROW = 0.0004
"""Reading, the steps without a model, assembling and writing a row of text on one core (benchmarks/builds_at_scale.py).
"""
READS_PER_BLOCK, WRITES_PER_BLOCK = 12, 10
"""Files of the store that one row block reads and writes in all: cells of each step, findings, and parts on scratch."""
FORMULA = "calls x seconds per call + engine starts x seconds per start + images x {picture} s + rows x {row} s"


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

    map_groups = map_batches

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
    from data_engine.build import no_rows
    from data_engine.inputs import read_benchmarks
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.intake.ingest import ingest
    from data_engine.scratch import scratch_folder
    from data_engine.step import StepContext, image_hashes_of

    recipe = inputs.recipe
    runner = CountingRunner()
    with scratch_folder(None) as scratch:
        images = ImagePlaces(scratch / "images.spool")
        task = progress.task(f"source {inputs.source.name}", recipe.limit or inputs.source.count(), unit="records")
        conflicts = recipe.assemble.remove_conflicts
        limit = recipe.limit
        read = ingest(inputs.source, images, store, limit=limit, check_conflicts=conflicts, task=task)
        task.done()
        if read.records and read.rows.height == 0:
            raise no_rows(recipe.name, read.rejections)
        benchmarks, _ = read_benchmarks(inputs, images, store, progress)
        context = StepContext(
            store=store,
            profile=recipe.profile,
            runner=runner,
            recipe=recipe.as_json(),
            progress=progress,
            rows=read.rows.drop("image_names"),
            images=images,
            benchmarks=benchmarks,
            prompts=recipe.prompts,
        )
        steps = _steps(inputs, store, context, runner)
        pictures = len(image_hashes_of(context.rows))
    return _told(inputs, read, pictures, steps, len(runner.engines))


def _steps(inputs: Inputs, store: Store, context: StepContext, runner: CountingRunner) -> list[dict[str, Any]]:
    from shared.vlm.checkpoint import check_hub_id

    steps: list[dict[str, Any]] = []
    results: dict[str, StepResult] = {}
    for name, settings in inputs.recipe.steps():
        entry: dict[str, Any] = {"name": name, "model": None, "model_calls": 0, "reused": 0, "seconds": 0.0}
        entry["note"] = "no model: known cells are reused, the rest is computed"
        if getattr(settings, "action", "") == "re-ask":
            entry["note"] = "captions that give the answer away are asked again: how many is known then"
        if name in MODEL_STEPS:
            before = len(runner.asked)
            held = dataclasses.replace(context, results=results)
            entry["reused"] = _ask_step(name, settings, held, results, runner)
            entry["model"] = settings.engine.model
            entry["model_calls"] = len(runner.asked) - before
            entry["note"] = check_hub_id(settings.engine) if entry["model_calls"] else ""
            per_call = _seconds_per_call(store, inputs.recipe.profile, name)
            entry["seconds"] = round(entry["model_calls"] * per_call, 1)
        steps.append(entry)
    return steps


def _ask_step(
    name: str, settings: Any, context: StepContext, results: dict[str, StepResult], runner: CountingRunner
) -> int:
    """Let a model step ask the counting runner; returns how many cells it found."""
    from data_engine.recipe import step_module
    from data_engine.step import image_hashes_of

    if name == "decontaminate_embeddings":
        return _ask_embeddings(settings, context)
    result = step_module(name).run(context, settings)
    results[name] = result
    if name == "caption_images":
        typed = set(results["type_images"].annotations["image_hash"].to_list())
        untyped = [sha256 for sha256 in image_hashes_of(context.rows) if sha256 not in typed]
        runner.asked |= {("caption of an untyped picture", sha256) for sha256 in untyped}
        if untyped:
            runner.engines.add(f"{settings.engine.model} {settings.engine.runner}")
    return int(result.reused)


def _ask_embeddings(settings: Any, context: StepContext) -> int:
    """Rows, items and the planted duplicates by which the step measures itself."""
    from data_engine.decontamination.embed import embed_rows
    from data_engine.steps.decontaminate_embeddings import planted

    reused = embed_rows(context, settings.engine, context.rows, context.images).reused
    for benchmark in context.benchmarks:
        reused += embed_rows(context, settings.engine, benchmark.rows, benchmark.images).reused
        _, frame, images = planted(benchmark, settings.planted_duplicates)
        reused += embed_rows(context, settings.engine, frame, images).reused
    return reused


def _seconds_per_call(store: Store, profile: str, step: str) -> float:
    """Seconds per computed cell of a step in the newest version that computed at least 100 of them."""
    from shared.dataset_version import list_datasets

    best: tuple[str, float] | None = None
    for version in list_datasets(store):
        for count in version.manifest.counts:
            if version.manifest.profile == profile and count.name == step and count.computed >= 100:
                seen = (version.manifest.created_at, count.seconds / count.computed)
                best = seen if best is None else max(best, seen)
    return best[1] if best is not None else ASSUMED[profile][step]


def _told(inputs: Inputs, read: Ingested, pictures: int, steps: list[dict[str, Any]], starts: int) -> dict[str, Any]:
    from data_engine.captioning import unfit_captions
    from data_engine.findings import reason_counts
    from data_engine.sources.base import notes_of

    unfit = unfit_captions(dict(inputs.recipe.steps()).get("caption_images"), inputs.source.location)
    seconds = sum(step["seconds"] for step in steps)
    seconds += starts * ASSUMED[inputs.recipe.profile]["start"]
    seconds += pictures * SECONDS_PER_PICTURE + read.rows.height * SECONDS_PER_ROW
    return {
        "rows": read.rows.height,
        "rejected_by_source": read.rejections.height,
        "reasons": reason_counts(read.rejections),
        "notes": [*notes_of(inputs.source), *([unfit] if unfit else [])],
        "images": pictures,
        "benchmarks": {name: source.location for name, source in inputs.benchmarks.items()},
        "steps": steps,
        "model_calls": sum(step["model_calls"] for step in steps),
        "engine_starts": starts,
        "seconds": round(seconds, 1),
        "store_requests": _requests(inputs, read.rows.height, pictures, steps),
        "formula": FORMULA.format(picture=SECONDS_PER_PICTURE, row=SECONDS_PER_ROW),
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
