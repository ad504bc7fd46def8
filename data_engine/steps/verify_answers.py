"""Checks every gold answer: it must equal itself and differ from a wrong neighbour, or no reward can be built on it.

Writes, one row per row: `id` (str), `answer_kind` (str, see `shared.answers.ANSWER_KINDS`), `status` (`verified` or
`unverifiable`), `reason` (str, empty for verified golds), `parsed` (str, what the grader read), `self_accepts` (bool),
`refuses_neighbour` (bool).
Cells are kept by answer and choices, in a context that names the grader's own code: another grader judges anew.
Not covered: whether a gold is right (nobody can tell from the row alone), and removal (`assemble` decides).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from data_engine.grading import grader_hash
from data_engine.step import StepContext, StepResult
from shared.config import Strict
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "verify_answers"
BY_BLOCK = True
"""Each answer is judged by itself: see `data_engine.step_blocks`."""
READS: tuple[str, ...] = ()
"""What decides its findings beside rows and settings: see `data_engine.kept_stages`."""
_BATCH_ROWS = 512
_THREADS = 4
"""The slow layer runs in worker processes: threads only wait for them."""


class Settings(Strict):
    """Nothing to choose: the grader is the one that rewards and evaluation use."""


def run(context: StepContext, settings: Settings) -> StepResult:
    """Check the golds of `context.rows`.

    Raises:
        InfiMmrError: a judgement is not there when it is read back: no row passes without one.

    """
    import polars as pl
    import pyarrow as pa

    from shared.annotations import StoredCells

    del settings
    started = time.monotonic()
    values = pa.schema([(name, kind) for name, kind in _columns().items() if name != "key"])
    about = {"step": NAME, "grader": grader_hash()}
    table = StoredCells(context.store, NAME, fingerprint(about), values=values, about=about)
    rows = context.rows.select("id", "answer", "choices")
    keys = [fingerprint([answer, choices]) for _, answer, choices in rows.iter_rows()]
    known = dict(zip(keys, rows.select("answer", "choices").iter_rows(), strict=True))
    missing = table.missing(keys)
    task = context.progress.task(NAME, len(missing), unit="answers", known=len(set(keys)) - len(missing))
    batches = [_batch(missing[start : start + _BATCH_ROWS], known) for start in range(0, len(missing), _BATCH_ROWS)]
    for checked in context.runner.map_batches(check_batch, batches, task=task):
        table.append_table(checked)
    task.done()
    cells = table.columns(keys)
    found = pl.from_arrow(cells) if cells is not None else pl.DataFrame({"key": []}, schema={"key": pl.String})
    assert isinstance(found, pl.DataFrame)  # noqa: S101  # for the type checker: a table makes a frame
    joined = pl.DataFrame({"id": rows["id"], "key": keys}, schema={"id": pl.String, "key": pl.String})
    annotations = joined.join(found, on="key", how="left", maintain_order="left").drop("key")
    if annotations["status"].null_count():
        row = annotations.filter(pl.col("status").is_null())["id"][0]
        raise InfiMmrError(
            f"step {NAME}: the judgement of row {row} could not be read back from {table.folder}",
            "Run the same command; if it stays, remove that folder: its answers are judged again",
        )
    return StepResult(
        annotations=annotations,
        computed=len(missing),
        reused=len(set(keys)) - len(missing),
        seconds=time.monotonic() - started,
        record={"grader": grader_hash()},
    )


def check_batch(batch: pa.Table) -> pa.Table:
    """Check a table with `key`, `answer` and `choices`; returns `key` and the value columns."""
    import pyarrow as pa

    rows = batch.to_pylist()
    with ThreadPoolExecutor(_THREADS) as pool:
        checked = list(pool.map(_check, rows))
    return pa.Table.from_pylist(checked, schema=pa.schema(list(_columns().items())))


def _check(row: dict[str, Any]) -> dict[str, Any]:
    from shared.answers import check_gold

    found = check_gold(row["answer"], choices=row["choices"] or None)
    return {
        "key": row["key"],
        "answer_kind": found.kind,
        "status": found.status,
        "reason": found.reason,
        "parsed": found.parsed,
        "self_accepts": found.self_accepts,
        "refuses_neighbour": found.refuses_neighbour,
    }


def _batch(keys: list[str], known: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    rows = [{"key": key, "answer": known[key][0], "choices": known[key][1]} for key in keys]
    schema = pa.schema([("key", pa.string()), ("answer", pa.string()), ("choices", pa.list_(pa.string()))])
    return pa.Table.from_pylist(rows, schema=schema)


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    text, truth = pa.string(), pa.bool_()
    return {
        "key": text,
        "answer_kind": text,
        "status": text,
        "reason": text,
        "parsed": text,
        "self_accepts": truth,
        "refuses_neighbour": truth,
    }
