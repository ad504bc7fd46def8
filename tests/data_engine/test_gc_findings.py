"""What builds tell of each row (`why`) is collected where no version came of them, and never under a running build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_engine import findings
from data_engine.build import BuildRequest, build
from data_engine.sharing.gc import collect
from data_engine.why import tell
from shared.annotations import stored_cells
from shared.dataset_version.leases import Lease, building, collecting
from shared.progress import Progress
from shared.store import open_store

RECIPE = '[source]\nreader = "table"\nlocation = "sums.jsonl"\nlicence = "CC0"\n[steps.verify_answers]\n'
BUILD = """
import os, signal, sys
import shared.dataset_version
from data_engine.build import BuildRequest, build
from shared.progress import Progress
if sys.argv[3:] == ["killed"]:
    shared.dataset_version.publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
build(BuildRequest(recipe=sys.argv[1], profile="local", store=sys.argv[2]), Progress())
"""


@pytest.fixture
def place(tmp_path):
    rows = [{"id": f"r{n}", "question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.toml").write_text(RECIPE)
    return tmp_path


def run(place):
    return build(BuildRequest(recipe=str(place / "sums.toml"), profile="local", store=str(place / "store")), Progress())


def kept(store):
    return {entry.path.split("/")[2] for entry in store.list("annotations/findings")}


def test_findings_of_a_build_that_gave_a_version_which_was_there_are_collected_and_those_of_versions_stay(
    place, monkeypatch
):
    first = run(place)
    monkeypatch.setattr("data_engine.inputs.code_hash", lambda: "other code")
    again = run(place)
    assert (again.found, again.version.label) == (False, first.version.label)
    store = open_store(place / "store")
    needed = {first.version.manifest.build_key[:32]}
    (left,) = kept(store) - needed
    assert {path.split("/")[2] for path in collect(store)["too_young"]} == {left}
    for entry in store.list(f"annotations/findings/{left}"):
        os.utime(store.local_path(entry.path), (0, time.time() - 7200))
    assert collect(store, dry_run=True)["files"] == collect(store)["files"] == 1
    assert kept(store) == needed
    assert not (place / "store/annotations/findings" / left).exists()
    (told,) = tell("r1", str(place / "store"))["versions"]
    assert "note" not in told
    assert told["question"] == "What is 1 + 1?"


def test_what_a_killed_build_told_goes_at_once_and_what_a_running_one_tells_stays(place):
    store = open_store(place / "store")
    command = [sys.executable, "-c", BUILD, str(place / "sums.toml"), str(place / "store")]
    assert subprocess.run([*command, "killed"], check=False).returncode == -signal.SIGKILL
    (key,) = kept(store)
    (lease,) = (entry.path for entry in store.list("leases"))
    with building(store, lease.split("/")[-1].partition("-")[0]):  # the same command again, while it works
        assert collect(store, dry_run=True)["removed"]  # its scratch
        assert collect(store, minimum_age=0)["removed"]
        assert kept(store) == {key}
    store.put(lease, json.dumps(json.loads(Lease(store, lease).content()) | {"pid": 2**22 + 1}).encode())
    assert all(path.startswith(f"annotations/findings/{key}/") for path in collect(store)["removed"])
    assert kept(store) == set()
    assert list(store.list("leases")) == []
    subprocess.run(command, check=True)  # not in this process, whose hash of the code may be that of an hour ago
    assert kept(store) == {key}
    (told,) = tell("r1", str(place / "store"))["versions"]
    assert "note" not in told


def test_a_lease_that_another_machine_no_longer_renews_keeps_nothing(place):
    store = open_store(place / "store")
    findings.findings_table(store, "a" * 64).append([{"key": "r", "story": "{}"}])
    lease = Lease(store, f"leases/builds/{'a' * 64}-b.json")
    held = json.loads(lease.content()) | {"holder": "another machine"}
    store.put(lease.path, json.dumps(held).encode())
    assert collect(store, minimum_age=0)["files"] == 0
    store.put(lease.path, json.dumps(held | {"expires": time.time() - 600}).encode())
    assert collect(store)["files"] == 1


def test_a_build_waits_while_gc_removes_and_then_writes_what_is_gone(place):
    store, key = open_store(place / "store"), "a" * 64
    stored_cells._READ.clear()
    findings.findings_table(store, key).append([{"key": "r", "story": "{}"}])
    order = []

    def write():
        with building(store, key):
            order.append("builds")

    with collecting(store):
        builder = threading.Thread(target=write)
        builder.start()
        while not list(store.list("leases/builds")):
            time.sleep(0.01)
        order.append("removes")
    builder.join(30)
    assert order == ["removes", "builds"]
