"""The published layouts of every dataset of profile `full`, from the hub to rows with pictures, without a model."""

from __future__ import annotations

import pytest

from data_engine.inputs import open_inputs
from data_engine.recipe import load_recipe
from data_engine.sources.base import Rejection
from shared.caches import CACHE_VARIABLE
from tests import hub_layouts


@pytest.fixture(params=["drawn rows", "real rows"])
def inputs(request, hub, tmp_path, monkeypatch):
    """Source and benchmarks of `virl39k-captioned`, and the source of `deepscaler`, as profile `full` opens them."""
    real = request.getfixturevalue("real_data") if request.param == "real rows" else None
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    recipes = {name: load_recipe(name, "full") for name in ("virl39k-captioned", "deepscaler")}
    files = hub_layouts.datasets(real)
    for recipe in recipes.values():
        for place in (recipe.source, *recipe.benchmarks.values()):
            commit = place.revision if len(place.revision) == 40 else ""
            assert place.location in files, f"no layout of {place.location}: add one to hub_layouts.datasets"
            hub.place(place.location, hub_layouts.with_card(files[place.location]), "dataset", commit)
    opened = {name: open_inputs(recipe) for name, recipe in recipes.items()}
    assert hub.unknown == []
    return opened


def test_every_published_layout_gives_rows_with_their_pictures(inputs):
    captioned = inputs["virl39k-captioned"]
    rows = list(captioned.source.rows())
    assert [row for row in rows if isinstance(row, Rejection)] == []
    assert len(rows) == captioned.source.count() >= 8
    shown = [len(row.images) for row in rows]
    assert 0 in shown
    assert max(shown) >= 1
    for row in rows:
        assert row.question.count("<image>") == len(row.images)
        assert all(image.path().is_file() for image in row.images), "the archive of pictures is unpacked"
    texts = list(inputs["deepscaler"].source.rows())
    assert len(texts) == hub_layouts.TRAINING_ROWS + 1
    assert not any(isinstance(row, Rejection) or row.images for row in texts)


def test_every_benchmark_is_read_from_its_evaluated_split_alone(inputs):
    found = {name: list(source.rows()) for name, source in inputs["virl39k-captioned"].benchmarks.items()}
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(found, hub_layouts.ITEMS) | {
        "mathverse": len(hub_layouts.VERSIONS)
    }
    for name, rows in found.items():
        assert not any(isinstance(row, Rejection) or row.extra.get("missing_images") for row in rows)
        pictured = hub_layouts.PICTURE in hub_layouts.COLUMNS.get(name, {}).values()
        assert [len(row.images) for row in rows] == [int(pictured)] * len(rows), name
    versions = {row.extra["problem_version"]: row for row in found["mathverse"]}
    assert tuple(versions) == hub_layouts.VERSIONS
    assert versions["Vision Only"].question == "<image>"
    assert versions["Vision Only"].extra["question_for_eval"]
    assert {row.extra["subset"] for row in found["olympiadbench"]} == {"OE_MM_maths_en_COMP"}
    assert {row.extra["metadata"]["split"] for row in found["mathvista"]} == {"testmini"}
