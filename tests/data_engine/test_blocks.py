"""Rows in blocks: groups change hands through files, on a folder and in a bucket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

from data_engine.blocks import Parts, RowBlocks, again_where_damaged, block_of, blocks_for, over
from data_engine.runners.local import LocalRunner
from data_engine.scratch import scratch_folder, scratch_store
from data_engine.sharing.gc import collect
from shared.annotations import SegmentSetAsideError
from shared.dataset_version.leases import Lease, holding
from shared.errors import InfiMmrError
from shared.fingerprint import row_id
from shared.store import open_store
from shared.store.bucket import BucketStore


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def shared(request, tmp_path):
    """A store that all workers reach, as a build on a cluster has it."""
    if request.param == "folder":
        yield open_store(tmp_path / "store")
        return
    from benchmarks.s3_server import s3_server

    with s3_server() as url:
        yield open_store(f"{url}/blocks")


@pytest.mark.parametrize("words", ["?x=1", "#part", "/?x=1#part", ""])
def test_a_build_whose_store_has_a_query_or_a_fragment_removes_its_own_scratch_and_nothing_else(tmp_path, words):
    (tmp_path / "team/scratch/build-x").mkdir(parents=True)  # a folder behind obstore must be there
    store = BucketStore(f"file://{tmp_path}/team{words}")
    kept = ["annotations/a", "blobs/b", "scratch/build-y/other"]
    for path in kept:
        store.put(path, b"kept")
    with scratch_store(store, tmp_path / "build-x", elsewhere=True) as reach:
        reach.put("rows/0", b"scratch")
        assert store.get("scratch/build-x/rows/0") == b"scratch"
        assert [entry.path for entry in reach.list()] == ["rows/0"]
    assert sorted(entry.path for entry in store.list()) == kept


KILLED = """
import os, signal, sys
from pathlib import Path
from data_engine.scratch import scratch_store
from shared.store import open_store
from shared.store.bucket import BucketStore
folder, bucket = Path(sys.argv[1]), sys.argv[2]
store = BucketStore(bucket) if bucket else open_store(folder.parent)
with scratch_store(store, folder, elsewhere=True) as reach:
    reach.put("rows/0", b"scratch")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_gc_removes_what_killed_builds_left_in_a_bucket_and_nothing_of_a_running_one(tmp_path):
    for name in ("killed", "running"):  # folders behind obstore must be there
        (tmp_path / "team/scratch" / f"build-{name}").mkdir(parents=True)
    store = BucketStore(f"file://{tmp_path}/team")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "build-killed"), f"file://{tmp_path}/team"]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    left = ["scratch/build-killed.lease", "scratch/build-killed/rows/0"]
    with scratch_store(store, tmp_path / "build-running", elsewhere=True) as reach:
        reach.put("rows/0", b"scratch")
        store.put("scratch/build-unknown/rows/0", b"of a build that knew of no leases")
        assert collect(store, dry_run=True)["removed"] == left
        assert collect(store)["removed"] == left
        assert collect(store, minimum_age=0)["removed"] == ["scratch/build-unknown/rows/0"]
        lease = Lease(store, "scratch/build-running.lease")
        lapsed = json.loads(lease.content()) | {"holder": "another machine", "expires": time.time() - 60}
        store.put(lease.path, json.dumps(lapsed).encode())
        assert collect(store, minimum_age=0)["files"] == 0, "clocks may differ by two minutes"
        assert reach.get("rows/0") == b"scratch"
        store.put(lease.path, json.dumps(lapsed | {"expires": time.time() - 600}).encode())
        assert collect(store)["files"] == 2
    assert list(store.list()) == []


def test_gc_removes_what_killed_builds_left_in_a_folder_and_nothing_of_a_running_one(tmp_path):
    store = open_store(tmp_path / "team")
    store.put("scratch/build-killed/rows/0", b"left")
    (tmp_path / "team/scratch/build-killed/.lock").touch()
    for name, age in (("late", 7200), ("new", 5)):  # written by a worker after its build was gone; just being made
        store.put(f"scratch/build-{name}/rows/0", b"late")
        os.utime(tmp_path / f"team/scratch/build-{name}", (time.time() - age, time.time() - age))
    with scratch_folder(tmp_path / "other") as running:
        running.rename(tmp_path / "team/scratch" / running.name)
        store.put(f"scratch/{running.name}/rows/0", b"in use")
        left = ["scratch/build-killed/rows/0", "scratch/build-late/rows/0"]
        assert [collect(store, dry_run=dry)["removed"] for dry in (True, False)] == [left, left]
        kept = ["scratch/build-new/rows/0", f"scratch/{running.name}/rows/0"]
        assert sorted(entry.path for entry in store.list()) == sorted(kept)


