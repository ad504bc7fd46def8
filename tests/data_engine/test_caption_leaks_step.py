"""The step `caption_leaks`: what is noted, what leaves, what is asked again. A stand-in server writes the captions."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import polars as pl
import pytest

from data_engine.assemble import assemble
from data_engine.recipe import load_recipe
from data_engine.recipe_settings import AssembleSettings
from data_engine.step import StepResult
from data_engine.steps import caption_images, caption_leaks
from shared.errors import UsageError
from shared.vlm import EngineSpec


@pytest.fixture
def judged(step_world, standin):
    """Run captioning and this step over four rows, and assemble.

    The server says "42" unless it is asked again; then it says "42" of the first picture only.
    """
    pictures = step_world.Pictures()
    hashes = [pictures.add(step_world.drawing(seed)) for seed in range(4)]
    questions = ["How many?", "How many?", "There are 42. How many?", "Which?"]
    golds = ["42", "42", "42", "7"]
    rows = [(f"r{n}", questions[n], [], [hashes[n]], golds[n], None) for n in range(4)]
    shown = base64.b64encode(step_world.drawing(0)).decode()
    standin.answers = {shown: "It shows 42.", "thrown away": "It shows boxes.", "": "It shows 42."}
    engine = EngineSpec(model="standin", endpoint=standin.url, attempts=1)

    def run(**settings):
        captioning = caption_images.Settings(engine=engine)
        recipe = {"steps": {"caption_images": captioning.model_dump(mode="json")}}
        types = StepResult(pl.DataFrame({"image_hash": sorted(hashes), "image_type": ["chart"] * 4}))
        context = step_world.context(rows, pictures=pictures, results={"type_images": types}, recipe=recipe)
        context = replace(context, prompts="full")
        captions = caption_images.run(context, captioning)
        results = {**context.results, "caption_images": captions}
        result = caption_leaks.run(replace(context, results=results), caption_leaks.Settings(**settings))
        frame = context.rows.with_columns(
            source_id=pl.col("id"), image_types=pl.lit(None), captions=pl.lit(None), answer_kind=pl.lit("")
        )
        done = assemble(frame, {**results, "caption_leaks": result}, AssembleSettings(), {})
        return result, done, standin

    return run


def captions_of(done):
    return dict(done.rows.select("id", pl.col("captions").list.first()).iter_rows())


def test_what_gives_an_answer_away_stands_in_the_ledger_with_its_evidence_and_nothing_leaves(judged):
    result, done, _ = judged()
    assert result.annotations.filter(pl.col("leaks"))["id"].to_list() == ["r0", "r1"]
    assert done.rows.height == 4
    entry = done.ledger.filter(pl.col("id") == "r0").to_dicts()[0]
    assert (entry["step"], entry["rule"], entry["removed"]) == ("caption_leaks", "gives_answer_away", False)
    evidence = json.loads(entry["evidence"])
    assert (evidence["found"], evidence["gold"], evidence["span"]) == ("42", "42", "It shows 42.")
    assert any("2 of 4 captioned rows (50.0%)" in warning for warning in result.warnings)


def test_the_recipe_drops_the_rows_or_their_captions_alone(judged):
    _, rows_dropped, _ = judged(action="drop")
    assert rows_dropped.rows["id"].to_list() == ["r2", "r3"]
    assert dict(rows_dropped.removed) == {"caption_leaks": 2}
    _, captions_dropped, _ = judged(action="drop-caption")
    assert captions_of(captions_dropped) == {"r0": None, "r1": None, "r2": "It shows 42.", "r3": "It shows 42."}


def test_asked_again_a_caption_is_replaced_and_what_still_gives_it_away_is_treated_as_said(judged):
    result, done, server = judged(action="re-ask")
    assert captions_of(done) == {"r0": None, "r1": "It shows boxes.", "r2": "It shows 42.", "r3": "It shows 42."}
    assert done.ledger["id"].to_list() == ["r0"]
    assert {prompt["name"] for prompt in result.record["prompts"]} == {"caption_chart+caption_again"}
    assert any("asked again, 1 still do (captions dropped)" in warning for warning in result.warnings)
    asked = len(server.requests)
    again, _, _ = judged(action="re-ask")
    assert len(server.requests) == asked, "a second build asks nothing"
    assert again.annotations.equals(result.annotations)
    _, kept, _ = judged(action="re-ask", still="keep")
    assert captions_of(kept)["r0"] == "It shows 42."
    assert len(server.requests) == asked


def test_a_recipe_names_the_step_after_captions_only(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[source]\nreader = "virl39k"\nlocation = "mini"\n[steps.caption_leaks]\n')
    with pytest.raises(UsageError, match="caption_leaks needs captions"):
        load_recipe(str(file), "local")
    steps = dict(load_recipe("virl39k-captioned", "full").steps())
    assert steps["caption_leaks"].action == "keep"
    asked_again = ["prompts=bundled", "steps.caption_leaks.action=re-ask"]
    with pytest.raises(UsageError, match="caption_again, which the prompt set bundled lacks"):
        load_recipe("virl39k-captioned", "full", overrides=asked_again)
    with pytest.raises(UsageError, match="drop-caption"):
        load_recipe("virl39k-captioned", "full", overrides=["steps.caption_leaks.action=remove"])
