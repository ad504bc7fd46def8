"""The prompt set of a phase: real models get the full texts, tiny-vl its own, and a folder anybody's."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from shared.answers import ANSWER_KINDS
from shared.errors import UsageError
from shared.prompts import prompt, set_folder
from shared.vlm.checkpoint import BUNDLED_FOLDER, foreign_prompts, prompt_set_for
from trainer.phase import load_phase, phase_names
from trainer.plan import make_plan
from trainer.prompts import messages
from trainer.rewards import reward

FORMS = {
    r"\boxed{B}": {"gold": "B", "kind": "choice", "choices": ["1", "2", "3"]},
    r"\boxed{A, C}": {"gold": "AC", "kind": "choice", "choices": ["1", "2", "3"]},
    r"\boxed{\frac{3}{4}}": {"gold": "3/4", "kind": "fraction"},
    r"\boxed{2\sqrt{3}}": {"gold": r"2\sqrt{3}", "kind": "expression"},
    r"\boxed{-1, 3}": {"gold": "-1, 3", "kind": "set"},
    r"\boxed{12 \text{ cm}^2}": {"gold": "12 cm^2", "kind": "integer"},
    r"\boxed{x^2 - 1}": {"gold": "x^2-1", "kind": "expression"},
    r"\boxed{[0, 2)}": {"gold": "[0,2)", "kind": "interval"},
    r"\boxed{yes}": {"gold": "Yes", "kind": "text"},
}


def test_no_phase_asks_a_real_model_with_tiny_vls_prompts_or_the_other_way_round():
    for name in phase_names():
        for profile, prompts in (("full", "full"), ("local", "bundled")):
            phase = load_phase(name, profile)
            assert phase.prompts == prompts, (name, profile)
            for named in (phase.prompt.system, phase.prompt.question):
                assert (set_folder(phase.prompts) / f"{named}.md").is_file(), (name, profile, named)


def test_every_form_of_answer_that_the_policy_is_asked_for_earns_the_whole_reward():
    boxes = re.findall(r"\\boxed\{(?:[^{}]|\{[^{}]*\})+\}", prompt("reason_system", "full"))
    assert boxes == list(FORMS)
    for box, label in FORMS.items():
        assert label["kind"] in ANSWER_KINDS
        assert reward(f"<think>So it is.</think>\nThe answer is {box}.", label).total == 1, box


def test_a_phase_asks_with_a_folder_of_ones_own(tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(set_folder("full"), mine)
    (mine / "reason_system.md").write_text("Think aloud.\n")
    phase = load_phase("mre", "local", [f"prompts={json.dumps(str(mine))}"])
    system, user = messages(phase.prompt, "<image>What?", 1, prompts=phase.prompts)
    assert system["content"] == "Think aloud."
    assert user["content"][1]["text"] == "What?"


def test_a_set_without_the_phases_prompt_is_told_before_anything_starts(tmp_path):
    with pytest.raises(UsageError, match="reason_system"):
        load_phase("mre", "full", [f"prompts={json.dumps(str(tmp_path))}"])
    with pytest.raises(UsageError, match="full"):
        load_phase("mre", "full", ["prompts=ful"])


def test_a_problem_without_pictures_is_asked_without_an_empty_place_for_its_caption():
    for profile in ("full", "local"):
        phase = load_phase("cmra", profile)
        assert messages(phase.prompt, "What is 2 + 2?", 0, prompts=phase.prompts)[-1]["content"] == "What is 2 + 2?"


def test_tiny_vl_and_what_was_trained_from_it_are_known_by_their_tokenizer(tmp_path):
    assert prompt_set_for("tiny-vl") == "bundled"
    assert prompt_set_for("Qwen/Qwen2.5-VL-3B-Instruct") == "full"
    shutil.copy(BUNDLED_FOLDER / "tokenizer.json", tmp_path / "tokenizer.json")
    assert prompt_set_for(str(tmp_path)) == "bundled"
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    assert prompt_set_for(str(tmp_path)) == "full"


def test_a_model_that_is_asked_with_the_prompts_of_others_is_told(tmp_path):
    assert foreign_prompts("bundled", "tiny-vl") == foreign_prompts("full", "Qwen/Qwen2.5-VL-7B-Instruct") == ""
    assert "prompts = 'full' is its own" in foreign_prompts("bundled", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert "prompts = 'bundled' is its own" in foreign_prompts("full", "tiny-vl")
    assert foreign_prompts(str(tmp_path), "tiny-vl") == ""
    plan = make_plan(load_phase("fra", "full", ["prompts=bundled"]), rows=1000)
    assert any("prompt set bundled" in warning for warning in plan["warnings"])
