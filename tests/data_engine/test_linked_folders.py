"""Folders of a set that are links, names in two normal forms, places as URLs, and a store beside the rows."""

from __future__ import annotations

import json
import os
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.inputs import open_sources
from data_engine.inspect import inspect_place
from data_engine.recipe import load_recipe
from shared.errors import InfiMmrError, UsageError
from shared.images import PathRefused
from shared.store import open_store

NAMES = ("red", "caf\u00e9")


def pictures(folder, names=NAMES, form="NFC"):
    folder.mkdir(parents=True)
    for place, name in enumerate(names):
        file = folder / f"{unicodedata.normalize(form, name)}.png"
        Image.new("RGB", (40, 40), (90 * place, 10, 10)).save(file)
    return folder


def records(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"What is {n}?", "answer": f"{i}", "image": f"{n}.png"} for i, n in enumerate(names)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_linked_folder_of_pictures_is_refused_with_the_reason_and_taken_where_the_recipe_names_its_end(tmp_path):
    outside, place = pictures(tmp_path / "nas" / "pictures"), records(tmp_path / "set")
    (place / "images").symlink_to(outside)
    found = inspect_place(str(place))
    assert (found["rows"], found["refused"]) == (0, {"path_escape": 2})
    assert "source.links" in found["refused_examples"]["path_escape"][0]["detail"]
    recipe = tmp_path / "mine.toml"
    found = inspect_place(str(place), overrides=[f"links={tmp_path / 'nas'}"], recipe=str(recipe))
    assert (found["rows"], found["images"], found["refused"]) == (2, 2, {})
    assert inspect_place(str(recipe))["rows"] == 2
    # nothing else that lies outside comes within reach, and the fingerprint is that of the same files unlinked
    (outside / "secret.png").symlink_to(tmp_path / "secret.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "secret.png")
    records(place, (*NAMES, "secret"))
    found = inspect_place(str(recipe))
    assert (found["rows"], found["refused"]) == (2, {"path_escape": 1})
    with pytest.raises(InfiMmrError, match="is no folder"):
        inspect_place(str(place), overrides=["links=nowhere"])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_readers_of_published_sets_follow_links_where_told_and_find_either_normal_form(tmp_path, form):
    outside = pictures(tmp_path / "nas" / "images", form=form)
    place = tmp_path / "set"
    place.mkdir()
    table = pa.table({
        "qid": ["a", "b"], "question": ["What is it, red?", "What is it, now?"], "answer": ["1", "2"],
        "image": [[f"images/{name}.png"] for name in NAMES],
    })  # fmt: skip
    pq.write_table(table, place / "39Krelease.parquet")
    (place / "images").symlink_to(outside)
    prints = set()
    for told in ((), (f"source.links={tmp_path / 'nas'}",)):
        source = open_sources(load_recipe("virl39k", "full", source=str(place), overrides=told))
        for row in source.rows():
            if told:
                assert row.images[0].path().is_file()
                continue
            with pytest.raises(PathRefused, match="a link leads out"):
                row.images[0].path()
        prints.add(source.fingerprint())
    assert len(prints) == 2
    (place / "images").unlink()
    outside.rename(place / "images")
    assert open_sources(load_recipe("virl39k", "full", source=str(place))).fingerprint() in prints


def test_records_behind_a_link_are_told_of_and_read_where_links_may_end_there(tmp_path):
    place = tmp_path / "set"
    place.mkdir()
    outside = records(tmp_path / "nas" / "rows", ("1", "2"))
    (place / "data").symlink_to(outside)
    (outside / "again").symlink_to(outside)
    with pytest.raises(InfiMmrError, match=r"no file with records; .* leads out of the folder: data"):
        inspect_place(str(place))
    assert inspect_place(str(place), overrides=[f"links={outside}"])["files"] == ["data/rows.jsonl"]
    (place / "own.jsonl").write_text('{"question": "What is 2 + 3?", "answer": "5"}\n')
    assert any("leads out of the folder: data" in note for note in inspect_place(str(place))["told"])


def test_a_store_beside_the_rows_is_no_part_of_them(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "What is 2 + 3?", "answer": "5"}\n')
    version = tmp_path / "store" / "datasets" / "mine" / "v1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{}")
    pq.write_table(pa.table({"question": ["What is 2 + 3?"], "answer": ["5"]}), version / "mine.parquet")
    assert inspect_place(str(tmp_path))["files"] == ["rows.jsonl"]
    assert inspect_place(str(version))["rows"] == 1
    with pytest.raises(InfiMmrError, match="is a store of versions"):
        inspect_place(str(tmp_path / "store"))


def test_a_pipe_among_the_files_is_waited_for_by_nobody(tmp_path):
    place = records(tmp_path / "set", ("1", "2"))
    os.mkfifo(place / "1.png")
    assert inspect_place(str(place))["refused"] == {"image_missing": 2}
    assert len(open_sources(load_recipe(str(recipe_of(place)), "local")).fingerprint()) == 64
    os.mkfifo(place / "more.jsonl")
    with pytest.raises(InfiMmrError, match=r"more\.jsonl is a pipe or a device"):
        inspect_place(str(place))


def recipe_of(place):
    file = place.parent / "mine.toml"
    file.write_text(f'[source]\nreader = "table"\nlocation = "{place}"\n')
    return file


def test_a_url_of_a_file_means_the_whole_name_and_this_machine(tmp_path):
    for name in ("a#b", "c?d", "e f%"):
        records(tmp_path / name, ("1",))
        url = f"file://{tmp_path}/{name.replace('%', '%25')}"
        assert inspect_place(url)["location"] == name
        assert open_store(url).local_path("x") == tmp_path / name / "x"
    for url in (f"file://{tmp_path}/a?x", f"file://{tmp_path}/a#x"):
        with pytest.raises(InfiMmrError, match="does not exist"):
            inspect_place(url)
    with pytest.raises(UsageError, match="another machine"):
        inspect_place("file://elsewhere/rows")
