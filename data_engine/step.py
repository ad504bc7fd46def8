"""What every judging step is given and what it returns.

A step is a module with `Settings` (a strict pydantic model, one sentence per field) and
`run(context: StepContext, settings: Settings) -> StepResult`. It reads rows (never image bytes through the driver),
finds known cells in the annotation store, gets the missing ones computed by `context.runner`, and returns one narrow
frame. Thresholds are not applied here: `assemble` decides.

Not covered: which steps run and in which order (the recipe), joining and the ledger (`assemble`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UsageError, reason_of

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.blocks import Parts
    from data_engine.cell_counts import FirstLooks
    from data_engine.runners import Runner
    from shared.annotations import AnnotationTable
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
        plugin: Of a step of another package: its name, package, version and code; empty for ours.
        scratch: Where the build's workers hand each other things; None where there is no build: a temporary folder.
        first: What this work missed when a worker did it that was lost; None where it is not done on workers.

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
    plugin: Mapping[str, str] = field(default_factory=dict)
    scratch: Store | None = None
    first: FirstLooks | None = None

    def missing(self, table: AnnotationTable, keys: Sequence[str]) -> list[str]:
        """Distinct keys whose cells this work makes: they have none, or had none when it first looked."""
        return table.missing(keys) if self.first is None else self.first.missing(table, keys)

    def result_of(self, earlier: str, step: str, what: str) -> StepResult:
        """The result of an earlier step, which `step` needs for `what`.

        Raises:
            UsageError: the recipe has no such step before it.

        """
        if earlier not in self.results:
            message = f"step {step} needs {what}, and {earlier} did not run before it"
            raise UsageError(message, f"Put {earlier} before {step} in the recipe.")
        return self.results[earlier]


@dataclass(frozen=True)
class StepResult:
    """What a step found.

    Attributes:
        annotations: One narrow frame keyed by `id` or `image_hash`; columns as the step's docstring states. Where a
            step of another package has `id`, `reason` (text, empty for none) and `removes` (truth), `assemble` removes
            the row, or notes it, for this reason.
        computed: Cells computed now.
        reused: Cells found in the annotation store.
        failures: Cells that could not be computed after bounded retries: (`id` or `image_hash`: str, `reason`: str),
            None where there are none. `assemble` puts the rows they belong to into the ledger with rule `failed`.
            Failed cells are not stored: the next build asks again.
        warnings: Sentences for people, shown at the end and kept in the manifest.
        record: JSON values for the manifest: `models`, `prompts`, `coverage`, `planted_duplicates`... as far as they
            apply.
        parts: The annotations by row block where they stay on scratch; `annotations` is empty then.
        cells: Of a step that runs once per row block: the cells that it looked for, as notes (`cell_counts.noted`), so
            that what it counts does not depend on blocks. None: counts of blocks are added up.
        one_per_row: Whether no row has two annotations, so far as they are keyed by `id`.

    """

    annotations: pl.DataFrame
    computed: int = 0
    reused: int = 0
    failures: pl.DataFrame | None = None
    warnings: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts | None = None
    cells: pl.DataFrame | None = None
    one_per_row: bool = True

    @property
    def by_block(self) -> Parts:
        """The parts, which every result has that `run_step` gives."""
        assert self.parts is not None  # noqa: S101  as stated above
        return self.parts


def judge_rows(
    context: StepContext,
    judge: Callable[[Mapping[str, Any], Any], Mapping[str, Any]],
    values: Mapping[str, str],
    settings: Any,
    reads: Sequence[str] = ("question", "answer", "choices"),
) -> StepResult:
    """A whole step as one function of one row, its findings stored and found again.

    Args:
        context: What the step was given. Of a step that is no other package's, the file of `judge` is what decides:
            changed, it judges anew.
        judge: Called as `judge(row, settings)` on the runner's workers, once for equal rows; a function of a module.
        values: Columns that it returns: name -> Arrow's name of the type (`string`, `int64`, `double`, `bool`).
        settings: The step's settings; others judge anew.
        reads: Columns of the row that it is shown; rows that are equal in them are one to it.

    Raises:
        InfiMmrError: it raised; names the row.

    """
    import polars as pl
    import pyarrow as pa

    from shared.annotations import StoredCells
    from shared.fingerprint import fingerprint

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in values.items()])
    own = context.plugin or _own_identity(judge)
    about = {**own, "settings": settings.model_dump(mode="json"), "reads": list(reads)}
    table = StoredCells(context.store, own["step"], fingerprint(about), values=schema, about=about)
    rows = context.rows.select(list(dict.fromkeys(("id", *reads))))
    keys = [fingerprint(list(row)) for row in rows.select(reads).iter_rows()]
    work = partial(_judged, judge=judge, settings=settings, reads=tuple(reads), schema=schema)
    return result_by_cells(context, table, rows.with_columns(pl.Series("key", keys, pl.String)), work, own["step"])


def make_cells(
    context: StepContext,
    table: AnnotationTable,
    rows: pl.DataFrame,
    function: Callable[[pa.Table], pa.Table],
    task: str = "",
) -> list[str]:
    """Have the runner's workers make the cells that are missing, once for rows of equal `key`, batch by batch.

    Args:
        context: The build.
        table: Where cells lie.
        rows: `key`, and what `function` reads.
        function: From some rows to their cells; a function of a module.
        task: Name of the progress; empty shows none.

    Returns:
        Keys of the cells that were made.

    """
    import polars as pl

    missing = context.missing(table, rows["key"].to_list())
    known = rows["key"].n_unique() - len(missing)
    shown = context.progress.task(task, len(missing), known=known) if task else None
    left = rows.filter(pl.col("key").is_in(missing)).unique("key", keep="first", maintain_order=True)
    batches = (left.slice(start, BATCH_ROWS).to_arrow() for start in range(0, left.height, BATCH_ROWS))
    for made in context.runner.map_batches(function, batches, task=shown):
        table.append_table(made)
    if shown is not None:
        shown.done()
    return missing


def result_by_cells(
    context: StepContext,
    table: AnnotationTable,
    rows: pl.DataFrame,
    function: Callable[[pa.Table], pa.Table],
    task: str,
) -> StepResult:
    """`make_cells`, then the cell of every row by its `id`."""
    import polars as pl

    from data_engine.cell_counts import noted

    made = make_cells(context, table, rows, function, task)
    cells = pl.DataFrame(table.columns(rows["key"].to_list()))
    joined = rows.select("id", "key").join(cells, on="key", how="left", maintain_order="left")
    notes = noted(rows["key"].to_list(), made)
    return StepResult(joined.drop("key"), computed=len(made), reused=notes.height - len(made), cells=notes)


def _own_identity(judge: Callable[..., Any]) -> dict[str, str]:
    """Name of a step by its module, and the hash of its file."""
    from shared.fingerprint import bytes_hash

    module = sys.modules[judge.__module__]
    return {"step": module.__name__.rpartition(".")[2], "code": bytes_hash(Path(str(module.__file__)).read_bytes())}


BATCH_ROWS = 512
"""Rows of which a worker makes cells at once."""


def _judged(
    batch: Any, *, judge: Callable[..., Mapping[str, Any]], settings: Any, reads: Sequence[str], schema: Any
) -> Any:
    import pyarrow as pa

    from shared.errors import InfiMmrError

    rows = batch.to_pylist()
    whole = pa.schema([("key", pa.string()), *schema])

    def of_row(row: Any, work: Callable[[Any], Any], given: Any) -> Any:
        try:
            return work(given)
        except (Exception, SystemExit) as error:
            raise InfiMmrError(f"row {row['id']}: {reason_of(error)}", "Fix that step") from error

    def cell_of(row: Any) -> dict[str, Any]:
        return _checked({"key": row["key"], **judge({name: row[name] for name in reads}, settings)}, whole)

    cells = [of_row(row, cell_of, row) for row in rows]
    table_of = partial(pa.Table.from_pylist, schema=whole)
    try:
        return table_of(cells)
    except (ValueError, TypeError, OverflowError):  # of which row is seen one by one
        return pa.concat_tables([of_row(row, table_of, [cell]) for row, cell in zip(rows, cells, strict=True)])


def _checked(cell: dict[str, Any], schema: Any) -> dict[str, Any]:
    """A cell whose values Arrow would drop or cut off is refused."""
    import pyarrow as pa

    for name, value in cell.items():
        if name not in schema.names:
            raise KeyError(f"it returns {name}, and names {', '.join(schema.names[1:])} as its values")
        if isinstance(value, float) and value % 1 and pa.types.is_integer(kind := schema.field(name).type):
            raise ValueError(f"{name} is {value}, no {kind}")
    return cell


def image_hashes_of(rows: pl.DataFrame) -> list[str]:
    """Distinct image hashes of `rows`, sorted: the fixed order in which image steps ask."""
    return rows["image_hashes"].explode().drop_nulls().unique().sort().to_list()


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
