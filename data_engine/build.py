"""Build a dataset version: source, judging steps, assemble, shards, manifest last.

Input: a `BuildRequest` (the words of the command line). Output: a `BuildReport` about the version that stands in the
store afterwards, newly made or found there by its build key. Whatever happens in between, only a whole version is ever
visible; what models said is stored as it is said, so that the same command continues a killed build.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.errors import InfiMmrError, UsageError, system_error

if TYPE_CHECKING:
    from data_engine.assemble_blocks import AssembledBlocks
    from data_engine.inputs import Inputs
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.intake.in_blocks import IngestedBlocks
    from data_engine.intake.ingest import Ingested
    from data_engine.kept_stages import Stages
    from data_engine.recipe import Recipe
    from data_engine.runners import Runner
    from data_engine.step import BenchmarkItems, StepResult
    from shared.dataset_version import DatasetVersion, StepCount
    from shared.progress import Progress
    from shared.store import Store


@dataclass(frozen=True)
class BuildRequest:
    """What to build and where; the fields are the command line's options."""

    recipe: str
    profile: Literal["full", "local"]
    store: str
    source: str | None = None
    limit: int | None = None
    runner: Literal["local", "ray"] = "local"
    benchmarks: Sequence[str] = ()
    overrides: Sequence[str] = ()
    name: str | None = None
    licence: str | None = None
    allow_empty: bool = False


@dataclass(frozen=True)
class BuildReport:
    """The version, and what this command did for it."""

    version: DatasetVersion
    found: bool
    """True where the version was there already, so that nothing was computed."""
    seconds: float
    steps: list[StepCount]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON of `build`."""
        manifest = self.version.manifest
        return {
            "dataset": manifest.name,
            "version": manifest.version,
            "label": manifest.label,
            "profile": manifest.profile,
            "rows": manifest.rows,
            "rejected": manifest.rejected,
            "bytes": manifest.bytes,
            "shards": len(manifest.shards),
            "path": self.version.place,
            "fingerprint": manifest.fingerprint,
            "seconds": round(self.seconds, 3),
            "steps": [step.model_dump(mode="json") for step in self.steps],
        }


@dataclass
class _Work:
    """What a running build has at hand."""

    recipe: Recipe
    inputs: Inputs
    store: Store
    scratch: Path
    reach: Store
    """Scratch that all workers reach."""
    images: ImagePlaces
    runner: Runner
    progress: Progress
    stages: Stages
    allow_empty: bool = False
    timings: dict[str, float] = field(default_factory=dict)


def resolve(request: BuildRequest) -> Recipe:
    """Resolve the request's recipe; says which of its steps are switched off."""
    from data_engine.recipe import load_recipe
    from shared.command import say

    recipe = load_recipe(
        request.recipe,
        request.profile,
        name=request.name,
        source=request.source,
        licence=request.licence,
        limit=request.limit,
        benchmarks=request.benchmarks,
        overrides=request.overrides,
    )
    if recipe.off:
        say(f"switched off: {', '.join(recipe.off)}")
    return recipe


def build(request: BuildRequest, progress: Progress) -> BuildReport:
    """Build what is asked, or find it.

    Raises:
        UsageError: unknown recipe, wrong key or value.
        InfiMmrError: a place, model, endpoint or store that cannot be used, or no space left; naming recipe and step.

    """
    from data_engine.inputs import open_inputs
    from data_engine.intake.contents import hash_contents
    from data_engine.runners import open_runner
    from data_engine.scratch import passing_scratch
    from shared.dataset_version import find_by_build_key
    from shared.store import open_store

    started = time.monotonic()
    recipe = resolve(request)
    _check_engines(recipe, request)
    store = open_store(request.store)
    progress.stage("opening the source and the benchmarks")
    with _told(recipe.name, "source"):
        inputs = open_inputs(recipe)
    with contextlib.closing(open_runner(request.runner, told=progress.say)) as runner:
        with _told(recipe.name, "looking for the version"):
            hash_contents(inputs.source, runner, functools.partial(passing_scratch, store))
            build_key = inputs.build_key()
            found = find_by_build_key(store, recipe.name, build_key)
        progress.stage("")
        if found is not None:
            return _found(found, time.monotonic() - started)
        return _build(request, recipe, inputs, store, runner, build_key, progress, started)


def _check_engines(recipe: Recipe, request: BuildRequest) -> None:
    """Refuse models that are nowhere and an environment without what a step will start, before any work."""
    from shared.installation import check_libraries, check_vllm
    from shared.vlm.checkpoint import check_hub_id
    from shared.vlm.surroundings import cuda_seen

    engines = [settings.engine for _, settings in recipe.steps() if hasattr(settings, "engine")]
    for engine in engines:
        with _told(recipe.name, "looking for its models"):
            check_hub_id(engine)
    here = {one.runner for one in engines if one.endpoint is None and request.runner == "local"}
    if "generate" in here:
        check_vllm(cuda=cuda_seen())
    if "pooling" in here:
        check_libraries("torch", "transformers")


