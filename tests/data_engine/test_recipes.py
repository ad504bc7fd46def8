from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_engine import recipe as recipes
from data_engine.expected_time import ASSUMED, MODEL_STEPS
from data_engine.inputs import Inputs, open_inputs
from data_engine.manifest_draft import unpinned
from data_engine.recipe import load_recipe, recipe_names, without_places
from data_engine.recipe_settings import AssembleSettings
from data_engine.step_order import STEP_ORDER, step_module
from shared.benchmarks import minis, published_names
from shared.config import PROFILES
from shared.errors import InfiMmrError, UsageError
from shared.fingerprint import canonical_json
from shared.prompts import load_prompt, set_folder
from shared.schema import IMAGE_TYPES

FOLDER = Path(recipes.__file__).parent / "recipes"


def test_the_recipes_are_those_of_the_design():
    assert recipe_names() == sorted(
        ["virl39k", "virl39k-captioned", "deepscaler", "reasoning-traces", *published_names()]
    )


def names_in(profile):
    """A benchmark without a mini set has its recipe in profile full alone."""
    apart = set(published_names()) - set(minis()) if profile == "local" else set()
    return [name for name in recipe_names() if name not in apart]


@pytest.mark.parametrize(("name", "profile"), [(name, profile) for profile in PROFILES for name in names_in(profile)])
def test_every_shipped_recipe_loads_in_both_profiles(name, profile):
    recipe = load_recipe(name, profile)
    assert recipe.name == name
    assert (recipe.source.location == "mini") == (profile == "local")
    for step, settings in recipe.steps():
        if hasattr(settings, "engine"):
            assert (settings.engine.model == "tiny-vl") == (profile == "local"), step
    if name not in published_names():
        assert set(recipe.benchmarks) == {one for one in published_names() if profile == "full" or one in minis()}
    canonical_json(recipe.as_json())


def test_captioned_runs_all_steps_in_order_and_the_plain_one_leaves_captions_out():
    def steps(name, profile="full"):
        return [step for step, _ in load_recipe(name, profile).steps()]

    on = [name for name in STEP_ORDER if name != "rate_difficulty"]  # off until somebody names the policy to ask
    assert steps("virl39k-captioned") == on
    assert steps("virl39k") == [name for name in on if not name.startswith("caption_")]
    # a caption of the mini world says all that is drawn: the version of profile local keeps its bytes
    assert steps("virl39k-captioned", "local") == [name for name in on if name != "caption_leaks"]


def test_a_registered_step_has_what_build_plan_and_kept_findings_ask_of_it():
    for place, name in enumerate(STEP_ORDER):
        module = step_module(name)
        assert ("engine" in module.Settings.model_fields) == (name in MODEL_STEPS), f"{name}: MODEL_STEPS"
        assert name not in MODEL_STEPS or hasattr(module, "run_blocks"), f"{name} asks a model: run_blocks"
        assert hasattr(module, "run_blocks") != getattr(module, "BY_BLOCK", False), f"{name}: rows come in blocks"
        assert name not in MODEL_STEPS or not hasattr(module, "READS"), f"{name}: answers are cells, not kept findings"
        assert set(getattr(module, "READS", ())) <= {"benchmarks", *STEP_ORDER[:place]}, f"{name}: READS"
        looks = "context.results" in Path(module.__file__).read_text("utf-8")
        assert not (looks and getattr(module, "BY_BLOCK", False)), f"{name} reads earlier findings: run_blocks"
    for profile in PROFILES:
        assert set(ASSUMED[profile]) == {*MODEL_STEPS, "start"}
    contracts = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (apart,) = (one["modules"] for one in contracts if one["name"] == "Judging steps never import each other")
    assert sorted(apart) == sorted(f"data_engine.steps.{name}" for name in STEP_ORDER)


