"""What the pinned libraries do on their own: the product is built on it, and an upgrade that changes it is told here.

None of this runs the product; each test says what of it would have to change.
"""

from __future__ import annotations

import io
import json
import logging

import pytest

from shared.answers import grade
from shared.vlm.checkpoint import BUNDLED_FOLDER


@pytest.fixture(scope="module")
def processor():
    return pytest.importorskip("transformers").AutoProcessor.from_pretrained(BUNDLED_FOLDER)


def grid(processor, picture, **options):
    text = "<|vision_start|><|image_pad|><|vision_end|>"
    return processor(text=[text], images=[picture], **options)["image_grid_thw"][0].tolist()


def test_transformers_turns_no_picture_so_ours_are_turned_before(processor):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter
    buffer = io.BytesIO()
    Image.new("RGB", (140, 28), "red").save(buffer, "JPEG", exif=exif)
    with Image.open(buffer) as turned:
        _, rows, columns = grid(processor, turned)
    assert columns > rows


def test_transformers_puts_no_transparency_on_white_so_ours_are_put_there_before(processor):
    from PIL import Image

    clear = Image.new("RGBA", (112, 112), (0, 0, 0, 0))
    read = processor.image_processor(images=[clear], return_tensors="pt")["pixel_values"]
    black = processor.image_processor(images=[Image.new("RGB", (112, 112))], return_tensors="pt")["pixel_values"]
    assert read.equal(black)


def test_transformers_ignores_max_pixels_alone_so_both_bounds_are_always_given(processor):
    from PIL import Image

    picture = Image.new("RGB", (112, 112))
    usual = grid(processor, picture)
    assert grid(processor, picture, max_pixels=56 * 56) == usual
    assert grid(processor, picture, min_pixels=28 * 28, max_pixels=56 * 56) == [1, 4, 4]


@pytest.mark.slow
def test_vllm_refuses_temperatures_above_2_and_raises_those_below_a_hundredth():
    parameters = pytest.importorskip("vllm.sampling_params").SamplingParams
    assert [parameters(temperature=value).temperature for value in (0, 0.005, 0.01, 2)] == [0, 0.01, 0.01, 2]
    refused = pytest.importorskip("vllm.exceptions").VLLMValidationError
    with pytest.raises(refused, match="temperature"):
        parameters(temperature=2.5)


@pytest.mark.slow
def test_openrlhf_skips_an_unreadable_picture_and_adds_no_placeholder(processor, tmp_path, caplog):
    # So every picture is decoded before a run starts, and prompts are written with their placeholders.
    from PIL import Image

    vlm = pytest.importorskip("openrlhf.utils.vlm_utils")
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (112, 112)).save(good)
    bad.write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        assert len(vlm.load_images([str(good), str(bad)])) == 1
    assert "Failed to load image" in caplog.text
    marked = "<|vision_start|><|image_pad|><|vision_end|>How many?"
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert vlm.process_prompt_with_images(processor, marked, [str(good)])[0].count(pad) == 16
    assert vlm.process_prompt_with_images(processor, "How many?", [str(good)])[0].count(pad) == 0


@pytest.mark.slow
def test_a_placeholder_without_a_picture_ends_openrlhf_so_no_row_may_hold_one(processor, tmp_path):
    from PIL import Image

    vlm = pytest.importorskip("openrlhf.utils.vlm_utils")
    Image.new("RGB", (112, 112)).save(tmp_path / "one.png")
    twice = "<|vision_start|><|image_pad|><|vision_end|>" * 2
    with pytest.raises((StopIteration, RuntimeError, ValueError, IndexError)):
        vlm.process_prompt_with_images(processor, twice, [str(tmp_path / "one.png")])


@pytest.mark.slow
def test_zero_2_saves_a_tied_output_layer_so_a_checkpoint_may_have_one_more_tensor(tmp_path):
    # What OpenRLHF's save_model does below stage 3; trainer.checkpoint allows for it.
    transformers = pytest.importorskip("transformers")
    clone = pytest.importorskip("deepspeed.checkpoint.utils").clone_tensors_for_torch_save
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Qwen2Config(
        **sizes, num_key_value_heads=2, vocab_size=32, max_position_embeddings=32, tie_word_embeddings=True
    )
    model = transformers.Qwen2ForCausalLM(config)
    model.save_pretrained(tmp_path, state_dict=clone(model.state_dict()))
    with (tmp_path / "model.safetensors").open("rb") as file:
        names = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert "lm_head.weight" in names
    assert "model.embed_tokens.weight" in names


def test_math_verify_tells_three_percent_from_three_hundredths():
    # Its antlr 4.11 parser drops the sign (that of 4.13 divides); the grader settles percentages before it asks.
    math_verify = pytest.importorskip("math_verify")
    gold, said = math_verify.parse("$0.03$"), math_verify.parse("$3\\%$")
    assert said[0] == 3
    assert not math_verify.verify(gold, said)
    assert grade("0.03", "3\\%").correct
