"""Whole builds on Ray give the very bytes of a local build: on a cluster that runs, after a lost node, on real rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

NODE = {"num_cpus": 2, "object_store_memory": 100 * 2**20}


def patiently(start):
    """Start a node; on a busy machine it may miss Ray's fixed deadline of 30 s, so it is tried up to four times."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


RECIPE = "virl39k-captioned"


def build(store, *options, address=None):
    """Build with the command line in a process of its own; gives its JSON."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    command = [sys.executable, "-m", "data_engine.cli", "build", RECIPE, "--profile", "local", "--json"]
    done = subprocess.run(
        [*command, "--store", str(store), *options], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def shards(store, made):
    """Names and hashes of a version's shards."""
    manifest = json.loads((Path(store) / "datasets" / RECIPE / made["version"] / "manifest.json").read_text())
    return [(shard["file"], shard["sha256"]) for shard in manifest["shards"]]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    store = tmp_path_factory.mktemp("local")
    return store, build(store, "--limit", "60")


def test_a_build_on_a_running_cluster_that_loses_a_node_while_captioning_gives_the_same_bytes(local, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=NODE))
    victim = patiently(lambda: cluster.add_node(**NODE))
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
        made = build(
            store,
            "--limit",
            "60",
            "--runner",
            "ray",
            "--set",
            "steps.caption_images.engine.batch_size=4",
            address=cluster.address,
        )
    finally:
        built.set()
        watcher.join()
        cluster.shutdown()
    assert killed == [True]
    assert made["fingerprint"] != ""
    assert shards(store, made) == shards(local[0], local[1])


def test_a_build_on_a_ray_of_its_own_gives_the_same_fingerprint(local, tmp_path):
    made = build(tmp_path / "store", "--limit", "60", "--runner", "ray")
    assert made["fingerprint"] == local[1]["fingerprint"]
    assert shards(tmp_path / "store", made) == shards(*local)


def test_real_rows_give_the_same_on_ray(real_data, tmp_path):
    options = ("--source", str(real_data / "virl_like"), "--limit", "60")
    here = build(tmp_path / "here", *options)
    there = build(tmp_path / "there", *options, "--runner", "ray")
    assert there["fingerprint"] == here["fingerprint"]
    assert shards(tmp_path / "there", there) == shards(tmp_path / "here", here)
