"""A build killed with SIGKILL, wherever it is, leaves no half version and ends with the bytes of one never killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.dataset_version import list_datasets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TEXT_RECIPE = """
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 60
[steps.verify_answers]
[steps.decontaminate_ngrams]
planted_duplicates = 4
[steps.dedup_minhash]
[shards]
row_group_megabytes = 1
[benchmarks.math500]
location = "mini"
[benchmarks.mathvista]
location = "mini"
"""


def start(*words):
    command = [sys.executable, "-c", "from data_engine.cli import main; main()", "build", *map(str, words)]
    return subprocess.Popen(
        [*command, "--profile", "local", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return json.loads(out)


def kill(process):
    """End the whole group at once, as a lost machine does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def written(store):
    """Files below a store; those that come and go while it is read may be missing."""
    return {Path(folder) / name for folder, _, names in os.walk(store) for name in names}


def files(report):
    manifest = json.loads((Path(report["path"]) / "manifest.json").read_text(encoding="utf-8"))
    return [(shard["file"], shard["sha256"]) for shard in [*manifest["shards"], manifest["ledger"]]]


def no_half_version(store):
    for version in list_datasets(store):
        assert version.verify(images=True).ok


def test_killed_at_many_moments_without_a_model(tmp_path):
    recipe = tmp_path / "text.toml"
    recipe.write_text(TEXT_RECIPE)
    reference = finish(start(recipe, "--store", tmp_path / "reference"))
    store = tmp_path / "store"
    kills = 0
    for number in range(9):
        process = start(recipe, "--store", store)
        before, seen = written(store), set()
        while process.poll() is None and len(seen) <= number:  # a build that goes on has less left to write
            seen |= written(store) - before
        time.sleep(random.Random(number).random() / 10)
        kills += process.poll() is None
        kill(process)
        no_half_version(store)
    after = finish(start(recipe, "--store", store))
    assert kills >= 4, "most of the kills must have struck a running build"
    assert files(after) == files(reference)
    assert after["fingerprint"] == reference["fingerprint"]
    assert not (store / "scratch").exists(), "what killed builds left behind is swept"


@pytest.mark.nightly
def test_killed_within_every_model_step(tmp_path):
    words = (
        "virl39k-captioned",
        "--set",
        "source.mini.rows=36",
        "--set",
        "steps.decontaminate_embeddings.planted_duplicates=1",
    )
    smaller = ("--set", "steps.type_images.engine.batch_size=8", "--set", "steps.caption_images.engine.batch_size=8")
    reference = finish(start(*words, *smaller, "--store", tmp_path / "reference"))
    store = tmp_path / "store"
    for step in ("type_images", "caption_images", "embeddings"):
        process = start(*words, *smaller, "--store", store)
        while process.poll() is None and not any((store / "annotations" / step).glob("*/*.parquet")):
            time.sleep(0.02)
        assert process.poll() is None, process.stderr.read()[-2000:]
        kill(process)
        assert list_datasets(store) == []
    after = finish(start(*words, *smaller, "--store", store))
    reused = {step["name"]: step["reused"] for step in after["steps"]}
    assert reused["type_images"] > 0
    assert reused["caption_images"] > 0
    assert reused["decontaminate_embeddings"] > 0
    assert files(after) == files(reference)
    assert after["fingerprint"] == reference["fingerprint"]


def test_two_builders_at_once_end_in_one_version(tmp_path):
    recipe = tmp_path / "text.toml"
    recipe.write_text(TEXT_RECIPE)
    both = [start(recipe, "--store", tmp_path / "store") for _ in range(2)]
    one, two = (finish(process) for process in both)
    assert (one["version"], one["fingerprint"]) == (two["version"], two["fingerprint"]) == ("v1", one["fingerprint"])
    assert len(list_datasets(tmp_path / "store")) == 1
    no_half_version(tmp_path / "store")
