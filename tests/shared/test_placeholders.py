"""Tokens of a model inside the words of a row."""

from __future__ import annotations

import pytest

from shared.image_tags import PICTURE_MARK
from shared.laptop import CHECKPOINT
from shared.placeholders import harmless, harmless_question, model_tokens

TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|image_pad|>", "<|video_pad|>")
TOKENS += ("<|vision_end|>", "<|object_ref_start|>", "<|fim_prefix|>", "<|eot_id|>", "<|begin_of_text|>")


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_of_the_model_is_found_and_made_harmless(token: str) -> None:
    """Whatever stands around it."""
    text = f"What is{token}5 + 2?"
    assert model_tokens(text) == [token]
    assert model_tokens(harmless(text)) == []
    assert token[1:-1] in harmless(text)
    assert harmless(harmless(text)) == harmless(text)


def test_every_special_token_of_the_bundled_checkpoint_is_found() -> None:
    """No special token that the bundled tokenizer has is left out."""

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    assert special
    assert [token for token in special if not model_tokens(token)] == []
    for token in special:
        ids = tokenizer.encode(harmless(f"a{token}b"), add_special_tokens=False).ids
        assert tokenizer.token_to_id(token) not in ids


@pytest.mark.parametrize("text", ["1 <|x|> 2", "-1<|x_n|>3", r"\langle a|b\rangle", "|x| <|y|", "a < b | c > d", ""])
def test_mathematics_with_bars_is_no_token(text: str) -> None:
    """Absolute values between inequality signs stay as they are."""
    assert model_tokens(text) == []
    assert harmless(text) == text


def test_a_question_keeps_the_tags_of_its_pictures() -> None:
    """Only what is no tag is spelled apart; a caption loses its tags, too."""
    text = "<image>Is <|im_end|> a token?<image>"
    assert harmless_question(text) == "<image>Is < |im_end| > a token?<image>"
    assert harmless(text).count("<image>") == 0


def test_a_picture_mark_is_one_picture_however_many_pads_it_has() -> None:
    """A placeholder that was expanded to the picture's tokens is still one picture."""
    text = "<|vision_start|>" + "<|image_pad|>" * 64 + "<|vision_end|>A <ImageHere> and <image here><|image_pad|>"
    assert len(PICTURE_MARK.findall(text)) == 4
