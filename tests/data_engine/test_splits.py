"""Splits of a version: the same in every build, never apart where rows show the same, honoured by who reads them."""

import io
import json

import datasets
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_engine import blocks
from data_engine.build import BuildRequest, build
from data_engine.recipe import load_recipe
from data_engine.sharing.catalogue import describe
from data_engine.sharing.export import export
from data_engine.sharing.preview import render
from data_engine.split_rows import split_of_rows
from shared.dataset_version import open_dataset
from shared.errors import InfiMmrError, UsageError
from shared.progress import Progress
from trainer.evaluation.items import load_items
from trainer.evaluation.tasks import benchmark_names
from trainer.phase import load_phase
from trainer.training_data import read_rows, training_split

RECIPE = """
[source]
reader = "table"
location = "rows.jsonl"
licence = "mit"
[splits]
train = 0.8
validation = 0.2
[steps.verify_answers]
"""


def _picture(seed):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_rows(folder, count=120):
    """Rows of which every three share a picture, and some text rows that repeat."""
    rows = []
    for n in range(count):
        picture = f"{n // 3}.png"
        (folder / picture).write_bytes(_picture(n // 3))
        rows.append({"id": f"p{n}", "question": f"<image>What is {n} + 1?", "answer": str(n + 1), "image": picture})
    rows += [
        {"id": f"t{n}", "question": f"{('What', 'WHAT ')[n % 2]} is {n // 2} + 2 ?", "answer": str(n // 2 + 2)}
        for n in range(count // 2)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    write_rows(folder)
    (folder / "halves.toml").write_text(RECIPE)
    return folder, build(request(folder), Progress()).version


def request(folder, store="store", **more):
    return BuildRequest(recipe=str(folder / "halves.toml"), profile="local", store=str(folder / store), **more)


def test_rows_of_one_picture_and_equal_words_are_never_apart(made):
    _, version = made
    rows = version.scan().collect()
    for key in (pl.col("image_hashes").list.first(), pl.col("question").str.to_lowercase().str.replace_all(" +", " ")):
        apart = rows.filter(key.is_not_null()).group_by(key.alias("key")).agg(pl.col("split").n_unique())
        assert apart["split"].max() == 1
    counts = dict(rows["split"].value_counts().iter_rows())
    assert version.manifest.splits == counts
    assert 0.65 * rows.height < counts["train"] < 0.92 * rows.height
    names = sorted(shard.file for shard in version.manifest.shards)
    assert names == ["halves-train-00000-of-00001.parquet", "halves-validation-00000-of-00001.parquet"]
    assert version.manifest.recipe["splits"] == {"train": 0.8, "validation": 0.2}
    assert version.verify().ok
    assert describe(version)["splits"] == counts


def test_near_duplicates_that_a_threshold_keeps_are_never_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 16)
    end = "and how many steps, counting all of them from the first to the very last, has he then climbed in the tower"
    rows = [
        {"id": f"r{n}-{kind}", "question": f"A man climbs stair {n}, {end} {word}?", "answer": str(n)}
        for n in range(60)
        for kind, word in enumerate(("today", "TODAY, then", "at last"))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = "[steps.dedup_minhash]\nthreshold = 0.6\n[assemble]\njaccard_threshold = 1.01\n"
    (tmp_path / "halves.toml").write_text(RECIPE.replace("0.8", "0.5").replace("0.2", "0.5") + kept)
    version = build(request(tmp_path), Progress()).version
    repeats = dict(version.ledger().filter(step="dedup_minhash").select("id", "item").iter_rows())
    split = dict(version.scan().select("id", "split").collect().iter_rows())
    assert len(split) == 180
    assert len(repeats) >= 60
    assert [row for row, other in repeats.items() if split[row] != split[other]] == []
    assert {*version.manifest.splits} == {"train", "validation"}


def test_a_second_build_splits_alike_in_one_block_or_in_many(made, monkeypatch):
    folder, version = made
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 16)
    again = build(request(folder, "other"), Progress()).version
    assert again.manifest.fingerprint == version.manifest.fingerprint
    assert [shard.sha256 for shard in again.manifest.shards] == [shard.sha256 for shard in version.manifest.shards]
    small = build(request(folder, "small", overrides=["shards.shard_megabytes=1"]), Progress()).version
    told = [dict(one.scan().select("id", "split").collect().iter_rows()) for one in (version, small)]
    assert told[0] == told[1]


def test_a_row_more_moves_no_other_group(made, tmp_path):
    _, version = made
    write_rows(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "question": "A new one: 5 + 900?", "answer": "905"}) + "\n")
    (tmp_path / "halves.toml").write_text(RECIPE)
    more = build(request(tmp_path), Progress()).version
    before, after = (dict(one.scan().select("source_id", "split").collect().iter_rows()) for one in (version, more))
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


def test_the_order_in_which_a_recipe_names_its_splits_decides_nothing(made):
    folder, version = made
    turned = RECIPE.replace("train = 0.8\nvalidation = 0.2", "validation = 0.2\ntrain = 0.8")
    (folder / "turned").mkdir()
    (folder / "turned" / "halves.toml").write_text(turned.replace('"rows.jsonl"', f'"{folder / "rows.jsonl"}"'))
    asked = BuildRequest(str(folder / "turned" / "halves.toml"), "local", str(folder / "turned" / "store"))
    again = build(asked, Progress()).version
    assert again.manifest.build_key == version.manifest.build_key
    assert again.manifest.fingerprint == version.manifest.fingerprint
    assert [shard.sha256 for shard in again.manifest.shards] == [shard.sha256 for shard in version.manifest.shards]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 9), min_size=1, max_size=3)), max_size=40))
