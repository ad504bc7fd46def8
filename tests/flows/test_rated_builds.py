"""Pass rates of the policy itself (`rate_difficulty`): tiny-vl answers forty mini problems eight times each.

Equal when built again from stored cells, when killed and continued, and on Ray; a phase with bounds writes only rows
between them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from shared.dataset_version import open_dataset
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.phase import load_phase
from trainer.training_data import check_dataset, write_prompts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RECIPE = """
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 40
duplicates = 0
copies = 0
renumbered = 0
[steps.verify_answers]
[steps.rate_difficulty]
samples = 8
max_tokens = 96
[steps.rate_difficulty.engine]
model = "tiny-vl"
max_pixels = 15680
dtype = "float32"
max_model_len = 512
batch_size = 32
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "rated.toml"
    file.write_text(RECIPE)
    return file


def start(recipe, store, *words):
    command = [sys.executable, "-m", "data_engine.cli", "build", str(recipe), "--profile", "local", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [*command, "--store", str(store), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return json.loads(out)


def version(report):
    """What must be equal, and how many answers were asked and found."""
    manifest = json.loads((Path(report["path"]) / "manifest.json").read_text())
    asked = next(step for step in report["steps"] if step["name"] == "rate_difficulty")
    return (report["fingerprint"], [shard["sha256"] for shard in manifest["shards"]]), asked


@pytest.fixture(scope="module")
def reference(recipe, tmp_path_factory):
    store = tmp_path_factory.mktemp("reference") / "store"
    return store, finish(start(recipe, store))


def test_each_row_has_the_policys_pass_rate_its_interval_and_the_length_of_its_answers(reference):
    store, report = reference
    assert report["rows"] == 40
    found = open_dataset("rated", str(store))
    assert found.verify(images=True).ok
    rates = found.scan().select(pl.col("rating").struct.unnest()).collect()
    assert rates["samples"].to_list() == [8] * 40
    assert rates["pass_rate"].is_between(0, 1).all()
    assert 0 < rates["pass_rate"].mean() < 1
    assert (rates["low"] <= rates["pass_rate"]).all()
    assert (rates["pass_rate"] <= rates["high"]).all()
    assert (rates["answer_tokens"] > 1).all()
    assert version(report)[1]["computed"] == 320
    assert found.to_datasets().features["rating"] is not None


def test_built_again_from_stored_cells_it_is_equal_and_nothing_is_asked(recipe, reference, tmp_path):
    store, report = reference
    shutil.copytree(store / "annotations", tmp_path / "store" / "annotations")
    again = finish(start(recipe, tmp_path / "store"))
    assert version(again)[0] == version(report)[0]
    assert (version(again)[1]["computed"], version(again)[1]["reused"]) == (0, 320)


def test_killed_while_answers_come_in_it_continues_to_the_same_version(recipe, reference, tmp_path):
    store = tmp_path / "store"
    process = start(recipe, store)
    while process.poll() is None and not any((store / "annotations" / "rate_difficulty").glob("*/*.parquet")):
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read()[-2000:]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    after = finish(start(recipe, store))
    assert 0 < version(after)[1]["reused"] < 320
    assert version(after)[0] == version(reference[1])[0]


def test_the_ray_runner_gives_the_same_bytes(recipe, reference, tmp_path):
    report = finish(start(recipe, tmp_path / "store", "--runner", "ray"))
    assert version(report)[0] == version(reference[1])[0]
    assert version(report)[1]["computed"] == 320


def test_a_phase_from_a_tenth_to_nine_tenths_holds_only_such_rows(reference, tmp_path):
    store, _ = reference
    words = ["data.dataset=rated", "data.pass_rate_column=rating.pass_rate", "rollout.batch_size=4"]
    words += ["data.min_pass_rate=0.1", "data.max_pass_rate=0.9", "train.batch_size=32", "train.max_steps=0"]
    phase = load_phase("mre", "local", words)
    found = open_dataset("rated", str(store))
    check_dataset(found, phase)
    write_prompts(found, phase, BUNDLED_FOLDER, tmp_path / "run", tmp_path / "cache")
    rates = dict(found.scan().select("id", pl.col("rating").struct.field("pass_rate")).collect().iter_rows())
    lines = (tmp_path / "run" / "prompts.jsonl").read_text().splitlines()
    trained = {json.loads(json.loads(line)["label"])["id"] for line in lines}
    between = {name for name, rate in rates.items() if 0.1 <= rate <= 0.9}
    assert trained
    assert trained <= between
    assert len(between) - len(trained) < 4, "all of them but the rest of the last step"
