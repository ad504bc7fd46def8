"""A store that release 0.1.0 wrote is read, verified, carried and built upon by this release."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from shared.dataset_version import manifest as manifests
from shared.dataset_version import open_dataset
from shared.errors import InfiMmrError
from shared.schema import IMAGE_TYPES

STORED = Path(__file__).resolve().parents[1] / "stored"


@pytest.fixture
def store(tmp_path):
    """The store of release 0.1.0, unpacked."""
    with tarfile.open(STORED / "release-0.1.0.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "store"


def run(*words: str) -> dict:
    """Run `data-engine` and return its JSON document."""
    command = [sys.executable, "-m", "data_engine.cli", *words, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_version_that_release_0_1_0_stored_is_opened_and_every_byte_of_it_verified(store):
    version = open_dataset("stored-010@v1", store=store)
    rows = version.scan().collect()
    assert rows.height == 6
    assert rows["answer"].null_count() == 0
    assert all(kinds[0] in IMAGE_TYPES for kinds in rows["image_types"])
    assert [row["images"][0]["bytes"][:4] for row in version.iterate()] == [b"\x89PNG"] * 6
    assert version.ledger()["rule"].to_list() == ["duplicate"]
    assert version.verify(images=True).problems == []


def test_a_version_that_release_0_1_0_stored_is_carried_byte_for_byte(store, tmp_path):
    run("push", "stored-010@v1", str(tmp_path / "theirs"), "--store", str(store))
    name = "datasets/stored-010/v1/manifest.json"
    assert (tmp_path / "theirs" / name).read_bytes() == (store / name).read_bytes()


def test_a_build_over_the_cells_that_release_0_1_0_stored_asks_no_model(store, tmp_path):
    """A failure says that old cells are not found any more: mend that, or raise the number that says so."""
    said = run("build", str(STORED / "stored-010.toml"), "--profile", "local", "--store", str(store))
    typed = next(step for step in said["steps"] if step["name"] == "type_images")
    assert (typed["computed"], typed["reused"]) == (0, 6)
    assert said["version"] == "v1", "the same content is found, whatever its settings are called today"


def test_planted_duplicates_that_release_0_1_0_called_canaries_are_read_by_their_name(store, tmp_path):
    said = json.loads((store / "datasets/stored-010/v1/manifest.json").read_bytes())
    assert open_dataset("stored-010@v1", store=store).manifest.planted_duplicates == said["canaries"]
    assert said["recipe"]["steps"]["dedup_minhash"]["canaries"] == 0
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "What is {n} + {n}?", "answer": "{2 * n}"}}\n' for n in range(6)))
    for name in ("planted_duplicates", "canaries"):
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(f'[source]\nreader = "table"\nlocation = "rows.jsonl"\n[steps.dedup_minhash]\n{name} = 1\n')
        built = run("build", str(recipe), "--profile", "local", "--store", str(tmp_path / "new"))
        manifest = open_dataset(name, store=tmp_path / "new").manifest
        assert (built["rows"], manifest.format) == (6, 2)
        assert manifest.recipe["steps"]["dedup_minhash"]["planted_duplicates"] == 1
        assert manifest.planted_duplicates["dedup_minhash"]["verbatim"] == {"planted": 1, "found": 1, "recall": 1.0}


def test_a_manifest_of_an_older_format_is_read_with_defaults_and_written_as_it_was(store, monkeypatch):
    """A later release that has one more field: here `near_misses`, as if 0.1.0 had not known it."""
    known = open_dataset("stored-010@v1", store=store).manifest
    monkeypatch.setattr(manifests, "ADDED", {manifests.FORMAT + 1: frozenset({"near_misses"})})
    older = manifests.manifest_bytes(known)
    assert "near_misses" not in json.loads(older)
    monkeypatch.setattr(manifests, "FORMAT", manifests.FORMAT + 1)
    read = manifests.read_manifest(older, "manifest.json")
    assert read.near_misses == 0
    assert manifests.manifest_bytes(read) == older


def test_a_manifest_of_a_newer_format_is_refused_with_what_to_do(store):
    file = store / "datasets/stored-010/v1/manifest.json"
    fields = json.loads(file.read_bytes()) | {"format": 3, "curriculum_hints": {}}
    with pytest.raises(InfiMmrError, match=r"has format 3; this release reads 1 to 2.*Update infi-mmr"):
        manifests.read_manifest(json.dumps(fields).encode(), "manifest.json")
