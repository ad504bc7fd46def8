"""Profile `full` from its commits on the hub to a trained and evaluated checkpoint, with everything but the weights.

A stand-in on loopback serves the datasets in their published layouts, and checkpoints of the published forms under the
real models' names, with tiny-vl's weights (`tests/hub_layouts.py`). Rows are real ones where they lie beside the
checkout, else drawn: no line of the full path is first run on a cluster. What a CPU cannot do, or what would take it
hours, is overridden by `--set`, each with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from data_engine.recipe import load_recipe
from shared.benchmarks import PAPER
from shared.dataset_version import open_dataset
from shared.hub_download import is_commit
from shared.schema import IMAGE_TYPES
from tests import hub_layouts as layouts
from tests import hub_stand_in as stand_in
from trainer.phase_settings import ModelSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
REAL_DATA = ROOT.parent / "shared" / "data"


BUILD = [
    "steps.caption_images.sampling.max_tokens=32",  # weights of no size do not end by themselves, but after 2,048
    "steps.decontaminate_embeddings.planted_duplicates=1",  # each is a pass through the embedder, alone on a CPU
]
PHASE = [
    "cluster.nodes=1",  # 16 GPUs
    "cluster.gpus_per_node=1",
    "rollout.batch_size=4",  # a step has 4,096 rollouts of up to 2,048 tokens
    "rollout.samples_per_prompt=2",
    "rollout.max_new_tokens=16",
    "train.batch_size=8",  # an update has 256 rollouts
    "train.max_steps=1",  # an epoch has 152
]
POLICY, REVISION = ModelSettings().start, ModelSettings().revision


def recipes():
    """The recipes whose versions the paper's phases and evaluations open."""
    return {name: load_recipe(name, "full").as_json() for name in ("virl39k-captioned", "deepscaler", *PAPER)}


def fill(hub, real):
    """Put every repository there that a recipe or a phase of profile `full` names, at the commits that they name."""
    files = layouts.datasets(real)
    for recipe in recipes().values():
        for place in (recipe["source"], *recipe.get("benchmarks", {}).values()):
            commit = place["revision"] if is_commit(place["revision"]) else ""
            hub.place(place["location"], layouts.with_card(files[place["location"]]), "dataset", commit)
    steps = recipes()["virl39k-captioned"]["steps"]
    for model, commit, made in (
        (POLICY, REVISION, layouts.qwen25(tied=True)),
        *((engine["model"], engine["revision"] or "", made) for engine, made in (
            (steps["type_images"]["engine"], layouts.qwen25(tied=False)),
            (steps["caption_images"]["engine"], layouts.qwen2(tied=False)),
            # Remote code is in the repository, and neither fetched nor run.
            (steps["decontaminate_embeddings"]["engine"], {**layouts.qwen2(tied=True), "modeling_gme.py": b"raise"}),
        )),
    ):  # fmt: skip
        hub.place(model, layouts.with_card(made), "model", commit)


class Rehearsal:
    """Commands against one hub, with one store."""

    def __init__(self, hub, folder):
        self.hub, self.folder, self.store = hub, folder, folder / "store"
        self.environment = stand_in.environment(hub.url, folder / "home")

    def command(self, program, *words):
        """One command with `--json`; gives its object."""
        words = [sys.executable, "-m", f"{program}.cli", *map(str, words), "--store", str(self.store), "--json"]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env=self.environment, cwd=self.folder, timeout=1500
        )
        assert done.returncode == 0, (words, done.stderr[-3000:])
        return json.loads(done.stdout)

    def build(self, recipe, *settings):
        told = [word for setting in settings for word in ("--set", setting)]
        return self.command("data_engine", "build", recipe, "--profile", "full", *told)