def _found(version: DatasetVersion, seconds: float) -> BuildReport:
    steps = [
        step.model_copy(update={"computed": 0, "reused": step.computed + step.reused, "seconds": 0.0})
        for step in version.manifest.counts
    ]
    return BuildReport(version, found=True, seconds=seconds, steps=steps)


def _build(  # noqa: PLR0917 - what `build` resolved, once
    request: BuildRequest,
    recipe: Recipe,
    inputs: Inputs,
    store: Store,
    runner: Runner,
    build_key: str,
    progress: Progress,
    started: float,
) -> BuildReport:
    from data_engine.assemble_blocks import assemble_blocks
    from data_engine.expected_time import records_of
    from data_engine.findings import keep_pictures
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.kept_stages import Stages
    from data_engine.manifest_draft import manifest_draft, step_counts
    from data_engine.scratch import scratch_folder, scratch_store
    from shared.dataset_version import publish
    from shared.dataset_version.leases import building

    with contextlib.ExitStack() as stack:
        with _told(recipe.name, "source"):
            near = store.local_path("scratch")
            scratch = stack.enter_context(scratch_folder(near.parent if near is not None else None))
        stack.callback(runner.close)  # before the scratch that its workers write to goes
        spool = ImagePlaces(scratch / "images.spool")
        reach = stack.enter_context(scratch_store(store, scratch, elsewhere=request.runner == "ray"))
        stages = Stages(inputs, store, reach, runner, progress)
        work = _Work(recipe, inputs, store, scratch, reach, spool, runner, progress, stages, request.allow_empty)
        # Opening the source hashed its files: that is time of the source, too.
        work.timings["source"] = time.monotonic() - started
        _expect(work, records_of(inputs.source, recipe.limit))
        read = _read_source(work)
        _expect(work, read.rows.height, len(spool))
        benchmarks, benchmark_reads = _read_benchmarks(work)
        results = _judge(work, read, benchmarks)
        with _told(recipe.name, "assemble"), _timed(work, "assemble"):
            stack.enter_context(building(store, build_key))
            job = _assembling(work, read, results, benchmarks, build_key)
            assembled = assemble_blocks(runner, job, recipe.shards.shard_megabytes * 10**6)
            _refuse_empty(work, assembled.kept, assembled.job)
            pictures = functools.partial(_pictures_of, work, read)
            keep_pictures(store, build_key, assembled.shown, pictures, benchmarks, work.images)
        with _told(recipe.name, "shards"), _timed(work, "shards"):
            files, ledger = _write(work, assembled)
        counts = step_counts(work.timings, read, results, assembled)
        draft = manifest_draft(inputs, build_key, read, benchmark_reads, results, assembled, counts)
        with _told(recipe.name, "publish"), progress.step("publish"):
            version = publish(store, draft, files, ledger)
    return BuildReport(version, found=False, seconds=time.monotonic() - started, steps=counts)


def _expect(work: _Work, rows: int | None, images: int | None = None) -> None:
    """Say how long the steps will take, once it is known of how much; before images were seen, one per row is taken."""
    from data_engine.expected_time import seconds_of, stored_rates

    if rows is None or not work.progress.tells:
        return
    if images is None:
        images = rows if "images" in getattr(work.inputs.source, "columns", ()) else 0
    work.progress.expects(seconds_of(work.recipe, stored_rates(work.store, work.recipe.profile), rows, images))


def _read_source(work: _Work) -> IngestedBlocks:
    from data_engine.kept_stages import read_source

    recipe = work.recipe
    with _told(recipe.name, "source"), _timed(work, "source"):
        conflicts = recipe.assemble.remove_conflicts
        read = read_source(work.stages, work.images, limit=recipe.limit, conflicts=conflicts)
    if read.records == 0:
        raise InfiMmrError(f"recipe {work.recipe.name}: the source has no records", "Check --source and --limit")
    _refuse_empty(work, read.rows.height, _assembling(work, read, {}, (), ""))
    return read


def no_rows(recipe: str, ledger: Any) -> InfiMmrError:
    """Return the error of a source or build that keeps no row."""
    from data_engine.findings import first_of, reason_counts

    counts = ", ".join(f"{count} {rule}" for rule, count in reason_counts(ledger).items())
    return InfiMmrError(
        f"recipe {recipe}: no row is kept ({counts}; {first_of(ledger)})",
        "Fix the source or the recipe; --allow-empty publishes a version without rows",
    )


def _read_benchmarks(work: _Work) -> tuple[list[BenchmarkItems], dict[str, Ingested]]:
    from data_engine.inputs import read_benchmarks

    if not work.inputs.benchmarks:
        return [], {}
    with _told(work.recipe.name, "benchmarks"), _timed(work, "benchmarks"):
        return read_benchmarks(work.inputs, work.images, work.store, work.progress)


