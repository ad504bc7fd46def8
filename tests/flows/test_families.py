"""Each family of vision-language models drives a real phase and an evaluation on the CPU, by the commands.

Checkpoints are random-weight miniatures (tests/miniatures.py) with the files that the family publishes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.families import TRAINED, UNLOADED
from trainer.openrlhf_bridge import cpu_compat
from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.records import FOLDER

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]
PHASE = [
    "train.max_steps=3",
    "rollout.max_new_tokens=32",
    "rollout.max_length=1024",
    # Large, and with a decay that moves every weight though all rewards are equal: weights that did not reach vLLM
    # would show at once.
    "train.learning_rate=5e-3",
    "train.weight_decay=20.0",
    "train.warmup_ratio=0.0",
    "train.rollout_correction=token",
    "train.dtype=bfloat16",
]


def ran(*words, timeout=1500):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=TRAINED)
def trained(request, miniature, mini_store, phase_command, tmp_path_factory):
    """(family, its miniature, run folder) after three steps of phase mre."""
    output = tmp_path_factory.mktemp(request.param) / "run"
    more = ("--from", miniature(request.param), "--json")
    result = ran(*phase_command("mre", output, mini_store, *more, settings=PHASE)[2:])
    assert result["steps"] == 3
    return request.param, miniature(request.param), output


def test_a_phase_trains_it_and_pushed_weights_are_those_that_sample(trained):
    _, _, output = trained
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["rollouts"] for line in lines] == [16, 16, 16]
    # vllm_kl compares vLLM's log-probabilities with the policy's; kl the policy's with those before the phase.
    drift, moved = max(abs(line["vllm_kl"]) for line in lines), lines[-1]["kl"]
    assert moved > 5 * drift, (moved, drift)


def test_its_checkpoint_has_the_familys_files_and_is_evaluated(trained, mini_store, tmp_path):
    import polars as pl
    from safetensors import safe_open

    family, parent, output = trained
    checkpoint = output / "checkpoint"
    own = {file.name for file in parent.iterdir()}
    for name in own - {"model.safetensors"}:
        assert (checkpoint / name).read_bytes() == (parent / name).read_bytes(), name
    left = {"lm_head.weight"}  # OpenRLHF saves a tied one, too
    names = [set(safe_open(folder / "model.safetensors", "pt").keys()) - left for folder in (checkpoint, parent)]
    assert names[0] == {name for name in names[1] if not name.startswith(UNLOADED)}
    words = ["--benchmarks", "mathverse", "--limit", "4", "--store", mini_store, "--output", tmp_path, "--json"]
    words += ["--dtype", "bfloat16", "--max-tokens", "16", "--max-model-len", "1024", "--prompts", "bundled"]
    result = ran("trainer.cli", "evaluate", "--checkpoint", checkpoint, *words)["benchmarks"]["mathverse"]
    assert result["n"] == 4
    rows = pl.read_parquet(tmp_path / "outputs.parquet")
    assert rows["tokens"].min() > 0
    opened = family == "qwen3_5"  # by its chat template, within the prompt
    assert rows["output"].str.starts_with("<think>").to_list() == [opened] * 4


@pytest.mark.parametrize("family", TRAINED)
def test_its_rollouts_and_tensors_are_those_of_openrlhfs_executor_and_vllms_renderer(family, miniature, tmp_path):
    dtype = "bfloat16" if family == "qwen3_5" else "float32"
    environment = {**os.environ, **cpu_compat.environment(), "HF_HUB_OFFLINE": "1"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])
    environment[SETTINGS] = AgentSettings().to_json()
    environment[FOLDER] = str(tmp_path / "parts")
    program = ROOT / "tests" / "trainer" / "same_rollouts.py"
    done = subprocess.run(
        [sys.executable, str(program), str(miniature(family)), str(tmp_path), dtype],
        env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("RESULT")[1].splitlines()[0])
    assert found["differing"] == []
    assert found["engine"] == dict.fromkeys(("tokens", "places", "fields", "tensors"), True)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_5"])
def test_it_types_and_captions_pictures_within_the_recipes_pixels(family, miniature, tmp_path):
    import polars as pl

    from shared.schema import IMAGE_TYPES

    settings = [
        f"steps.{step}.engine.{key}" for step in ("type_images", "caption_images") for key in ("model", "dtype")
    ]
    values = [str(miniature(family)), "bfloat16"] * 2
    settings = [f"{name}={value}" for name, value in zip(settings, values, strict=True)]
    settings += ["steps.caption_images.sampling.max_tokens=16", "steps.caption_images.engine.max_pixels=6000"]
    words = [word for setting in settings for word in ("--set", setting)]
    result = ran(
        "data_engine.cli", "build", "virl39k-captioned", "--profile", "local", "--limit", "8", "--store", tmp_path,
        "--json", *words,
    )  # fmt: skip
    assert result["rows"] == 8
    rows = pl.read_parquet(next(Path(result["path"]).rglob("*.parquet")))
    types = {name for names in rows["image_types"].to_list() for name in names}
    assert types
    assert types <= set(IMAGE_TYPES)
    captions = [text or "" for texts in rows["captions"].to_list() for text in texts]
    # 16 tokens are not enough to end the thinking that the template opens: nothing is said yet.
    assert any(captions) == (family != "qwen3_5")
    assert not any("think>" in text for text in captions)