def test_the_papers_threshold_and_models_are_the_defaults_of_full():
    recipe = load_recipe("virl39k-captioned", "full")
    steps = dict(recipe.steps())
    assert recipe.assemble.cosine_threshold == 0.95
    assert steps["decontaminate_ngrams"].n == 32
    assert steps["type_images"].engine.model == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert steps["caption_images"].engine.model == "U4R/OmniCaptioner"
    assert steps["decontaminate_embeddings"].engine.model == "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct"
    assert steps["decontaminate_embeddings"].engine.pooling == "gme"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.stem)
def test_a_shipped_recipe_is_commented(file):
    text = file.read_text()
    tomllib.loads(text)
    assert text.startswith("#")
    assert text.count("#") >= 5


def test_no_recipe_asks_a_real_model_with_tiny_vls_prompts_or_the_other_way_round():
    for profile, prompts in (("full", "full"), ("local", "bundled")):
        for name in names_in(profile):
            recipe = load_recipe(name, profile)
            assert recipe.prompts == prompts, (name, profile)
            steps = dict(recipe.steps())
            named = [steps["type_images"].prompt] if "type_images" in steps else []
            if "caption_images" in steps:
                named += [steps["caption_images"].prompt_of(kind) for kind in IMAGE_TYPES]
            for prompt in named:
                assert (set_folder(prompts) / f"{prompt}.md").is_file(), (name, profile, prompt)
                assert load_prompt(prompt, recipe.prompts).file.parent == set_folder(prompts), (name, profile, prompt)


def test_the_command_line_overrides_the_profile(tmp_path):
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


def test_a_file_or_folder_of_rows_in_place_of_a_recipe_is_told_how_to_become_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("question,answer\n1+1?,2\n")
    (tmp_path / "virl39k").mkdir()  # a recipe's name is a recipe, whatever lies here
    for words in ("rows.csv", str(tmp_path)):
        with pytest.raises(UsageError, match=f"{words} is no recipe.*data-engine inspect {words} --recipe"):
            load_recipe(words, "local")
    assert load_recipe("virl39k", "local").name == "virl39k"


def test_a_key_without_its_table_is_answered_with_the_table(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text('[source]\nreader = "table"\nlocation = "rows.csv"\n')
    with pytest.raises(UsageError, match=r"unknown key columns\. Did you mean source\.columns\?"):
        load_recipe(str(file), "local", overrides=["columns.answer=label"])


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


def test_paths_of_a_recipe_lead_from_its_own_folder(tmp_path, monkeypatch):
    (tmp_path / "team" / "rows").mkdir(parents=True)
    (tmp_path / "team" / "look.md").write_text("Look.")
    (tmp_path / "here" / "rows").mkdir(parents=True)
    text = '[source]\nreader = "virl39k"\nlocation = "rows"\n[steps.type_images]\nprompt = "look.md"\n'
    text += '[steps.type_images.engine]\nmodel = "tiny-vl"\n[profile.local.source]\nlimit = 3\n'
    (tmp_path / "team" / "own.toml").write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe("../team/own.toml", "local")
    assert Path(recipe.source.location).resolve() == tmp_path / "team" / "rows"
    assert Path(recipe.chosen.type_images.prompt).resolve() == tmp_path / "team" / "look.md"
    assert recipe.chosen.type_images.engine.model == "tiny-vl"
    assert load_recipe("../team/own.toml", "local", source="rows").source.location == "rows", "said here, meant here"


def test_a_name_that_no_version_could_have_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "My Recipe.toml").write_text('[source]\nreader = "virl39k"\nlocation = "mini"\n')
    with pytest.raises(UsageError, match="not a dataset name"):
        load_recipe(str(tmp_path / "My Recipe.toml"), "local")
    assert load_recipe(str(tmp_path / "My Recipe.toml"), "local", name="mine").name == "mine"


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


COMMIT = re.compile(r"[0-9a-f]{40}")
NOT_PINNED = {"U4R/OmniCaptioner"}
"""Whose commit no source states that a comment could name; everything else of the shipped recipes is pinned."""


