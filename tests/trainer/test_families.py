"""What differs between families of vision-language models comes from the checkpoint's own files.

Miniatures of each family (tests/miniatures.py) against transformers' own classes; flows: tests/flows/test_families.py.
"""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from shared.errors import InfiMmrError
from shared.vlm.chat_template import PromptRenderer, opened_thinking, token_numbers
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer import preflight
from trainer.checkpoint import check_same_weights
from trainer.families import NOT_TRAINED, TRAINED, check_linear_attention
from trainer.openrlhf_bridge.problem import final_parameters, normalised
from trainer.openrlhf_bridge.reward_entry import judge
from trainer.phase import load_phase
from trainer.rewards import RewardWeights

families = pytest.mark.parametrize("family", TRAINED)
CONVERSATION = [
    {"role": "system", "content": "Think."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]},
]
UNSEEN = "no phase of this project has been run with it"
SIZES = ((20, 30), (112, 112), (70, 400), (300, 200), (1000, 90))
"""(height, width): below the least, above the most, wide and high."""


def processor_of(folder):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@families
def test_a_family_is_taken_by_phases_of_text_and_of_pictures(family, miniature):
    for name in ("fra", "cmra", "mre"):
        preflight.check_architecture(miniature(family), load_phase(name, "local"))


@families
def test_a_plan_is_made_of_the_familys_own_sizes(family, miniature, mini_store):
    from trainer.picture_memory import picture_memory
    from trainer.plan import make_plan

    phase = load_phase("mre", "local", [f"model.start={json.dumps(str(miniature(family)))}"])
    plan = make_plan(phase, store=mini_store)
    assert plan["weights"] == preflight.count_weights(miniature(family))
    memory, other = (
        picture_memory(phase, 1, "float32", None, folder) for folder in (miniature(family), BUNDLED_FOLDER)
    )
    side = {"qwen2_vl": 28, "qwen2_5_vl": 28, "qwen3_vl": 32, "qwen3_5": 32}[family]
    assert memory["step"] == pytest.approx(other["step"] * side**2 / 28**2, rel=0.02)
    assert memory["actor"] == pytest.approx(memory["step"] * (1.25 if side == 28 else 2), rel=0.02)


def test_another_model_than_the_default_one_is_not_asked_for_at_its_commit():
    assert load_phase("mre", "full").model.revision
    asked = 'model.start="Qwen/Qwen3-VL-4B-Instruct"'
    assert not load_phase("mre", "full", [asked]).model.revision
    assert load_phase("mre", "full", [asked, 'model.revision="abc"']).model.revision == "abc"


@families
def test_the_prompt_is_what_the_familys_own_chat_template_makes_of_it(family, miniature):
    theirs = processor_of(miniature(family)).apply_chat_template(
        CONVERSATION, add_generation_prompt=True, tokenize=False
    )
    assert PromptRenderer(miniature(family)).text(CONVERSATION) == theirs


@families
def test_a_picture_counts_as_many_tokens_as_the_familys_processor_makes_of_it(family, miniature):
    from PIL import Image

    processor, renderer = processor_of(miniature(family)), PromptRenderer(miniature(family))
    text = renderer.text(CONVERSATION)
    for height, width in SIZES:
        made = processor(text=[text], images=[Image.new("RGB", (width, height))], return_tensors="pt")
        assert renderer.tokens(text, [(height, width)]) == made["input_ids"].shape[1], (height, width)
        pictures = int((made["input_ids"] == config_of(miniature(family))["image_token_id"]).sum())
        assert renderer.picture_tokens((height, width)) == pictures
        assert made["pixel_values"].numel() == pictures * token_numbers(renderer.processor)


@families
def test_pixels_for_the_policy_are_those_of_the_familys_processor_to_the_last_bit(family, miniature):
    import torch
    from PIL import Image

    processor = processor_of(miniature(family))
    picture = Image.effect_noise((120, 90), 80).convert("RGB")
    asked = {"text": [PromptRenderer(miniature(family)).text(CONVERSATION)], "images": [picture]}
    raw = processor(**asked, do_rescale=False, do_normalize=False, return_tensors="pt")
    made = normalised(raw, processor.image_processor)["pixel_values"]
    assert torch.equal(made, processor(**asked, return_tensors="pt")["pixel_values"])


@families
def test_pixels_in_the_policys_own_numbers_change_none_of_its_logits(family, miniature):
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText

    picture = Image.effect_noise((120, 90), 80).convert("RGB")
    text = PromptRenderer(miniature(family)).text(CONVERSATION)
    asked = dict(processor_of(miniature(family))(text=[text], images=[picture], return_tensors="pt"))
    model = AutoModelForImageTextToText.from_pretrained(miniature(family), dtype=torch.bfloat16)
    with torch.no_grad():
        whole = model(**asked).logits
        rounded = model(**{**asked, "pixel_values": asked["pixel_values"].to(torch.bfloat16)}).logits
        blank = model(**{**asked, "pixel_values": torch.zeros_like(asked["pixel_values"])}).logits
    assert torch.equal(whole, rounded)
    assert not torch.equal(whole, blank)  # the picture is looked at


