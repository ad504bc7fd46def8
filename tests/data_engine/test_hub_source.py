"""Hub datasets are read at one commit through huggingface_hub, here from a small hub on the loopback interface."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

_spec = importlib.util.spec_from_file_location("hub_stand_in", Path(__file__).parents[1] / "hub_stand_in.py")
assert _spec is not None
assert _spec.loader is not None
_stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_stand_in)

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
    with _stand_in.serving() as server:
        server.place("acme/rows", files, commit=COMMIT)
        yield server.url, server.asked
        assert not server.unknown


def build(tmp_path, endpoint, location="acme/rows"):
    recipe = tmp_path / "hubbed.toml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-c", "from data_engine.cli import main; main()", "build", str(recipe)]
    words = ["--profile", "full", "--store", str(tmp_path / "store"), "--source", location, "--json"]
    environment = _stand_in.environment(endpoint, tmp_path / "home")
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=environment)


def test_a_hub_dataset_is_read_at_the_commit_that_its_branch_names(hub, tmp_path):
    endpoint, asked = hub
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


def test_an_unknown_dataset_and_a_hub_that_is_down_are_one_line_each(hub, tmp_path):
    endpoint, _ = hub
    unknown = build(tmp_path, endpoint, "acme/nothing")
    down = build(tmp_path, "http://127.0.0.1:9", "acme/rows")
    for done, words in ((unknown, "acme/nothing"), (down, "acme/rows")):
        assert done.returncode == 1
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "recipe hubbed, source: " in errors[0]
        assert words in errors[0]
        assert "Traceback" not in done.stderr


def test_a_table_on_the_hub_fetches_one_configuration_and_split_and_the_pictures_that_it_names(hub, tmp_path):
    endpoint, asked = hub
    recipe = tmp_path / "tables.toml"
    environment = _stand_in.environment(endpoint, tmp_path / "home")

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