def pins(recipe):
    """(hub id, revision) of everything that a recipe reads from the hub."""
    yield recipe.source.location, recipe.source.revision
    for benchmark in recipe.benchmarks.values():
        yield benchmark.location, benchmark.revision
    for _, step in recipe.steps():
        if hasattr(step, "engine"):
            yield step.engine.model, step.engine.revision


def test_shipped_recipes_read_the_hub_at_commits_and_agree_on_them():
    found = {}
    for name in recipe_names():
        for place, revision in pins(load_recipe(name, "full")):
            found.setdefault(place, set()).add(revision)
    assert {place for place, revisions in found.items() if revisions & {"main", None}} == NOT_PINNED
    for place in found.keys() - NOT_PINNED:
        (revision,) = found[place]
        assert COMMIT.fullmatch(revision), place


def test_another_place_or_model_on_the_command_line_does_not_keep_the_recipes_commit():
    words = ["steps.type_images.engine.model=org/other", "benchmarks.math500.location=org/items"]
    recipe = load_recipe("virl39k", "full", source="org/rows", overrides=words)
    assert recipe.source.revision == "main"
    assert recipe.benchmarks["math500"].revision == "main"
    assert dict(recipe.steps())["type_images"].engine.revision == "main"
    pinned = load_recipe("virl39k", "full", overrides=[*words[:1], "steps.type_images.engine.revision=v1"])
    assert dict(pinned.steps())["type_images"].engine.revision == "v1"
    assert dict(load_recipe("virl39k", "local").steps())["type_images"].engine.revision is None


def test_what_may_move_is_said_with_the_commit_that_was_read_and_how_to_pin_it(tmp_path, monkeypatch):
    rows = tmp_path / "rows.json"
    rows.write_text('[{"problem": "1+1?", "answer": "2"}]')
    inputs = open_inputs(load_recipe("deepscaler", "local", source=str(rows)))
    assert unpinned(inputs) == [], "a folder and a bundled model do not move"
    moving = load_recipe("deepscaler", "local", source="org/rows", overrides=[f"{ENGINE}.model=org/model"])
    source = SimpleNamespace(revision="b" * 40)
    monkeypatch.setattr("data_engine.manifest_draft.fetched_commit", lambda _: "c" * 40)
    said = unpinned(Inputs(moving, source, {}))
    assert [line.split(" is not pinned")[0] for line in said] == ["source", ENGINE]
    assert f"commit {'b' * 40} (pin it with --set source.revision={'b' * 40})" in said[0]
    assert f"--set {ENGINE}.revision={'c' * 40}" in said[1]
    served = load_recipe(
        "deepscaler", "local", overrides=[f"{ENGINE}.model=org/model", f"{ENGINE}.endpoint=http://h/v1"]
    )
    assert unpinned(Inputs(served, inputs.source, {})) == []


def test_a_new_steps_threshold_changes_the_identity_of_recipes_with_the_step_alone(monkeypatch):
    def thresholds(name):
        return open_inputs(load_recipe(name, "local")).identity()["assemble"]

    every, few = thresholds("virl39k"), thresholds("math500")
    assert set(few) == set(AssembleSettings.model_fields), "what 0.1.0 knew is part of every recipe's identity"
    monkeypatch.setattr("data_engine.inputs.THRESHOLD_OF", {"jaccard_threshold": "dedup_minhash"})
    assert thresholds("virl39k") == every
    assert thresholds("math500") == {key: few[key] for key in few if key != "jaccard_threshold"}


ENGINE = "steps.decontaminate_embeddings.engine"
HARDWARE_AND_PLACES = [
    f"{ENGINE}.batch_size=7",
    f"{ENGINE}.concurrency=3",
    f"{ENGINE}.timeout_seconds=9",
    f"{ENGINE}.attempts=2",
    f"{ENGINE}.tensor_parallel_size=2",
    f"{ENGINE}.gpu_memory_utilization=0.5",
    f"{ENGINE}.api_key_env=OTHER_KEY",
    "steps.decontaminate_embeddings.backend=numpy",
    "steps.type_images.engine.batch_size=1",
]
IDENTITY = [
    f"{ENGINE}.dtype=bfloat16",
    f"{ENGINE}.max_pixels=12600",
    f"{ENGINE}.min_pixels=784",
    f"{ENGINE}.max_model_len=512",
    f"{ENGINE}.pooling=gme",
    f"{ENGINE}.model=org/other",
    "steps.type_images.prompt=caption_chart",
    "steps.type_images.max_tokens=4",
    "steps.caption_images.sampling.temperature=0.2",
    "steps.caption_images.prompts.chart=caption_table",
    "assemble.cosine_threshold=0.9",
]