@families
def test_tokens_that_can_never_be_sampled_are_the_checkpoints_own(family, miniature):
    config = config_of(miniature(family))
    parameters = SimpleNamespace(logprobs=None, logit_bias=None, max_tokens=8)
    final = final_parameters(parameters, processor_of(miniature(family)), 100)
    assert sorted(final.logit_bias) == sorted([config["image_token_id"], config["video_token_id"]])


@families
def test_published_weights_are_loaded_by_name_and_as_many_are_saved_tied_or_not(family, miniature, tmp_path):
    from transformers import AutoModelForImageTextToText

    model, loading = AutoModelForImageTextToText.from_pretrained(miniature(family), output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["mismatched_keys"]
    tied = config_of(miniature(family))["tie_word_embeddings"]
    embedded = model.get_input_embeddings().weight
    assert (model.get_output_embeddings().weight.data_ptr() == embedded.data_ptr()) == tied
    model.save_pretrained(tmp_path / "saved")
    check_same_weights(tmp_path / "saved", miniature(family))
    with pytest.raises(InfiMmrError, match="OpenRLHF saved"):
        check_same_weights(BUNDLED_FOLDER, miniature(family))


@pytest.mark.parametrize(("model_type", "reason"), [*NOT_TRAINED.items(), ("qwen3_5_moe", UNSEEN), ("llava", UNSEEN)])
def test_a_family_that_the_pinned_libraries_do_not_train_together_is_refused_with_the_reason(
    model_type, reason, tmp_path
):
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "checkpoint")
    (folder / "config.json").write_text(json.dumps({**config_of(folder), "model_type": model_type}))
    for name in ("mre", "fra"):
        with pytest.raises(InfiMmrError) as refused:
            preflight.check_architecture(folder, load_phase(name, "local"))
        assert refused.value.message == f"checkpoint checkpoint is a {model_type} model, which is not trained: {reason}"
        assert "Qwen3.5" in refused.value.next_step


def test_a_text_model_is_refused_for_a_phase_with_pictures_in_one_line(tmp_path):
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "qwen3")
    text = {**config_of(folder)["text_config"], "model_type": "qwen3"}
    (folder / "config.json").write_text(json.dumps(text))
    preflight.check_architecture(folder, load_phase("fra", "local"))
    with pytest.raises(InfiMmrError, match="qwen3 model, which reads text alone, but phase mre asks about images"):
        preflight.check_architecture(folder, load_phase("mre", "local"))


def test_linear_attention_in_float32_on_a_cpu_is_refused_before_anything_starts(miniature):
    from shared.vlm.engine import VllmEngine
    from shared.vlm.spec import EngineSpec

    config = config_of(miniature("qwen3_5"))
    with pytest.raises(InfiMmrError, match=r"in bfloat16 alone, but this run is in float32\. Allow bfloat16"):
        check_linear_attention("mini", config, "cpu", "float32")
    check_linear_attention("mini", config, "cpu", "bfloat16")
    check_linear_attention("mini", config, "cuda", "float32")
    check_linear_attention("mini", config_of(miniature("qwen3_vl")), "cpu", "float32")
    with pytest.raises(InfiMmrError, match="linear attention"):
        VllmEngine(EngineSpec(model=str(miniature("qwen3_5")), dtype="float32"))


def test_without_a_stated_number_type_linear_attention_keeps_the_checkpoints_own_on_a_slow_processor(
    miniature, monkeypatch
):
    from shared.vlm import surroundings

    monkeypatch.setattr(surroundings, "has_bfloat16_units", lambda: False)
    monkeypatch.setattr(surroundings, "cuda_seen", lambda: False)
    assert surroundings.number_type("auto", config_of(miniature("qwen3_5"))) == "auto"
    assert surroundings.number_type("auto", config_of(miniature("qwen3_vl"))) == "float32"
    assert surroundings.number_type("float32", config_of(miniature("qwen3_5"))) == "float32"


def test_picture_tokens_of_a_processor_of_another_arithmetic_are_said_to_be_unknown(tmp_path):
    from shared.vlm.chat_template import Sent, with_template

    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "other")
    (folder / "processor_config.json").unlink()
    processor = {"patch_size": 16, "pooling_kernel_size": 3, "max_soft_tokens": 280}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    asked = Sent("caption_images", "other", "", "", [{"sha256": "", "width": 40, "height": 30}])
    other = with_template(asked, lambda renderer: renderer.text(CONVERSATION), PromptRenderer(folder))
    assert other.text
    assert other.tokens is None
    assert other.note == "How many tokens other makes of an image is not known here."
    known = with_template(asked, lambda renderer: renderer.text(CONVERSATION), PromptRenderer(BUNDLED_FOLDER))
    assert known.images[0]["tokens"]
    assert not known.note


def test_thinking_that_a_chat_template_opens_is_part_of_the_answer(miniature):
    prompt = PromptRenderer(miniature("qwen3_5")).text(CONVERSATION)
    label = json.dumps({"id": "1", "gold": "4", "kind": "integer"})
    said = "2 and 2</think>\\boxed{4}"
    assert judge(opened_thinking(prompt) + said, label, RewardWeights()).rewards == pytest.approx(1.0)
    assert judge(said, label, RewardWeights()).rewards == 0.0
    for family in TRAINED:
        if family != "qwen3_5":
            assert not opened_thinking(PromptRenderer(miniature(family)).text(CONVERSATION))
    assert not opened_thinking("<think>of it</think>\n")
