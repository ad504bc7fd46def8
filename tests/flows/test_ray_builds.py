"""Whole builds on Ray give the very bytes of a local build: on a cluster that runs, after a lost node, on real rows."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "virl39k-captioned"
MANY_BATCHES = ("--set", "steps.caption_images.engine.batch_size=4")
"""Enough batches of captions that a pool of actors asks them; how many are asked at once is no part of a version."""


def build(store, *options, recipe=RECIPE, address=None, under_uv=None):
    """Build with the command line in a process of its own (in folder `under_uv` under `uv run`); gives its JSON."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    command = [sys.executable, "-m", "data_engine.cli", "build", recipe, "--profile", "local", "--json"]
    command += ["--store", str(store), *options]
    if under_uv:  # a process whose command line is `uv run`, by which Ray knows it; uv itself may be absent
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        (under_uv / "run").write_text(f"{shlex.join(command)}\nexit $?\n")
        command = ["bash", "-c", "exec -a uv bash run"]
    done = subprocess.run(command, env=environment, cwd=under_uv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def version(store, made, recipe=RECIPE):
    """What must not depend on the runner: fingerprint, names and hashes of the shards."""
    manifest = json.loads((Path(store) / "datasets" / recipe / made["version"] / "manifest.json").read_text())
    assert manifest["shards"]
    return made["fingerprint"], [(shard["file"], shard["sha256"]) for shard in manifest["shards"]]


def counts(made):
    """What each step computed and found."""
    return [(step["name"], step["computed"], step["reused"]) for step in made["steps"]]


@pytest.fixture(scope="module")
def cluster(ray_nodes):
    """One node of a cluster that runs already; the builds join it by RAY_ADDRESS."""

    made = ray_nodes.start_cluster()
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    store = tmp_path_factory.mktemp("local")
    return version(store, build(store, "--limit", "60"))


def test_a_build_on_a_running_cluster_that_loses_a_node_while_captioning_gives_the_same_bytes(
    local, cluster, ray_nodes, tmp_path
):
    victim = ray_nodes.add_node(cluster)
    store, built = tmp_path / "store", threading.Event()
    killed = []

    def watch():
        """Kill the node as soon as the first captions are stored."""
        while not built.wait(0.05):
            if any((store / "annotations" / "caption_images").glob("*/*.parquet")):
                cluster.remove_node(victim, allow_graceful=False)
                killed.append(True)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        made = build(store, "--limit", "60", "--runner", "ray", *MANY_BATCHES, address=cluster.address)
    finally:
        built.set()
        watcher.join()
    assert killed == [True]
    assert version(store, made) == local


def test_a_build_under_uv_run_on_a_ray_of_its_own_gives_the_same_bytes(local, tmp_path):
    made = build(tmp_path / "store", "--limit", "60", "--runner", "ray", *MANY_BATCHES, under_uv=tmp_path)
    assert version(tmp_path / "store", made) == local


@pytest.mark.parametrize("rows", [100, None], ids=["100 rows", "all rows"])
def test_real_rows_give_the_same_on_two_nodes(cluster, ray_nodes, real_data, tmp_path, rows):
    ray_nodes.add_node(cluster)
    options = ["--source", str(real_data / "virl_like"), *(["--limit", str(rows)] if rows else [])]
    here = build(tmp_path / "here", *options)
    there = build(tmp_path / "there", *options, "--runner", "ray", address=cluster.address)
    assert version(tmp_path / "there", there) == version(tmp_path / "here", here)


MERGED = """
[sources.sums]
reader = "table"
location = "sums.jsonl"
[sources.differences]
reader = "table"
location = "differences.jsonl"
limit = 90
weight = 0.5
[splits]
train = 0.8
validation = 0.2
[steps.verify_answers]
[steps.dedup_minhash]
[steps.long_numbers]
path = "long_numbers.py"
most = 3
"""
OWN_STEP = """
from data_engine.step import judge_rows
from shared.config import Strict

class Settings(Strict):
    most: int

def judge(row, settings):
    long = len(row["answer"]) > settings.most
    return {"reason": "too_long" if long else "", "removes": True}

def run(context, settings):
    return judge_rows(context, judge, {"reason": "string", "removes": "bool"}, settings)
"""


def test_merged_sources_in_splits_judged_by_a_file_are_the_same_on_a_cluster(cluster, tmp_path):
    (tmp_path / "long_numbers.py").write_text(OWN_STEP)
    for name, sign in (("sums", 1), ("differences", -1)):
        rows = [{"id": n, "question": f"What is {n} and {sign * 7 * n}?", "answer": str(n + sign)} for n in range(120)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "both.toml"
    recipe.write_text(MERGED)
    here = build(tmp_path / "here", recipe=str(recipe))
    there = build(tmp_path / "there", "--runner", "ray", recipe=str(recipe), address=cluster.address)
    found = version(tmp_path / "there", there, "both")
    assert found == version(tmp_path / "here", here, "both")
    assert counts(there) == counts(here)
    assert {file.split("-")[1] for file, _ in found[1]} == {"train", "validation"}