def key_of(*overrides):
    return open_inputs(load_recipe("virl39k-captioned", "local", overrides=overrides)).build_key()


@pytest.mark.parametrize("change", HARDWARE_AND_PLACES)
def test_places_and_hardware_change_no_builds_key(change):
    assert key_of(change) == key_of()


@pytest.mark.parametrize("change", IDENTITY)
def test_what_is_asked_of_which_model_changes_the_builds_key(change):
    assert key_of(change) != key_of()


def test_another_address_of_the_same_model_is_the_same_build():
    model = f"{ENGINE}.model=org/model"
    assert key_of(model, f"{ENGINE}.endpoint=http://one/v1") == key_of(model, f"{ENGINE}.endpoint=http://two/v1")


def test_reference_vectors_count_by_content(tmp_path):
    here, there = tmp_path / "here.safetensors", tmp_path / "there" / "again.safetensors"
    there.parent.mkdir()
    here.write_bytes(b"vectors")
    there.write_bytes(b"vectors")
    key = "steps.decontaminate_embeddings.reference"
    assert key_of(f"{key}={here}") == key_of(f"{key}={there}") != key_of()
    there.write_bytes(b"others!")
    assert key_of(f"{key}={here}") != key_of(f"{key}={there}")
    with pytest.raises(InfiMmrError, match="cannot be read"):
        key_of(f"{key}={tmp_path / 'absent.safetensors'}")


def test_benchmarks_are_named_in_a_profile_and_on_the_command_line_as_at_the_top(tmp_path):
    plain = (FOLDER / "deepscaler.toml").read_text().replace('benchmarks = "all"', 'benchmarks = ["olympiadbench"]')
    (tmp_path / "own.toml").write_text(plain + '\n[profile.full]\nbenchmarks = ["math500"]\n')

    def named(profile, *overrides):
        return set(load_recipe(str(tmp_path / "own.toml"), profile, overrides=overrides).benchmarks)

    assert named("full") == {"math500"}
    assert named("full", "benchmarks=all") == set(published_names())
    assert named("full", 'benchmarks=["mathvista"]') == {"mathvista"}
    assert named("full", "benchmarks.mine.location=items.jsonl") == {"math500", "mine"}


def test_a_recipe_of_ones_own_names_the_benchmarks_that_it_is_compared_with(tmp_path):
    def named(benchmarks, profile="full"):
        text = (FOLDER / "deepscaler.toml").read_text().replace('benchmarks = "all"', f"benchmarks = {benchmarks}")
        (tmp_path / "own.toml").write_text(text)
        return load_recipe(str(tmp_path / "own.toml"), profile, benchmarks=["mine=items.jsonl"]).benchmarks

    assert set(named('"all"')) == {*published_names(), "mine"}
    assert set(named('["math500"]')) == {"math500", "mine"}
    assert named('"mathvista"')["mathvista"].location == "AI4Math/MathVista"
    assert named('"mathvista"', "local")["mathvista"].location == "mini"
    with pytest.raises(UsageError, match="no benchmark 'mathvist'") as error:
        named('["mathvist"]')
    assert "mathvista" in error.value.next_step


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("profile = 3", "profile must hold tables"),
        ('profile = "local"', "profile must hold tables"),
        ("profile = [1]", "profile must hold tables"),
        ("steps = 3", "steps = 3"),
        ("[steps.own]\npath = 3", "step own: path = '3' is no Python file"),
        ("[steps.own]\npath = '.'", "is no Python file"),
    ],
)
def test_a_value_where_tables_or_a_file_belong_is_refused_in_one_line(tmp_path, lines, said):
    steps = "" if lines.startswith("steps") else "[steps.verify_answers]\n"
    source = '[source]\nreader = "table"\nlocation = "rows.jsonl"\n'
    (tmp_path / "odd.toml").write_text(f"{lines}\n{source}{steps}")
    with pytest.raises(UsageError, match=re.escape(said)):
        load_recipe(str(tmp_path / "odd.toml"), "local")


