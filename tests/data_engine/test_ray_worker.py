"""What a worker of a cluster met is met by the driver."""

from __future__ import annotations

import errno

import pyarrow as pa
import pytest

from data_engine.blocks import again_where_damaged
from data_engine.runners.ray_runner import RayRunner, _actor_options
from data_engine.runners.ray_worker import error_table, mapped, taken
from shared.annotations import SegmentSetAsideError, set_aside, tell_aside
from shared.errors import InfiMmrError
from shared.images import ImageRefused
from shared.store import StoreFullError
from shared.vlm import EngineSpec


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
