"""Rows of public sets as they were published, with their pictures where they name them, are read without code."""

from __future__ import annotations

import json

import polars as pl
import pytest

from data_engine.build import BuildRequest, build
from data_engine.inspect import inspect_place
from shared.errors import InfiMmrError
from shared.progress import Progress

POURED = {
    # set: (where its rows came from, what is told about columns, columns found, pictures)
    "chartqa": ("ChartQA", {}, {"question": "query", "answer": "label", "images": "imgname"}),
    "tabmwp": ("PromptPG", {}, {"question": "question", "answer": "answer", "choices": "choices"}),
    "solidgeo": ("SolidGeo", {}, {"question": "question", "answer": "answer", "images": "image"}),
    "k12": ("MM-EUREKA", {}, {"id": "id", "question": "question", "answer": "answer", "images": "image_path"}),
    "puzzlevqa": (
        "LLM-PuzzleTest",
        {},
        {"question": "question", "answer": "answer", "choices": "options", "images": "image"},
    ),
    "geometry3k": (
        "VisualSketchpad",
        {"images": ""},
        {"id": "id", "question": "problem_text", "answer": "answer", "choices": "choices"},
    ),
    "nlvr": ("nlvr", {"question": "sentence"}, {"question": "sentence", "answer": "label"}),
}
READ = {
    "gsm8k": ("text/gsm8k_test.parquet", {"question": "question", "answer": "answer"}),
    "math500": ("text/math500.parquet", {"question": "problem", "answer": "answer"}),
    "dynamath": ("bench/dynamath_60x3variants.parquet", {"question": "question", "images": "images"}),
    "mathvision": ("bench/mathvision_testmini.parquet", {"question": "question", "choices": "options"}),
    "minerva": ("text/agentica_test_minerva.json", {"question": "problem", "answer": "answer"}),
}
ROWS = 24


def pour(real_data, repo, folder):
    """Write rows of a set as its repository has them, each picture under the name that its row gives it."""
    meta = pl.read_parquet(real_data / "virl_like/virl_like_meta.parquet")
    shaped = pl.read_parquet(real_data / "virl_like/virl_like.parquet")
    of_repo = pl.col("origin_repo").str.contains(repo, literal=True)
    if repo == "VisualSketchpad":
        of_repo &= pl.col("qid").str.starts_with("geometry3k")
    files = dict(shaped.select("qid", "image").iter_rows())
    chosen = meta.filter(of_repo).head(ROWS)
    for qid, raw in chosen.select("qid", "raw_json").iter_rows():
        named = json.loads(raw)
        names = named.get("imgname") or named.get("image") or named.get("image_path") or []
        for name, file in zip([names] if isinstance(names, str) else names, files[qid], strict=False):
            place = folder / name.replace("\\", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((real_data / "virl_like" / file).read_bytes())
    (folder / "rows.jsonl").write_text("".join(json.dumps(json.loads(raw)) + "\n" for raw in chosen["raw_json"]))
    return folder / "rows.jsonl", chosen.height


def check(place, records, columns, told, tmp_path):
    """Inspect a place, build the recipe that it writes, and hold both to the same numbers."""
    recipe = tmp_path / "mine.toml"
    overrides = [f"columns.{role}={column}" for role, column in told.items()]
    found = inspect_place(str(place), overrides=overrides, limit=ROWS, recipe=str(recipe))
    assert found["columns"].items() >= columns.items()
    assert found["records"] == records
    assert found["rows"] + sum(found["refused"].values()) == records
    assert found["rows"] > 0.8 * records, found["refused"]
    assert len(recipe.read_text().splitlines()) < 15
    request = BuildRequest(recipe=str(recipe), profile="local", store=str(tmp_path / "store"), limit=ROWS)
    version = build(request, Progress()).version
    assert version.manifest.counts[0].rows_out == found["rows"]
    ledger = version.ledger().filter(pl.col("step") == "source")
    assert dict(ledger["rule"].value_counts().iter_rows()) == found["refused"]
    rows = version.scan().collect()
    if rows.height == found["rows"]:
        assert sum(rows["image_hashes"].list.len()) == found["images"]
    return rows


@pytest.mark.parametrize("name", list(POURED))
def test_rows_as_their_repository_has_them_are_built_from_a_recipe_under_15_lines(real_data, tmp_path, name):
    repo, told, columns = POURED[name]
    (tmp_path / "set").mkdir()
    place, records = pour(real_data, repo, tmp_path / "set")
    rows = check(place, records, columns, told, tmp_path)
    assert (sum(rows["image_hashes"].list.len()) >= rows.height) == ("images" in columns)


@pytest.mark.parametrize("name", list(READ))
def test_files_as_they_were_published_are_built_from_a_recipe_under_15_lines(real_data, tmp_path, name):
    file, columns = READ[name]
    check(real_data / file, ROWS, columns, {}, tmp_path)


def test_what_a_real_set_calls_otherwise_is_one_line_that_says_how_to_name_it(real_data, tmp_path):
    place, _ = pour(real_data, "nlvr", tmp_path)
    with pytest.raises(InfiMmrError, match=r"no column could be taken as question \(columns: sentence, label") as told:
        inspect_place(str(place))
    assert 'question = "..."' in told.value.next_step
    found = inspect_place(str(pour(real_data, "ChartQA", tmp_path)[0]))
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    gone = inspect_place(str(tmp_path / "rows.jsonl"))
    assert (found["rows"], gone["rows"], gone["refused"]) == (ROWS, 0, {"image_missing": ROWS})
