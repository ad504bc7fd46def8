"""Typing and captioning: what is asked again and what is not. A stand-in server answers by rule."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from data_engine.step import StepResult
from data_engine.steps import caption_images, type_images
from shared.errors import UsageError
from shared.schema import IMAGE_TYPES
from shared.vlm import EngineSpec
from shared.vlm.checkpoint import engine_identity


@pytest.fixture
def world(step_world, standin):
    """Give twelve pictures in eight rows, an engine, and a function that makes a context over them."""
    pictures = step_world.Pictures()
    hashes = [pictures.add(step_world.drawing(seed)) for seed in range(12)]
    rows = [(f"r{n}", "q", [], [hashes[n], hashes[(n + 4) % 12]]) for n in range(8)]
    engine = EngineSpec(model="standin", endpoint=standin.url, attempts=1, batch_size=4)

    def context(**more):
        return replace(step_world.context(rows, pictures=pictures), **more)

    return context, engine, hashes


def types_of(hashes):
    given = pl.DataFrame({"image_hash": sorted(hashes), "image_type": [IMAGE_TYPES[n % 3] for n in range(len(hashes))]})
    return {"type_images": StepResult(given)}


def test_every_distinct_picture_gets_one_of_the_eight_types(world, standin):
    context, engine, hashes = world
    result = type_images.run(context(), type_images.Settings(engine=engine))
    assert result.annotations["image_hash"].to_list() == sorted(hashes)
    assert set(result.annotations["image_type"]) <= set(IMAGE_TYPES)
    assert (result.computed, result.reused) == (12, 0)
    assert standin.requests[0]["structured_outputs"] == {"choice": list(IMAGE_TYPES)}
    kinds = [part["type"] for part in standin.requests[0]["messages"][0]["content"]]
    assert kinds == ["image_url", "text"]


def test_a_second_build_asks_nothing_and_finds_the_same(world, standin):
    context, engine, _ = world
    first = type_images.run(context(), type_images.Settings(engine=engine))
    standin.close()
    second = type_images.run(context(), type_images.Settings(engine=engine))
    assert (second.computed, second.reused) == (0, 12)
    assert second.annotations.equals(first.annotations)


def test_answers_of_another_version_of_the_code_are_used_and_said(world, monkeypatch):
    context, engine, _ = world
    first = type_images.run(context(), type_images.Settings(engine=engine))
    monkeypatch.setattr("data_engine.asking.maker", lambda _: "vllm 99, code 12345678")
    again = type_images.run(context(), type_images.Settings(engine=engine))
    assert (again.computed, again.reused) == (0, 12)
    assert sum(again.record["models"][0]["made_elsewhere"].values()) == 12
    assert any("12 cells found were made otherwise (12 by endpoint, code " in warning for warning in again.warnings)
    assert not any("made otherwise" in warning for warning in first.warnings)


def test_another_prompt_model_or_revision_is_asked_anew(world, tmp_path):
    context, engine, _ = world
    mine = tmp_path / "mine.md"
    mine.write_text("Say the type.")
    type_images.run(context(), type_images.Settings(engine=engine))
    for settings in (
        type_images.Settings(engine=engine, prompt=str(mine)),
        type_images.Settings(engine=engine.model_copy(update={"revision": "2"})),
    ):
        assert type_images.run(context(), settings).computed == 12


def test_hardware_settings_ask_nothing_anew(world):
    context, engine, _ = world
    type_images.run(context(), type_images.Settings(engine=engine))
    moved = engine.model_copy(update={"batch_size": 3, "concurrency": 2, "timeout_seconds": 9.0})
    assert type_images.run(context(), type_images.Settings(engine=moved)).computed == 0


def test_each_picture_is_captioned_with_the_prompt_of_its_type(world, standin):
    context, engine, hashes = world
    result = caption_images.run(context(results=types_of(hashes)), caption_images.Settings(engine=engine))
    assert result.annotations.columns == ["image_hash", "language", "image_type", "caption", "finish_reason"]
    assert result.annotations.height == 12
    from shared.prompts import prompt

    asked = sorted({body["messages"][0]["content"] for body in standin.requests})
    assert asked == sorted(prompt(f"caption_{name}") for name in IMAGE_TYPES[:3])
    assert {p["image_type"] for p in result.record["prompts"]} == set(IMAGE_TYPES[:3])


def test_one_changed_caption_prompt_asks_the_pictures_of_that_type_only(world, tmp_path):
    context, engine, hashes = world
    given = types_of(hashes)
    caption_images.run(context(results=given), caption_images.Settings(engine=engine))
    mine = tmp_path / "mine.md"
    mine.write_text("Describe it in other words.")
    changed = caption_images.Settings(engine=engine, prompts={IMAGE_TYPES[1]: str(mine)})
    result = caption_images.run(context(results=given), changed)
    assert (result.computed, result.reused) == (4, 8)


def test_failed_pictures_are_told_and_asked_again_by_the_next_build(world, standin):
    context, engine, _hashes = world
    standin.statuses["image_url"] = [400]
    first = type_images.run(context(), type_images.Settings(engine=engine))
    assert first.failures.height == 1
    assert first.annotations.height == 11
    assert "status 400" in first.failures["reason"][0]
    assert any("1 images failed" in warning for warning in first.warnings)
    second = type_images.run(context(), type_images.Settings(engine=engine))
    assert (second.computed, second.reused, second.failures) == (1, 11, None)


def test_what_was_answered_before_the_endpoint_went_down_is_kept(world, standin):
    context, engine, _ = world
    from shared.vlm.failures import EndpointError

    one_by_one = engine.model_copy(update={"batch_size": 1})
    standin.on_request = lambda number: standin.statuses.update(image_url=[503] * 99) if number == 6 else None
    with pytest.raises(EndpointError, match="finished answers are kept"):
        type_images.run(context(), type_images.Settings(engine=one_by_one))
    standin.statuses.clear()
    assert type_images.run(context(), type_images.Settings(engine=engine)).reused == 5


def test_captions_without_types_say_what_the_recipe_lacks(world):
    context, engine, _ = world
    with pytest.raises(UsageError, match=r"type_images.*recipe"):
        caption_images.run(context(), caption_images.Settings(engine=engine))


def test_an_unknown_type_or_prompt_names_the_nearest(world):
    context, engine, hashes = world
    with pytest.raises(ValueError, match="Did you mean chart"):
        caption_images.Settings(engine=engine, prompts={"chrat": "caption_chart"})
    with pytest.raises(UsageError, match="Did you mean type_images"):
        type_images.run(context(), type_images.Settings(engine=engine, prompt="type_image"))
    wrong = caption_images.Settings(engine=engine, prompts={"chart": "nowhere.md"})
    with pytest.raises(UsageError, match="does not exist"):
        caption_images.run(context(results=types_of(hashes)), wrong)


def test_rows_without_pictures_ask_nothing(step_world, standin):
    engine = EngineSpec(model="standin", endpoint=standin.url)
    context = step_world.context([("r1", "q"), ("r2", "p")])
    result = type_images.run(context, type_images.Settings(engine=engine))
    assert result.annotations.columns == ["image_hash", "image_type"]
    assert (result.annotations.height, result.computed, result.reused) == (0, 0, 0)
    captions = caption_images.run(
        replace(context, results={"type_images": result}), caption_images.Settings(engine=engine)
    )
    assert captions.annotations.height == 0
    assert standin.requests == []


def test_a_picture_is_captioned_in_the_language_of_each_question_that_shows_it(world, standin):
    context, engine, hashes = world
    rows = context().rows.with_columns(
        question=pl.Series(["求图中阴影部分的面积。" if n < 4 else "Find the shaded area." for n in range(8)])
    )
    both = context(rows=rows, prompts="full", results=types_of(hashes))
    result = caption_images.run(both, caption_images.Settings(engine=engine))
    spoken = {n: {"zh"} if n < 4 else {"en"} for n in (0, 1, 2, 3, 8, 9, 10, 11)} | {
        n: {"zh", "en"} for n in range(4, 8)
    }
    pairs = [(hashes[n], language) for n, languages in spoken.items() for language in languages]
    assert result.annotations.select("image_hash", "language").rows() == sorted(pairs)
    assert result.computed == 16
    assert {prompt["name"] for prompt in result.record["prompts"]} == {
        f"caption_{name}{tail}" for name in IMAGE_TYPES[:3] for tail in ("", ".zh")
    }
    body = next(body for body in standin.requests if "写简洁的说明" in body["messages"][0]["content"])
    assert "请" in body["messages"][1]["content"][1]["text"]
    assert caption_images.run(both, caption_images.Settings(engine=engine)).computed == 0


def test_a_row_gets_the_caption_in_its_own_language():
    from data_engine.step import by_image

    two = {
        "image_hash": ["a", "a", "b"],
        "language": ["en", "zh", "en"],
        "caption": ["A circle.", "一个圆。", "A square."],
    }
    find = by_image(pl.DataFrame(two))
    assert find("a", "What is the radius?", [])["caption"] == "A circle."
    assert find("a", "求半径。", [])["caption"] == "一个圆。"
    assert find("c", "求半径。", []) is None


def test_cells_of_the_bundled_prompts_keep_their_keys(world):
    """The content key that was in force before prompt sets: engine, text, turn and sampling."""
    from shared.annotations import AnnotationTable
    from shared.fingerprint import bytes_hash, fingerprint
    from shared.prompts import prompt
    from shared.vlm.spec import Sampling

    context, engine, hashes = world
    type_images.run(context(), type_images.Settings(engine=engine))
    caption_images.run(context(results=types_of(hashes)), caption_images.Settings(engine=engine))
    held = [("type_images", "type_images", "user", Sampling(max_tokens=8, choice=IMAGE_TYPES), 12)]
    held += [("caption_images", f"caption_{name}", "system", Sampling(max_tokens=2048), 4) for name in IMAGE_TYPES[:3]]
    for step, name, form, sampling, cells in held:
        sha256 = bytes_hash(prompt(name).encode())
        asked = {"engine": engine_identity(engine), "prompt_sha256": sha256, "form": form, "sampling": sampling}
        assert len(AnnotationTable(context().store, step, fingerprint(asked)).missing(hashes)) == 12 - cells


def test_a_header_or_a_file_name_changes_no_cell_and_one_changed_file_asks_its_own_only(world, tmp_path):
    import shutil

    from shared.prompts import set_folder

    context, engine, hashes = world
    mine = tmp_path / "mine"
    shutil.copytree(set_folder("full"), mine)

    def asked():
        given = context(prompts=str(mine), results=types_of(hashes))
        captions = caption_images.run(given, caption_images.Settings(engine=engine)).computed
        return type_images.run(given, type_images.Settings(engine=engine)).computed, captions

    assert asked() == (12, 12)
    file = mine / f"caption_{IMAGE_TYPES[0]}.md"
    file.write_text(file.read_text().replace("date: 2026", "date: 2027"))
    assert asked() == (0, 0)
    file.write_text(file.read_text() + "Be brief.\n")
    assert asked() == (0, 4)
    (mine / f"caption_{IMAGE_TYPES[0]}.zh.md").write_text("简要说明。")
    assert asked() == (0, 0)
