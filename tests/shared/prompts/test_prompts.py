"""Prompt sets: the bundled texts frozen, the full ones complete, headers never sent, fields replaced plainly."""

from __future__ import annotations

import re

import pytest

from shared.errors import UsageError
from shared.fingerprint import bytes_hash
from shared.language import language_of
from shared.prompts import SETS, load_prompt, prompt, prompt_names, render
from shared.schema import IMAGE_TYPES

OTHERS = {"type_images", "reason_system", "question", "question_with_caption"}

TRAINED = {
    "caption_aigc": "fb6dbaaa0073e9eebd225d091c8006b8f719223bb256281ad2b2e6441e835e0e",
    "caption_chart": "683e06b6b21f5f9a05dae6c280f38bc37ef2b15efd1719967918d5b7190f5123",
    "caption_equation": "d43a4f35d7f20d25ea9a2f113053f5b20e3b3d655a8400f6d718a49839cbb69d",
    "caption_gui": "ae9ad589014d0e4bf9ac7617c5f33cab7f167a73df3481541db3860393129aae",
    "caption_mathgeo": "6fc480f838684b17cfa769ebd766eb1bf1de1792a5928baa89d90ced77c62686",
    "caption_natural": "4ca49d6579296b1ea5fdd27d81f70afb61b56850e03754653a20198232d8ce14",
    "caption_ocr": "aa76964d6a7b9308890a28c772307c69496038f3542263fb5e4bff12a5eb214d",
    "caption_table": "31780904fbc6d277ba06ff4c4a136874f8b97cf721691fc477ef6c23c6e5168c",
    "question": "6ab836dd048ff99665d24fabd4de351c8a393a602bac07e5889bb10a29037e57",
    "question_with_caption": "79fa71590ce987e1d68d4915220542708d603c4a823c42ff347977071721a5c9",
    "reason_system": "34b3f05743d46de5332cdbcee8e5483d8e1e6e3ab9360108a232c38af10c1dbc",
    "type_images": "73f11bd85c195c99330d946b4b2718c13aa83aba965662b0992464dfc5ff3334",
}
"""sha256 of each text with its final newline, as tiny-vl was trained on it."""


def test_the_texts_that_tiny_vl_was_trained_on_are_unchanged() -> None:
    assert {name: bytes_hash(f"{prompt(name)}\n".encode()) for name in prompt_names()} == TRAINED


def test_both_sets_hold_every_prompt_of_the_product() -> None:
    captions = {f"caption_{name}" for name in IMAGE_TYPES}
    assert set(prompt_names("bundled")) == OTHERS | captions
    again = {"caption_again"}
    assert set(prompt_names("full")) == OTHERS | captions | again | {f"{name}.zh" for name in captions | again}


@pytest.mark.parametrize("prompts", SETS)
def test_each_file_opens_with_whom_it_is_for_its_source_and_its_date_and_none_of_it_is_sent(prompts: str) -> None:
    for name in prompt_names(prompts):
        file = load_prompt(name, prompts)
        assert set(file.about) == {"for", "source", "date"}, name
        assert ("tiny-vl" in file.about["for"]) == (prompts == "bundled"), name
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", file.about["date"]), name
        assert "<!--" not in file.text, name
        assert file.about["source"] not in file.text, name


@pytest.mark.parametrize("prompts", SETS)
def test_each_image_type_has_its_own_caption_prompt(prompts: str) -> None:
    assert len({prompt(f"caption_{name}", prompts) for name in IMAGE_TYPES}) == len(IMAGE_TYPES)


@pytest.mark.parametrize("prompts", SETS)
def test_the_typing_prompt_names_every_type(prompts: str) -> None:
    assert all(name in prompt("type_images", prompts) for name in IMAGE_TYPES)


def test_the_real_models_get_a_definition_of_each_type_and_a_system_prompt_beside_the_request() -> None:
    typing = load_prompt("type_images", "full")
    assert all(f"\n{name}: " in typing.system for name in IMAGE_TYPES)
    assert "one word" in typing.user
    for name in IMAGE_TYPES:
        for language in ("en", "zh"):
            caption = load_prompt(f"caption_{name}", "full", language)
            assert caption.system, caption.name
            assert caption.user, caption.name
            assert (language_of(caption.system), language_of(caption.user)) == (language, language), caption.name


def test_the_caption_prompt_is_the_one_in_the_questions_language_where_the_set_has_it() -> None:
    assert load_prompt("caption_chart", "full", "zh").name == "caption_chart.zh"
    assert load_prompt("caption_chart", "full", "en").name == "caption_chart"
    assert load_prompt("caption_chart", "bundled", "zh").name == "caption_chart"


def test_a_file_is_one_text_or_two_turns(tmp_path) -> None:
    (tmp_path / "one.md").write_text("Say it.\n")
    (tmp_path / "two.md").write_text("<!--\nfor: me\n-->\n\n[system]\nBe brief.\n\n[user]\nSay it.\n")
    one, two = load_prompt("one", str(tmp_path)), load_prompt("two", str(tmp_path))
    assert (one.turns("system"), one.turns("user")) == (("Say it.", ""), ("", "Say it."))
    assert two.turns("system") == two.turns("user") == ("Be brief.", "Say it.")
    assert two.about == {"for": "me"}
    (tmp_path / "two.md").write_text("<!--\nfor: another\n-->\n[system]\nBe brief.\n[user]\nSay it.\n")
    assert load_prompt("two", str(tmp_path)).sha256 == two.sha256


def test_braces_in_values_are_left_alone() -> None:
    assert render("question", question=r"What is $\frac{1}{2}$ of {caption}?") == r"What is $\frac{1}{2}$ of {caption}?"
    text = render("question_with_caption", caption="{question}", question="Q {caption}")
    assert text == "Caption: {question}\nQuestion: Q {caption}"


def test_wrong_names_sets_and_fields_are_told(tmp_path) -> None:
    with pytest.raises(UsageError, match="type_images"):
        prompt("type_image")
    with pytest.raises(UsageError, match="Did you mean full"):
        prompt("type_images", "ful")
    with pytest.raises(UsageError, match=r"caption_chart.*Copy"):
        prompt("caption_chart", str(tmp_path))
    with pytest.raises(UsageError, match="does not exist"):
        load_prompt("nowhere.md")
    with pytest.raises(UsageError, match="unknown prompt"):
        load_prompt("../bundled/question", "full")
    with pytest.raises(UsageError, match="colour"):
        render("question", question="x", colour="red")
