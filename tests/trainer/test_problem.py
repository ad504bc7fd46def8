"""Samples of a problem share its pictures, and are what OpenRLHF's own executor makes of it, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from trainer.openrlhf_bridge import cpu_compat
from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.private_ray import LOOPBACK
from trainer.openrlhf_bridge.problem import placeholder_ranges
from trainer.openrlhf_bridge.records import FOLDER

ROOT = Path(__file__).parents[2]


def test_places_of_pictures_in_a_prompt_are_found_even_side_by_side():
    assert placeholder_ranges([5, 1, 1, 1, 6, 1, 1, 7], 1, [3, 2]) == [(1, 3), (5, 2)]
    assert placeholder_ranges([1, 1, 1, 1], 1, [2, 2]) == [(0, 2), (2, 2)]
    assert placeholder_ranges([5, 6], 1, []) == []


@pytest.mark.parametrize("lengths", [[3], [1], [1, 1, 1], []])
def test_a_prompt_that_does_not_hold_its_pictures_tokens_is_refused(lengths):
    with pytest.raises(ValueError, match=r"image|not in list"):
        placeholder_ranges([1, 1, 5, 6], 1, lengths)


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `same_rollouts.py` found: OpenRLHF's executor and ours on one engine with tiny-vl."""
    folder = tmp_path_factory.mktemp("rollouts")
    environment = {**os.environ, **cpu_compat.environment(), "HF_HUB_OFFLINE": "1"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])
    environment[SETTINGS] = AgentSettings().to_json()
    environment[FOLDER] = str(folder / "parts")
    program = Path(__file__).with_name("same_rollouts.py")
    ran = subprocess.run(
        [sys.executable, str(program), str(ROOT / "shared" / "laptop" / "assets" / "tiny-vl"), str(folder)],
        env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(json.loads(ran.stdout.split("RESULT")[1].splitlines()[0]))


@pytest.mark.slow
def test_texts_log_probabilities_and_tensors_are_those_of_openrlhfs_executor_greedy_and_with_a_seed(rollouts):
    assert rollouts["differing"] == []


@pytest.mark.slow
def test_pictures_of_a_problem_are_processed_once_for_eight_samples_and_for_the_engine(rollouts):
    assert rollouts["processed"] == 1
    assert rollouts["tensors"] == 1  # one object for all
    assert rollouts["texts"] > 1  # the samples themselves differ


@pytest.mark.slow
def test_nothing_of_a_problem_is_kept_when_its_samples_have_ended(rollouts):
    assert rollouts["left behind"] == 0


@pytest.mark.slow
def test_two_problems_with_the_same_pictures_get_the_same_greedy_answer_also_after_the_cache_was_emptied(rollouts):
    assert rollouts["greedy texts"] == 1


@pytest.mark.slow
def test_pictures_that_the_engine_lost_under_way_are_sent_again(rollouts):
    same, reason = rollouts["after a miss"]
    assert same
    assert reason in {"stop", "length"}


@pytest.mark.slow
def test_the_engine_is_given_what_its_own_renderer_makes_of_a_problem(rollouts):
    assert rollouts["engine"] == dict.fromkeys(("tokens", "places", "fields", "tensors"), True)


@pytest.mark.slow
def test_an_unreadable_picture_fails_as_it_does_in_openrlhf(rollouts):
    for name in ("torn", "missing"):
        theirs, ours = rollouts["failures"][name]
        assert ours == theirs
    assert "its images cannot be cut" in rollouts["failures"]["too long"][0]


@pytest.mark.slow
def test_pixels_in_the_policys_own_numbers_change_none_of_its_logits():
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    checkpoint = str(ROOT / "shared" / "laptop" / "assets" / "tiny-vl")
    processor = AutoProcessor.from_pretrained(checkpoint)
    picture = Image.effect_noise((112, 112), 80).convert("RGB")
    text = "<|vision_start|><|image_pad|><|vision_end|>How many?"
    asked = processor(text=[text], images=[picture], return_tensors="pt")
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.bfloat16)
    with torch.no_grad():
        whole = model(**asked).logits
        rounded = model(**{**asked, "pixel_values": asked["pixel_values"].to(torch.bfloat16)}).logits
    assert asked["pixel_values"].dtype == torch.float32
    assert torch.equal(whole, rounded)


@pytest.mark.slow
def test_a_process_that_only_passes_pictures_on_never_touches_them_and_nothing_is_left_of_them(tmp_path):
    environment = {**os.environ, **cpu_compat.environment(), **LOOPBACK, "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1", "RAY_ADDRESS": ""}
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # Ray's sockets need a short path
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("shared_pictures_on_ray.py")), folder],
            env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.split("RESULT")[1].splitlines()[0])
    grids = [[1, 2, 3]] * 4
    assert told["trained"] == [[True, grids], [True, grids]]  # read twice, as in two passes of a step
    assert told["touched"] == 0
    assert 6_000_000 <= told["held"] < 7_000_000  # once, not once per sample
    assert told["left"] == 0
