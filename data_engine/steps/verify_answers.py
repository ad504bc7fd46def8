"""Checks every gold answer: it must equal itself and differ from a wrong neighbour, or no reward can be built on it.

Writes, one row per row: `id` (str), `answer_kind` (str, see `shared.answers.ANSWER_KINDS`), `status` (`verified` or
`unverifiable`), `reason` (str, empty for verified golds), `parsed` (str, what the grader read), `self_accepts` (bool),
`refuses_neighbour` (bool).
Cells are kept by answer and choices, in a context that names the grader's own code: another grader judges anew.
Not covered: whether a gold is right (nobody can tell from the row alone), and removal (`assemble` decides).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data_engine.grading import grader_hash, in_threads
from data_engine.step import StepContext, StepResult, result_by_cells
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
    values = pa.schema([(name, kind) for name, kind in _columns().items() if name != "key"])
    about = {"step": NAME, "grader": grader_hash()}
    table = StoredCells(context.store, NAME, fingerprint(about), values=values, about=about)
    rows = context.rows.select("id", "answer", "choices")
    keys = [fingerprint([answer, choices]) for _, answer, choices in rows.iter_rows()]
    rows = rows.with_columns(key=pl.Series(keys, dtype=pl.String))
    found = result_by_cells(context, table, rows, check_batch, NAME)
    unread = found.annotations.filter(pl.col("status").is_null())
    if unread.height:
        row = unread["id"][0]
        raise InfiMmrError(
            f"step {NAME}: the judgement of row {row} could not be read back from {table.folder}",
            "Run the same command; if it stays, remove that folder: its answers are judged again",
        )
    return replace(found, record={"grader": grader_hash()})


def check_batch(batch: pa.Table) -> pa.Table:
    """Check a table with `key`, `answer` and `choices`; returns `key` and the value columns."""
    import pyarrow as pa

    return in_threads(_check, batch, pa.schema(list(_columns().items())))


def _check(row: dict[str, Any]) -> dict[str, Any]:
    from shared.answers import check_gold

    found = check_gold(row["answer"], choices=row["choices"] or None)
    names = ("status", "reason", "parsed", "self_accepts", "refuses_neighbour")
    return {"key": row["key"], "answer_kind": found.kind, **{name: getattr(found, name) for name in names}}


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    texts = dict.fromkeys(("key", "answer_kind", "status", "reason", "parsed"), pa.string())
    return texts | dict.fromkeys(("self_accepts", "refuses_neighbour"), pa.bool_())
