"""Matches of rows with a benchmark's items, found by a runner's workers batch by batch; the index is sent to each once.

Input: rows and their hashes. Output: every `Match` that `BenchmarkIndex.find` gives for the rows as a whole; the order
differs, but matches of one row and rule keep theirs.
Not covered: pictures and what is removed (the step).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from data_engine.decontamination.benchmark_overlap import Match
from data_engine.decontamination.hashed_problems import hash_columns, hashes_of, problem_table, problems_of
from data_engine.text_hash.text_cells import TEXTS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from data_engine.decontamination.benchmark_overlap import BenchmarkIndex, HashedTexts, Problems
    from data_engine.runners import Runner


def find_matches(runner: Runner, index: BenchmarkIndex, problems: Problems, hashed: HashedTexts) -> Iterator[Match]:
    """All matches of `problems`, whose hashes are `hashed`, with the items of `index`."""
    for found in runner.map_batches(match_batch, _batches(problems, hashed), broadcast=index):
        for match in found.to_pylist():
            yield Match(**{**match, "evidence": json.loads(match["evidence"])})


def match_batch(batch: pa.Table, index: BenchmarkIndex) -> pa.Table:
    """Matches of a table with `row` (its number), `question`, `choices` and the columns of `hash_columns`."""
    import pyarrow as pa

    number = batch.column("row").to_pylist()
    found = list(index.find(problems_of(batch), hashes_of(batch)))
    columns = {
        "row": pa.array([number[match.row] for match in found], pa.int64()),
        "item": pa.array([match.item for match in found], pa.int64()),
        "rule": pa.array([match.rule for match in found], pa.string()),
        "score": pa.array([match.score for match in found], pa.float64()),
        "evidence": pa.array([json.dumps(match.evidence, ensure_ascii=False) for match in found], pa.large_string()),
    }
    return pa.table(columns)


def _batches(problems: Problems, hashed: HashedTexts) -> Iterator[pa.Table]:
    for start in range(0, len(problems), TEXTS_AT_ONCE):
        rows = range(start, min(start + TEXTS_AT_ONCE, len(problems)))
        table = problem_table(problems, rows, row=rows)
        for name, column in hash_columns(hashed.part(rows.start, rows.stop)).items():
            table = table.append_column(name, column)
        yield table
