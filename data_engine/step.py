"""What every judging step is given and what it returns.

A step is a module with `Settings` (a strict pydantic model, one sentence per field) and
`run(context: StepContext, settings: Settings) -> StepResult`. It reads rows (never image bytes through the driver),
finds known cells in the annotation store, gets the missing ones computed by `context.runner`, and returns one narrow
frame. Thresholds are not applied here: `assemble` decides.

Not covered: which steps run and in which order (the recipe), joining and the ledger (`assemble`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

    from data_engine.runners import Runner
    from shared.images import ImageSource
    from shared.progress import Progress
    from shared.store import Store


@dataclass(frozen=True)
class BenchmarkItems:
    """Items of one benchmark that rows are compared with, in the row schema.

    Attributes:
        name: Benchmark id, e.g. `math500`.
        location: Hub id or folder name, never an absolute path.
        revision: Pinned revision or content hash of the files.
        rows: Row schema without `images`; `id` is unique within the benchmark.
        images: Reads the items' images by sha256.

    """

    name: str
    location: str
    revision: str
    rows: pl.DataFrame
    images: ImageSource


@dataclass(frozen=True)
class StepContext:
    """Everything a step may use.

    Attributes:
        store: Where annotations are found and kept.
        profile: `full` or `local`.
        runner: Gets asks and bulk functions done, here or on a cluster.
        recipe: The resolved recipe as plain JSON values, for error messages and records.
        progress: Is told how the step goes on.
        rows: All rows of the build in the row schema without `images`, sorted by `id`.
        images: Reads image bytes by sha256; picklable.
        benchmarks: Benchmarks to compare with, in recipe order; empty for steps that need none.
        results: Results of the steps that ran before, by step name (captions read the types from here).
        prompts: The prompt set that models are asked with: `bundled`, `full` or a folder.

    """

    store: Store
    profile: str
    runner: Runner
    recipe: Mapping[str, Any]
    progress: Progress
    rows: pl.DataFrame
    images: ImageSource
    benchmarks: Sequence[BenchmarkItems] = ()
    results: Mapping[str, StepResult] = field(default_factory=dict)
    prompts: str = "bundled"


@dataclass(frozen=True)
class StepResult:
    """What a step found.

    Attributes:
        annotations: One narrow frame keyed by `id` or `image_hash`; columns as the step's docstring states.
        computed: Cells computed now.
        reused: Cells found in the annotation store.
        seconds: Wall-clock time of the step.
        failures: Cells that could not be computed after bounded retries: (`id` or `image_hash`: str, `reason`: str),
            None where there are none. `assemble` puts the rows they belong to into the ledger with rule `failed`.
            Failed cells are not stored: the next build asks again.
        warnings: Sentences for people, shown at the end and kept in the manifest.
        record: JSON values for the manifest: `models`, `prompts`, `coverage`, `canaries`... as far as they apply.

    """

    annotations: pl.DataFrame
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    failures: pl.DataFrame | None = None
    warnings: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


def image_hashes_of(rows: pl.DataFrame) -> list[str]:
    """Distinct image hashes of `rows`, sorted: the fixed order in which image steps ask."""
    if rows.height == 0:
        return []
    hashes = rows.get_column("image_hashes").explode().drop_nulls().unique().sort()
    return [str(value) for value in hashes.to_list()]


def by_image(annotations: pl.DataFrame) -> Callable[[str, str, Sequence[str]], dict[str, Any] | None]:
    """Look-up (image hash, question, choices) -> the image's annotation without its keys; None where there is none.

    Where images are annotated by `language` too, the question's language decides.
    """
    from shared.language import language_of

    known: dict[tuple[str, str], dict[str, Any]] = {}
    for row in annotations.iter_rows(named=True):
        known[row.pop("image_hash"), row.pop("language", "")] = row
    if all(not language for _, language in known):
        return lambda sha256, _question, _choices: known.get((sha256, ""))

    def find(sha256: str, question: str, choices: Sequence[str]) -> dict[str, Any] | None:
        return known.get((sha256, ""), known.get((sha256, language_of(question, choices))))

    return find
