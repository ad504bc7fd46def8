"""Asks and cells survive the trip between driver and workers as tables."""

from __future__ import annotations

import errno

import numpy as np
import pyarrow as pa
import pytest

from data_engine.blocks import again_where_damaged
from data_engine.runners import Ask, Cell
from data_engine.runners.ray_cells import ask_tables, asks_of, cell_table, cells_of, error_table, taken
from data_engine.runners.ray_runner import RayRunner, _actor_options
from data_engine.runners.ray_worker import mapped
from shared.annotations import SegmentSetAsideError, set_aside, tell_aside
from shared.errors import InfiMmrError
from shared.images import ImageRefused
from shared.store import StoreFullError
from shared.vlm import EngineSpec

ASKS = [
    Ask(f"k{n}", f"text <image> {n}", "be kind" if n % 2 else "", ("a" * 64,) * (n % 3), n if n > 4 else None)
    for n in range(10)
]


def test_asks_come_back_as_they_were_in_batches_of_the_asked_size():
    tables = list(ask_tables(iter(ASKS), 4))
    assert [table.num_rows for table in tables] == [4, 4, 2]
    assert [ask for table in tables for ask in asks_of(table)] == ASKS
    assert list(ask_tables([], 4)) == []


def test_chat_cells_failures_and_notes_come_back_as_they_were():
    answer = {"text": "a\nb \u00b5", "tokens": 3, "prompt_tokens": 9, "finish_reason": "stop"}
    cells = [Cell("k1", answer), Cell("k2", None, "disk error"), Cell("k3", {**answer, "text": ""})]
    assert cells_of(cell_table(cells, "started again")) == (cells, ["started again"])
    assert cells_of(cell_table([])) == ([], [])


def test_vectors_come_back_bit_by_bit():
    vector = np.random.default_rng(0).normal(size=32).astype(np.float32)
    (cell,), _ = cells_of(cell_table([Cell("k", {"vector": vector})]))
    np.testing.assert_array_equal(cell.value["vector"], vector)
    assert cell.value["vector"].dtype == np.float32


def test_an_error_that_concerns_every_ask_is_raised_with_its_next_step():
    with pytest.raises(InfiMmrError, match=r"no such model\. Name another"):
        taken(error_table(InfiMmrError("no such model", "Name another")))


@pytest.mark.parametrize(
    "error",
    [
        SegmentSetAsideError("a segment is damaged", "Run it again"),
        StoreFullError("the disk is full", "Free some space"),
        ImageRefused("too_large", "a picture is too large"),
        OSError(errno.ENOSPC, "No space left on device", "spool"),
        PermissionError(errno.EACCES, "Permission denied", "rows.jsonl"),
        OSError("no number"),
    ],
)
def test_what_a_worker_of_a_cluster_raises_is_the_same_error_on_the_driver(error):
    def work(_):
        tell_aside(["a segment was damaged"])
        raise error

    set_aside()
    told = mapped(work, None, pa.table({"n": [1]}))
    assert set_aside() == [], "told with the error"
    taken(pa.table({"n": [1]}))
    with pytest.raises((InfiMmrError, OSError)) as raised:
        taken(pa.ipc.open_stream(_sent(told)).read_all())
    assert str(raised.value) == str(error)
    assert type(raised.value) is (InfiMmrError if isinstance(error, ImageRefused) else type(error))
    assert getattr(raised.value, "errno", None) == getattr(error, "errno", None)
    assert set_aside() == ["a segment was damaged"]


def test_a_segment_that_a_worker_of_a_cluster_set_aside_is_noted_though_its_work_ended_well():
    def work(table):
        if table.num_rows == 2:
            tell_aside(["a segment was damaged"])
        return table.replace_schema_metadata({"kept": "x"})

    set_aside()
    for rows in (1, 2):
        told = mapped(work, None, pa.table({"n": [0] * rows}))
        assert set_aside() == [], "told with the table"
        assert taken(pa.ipc.open_stream(_sent(told)).read_all()).schema.metadata == {b"kept": b"x"}
    assert set_aside() == ["a segment was damaged"]


def test_a_segment_that_a_worker_of_a_cluster_set_aside_is_asked_again():
    answers = [SegmentSetAsideError("damaged", "again"), OSError(errno.ENOSPC, "No space left on device")]

    def work(_):
        raise answers.pop(0)

    with pytest.raises(OSError, match="No space left"):
        again_where_damaged(lambda: taken(mapped(work, None, pa.table({"n": [1]}))))


def _sent(table):
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def test_a_worker_takes_its_gpus_and_some_cores_and_its_tasks_are_not_repeated_by_ray():
    spec = EngineSpec(model="org/name", revision="1", tensor_parallel_size=2)
    options = _actor_options(spec, {"GPU": 8, "CPU": 64})
    assert (options["num_gpus"], options["num_cpus"], options["max_task_retries"]) == (2, 8, 0)
    assert "num_gpus" not in _actor_options(spec, {"CPU": 4})
    assert "num_gpus" not in _actor_options(EngineSpec(model="m", endpoint="http://h/v1"), {"GPU": 8, "CPU": 64})


def test_there_is_one_engine_per_gpu_and_one_client_per_endpoint():
    runner = RayRunner()
    assert runner._pool_size(EngineSpec(model="o/n", revision="1"), {"GPU": 8}) == 8
    assert runner._pool_size(EngineSpec(model="o/n", revision="1", tensor_parallel_size=4), {"GPU": 8}) == 2
    assert runner._pool_size(EngineSpec(model="o/n", endpoint="http://h/v1"), {"GPU": 8}) == 1
    assert RayRunner(workers=3)._pool_size(EngineSpec(model="o/n", revision="1"), {"GPU": 8}) == 3
