"""A model that never answers twice alike: the stored answer is the record, wherever a build runs."""

from __future__ import annotations

import itertools
import shutil

import pytest

from data_engine.build import BuildRequest, build
from shared.fingerprint import file_hash
from shared.progress import Progress

RECIPE = """
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 12
duplicates = 0
copies = 0
renumbered = 0
[steps.verify_answers]
[steps.type_images.engine]
model = "standin"
endpoint = "{url}"
[steps.caption_images.engine]
model = "standin"
endpoint = "{url}"
"""


@pytest.fixture
def forgetful(new_standin):
    """Captions carry the number of the request."""
    numbers = itertools.count()
    return new_standin(say=lambda body: "" if "structured_outputs" in body else f"Caption {next(numbers)}")


def test_builds_that_share_annotations_are_identical_and_others_are_not(forgetful, tmp_path):
    recipe = tmp_path / "asked.toml"
    recipe.write_text(RECIPE.format(url=forgetful.url))

    def run(store):
        return build(BuildRequest(recipe=str(recipe), profile="local", store=str(store)), Progress())

    def written(report):
        files = {file.name: file_hash(file) for file in report.version.path.iterdir() if file.suffix == ".parquet"}
        return files, report.version.manifest.fingerprint

    first = run(tmp_path / "first")
    asked = len(forgetful.requests)
    assert asked > 0
    shutil.copytree(tmp_path / "first" / "annotations", tmp_path / "team" / "annotations")
    shared = run(tmp_path / "team")
    assert not shared.found
    assert sum(step.computed for step in shared.steps if step.name != "source") == 0
    assert len(forgetful.requests) == asked, "no model was asked"
    assert written(shared) == written(first)
    alone = run(tmp_path / "alone")
    assert len(forgetful.requests) == 2 * asked
    assert written(alone) != written(first), "this model answers otherwise every time"


def test_the_same_model_at_another_address_is_the_same_version(forgetful, tmp_path):
    recipe = tmp_path / "asked.toml"
    recipe.write_text(RECIPE.format(url=forgetful.url))
    request = BuildRequest(recipe=str(recipe), profile="local", store=str(tmp_path / "store"))
    first = build(request, Progress())
    moved = [f"steps.{step}.engine.endpoint=http://127.0.0.1:9/v1" for step in ("type_images", "caption_images")]
    again = build(BuildRequest(**{**vars(request), "overrides": moved}), Progress())
    assert again.found
    assert again.version.manifest == first.version.manifest
