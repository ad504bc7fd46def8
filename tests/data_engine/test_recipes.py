from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from data_engine import recipe as recipes
from data_engine.inputs import open_inputs
from data_engine.recipe import STEP_ORDER, load_recipe, recipe_names, without_places
from data_engine.sources.benchmarks import BENCHMARKS
from shared.config import PROFILES
from shared.errors import UsageError
from shared.fingerprint import canonical_json

FOLDER = Path(recipes.__file__).parent / "recipes"


def test_the_recipes_are_those_of_the_design():
    assert recipe_names() == sorted(["virl39k", "virl39k-captioned", "deepscaler", *BENCHMARKS])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_in_both_profiles(name, profile):
    recipe = load_recipe(name, profile)
    assert recipe.name == name
    assert (recipe.source.location == "mini") == (profile == "local")
    for step, settings in recipe.steps():
        if hasattr(settings, "engine"):
            assert (settings.engine.model == "tiny-vl") == (profile == "local"), step
    if name not in BENCHMARKS:
        assert set(recipe.benchmarks) == set(BENCHMARKS)
    canonical_json(recipe.as_json())


def test_captioned_runs_all_six_steps_in_order_and_the_plain_one_leaves_captions_out():
    names = [name for name, _ in load_recipe("virl39k-captioned", "full").steps()]
    assert names == list(STEP_ORDER)
    plain = [name for name, _ in load_recipe("virl39k", "full").steps()]
    assert plain == [name for name in STEP_ORDER if name != "caption_images"]


def test_the_papers_threshold_and_models_are_the_defaults_of_full():
    recipe = load_recipe("virl39k-captioned", "full")
    steps = dict(recipe.steps())
    assert recipe.assemble.cosine_threshold == 0.95
    assert steps["decontaminate_ngrams"].n == 32
    assert steps["type_images"].engine.model == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert steps["caption_images"].engine.model == "U4R/OmniCaptioner"
    assert steps["decontaminate_embeddings"].engine.model == "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct"
    assert steps["decontaminate_embeddings"].engine.pooling == "gme"


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_commented(name):
    text = (FOLDER / f"{name}.toml").read_text()
    tomllib.loads(text)
    assert text.startswith("#")
    assert text.count("#") >= 5


def test_the_command_line_overrules_the_profile(tmp_path):
    recipe = load_recipe(
        "virl39k",
        "local",
        source=str(tmp_path),
        limit=7,
        benchmarks=["math500=some/where", "mine=./mine.jsonl"],
        overrides=["assemble.cosine_threshold=0.9", "steps.decontaminate_ngrams.n=13"],
    )
    assert (recipe.source.location, recipe.source.limit) == (str(tmp_path), 7)
    assert recipe.benchmarks["math500"].location == "some/where"
    assert recipe.benchmarks["mine"].location == "./mine.jsonl"
    assert recipe.benchmarks["mathvista"].location == "mini"
    assert recipe.assemble.cosine_threshold == 0.9
    assert dict(recipe.steps())["decontaminate_ngrams"].n == 13


@pytest.mark.parametrize(
    ("words", "options", "expected"),
    [
        ("virl39k-captoned", {}, "Did you mean virl39k-captioned?"),
        ("./none.toml", {}, "does not exist"),
        ("virl39k", {"overrides": ["assemble.cosine_treshold=1"]}, "Did you mean assemble.cosine_threshold?"),
        ("virl39k", {"overrides": ["steps.type_image.prompt=x"]}, "Did you mean steps.type_images?"),
        ("virl39k", {"overrides": ["shards.row_group_megabytes=400"]}, "less than or equal to 280"),
        ("virl39k", {"benchmarks": ["math500"]}, "is not NAME=PLACE"),
        ("virl39k", {"benchmarks": ["math5000=mini"]}, "Did you mean math500?"),
    ],
)
def test_wrong_words_are_answered_with_the_nearest(words, options, expected):
    with pytest.raises(UsageError) as caught:
        load_recipe(words, "local", **options)
    assert expected in str(caught.value)


def test_captions_without_types_are_refused(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(
        '[source]\nreader = "virl39k"\nlocation = "mini"\n[steps.caption_images.engine]\nmodel = "tiny-vl"\n'
    )
    with pytest.raises(UsageError, match="needs the types"):
        load_recipe(str(file), "local")


def test_a_users_own_recipe_is_named_after_its_file(tmp_path):
    file = tmp_path / "our-set.toml"
    file.write_text('[source]\nreader = "deepscaler"\nlocation = "mini"\n')
    recipe = load_recipe(str(file), "local")
    assert (recipe.name, recipe.steps()) == ("our-set", [])


def test_identity_names_no_path_of_this_machine(tmp_path):
    rows = tmp_path / "deep" / "rows.json"
    rows.parent.mkdir()
    rows.write_text('[{"problem": "1+1?", "answer": "2"}]')
    prompt = tmp_path / "own.md"
    prompt.write_text("Which type?")
    recipe = load_recipe("deepscaler", "local", source=str(rows))
    identity = canonical_json(open_inputs(recipe).identity())
    assert str(tmp_path) not in identity
    assert "rows.json" in identity
    typed = load_recipe("virl39k", "local", overrides=[f"steps.type_images.prompt={prompt}"])
    first = open_inputs(typed).identity()
    assert str(tmp_path) not in canonical_json(first)
    prompt.write_text("Another question")
    assert open_inputs(typed).identity() != first


def test_models_count_by_content_and_not_by_place():
    steps = dict(load_recipe("virl39k", "local").steps())
    values = without_places(steps["type_images"])
    assert values["engine"]["checkpoint"].startswith("sha256:")
    assert "model" not in values["engine"]