def test_whatever_ties_rows_together_they_stay_together(rows):
    contents = np.array([content for content, _ in rows], np.uint64)
    links = [(place, key) for place, (_, keys) in enumerate(rows) for key in keys]
    places, keys = (np.array([link[side] for link in links], kind) for side, kind in ((0, np.int64), (1, np.uint64)))
    split = split_of_rows(contents, places, keys, [0.5, 0.3, 0.2])
    for key in set(keys.tolist()):
        assert len(set(split[places[keys == key]])) == 1
    back = np.arange(len(rows))[::-1]
    turned = split_of_rows(contents[::-1], back[places], keys, [0.5, 0.3, 0.2])
    assert turned[::-1].tolist() == split.tolist()


def test_shares_are_as_told_whatever_the_size_of_groups():
    rng = np.random.default_rng(3)
    for size in (1, 50):
        contents = rng.integers(0, 2**64, 20_000 if size == 1 else 200_000, np.uint64)
        places = np.arange(len(contents))
        split = split_of_rows(contents, places, (places // size).astype(np.uint64), [0.9, 0.1])
        assert abs(np.bincount(split)[1] / len(contents) - 0.1) < 0.02


def test_a_phase_trains_on_the_split_that_it_names_and_must_name_one(made):
    folder, version = made
    phase = load_phase("mre", "local", ["data.dataset=halves", "data.split=validation"])
    narrowed = training_split(version, phase)
    ids = {row["id"] for row in read_rows(narrowed.files(), phase, pictures=False)}
    told = version.scan().collect()
    assert ids == set(told.filter(told["split"] == "validation")["id"])
    assert narrowed.rows == len(ids) == version.manifest.splits["validation"]
    with pytest.raises(InfiMmrError, match=r"has splits \(train, validation\); phase mre does not say which trains"):
        training_split(version, load_phase("mre", "local"))
    assert training_split(version, load_phase("mre", "local", ["data.split=all"])).rows == told.height
    with pytest.raises(UsageError, match=r"has no split 'trian' \(it has train, validation\). Did you mean train"):
        training_split(version, load_phase("mre", "local", ["data.split=trian"]))
    (folder / "held.toml").write_text('[source]\nlocation = "halves"\nsplit = "validation"\n')
    benchmark_names(str(folder / "held.toml"))
    items = load_items("held", None, str(folder / "store"), images=False).items
    assert {item.extra["row_id"] for item in items} == ids


def test_exports_have_the_splits_of_the_version_and_the_page_shows_them(made, tmp_path, monkeypatch):
    folder, version = made
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export(version, str(tmp_path / "out"))
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in found.items()} == version.manifest.splits
    assert set(found["validation"]["split"]) == {"validation"}
    assert "Splits" in render(open_dataset("halves", str(folder / "store")))[0]


def test_wrong_splits_are_one_line(tmp_path):
    write_rows(tmp_path, 6)
    for splits, words in (
        ("train = 0.9", r"the splits add up to 0\.9\. Let them add up to 1"),
        ("train = 1.2\nvalidation = -0.2", r"splits\.validation is -0\.2"),
        ("train = nan\nvalidation = 0.5", r"splits\.train is nan"),
        ("'my-split' = 1.0", r"'my-split' cannot name a split"),
    ):
        (tmp_path / "r.toml").write_text(RECIPE.replace("train = 0.8\nvalidation = 0.2", splits))
        with pytest.raises(UsageError, match=words):
            load_recipe(str(tmp_path / "r.toml"), "local")


def test_a_version_without_splits_is_as_it_was(made, tmp_path):
    folder, _ = made
    text = RECIPE.replace("[splits]\ntrain = 0.8\nvalidation = 0.2\n", "")
    (tmp_path / "halves.toml").write_text(text.replace('"rows.jsonl"', json.dumps(str(folder / "rows.jsonl"))))
    version = build(request(tmp_path), Progress()).version
    assert "split" not in version.scan().collect_schema().names()
    assert "splits" not in version.manifest.recipe
    assert version.manifest.shards[0].file == "halves-00000-of-00001.parquet"