@pytest.fixture(scope="module", params=["real rows" if REAL_DATA.is_dir() else "drawn rows"])
def rehearsal(request, tmp_path_factory):
    """The whole flow; what has pictures to type and caption, and what has not, is built side by side."""
    with stand_in.serving() as hub:
        fill(hub, REAL_DATA if request.param == "real rows" else None)
        run = Rehearsal(hub, tmp_path_factory.mktemp("rehearsal"))

        def without_pictures():
            run.build("deepscaler", *BUILD[1:])
            for name in PAPER:
                run.build(name)

        with ThreadPoolExecutor(1) as beside:
            others = beside.submit(without_pictures)
            run.built = run.build("virl39k-captioned", *BUILD)
            others.result()
        told = [word for setting in PHASE for word in ("--set", setting)]
        phase = ("--name", "cmra", "--profile", "full", *told)
        run.planned = run.command("trainer", "plan", *phase)
        run.shown = run.command("trainer", "prompts", *phase)
        run.trained = run.command("trainer", "phase", *phase, "--output", run.folder / "run")
        # As in the phase: the 32,768 tokens that an evaluation allows want a larger cache than a CPU's engine is given.
        short = ("--max-tokens", 16, "--max-model-len", 6144)
        run.evaluated = run.command("trainer", "evaluate", "--checkpoint", run.trained["checkpoint"], *short)
        base = ("--checkpoint", POLICY, "--revision", REVISION, "--benchmarks", "mathvista", "--limit", 1)
        run.base = run.command("trainer", "evaluate", *base, *short, "--output", run.folder / "base")
        yield run


def test_every_dataset_is_built_from_the_commits_that_its_recipe_names(rehearsal):
    for name, recipe in recipes().items():
        version = open_dataset(name, rehearsal.store)
        assert version.manifest.profile == "full"
        rows = version.scan().collect()
        assert set(rows["source_location"]) == {recipe["source"]["location"]}
        assert set(rows["source_revision"]) == {recipe["source"]["revision"]}
        assert version.verify(images=True).ok
    assert rehearsal.hub.unknown == []


def test_nothing_is_fetched_that_no_reader_needs_and_no_code_of_a_repository(rehearsal):
    fetched = [line.split("?")[0].rpartition("/")[2] for line in rehearsal.hub.asked if line.startswith("GET /cdn/")]
    assert "39Krelease.parquet" in fetched
    assert not {"testmini_text_only.parquet", "test-00000-of-00002-6b81bd7f7e2065e6.parquet"} & set(fetched)
    assert not any("testmini-00000-of-00001-f8ff70fcb2f29b1d" in name for name in fetched)
    assert not any(".py" in line for line in rehearsal.hub.asked)


def test_pictures_are_typed_and_captioned_and_copies_of_benchmark_items_are_found(rehearsal):
    rows = open_dataset("virl39k-captioned", rehearsal.store).scan().collect()
    pictured = rows.filter(pl.col("image_hashes").list.len() > 0)
    assert 8 <= pictured.height < rows.height, "some rows have no picture"
    assert set(pictured["image_types"].explode()) <= set(IMAGE_TYPES)
    assert all(pictured["captions"].explode())
    for name, copy in (("virl39k-captioned", "mathvision"), ("deepscaler", "math500")):
        removed = open_dataset(name, rehearsal.store).ledger().filter(pl.col("removed"))
        found = removed.filter(pl.col("step").str.starts_with("decontaminate"))
        assert copy in set(found["benchmark"]), removed.select("step", "rule", "benchmark")


def test_the_phase_trains_the_policy_of_the_hub_and_keeps_its_files(rehearsal):
    run = rehearsal.folder / "run"
    assert rehearsal.planned["counts"]["steps"] == 1
    (shown,) = rehearsal.shown["prompts"]
    assert (shown["model"], shown["prompts"]) == (POLICY, "full")
    assert shown["text"].endswith("<|im_start|>assistant\n"), "the checkpoint's own chat template is at hand"
    record = json.loads((run / "run.json").read_text())
    revision = REVISION
    assert record["parent"]["location"] == f"{POLICY}@{revision}"
    assert (record["dataset"]["profile"], record["attempts"][-1]["outcome"]) == ("full", "finished")
    published = rehearsal.hub.at(POLICY, revision)[1]
    for name in ("tokenizer.json", "preprocessor_config.json", "chat_template.json", "generation_config.json"):
        assert (run / "checkpoint" / name).read_bytes() == published[name]
    config, before = (
        json.loads(text) for text in ((run / "checkpoint" / "config.json").read_text(), published["config.json"])
    )
    assert {**config, "torch_dtype": ""} == {**before, "torch_dtype": ""}
    assert pl.read_parquet(run / "rollouts" / "step-000001.parquet").height == 8


def test_the_trained_checkpoint_and_the_policy_by_its_name_are_evaluated(rehearsal):
    found = rehearsal.evaluated["benchmarks"]
    items = {name: open_dataset(name, rehearsal.store).manifest.rows for name in PAPER}
    assert {name: found[name]["n"] for name in PAPER} == items
    assert rehearsal.base["benchmarks"]["mathvista"]["n"] == 1
