"""The whole build of profile `local`, every step and model, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from shared.dataset_version import open_dataset
from shared.schema import IMAGE_TYPES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SIZE = ("--set", "source.mini.rows=36", "--set", "steps.decontaminate_embeddings.planted_duplicates=1")
PROGRAM = """
import sys
from data_engine.cli import main
try: main()
finally:
    from shared.vlm.room import engine_starts
    print("ENGINES", engine_starts(), file=sys.stderr)
"""


def build(store, *words, recipe="virl39k-captioned"):
    command = [sys.executable, "-c", PROGRAM, "build", recipe, "--profile", "local", "--json", "--store", str(store)]
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    report["engines"] = int(done.stderr.rsplit("ENGINES ", 1)[1].split()[0])
    return report


def manifest(report):
    return json.loads((Path(report["path"]) / "manifest.json").read_text(encoding="utf-8"))


def computed(report):
    return {step["name"]: step["computed"] for step in report["steps"]}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    store = tmp_path_factory.mktemp("first") / "store"
    return store, build(store, *SIZE)


def test_two_builds_into_two_empty_stores_are_the_same_bytes(first, tmp_path):
    _, one = first
    two = build(tmp_path / "store", *SIZE)
    assert manifest(one)["shards"] == manifest(two)["shards"]
    assert manifest(one)["ledger"] == manifest(two)["ledger"]
    assert one["fingerprint"] == two["fingerprint"]


def test_one_engine_start_serves_every_step_that_names_the_checkpoint(first):
    _, report = first
    assert report["engines"] == 2, "tiny-vl writes types and captions in one engine, and embeds in another"


def test_a_second_build_into_the_same_store_computes_nothing(first):
    store, one = first
    again = build(store, *SIZE)
    assert set(computed(again).values()) == {0}
    assert again["engines"] == 0
    assert (again["version"], again["fingerprint"]) == (one["version"], one["fingerprint"])


def test_every_picture_is_typed_and_captioned(first):
    store, report = first
    rows = open_dataset("virl39k-captioned", store).scan().collect()
    assert rows.height == report["rows"] > 0
    types = rows["image_types"].explode().drop_nulls()
    assert set(types) <= set(IMAGE_TYPES)
    for hashes, kinds, captions in rows.select("image_hashes", "image_types", "captions").iter_rows():
        assert len(hashes) == len(kinds) == len(captions)
        assert all(kind for kind in kinds)
        assert all(caption is not None for caption in captions)


def test_everything_planted_is_found(first):
    store, report = first
    ledger = open_dataset("virl39k-captioned", store).ledger().filter(pl.col("removed"))
    planted = set(ledger.filter(pl.col("source_id").str.starts_with("from-mini-"))["source_id"])
    assert len(planted) == 5 * 2 + 2 * 2
    assert report["rows"] + report["rejected"] == report["steps"][0]["rows_in"]


def test_no_row_that_was_not_planted_is_taken_for_a_benchmark_item(first):
    store, _ = first
    ledger = open_dataset("virl39k-captioned", store).ledger().filter(pl.col("removed"))
    found = ledger.filter(pl.col("step").str.starts_with("decontaminate"))["source_id"].to_list()
    assert [key for key in found if not key.startswith("from-mini-")] == []


def test_another_caption_prompt_asks_again_for_that_type_only(first, tmp_path):
    store, _ = first
    rows = open_dataset("virl39k-captioned", store).scan().collect()
    kind = rows["image_types"].explode().drop_nulls().mode().sort()[0]
    prompt = tmp_path / "own.md"
    prompt.write_text("Describe the picture in one sentence.")
    changed = build(store, *SIZE, "--set", f"steps.caption_images.prompts.{kind}={prompt}")
    asked = computed(changed)
    assert asked.pop("caption_images") == sum(found == kind for found in _types(store).values())
    assert set(asked.values()) == {0}


def _types(store):
    """Type of each picture, as stored."""
    found = {}
    for file in sorted((store / "annotations" / "type_images").glob("*/*.parquet")):
        found |= dict(pl.read_parquet(file).select("key", "image_type").iter_rows())
    return found


def test_real_rows_build_end_to_end(real_data, tmp_path):
    """A slice of the real rows with all model steps; the whole 2,801 take some ten minutes on two cores."""
    report = build(tmp_path / "store", "--source", real_data / "virl_like", "--limit", "120")
    assert report["steps"][0]["rows_in"] == 120 == report["rows"] + report["rejected"]
    assert open_dataset("virl39k-captioned", tmp_path / "store").verify(images=True).ok
