"""The judgements of golds are read back whole, or the build says so."""

from __future__ import annotations

import pyarrow as pa
import pytest

from data_engine.grading import grader_hash
from data_engine.steps import verify_answers
from shared.annotations import StoredCells
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint


def test_a_row_whose_stored_judgement_says_nothing_is_refused_by_name(step_world):
    context = step_world.context([("r1", "What is 1 + 1?", [], [], "2")])
    where = fingerprint({"step": "verify_answers", "grader": grader_hash()})
    cell = dict.fromkeys(verify_answers._columns()) | {"key": fingerprint(["2", []])}
    schema = pa.schema(list(verify_answers._columns().items()))
    StoredCells(context.store, "verify_answers", where).append_table(pa.Table.from_pylist([cell], schema=schema))
    with pytest.raises(InfiMmrError, match="verify_answers: the judgement of row r1 could not be read back"):
        verify_answers.run(context, verify_answers.Settings())
