"""Hashes of problems for the text rules, made once per text and kept as annotations; as Arrow columns they travel.

A new row is hashed, the old ones are read; a new benchmark is compared with what is stored. A runner's workers do it,
and find matches with a benchmark's items, batch by batch; the index is sent to each once.
Not covered: what is compared with what (`benchmark_overlap`), pictures and what is removed (the step).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_engine.cell_counts import noted
from data_engine.decontamination.benchmark_overlap import FORMS, HashedTexts, Match, Problems, hash_problems
from data_engine.text_hash import VERSION, Windows
from data_engine.text_hash.text_cells import (
    TEXTS_AT_ONCE,
    Known,
    first_of,
    in_order,
    in_parts,
    store_cells,
    text_key,
    whole,
)
from shared.annotations import StoredCells
from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from data_engine.decontamination.benchmark_overlap import BenchmarkIndex
    from data_engine.runners import Runner
    from data_engine.step import StepContext
    from data_engine.text_hash.words import Offsets

_HASHES = ("ngrams", "characters", "exact", "numberless")


def problem_keys(problems: Problems) -> list[str]:
    """Key of each problem's text: question and options."""
    return [text_key(q, *options) for q, options in zip(problems.questions, problems.choices, strict=True)]


def hashed_problems(context: StepContext, problems: Problems, n: int, character_n: int) -> Known[HashedTexts]:
    """`hash_problems`, from the store where known."""
    import pyarrow as pa

    about = {"hashes": VERSION, "windows": "ngram64/1", "n": n, "character_n": character_n, "forms": FORMS}
    schema = pa.schema([*((name, pa.large_binary()) for name in _HASHES), ("tokens", pa.int64())])
    table = StoredCells(context.store, "text_hashes", fingerprint(about), schema, about)
    keys = problem_keys(problems)
    wanted = context.missing(table, keys)
    missing = first_of(keys, wanted)
    batches = (problem_table(problems, part, key=[keys[row] for row in part]) for part in in_parts(missing))
    store_cells(table, context.runner.map_batches(hash_batch, batches, broadcast=(n, character_n)))
    return Known(hashes_of(in_order(table, keys)), noted(keys, wanted))


def hash_batch(batch: pa.Table, sizes: tuple[int, int]) -> pa.Table:
    """Hashes of a table with `key`, `question`, `choices`; `sizes` are the tokens of an n-gram in both tokenisers."""
    import pyarrow as pa

    made = hash_problems(problems_of(batch), *sizes)
    return pa.table({"key": batch.column("key"), **hash_columns(made)})


def problem_table(problems: Problems, rows: Sequence[int], **columns: Sequence[object]) -> pa.Table:
    """Some problems as a table with `question`, `choices` and further columns."""
    import pyarrow as pa

    some = problems.take(rows)
    texts = {"question": pa.array(some.questions, pa.large_string())}
    choices = pa.array(some.choices, pa.list_(pa.large_string()))
    return pa.table({**{name: pa.array(value) for name, value in columns.items()}, **texts, "choices": choices})


def problems_of(table: pa.Table) -> Problems:
    """The problems of a `problem_table`."""
    return Problems(table.column("question").to_pylist(), table.column("choices").to_pylist())


def hash_columns(hashed: HashedTexts) -> dict[str, pa.Array]:
    """Hashes as Arrow columns, one cell per text, without copying."""
    import pyarrow as pa

    forms = np.arange(len(hashed.tokens) + 1) * FORMS
    return {
        "ngrams": _binary(hashed.ngrams.hashes, hashed.ngrams.offsets),
        "characters": _binary(hashed.characters.hashes, hashed.characters.offsets),
        "exact": _binary(hashed.exact.ravel(), forms),
        "numberless": _binary(hashed.numberless.ravel(), forms),
        "tokens": pa.array(hashed.tokens),
    }


def hashes_of(table: pa.Table | pa.RecordBatch) -> HashedTexts:
    """Hashes from the columns of `hash_columns`, without copying where a column is in one piece."""
    ngrams, characters, exact, numberless = (_windows(whole(table, name)) for name in _HASHES)
    together = (exact.hashes.reshape(-1, FORMS), numberless.hashes.reshape(-1, FORMS))
    return HashedTexts(ngrams, characters, *together, whole(table, "tokens").to_numpy())


def _binary(values: np.ndarray, offsets: Offsets) -> pa.Array:
    """Consecutive uint64 values as one large_binary cell per row, without copying."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets * 8)), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _windows(column: pa.Array) -> Windows:
    if len(column) == 0:
        return Windows(np.empty(0, np.uint64), np.zeros(1, np.int64))
    _, index, content = column.buffers()
    offsets = np.frombuffer(index, np.int64)[column.offset : column.offset + len(column) + 1] // 8
    values = np.empty(0, np.uint64) if content is None else np.frombuffer(content, np.uint64)
    return Windows(values[offsets[0] : offsets[-1]], offsets - offsets[0])


def find_matches(runner: Runner, index: BenchmarkIndex, problems: Problems, hashed: HashedTexts) -> Iterator[Match]:
    """All matches of `problems`, whose hashes are `hashed`, with the items of `index`.

    Those that `BenchmarkIndex.find` gives for all at once; the order differs, but matches of one row and rule keep
    theirs.
    """
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
    import pyarrow as pa

    hashes = pa.table(hash_columns(hashed))
    for start in range(0, len(problems), TEXTS_AT_ONCE):
        rows = range(start, min(start + TEXTS_AT_ONCE, len(problems)))
        both = (problem_table(problems, rows, row=rows), hashes.slice(start, len(rows)))
        yield pa.table({name: some.column(name) for some in both for name in some.column_names})
