"""Hub datasets are read at one commit through huggingface_hub, here from a small hub on the loopback interface."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import polars as pl
import pytest
from PIL import Image

from tests.hub_stand_in import environment as hub_environment
from tests.hub_stand_in import serving

COMMIT = "a" * 40
RECIPE = '[source]\nreader = "virl39k"\nlocation = "acme/rows"\nrevision = "main"\n[steps.verify_answers]\n'


def written(write, *words):
    out = io.BytesIO()
    write(out, *words)
    return out.getvalue()


@pytest.fixture
def hub():
    """A hub with one dataset; gives its address and the paths that were asked for."""
    rows = {"question": ["<image>How many?"], "answer": ["\\boxed{3}"], "qid": ["q"], "image": [["images/a.png"]]}
    files = {
        "39Krelease.parquet": written(pl.DataFrame(rows).write_parquet),
        "images/a.png": written(Image.new("RGB", (30, 30), 3).save, "PNG"),
        "secret.bin": b"not fetched",
    }
    for split in ("train", "test"):
        items = {"query": [f"{split}: how many?"], "label": ["4"], "image": ["images/a.png"]}
        files[f"charts/{split}.jsonl"] = written(pl.DataFrame(items).write_ndjson)
    with serving() as server:
        server.place("acme/rows", files, commit=COMMIT)
        yield server
        assert not server.unknown


def build(tmp_path, endpoint, location="acme/rows", told=(), **environment):
    recipe = tmp_path / "hubbed.toml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-c", "from data_engine.cli import main; main()", "build", str(recipe)]
    words = ["--profile", "full", "--store", str(tmp_path / "store"), "--source", location, "--json"]
    surroundings = {**hub_environment(endpoint, tmp_path / "home"), **environment}
    return subprocess.run([*command, *words, *told], capture_output=True, text=True, check=False, env=surroundings)


def test_a_hub_dataset_is_read_at_the_commit_that_its_branch_names(hub, tmp_path):
    endpoint, asked = hub.url, hub.asked
    done = build(tmp_path, endpoint)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = pl.read_parquet(f"{report['path']}/*.parquet")
    assert rows["source_location"].to_list() == ["acme/rows"]
    assert rows["source_revision"].to_list() == [COMMIT]
    assert rows["image_hashes"].list.len().to_list() == [1]
    assert not [path for path in asked if path.endswith("secret.bin")], "only the reader's files are fetched"
    sentence = f"source is not pinned: acme/rows at 'main' may change; this build read commit {COMMIT}"
    assert done.stderr.count(sentence) == 1
    assert f"--set source.revision={COMMIT}" in done.stderr
    before = len(asked)
    again = build(tmp_path, endpoint)
    assert json.loads(again.stdout)["fingerprint"] == report["fingerprint"]
    fetched = [path for path in asked[before:] if "/resolve/" in path]
    assert not fetched, "a second build asks the hub for the commit only"
    before = len(asked)
    elsewhere = build(tmp_path, endpoint, told=("--store", str(tmp_path / "other")), HF_HUB_OFFLINE="1")
    assert json.loads(elsewhere.stdout)["fingerprint"] == report["fingerprint"], "what was fetched serves offline"
    assert asked[before:] == []


def test_an_unknown_dataset_and_a_hub_that_is_down_are_one_line_each(hub, tmp_path):
    endpoint = hub.url
    unknown = build(tmp_path, endpoint, "acme/nothing")
    down = build(tmp_path, "http://127.0.0.1:9", "acme/rows")
    for done, words in ((unknown, "acme/nothing"), (down, "acme/rows")):
        assert done.returncode == 1
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "recipe hubbed, source: " in errors[0]
        assert words in errors[0]
        assert "Traceback" not in done.stderr


WRONG = "hf_" + "wrongwrong" * 3
FAULTS = {
    "gated": (lambda hub: hub.gated.add("acme/rows"), (), {}, "dataset acme/rows is gated", "Accept its terms at http"),
    "wrong token": (lambda _: None, (), {"HF_TOKEN": WRONG}, "does not accept this machine's token (401)", "HF_TOKEN"),
    "no such file": (lambda _: None, ("--set", 'source.files=["train-*"]'), {}, "has no file train-*", "39Krelease"),
    "no such revision": (lambda _: None, ("--set", "source.revision=v3"), {}, "has no revision v3", "or main itself"),
    "told to stay offline": (lambda _: None, (), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE", "hf download acme/rows"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_build_whose_rows_the_hub_keeps_away_ends_in_one_line_and_leaves_no_version(hub, tmp_path, fault):
    happens, told, surroundings, said, following = FAULTS[fault]
    happens(hub)
    done = build(tmp_path, hub.url, told=told, **surroundings)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: recipe hubbed, source: ")
    assert said in error
    assert following in error.partition(said)[2]
    assert "Traceback" not in done.stderr
    for secret in (WRONG, "Signature"):
        assert secret not in done.stderr + done.stdout
    assert json.loads(done.stdout)["next"] in error
    assert not list((tmp_path / "store").rglob("manifest.json"))


def test_a_model_that_the_hub_keeps_away_ends_a_build_before_a_row_is_fetched(hub, tmp_path):
    hub.place("acme/model", {"config.json": b"{}"}, "model")
    hub.gated.add("acme/model")
    model = ("--set", 'steps.type_images.prompt="type_images"', "--set", "steps.type_images.engine.model=acme/model")
    done = build(tmp_path, hub.url, told=model)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: recipe hubbed, looking for its models: model acme/model is gated")
    assert f"Accept its terms at {hub.url}/acme/model, then set HF_TOKEN" in error
    assert not [path for path in hub.asked if "/datasets/" in path]


def test_a_table_on_the_hub_fetches_one_configuration_and_split_and_the_pictures_that_it_names(hub, tmp_path):
    endpoint, asked = hub.url, hub.asked
    recipe = tmp_path / "tables.toml"
    environment = hub_environment(endpoint, tmp_path / "home")

    def run(*words):
        command = [sys.executable, "-m", "data_engine.cli", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done, json.loads(done.stdout)

    done, found = run("inspect", "acme/rows", "--set", "config=charts", "--set", "split=test", "--recipe", str(recipe))
    assert done.returncode == 0, done.stderr
    assert (found["files"], found["rows"], found["images"]) == (["charts/test.jsonl"], 1, 1)
    assert found["columns"] == {"question": "query", "answer": "label", "images": "image"}
    fetched = {path.rpartition("/resolve/")[2].partition("/")[2] for path in asked if "/resolve/" in path}
    assert fetched == {"charts/test.jsonl", "images/a.png"}
    done, report = run("build", str(recipe), "--profile", "local", "--store", str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(f"{report['path']}/*.parquet")
    assert rows["source_revision"].to_list() == [COMMIT]
    assert rows["image_hashes"].list.len().to_list() == [1]
    done, failed = run("inspect", "acme/rows", "--set", "config=chart")
    assert done.returncode == 1
    assert failed["next"] == "Did you mean charts? Known: charts"
