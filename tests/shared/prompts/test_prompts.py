"""Prompt files: all there, each caption prompt its own, fields replaced plainly."""

from __future__ import annotations

import pytest

from shared.mini_world import IMAGE_TYPES
from shared.prompts import prompt, prompt_names, render


def test_all_prompts_of_the_product_are_there() -> None:
    expected = {"type_images", "reason_system", "question", "question_with_caption"}
    assert set(prompt_names()) == expected | {f"caption_{name}" for name in IMAGE_TYPES}


def test_each_image_type_has_its_own_caption_prompt() -> None:
    assert len({prompt(f"caption_{name}") for name in IMAGE_TYPES}) == len(IMAGE_TYPES)


def test_the_typing_prompt_names_every_type() -> None:
    assert all(name in prompt("type_images") for name in IMAGE_TYPES)


def test_braces_in_values_are_left_alone() -> None:
    assert render("question", question=r"What is $\frac{1}{2}$ of {caption}?") == r"What is $\frac{1}{2}$ of {caption}?"
    text = render("question_with_caption", caption="{question}", question="Q {caption}")
    assert text == "Caption: {question}\nQuestion: Q {caption}"


def test_wrong_names_and_fields_are_told() -> None:
    with pytest.raises(KeyError, match="type_images"):
        prompt("type_image")
    with pytest.raises(KeyError, match="colour"):
        render("question", question="x", colour="red")