def test_builds_that_begin_and_end_at_once_never_take_each_others_scratch(tmp_path):
    def builds():
        for _ in range(60):
            with scratch_folder(tmp_path) as folder:
                (folder / "rows").touch()

    with ThreadPoolExecutor(8) as threads:
        for running in [threads.submit(builds) for _ in range(8)]:
            running.result()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_goes_on_after_its_store_could_not_be_reached_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.dataset_version.leases.LEASE_SECONDS", 0.2)
    store = open_store(tmp_path / "store")
    with holding(store, "scratch/build-x.lease") as lease:
        (tmp_path / "store/scratch").rename(tmp_path / "away")
        (tmp_path / "store/scratch").touch()
        with pytest.raises(InfiMmrError):
            lease.renew()
        time.sleep(0.1)  # the renewer meets it, too
        (tmp_path / "store/scratch").unlink()
        (tmp_path / "away").rename(tmp_path / "store/scratch")
        before = lease.renewed
        deadline = time.monotonic() + 30
        while lease.renewed == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.renewed > before


def test_groups_of_many_writers_are_read_one_by_one_and_nothing_stays_behind(shared, tmp_path):
    (tmp_path / "build-x").mkdir()
    with scratch_store(shared, tmp_path / "build-x", elsewhere=True) as reach:
        parts = Parts(reach, "rows")
        for writer in range(3):
            numbers = np.arange(writer * 10, writer * 10 + 10)
            frame = pl.DataFrame({"n": numbers, "text": [f"text {n}" for n in numbers], "list": [["a"]] * 10})
            parts.write_grouped(writer, frame, numbers % 4, 5)
        for group in range(5):
            found = parts.read_group(range(3), group)
            assert found["n"].to_list() == [
                n for writer in range(3) for n in range(writer * 10, writer * 10 + 10) if n % 4 == group
            ]
            assert found.columns == ["n", "text", "list"]
        assert parts.read_group([1], 2)["text"].to_list() == ["text 10", "text 14", "text 18"]
        assert sorted(parts.read(2)["n"].to_list()) == list(range(20, 30))
        parts.delete(range(3))
        assert list(reach.list("rows")) == []
        parts.write(0, frame)
    if not shared.is_folder:
        assert list(shared.list()) == []


def test_blocks_one_after_the_other_are_the_rows_in_the_order_of_their_ids(tmp_path, monkeypatch):
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 100)
    ids = pl.Series("id", [row_id("source", str(number), "") for number in range(1000)])
    count = blocks_for(1000)
    assert count == 16
    block = block_of(ids, count)
    assert np.bincount(block, minlength=count).min() > 20
    rows = RowBlocks(open_store(tmp_path), "rows", tuple(np.bincount(block, minlength=count).tolist()))
    for number in rows.numbers:
        rows.write(number, ids.filter(pl.Series(block == number)).sort().to_frame())
    assert rows.frame()["id"].to_list() == sorted(ids)
    assert rows.starts[-1] == rows.height == 1000


def _told(number, job):
    return {"rows": number, "text": f"{job} {number}"}


def test_workers_tell_a_few_values_in_order():
    told = list(over(LocalRunner(), _told, range(3), "job"))
    assert [one["text"] for one in told] == ["job 0", "job 1", "job 2"]
    assert list(over(LocalRunner(), _told, [7], "job", away=True)) == [{"rows": 7, "text": "job 7"}]


def test_work_that_meets_damaged_segments_is_done_again_until_none_is_left():
    damaged = ["a", "b"]

    def work():
        if damaged:
            raise SegmentSetAsideError(damaged.pop(), "again")
        return "done"

    assert again_where_damaged(work) == "done"
