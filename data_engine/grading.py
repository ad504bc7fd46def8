"""Grading models' outputs in bulk: each verdict is a cell, in a context that names the grader's own code.

Input: outputs with their golds. Output: whether the grader accepts each. The grader is the one that rewards and
evaluation use (`shared.answers`); another one grades anew.
Not covered: the format of an output (the trainer's rewards).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.step import StepContext, make_cells
from shared.fingerprint import bytes_hash, fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from shared.annotations import AnnotationTable

STEP = "grade_answers"
_THREADS = 4
ANSWERS = Path(__file__).resolve().parent.parent / "shared" / "answers"


def verdicts_table(context: StepContext) -> AnnotationTable:
    """Return the table of verdicts."""
    import pyarrow as pa

    from shared.annotations import AnnotationTable

    about = {"step": STEP, "grader": grader_hash()}
    values = pa.schema([("correct", pa.bool_())])
    return AnnotationTable(context.store, STEP, fingerprint(about), values=values, about=about)


def grade_outputs(
    context: StepContext, table: AnnotationTable, outputs: Sequence[tuple[str, dict[str, Any]]]
) -> list[bool | None]:
    """Whether the grader accepts each output, in order; None where nobody could grade it now (a plan grades nothing).

    Args:
        context: The build; its runner grades.
        table: From `verdicts_table`.
        outputs: (output, label) with the label's `gold` and, where they are known, `kind`, `choices`, `tolerance`,
            `unit`.

    """
    import polars as pl

    keys = [fingerprint([output, label]) for output, label in outputs]
    rows = [(key, output, json.dumps(label)) for key, (output, label) in zip(keys, outputs, strict=True)]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(("key", "output", "label"), pl.String), orient="row")
    make_cells(context, table, frame, grade_batch)
    cells = table.lookup(keys)
    return [cells[key]["correct"] if key in cells else None for key in keys]


def grade_batch(batch: pa.Table) -> pa.Table:
    """Grade a table with `key`, `output` and `label` (JSON); returns `key` and `correct`."""
    import pyarrow as pa

    return in_threads(_grade, batch, pa.schema([("key", pa.string()), ("correct", pa.bool_())]))


def in_threads(judge: Callable[[dict[str, Any]], dict[str, Any]], batch: pa.Table, schema: pa.Schema) -> pa.Table:
    """`judge` of each row of a table: the slow layer runs in worker processes, threads only wait for them."""
    import pyarrow as pa

    with ThreadPoolExecutor(_THREADS) as pool:
        return pa.Table.from_pylist(list(pool.map(judge, batch.to_pylist())), schema=schema)


def _grade(row: dict[str, Any]) -> dict[str, Any]:
    from shared.answers import grade_output, options_of

    label = json.loads(row["label"])
    graded = grade_output(label["gold"], row["output"], **options_of(label))
    return {"key": row["key"], "correct": bool(graded.correct)}


@functools.cache
def grader_hash(folder: Path = ANSWERS) -> str:
    """Hash over the grader's source files."""
    files = sorted(folder.rglob("*.py"))
    return fingerprint([[str(file.relative_to(folder)), bytes_hash(file.read_bytes())] for file in files])