def test_set_switches_a_step_off_and_the_recipe_is_then_the_one_without_it(tmp_path):
    lines = '[source]\nreader = "table"\nlocation = "rows.jsonl"\n[steps.verify_answers]\n'
    (tmp_path / "rows.jsonl").write_text('{"question": "What is 2 + 2 here?", "answer": "4"}\n')
    (tmp_path / "without.toml").write_text(lines)
    with_it, without = tmp_path / "with.toml", str(tmp_path / "without.toml")
    with_it.write_text(f"{lines}[steps.dedup_minhash]\n[profile.local.steps.type_images]\n")
    off = ("steps.dedup_minhash=false", "steps.type_images=false")
    recipe = load_recipe(str(with_it), "local", name="rows", overrides=off)
    plain = load_recipe(without, "local", name="rows")
    assert set(recipe.off) == {"dedup_minhash", "type_images"}
    assert plain.off == ()
    assert recipe.as_json() == plain.as_json()
    assert open_inputs(recipe).build_key() == open_inputs(plain).build_key()
    # the last word counts, and what needs the step says so
    again = load_recipe(str(with_it), "local", overrides=(*off, "steps.dedup_minhash.threshold=0.7"))
    assert again.chosen.dedup_minhash.threshold == 0.7
    with pytest.raises(UsageError, match="caption_images needs the types"):
        load_recipe("virl39k-captioned", "local", overrides=("steps.type_images=false",))
    with pytest.raises(UsageError) as told:
        load_recipe(without, "local", overrides=("steps.dedpu_minhash=false",))
    assert "Did you mean steps.dedup_minhash?" in told.value.next_step


def test_set_switches_one_of_several_sources_off(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text('{"question": "What is 2 + 2 here?", "answer": "4"}\n')
    part = '[sources.{0}]\nreader = "table"\nlocation = "{0}.jsonl"\n'
    (tmp_path / "both.toml").write_text(part.format("a") + part.format("b"))
    (tmp_path / "one.toml").write_text(part.format("a"))
    both, one = (
        load_recipe(str(tmp_path / f"{name}.toml"), "local", name="rows", limit=1, overrides=off)
        for name, off in (("both", ["sources.b=false"]), ("one", []))
    )
    assert both.off == ("b",)
    assert open_inputs(both).build_key() == open_inputs(one).build_key()
    with pytest.raises(UsageError, match="has no source"):
        load_recipe(str(tmp_path / "one.toml"), "local", overrides=["sources.a=false"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("source.location=", "source.location = ''"),
        ("source.limit=true", "source.limit = True: true and false are no numbers"),
        (f"source.limit={10**30}", "no number here is so large"),
        ("source.limit=3\n[steps.type_images]", "source.limit = '3"),
        ("splits.train=true", "true and false are no numbers"),
        ("source.files=a.jsonl", "source.files = 'a.jsonl': Input should be a list"),
        ("source.columns.answer=5", "source.columns.answer = 5:"),
        ("steps.dedup_minhash=true", "Input should be a table"),
    ],
)
def test_a_value_that_only_looks_right_is_refused_by_its_key(tmp_path, change, said):
    file = tmp_path / "mine.toml"
    file.write_text('[source]\nreader = "table"\nlocation = "rows.jsonl"\n[steps.dedup_minhash]\n')
    with pytest.raises(UsageError) as told:
        load_recipe(str(file), "local", overrides=(change,))
    assert said in told.value.message
