"""Training of tiny-vl: the fast forward is exact, packing changes nothing, chats are the product's, runs resume."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from typer.testing import CliRunner

from shared.laptop import IMAGE_TYPES, draw, draw_family
from shared.laptop.training.architecture import build_config
from shared.laptop.training.batches import BatchMaker, Packer, augment, decode, fit, mark_array, smart_size
from shared.laptop.training.cli import app
from shared.laptop.training.evaluate import asks, boxed, facts_right, score
from shared.laptop.training.forward import hidden_states, image_tokens, tree_mask
from shared.laptop.training.lookalikes import lookalike
from shared.laptop.training.muon import orthogonalise
from shared.laptop.training.report import card_text, read_progress, table_text, write_curves
from shared.laptop.training.schedule import Schedule
from shared.laptop.training.train import Run, pair_loss
from shared.laptop.training.trees import Tree, TreeMaker
from shared.vlm.checkpoint import BUNDLED_FOLDER
from shared.vlm.conversation import embedding_prompt


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(BUNDLED_FOLDER)


@pytest.fixture(scope="module")
def trees(processor) -> TreeMaker:
    tokenizer = processor.tokenizer
    return TreeMaker(
        lambda text: tokenizer(text, add_special_tokens=False).input_ids,
        tokenizer.convert_tokens_to_ids("<|image_pad|>"),
    )


@pytest.fixture(scope="module")
def model(processor) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(1)
    return Qwen2_5_VLForConditionalGeneration(build_config(processor.tokenizer)).eval()


def _packed(trees: TreeMaker, made: list[Tree], pictures: list[np.ndarray]):
    packer = Packer(1, trees.image_token)
    for pixels in pictures:
        packer.picture(pixels, None)
    for tree in made:
        assert packer.add(tree)
    return packer.finish()


def _hidden(model, batch) -> torch.Tensor:
    features = [image_tokens(model, torch.from_numpy(pixels)).flatten(0, 1) for pixels in batch.pictures]
    with torch.no_grad():
        return hidden_states(
            model,
            torch.from_numpy(batch.tokens),
            torch.from_numpy(batch.positions),
            tree_mask(torch.from_numpy(batch.tree), torch.from_numpy(batch.branch)),
            features=torch.cat(features) if features else None,
            slots=torch.from_numpy(batch.slots),
        )


@pytest.mark.parametrize("size", [(112, 112), (84, 140), (140, 112), (56, 196)])
def test_the_training_forward_equals_transformers(model, processor, trees, size) -> None:
    problem = draw("fresh", 5)
    image = Image.open(io.BytesIO(problem.image_png)).convert("RGB").resize((size[1], size[0]))
    chat = replace(asks("picture", 1)[0], problem=problem, text=problem.question).conversation()
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    with torch.no_grad():
        reference = model(**inputs).logits[0]
    tree = trees.questions([problem], 0)
    tree.grid = (size[0] // 28, size[1] // 28)
    batch = _packed(trees, [tree], [np.asarray(image)])
    length = inputs["input_ids"].shape[1]
    assert batch.tokens[0, :length].tolist() == inputs["input_ids"][0].tolist()
    logits = model.lm_head(_hidden(model, batch))[0, :length]
    assert torch.allclose(logits, reference, atol=2e-5)


def test_branches_and_neighbours_do_not_change_a_tree(model, trees) -> None:
    family = draw_family("train", 4, 3)
    pixels = fit(decode(family[0].image_png))
    alone = _packed(trees, [trees.questions(family[2:], 0)], [pixels])
    packed = _packed(trees, [trees.questions(family, 0)], [pixels])
    first = _hidden(model, alone)[0]
    second = _hidden(model, packed)[0]
    own = alone.tree[0] > 0
    shared = (packed.tree[0] > 0) & np.isin(packed.branch[0], (0, 3))
    assert torch.allclose(first[own], second[shared], atol=2e-5)


def test_trees_are_token_for_token_the_chats_of_the_product(processor, trees) -> None:
    problem = draw("train", 8)

    def chat(task: str) -> str:
        ask = replace(asks(task, 1)[0], problem=problem)
        if task == "caption":
            from shared.prompts import prompt

            ask = replace(ask, system=prompt(f"caption_{problem.image_type}"))
        elif task == "picture":
            ask = replace(ask, text=problem.question)
        elif task == "picture+caption":
            ask = replace(ask, text=f"Caption: {problem.caption}\nQuestion: {problem.question}")
        return str(processor.apply_chat_template(ask.conversation(), add_generation_prompt=True))

    made = {
        "type": trees.typing(problem.image_type or "", 0),
        "caption": trees.caption(problem, 0),
        "picture": trees.questions([problem], 0),
        "picture+caption": trees.questions([problem], 0, caption=problem.caption),
    }
    for task, tree in made.items():
        asked = tree.prefix + tree.branches[0][0]
        assert asked == processor.tokenizer(chat(task)).input_ids, task
    pooled = trees.embedding(problem.question, 0, 0)
    expected = processor.tokenizer(embedding_prompt(problem.question, 1)).input_ids
    assert pooled.prefix + pooled.branches[0][0] == expected


def test_any_text_survives_the_tokenizer_and_digits_stay_single(processor) -> None:
    text = "数学 Ünïcode \\frac{12}{345} <think>😀</think>\n\\boxed{7}"
    tokenizer = processor.tokenizer
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.tokenize("12345") == list("12345")
    for word in IMAGE_TYPES:
        assert len(tokenizer(word).input_ids) <= 2


def test_large_pictures_are_brought_to_few_tokens(processor) -> None:
    for width, height in ((1000, 700), (3000, 3000), (300, 1800), (40, 30)):
        made = processor.image_processor(Image.new("RGB", (width, height)), return_tensors="pt")
        _, rows, columns = made["image_grid_thw"][0].tolist()
        assert rows * columns // 4 <= 20
        assert smart_size(height, width) == (rows * 14, columns * 14)


def test_a_batch_is_the_same_whenever_it_is_drawn(trees) -> None:
    first = BatchMaker(trees, 3, 7).training(41, Schedule().answer)
    second = BatchMaker(trees, 3, 7).training(41, Schedule().answer)
    assert np.array_equal(first.tokens, second.tokens)
    assert all(np.array_equal(a, b) for a, b in zip(first.pictures, second.pictures, strict=True))
    assert (first.tree > 0).mean() > 0.7


def test_weights_stand_before_response_tokens_only(trees, processor) -> None:
    family = draw_family("train", 21, 2)
    batch = _packed(trees, [trees.questions(family, 0)], [fit(decode(family[0].image_png))])
    learned = processor.tokenizer.decode(np.roll(batch.tokens[0], -1)[batch.weights[0] > 0])
    assert learned == "".join(f"{problem.response}<|im_end|>" for problem in family)


def test_embedding_batches_pair_copies_and_hold_equal_words_about_other_pictures(trees) -> None:
    batch = BatchMaker(trees, 6, 3).embedding(5, Schedule().answer)
    assert len(batch.pooled) == len(batch.texts_of_pairs) >= 8
    questions = [text.split("|")[1] for text in batch.texts_of_pairs]
    assert len(set(questions)) < len(questions)


def test_pair_loss_is_small_only_when_copies_are_near_and_others_apart() -> None:
    apart = torch.eye(6)[:, None].expand(6, 2, 6)
    same = torch.eye(6, dtype=torch.bool)
    good, near, far = pair_loss(apart.clone(), same)
    assert (near, far) == (1.0, 1.0)
    bad, _, far = pair_loss(torch.ones(6, 2, 6) / 6**0.5, same)
    assert far == 0.0
    assert bad > good + 1


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 40, 24), (2, 16, 64)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_marks_fall_into_the_patch_they_are_drawn_in() -> None:
    problem = draw("train", 2, kind="equation")
    marks = mark_array(problem, (112, 112))
    assert marks.shape[0] == 16
    assert 0 < marks.sum() <= len(problem.marks)


def test_near_copies_keep_the_picture() -> None:
    import random

    problem = draw("train", 9)
    pixels = decode(problem.image_png)
    for seed in range(12):
        copy = fit(augment(pixels, random.Random(seed)))
        assert copy.shape == (112, 112, 3)
        assert np.abs(copy.astype(int) - pixels.astype(int)).mean() < 60


@pytest.mark.parametrize("image_type", IMAGE_TYPES)
def test_lookalikes_are_pictures_of_any_shape(image_type: str) -> None:
    import random

    shapes = set()
    for seed in range(10):
        pixels = lookalike(image_type, random.Random(seed))
        shapes.add(fit(pixels).shape)
        assert len(np.unique(pixels)) > 1
    assert len(shapes) > 1


def test_learning_rates_warm_up_stay_and_fall() -> None:
    schedule = Schedule(steps=1000)
    assert schedule.rate(0) < schedule.rate(30) < schedule.rate(59) == 1.0
    assert schedule.rate(round(1000 * (1 - schedule.decay)) - 1) == 1.0
    assert 0.05 <= schedule.rate(999) < 0.06


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    schedule = Schedule(steps=4, rows=1, warmup=2, read_until=0.5, embed_every=3)
    whole = Run(tmp_path / "whole", schedule)
    whole.advance(save_every=1)
    parted = Run(tmp_path / "parted", replace(schedule, steps=2))
    parted.schedule = schedule
    for step in range(2):
        parted.one_step(step, parted.maker.training(step, schedule.mix(step)))
        parted.step = step + 1
    parted.save()
    resumed = Run(tmp_path / "parted", schedule)
    assert resumed.step == 2
    resumed.advance(save_every=1)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert read_progress(tmp_path / "whole")[-1]["step"] == 4


def test_scores_ask_for_form_and_content() -> None:
    picture = asks("picture", 1)[0]
    gold = picture.problem.answer
    assert score(picture, picture.problem.response) == 1
    assert score(picture, f"\\boxed{{{gold}}}") == 0
    assert score(picture, "<think>x</think>\n\\boxed{nothing}") == 0
    assert boxed("no box") is None
    caption = asks("caption", 1)[0]
    right, total = facts_right(caption, caption.problem.caption)
    assert right == total == len(caption.problem.facts)


def test_the_table_tells_every_task() -> None:
    row = {"mean": 0.5, "stderr": 0.1, "n": 25, "by_kind": {"bar": 0.5}, "facts": 0.7}
    assert "| caption | 0.500 (facts 0.700) | 0.100 | 25 | bar 0.50 |" in table_text({"caption": row})


def test_the_curves_of_a_run_are_one_picture_that_stands_alone(tmp_path: Path) -> None:
    lines = [{"step": step, "text": 5 / step, "glyph": 0.0} for step in range(1, 40)]
    (tmp_path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = write_curves(tmp_path).read_text()
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg" ')
    assert "<style>" in drawn
    assert ">text · 39 steps</text>" in drawn
    assert "glyph" not in drawn  # a loss of zero has no logarithm


def test_the_card_tells_recipe_curve_and_notes() -> None:
    records = [{"step": 20 * number, "caption": 1 / (number + 1)} for number in range(40)]
    card = card_text(6_000_000, records, {}, "## This run\nStopped once.")
    assert "6,000,000 weights" in card
    assert "Stopped once." in card
    assert "| 780 | 0.025 |" in card


def test_the_command_refuses_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--checkpoint", str(tmp_path)])
    assert result.exit_code == 1


def test_the_shipped_folder_is_whole_and_small() -> None:
    folder = BUNDLED_FOLDER
    weights = folder / "model.safetensors"
    assert weights.stat().st_size <= 20_000_000
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    for name in (
        "tokenizer.json",
        "processor_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "README.md",
    ):
        assert (folder / name).is_file(), name