def _judge(work: _Work, read: IngestedBlocks, benchmarks: Sequence[BenchmarkItems]) -> dict[str, StepResult]:
    import polars as pl

    from data_engine.allocators import trim
    from data_engine.step import StepContext
    from data_engine.step_blocks import run_step

    results: dict[str, StepResult] = {}
    context = StepContext(
        store=work.store,
        profile=work.recipe.profile,
        runner=work.runner,
        recipe=work.recipe.as_json(),
        progress=work.progress,
        rows=pl.DataFrame(),  # they come with the step's blocks
        images=work.images,
        benchmarks=benchmarks,
        prompts=work.recipe.prompts,
        scratch=work.reach,
    )
    for name, settings in work.recipe.steps():
        with _told(work.recipe.name, name), _timed(work, name):
            given = replace(context, results=results)
            run = functools.partial(run_step, name, settings, given, read.rows)
            results[name] = work.stages.step(name, read.rows, run)
        if name == "verify_answers" and work.recipe.assemble.remove_unverifiable:
            _refuse_unverifiable(work, read, results)
        trim()
    return results


def _refuse_unverifiable(work: _Work, read: IngestedBlocks, results: dict[str, StepResult]) -> None:
    """Refuse before any model is asked where no gold can be verified."""
    verified = results["verify_answers"].by_block
    judged = (verified.read(block, ["status"])["status"] for block in read.rows.numbers)
    if not any((status != "unverifiable").any() for status in judged):
        _refuse_empty(work, 0, _assembling(work, read, results, (), ""))


def _refuse_empty(work: _Work, rows: int, job: Any) -> None:
    """Refuse a build that keeps no row, with the reasons counted, unless it was asked for."""
    from data_engine.assemble_blocks import whole_ledger

    if rows == 0 and not work.allow_empty:
        raise no_rows(work.recipe.name, whole_ledger(job))


def _assembling(
    work: _Work,
    read: IngestedBlocks,
    results: dict[str, StepResult],
    benchmarks: Sequence[BenchmarkItems],
    build_key: str,
) -> Any:
    """What `assemble_blocks` is told; annotations stay in their parts."""
    import polars as pl

    from data_engine.assemble_blocks import Assembling

    return Assembling(
        blocks=read.rows,
        rejections=read.rejections,
        results={name: replace(one, annotations=pl.DataFrame()) for name, one in results.items()},
        settings=work.recipe.assemble,
        splits=work.recipe.splits,
        names={
            (items.name, identity): source_id
            for items in benchmarks
            for identity, source_id in items.rows.select("id", "source_id").iter_rows()
        },
        images=work.images,
        store=work.store,
        build_key=build_key,
    )


def _pictures_of(work: _Work, read: IngestedBlocks, ids: Sequence[str]) -> dict[str, Sequence[str]]:
    """Hashes of the pictures of some rows."""
    found: dict[str, Sequence[str]] = {}
    for block in read.rows.numbers if len(work.images) else ():
        rows = read.rows.read(block, ["id", "image_hashes"])
        found.update(rows.filter(rows["id"].is_in(list(ids))).iter_rows())
    return found


def _write(work: _Work, assembled: AssembledBlocks) -> tuple[list[Path], Path]:
    from data_engine.assemble_blocks import write_blocks
    from data_engine.runners.local import LocalRunner

    task = work.progress.task("shards", assembled.kept)
    # Shards lie in the build's folder: workers reach it where the store is a folder, too.
    runner = work.runner if work.store.is_folder else LocalRunner()
    files = write_blocks(runner, assembled, work.scratch, work.recipe.name, work.recipe.shards, task)
    task.done()
    return files


@contextlib.contextmanager
def _timed(work: _Work, name: str) -> Iterator[None]:
    started = time.monotonic()
    with work.progress.step(name):
        yield
    work.timings[name] = work.timings.get(name, 0.0) + time.monotonic() - started


@contextlib.contextmanager
def _told(recipe: str, step: str) -> Iterator[None]:
    """Put recipe and step in front of what a step raises, and turn a full disk into one line."""
    try:
        yield
    except UsageError:
        raise
    except InfiMmrError as error:
        if error.message.startswith("recipe "):
            raise
        raise InfiMmrError(f"recipe {recipe}, {step}: {error.message}", error.next_step) from error
    except MemoryError as error:
        raise InfiMmrError(f"recipe {recipe}, {step}: out of memory", "Use a smaller --limit or batch_size") from error
    except OSError as error:
        next_step = "Check the path and its permissions, then use the same command"
        told = system_error(error) or InfiMmrError(str(error.strerror or error), next_step)
        raise InfiMmrError(f"recipe {recipe}, {step}: {told.message}", told.next_step) from error
