"""Tokens of the models themselves inside text that people or models wrote: found, named, or made harmless.

A question that holds `<|image_pad|>` asks for a picture that is not there, one that holds `<|im_end|>` closes the
user's turn: tokenizers read these spellings as tokens wherever they stand. Sources refuse or mend rows that hold them,
and whoever writes prompts makes what is left harmless.

Input: any text. Output: the tokens in it, or the text without them. The spellings are those of Qwen2 and Qwen2.5
(`<|im_start|>`, `<|vision_start|>`, `<|image_pad|>`, `<|endoftext|>`...) and of every checkpoint that names its tokens
in the same way (`<|eot_id|>`, `<|begin_of_text|>`); names are two or more words of letters, so that `1 <|x|> 2` and
`<|x_n|>` stay mathematics.
Not covered: tokens of other spellings (`</s>`, `<start_of_turn>`), which Qwen's tokenizer reads as plain text.
"""

from __future__ import annotations

import re

from shared.image_tags import IMAGE_TAG

_NAME = r"(?:endoftext|[a-z]{2,}(?:_[a-z]{2,})+)"
_TOKEN = re.compile(rf"<\|{_NAME}\|>")


def model_tokens(text: str) -> list[str]:
    """Tokens that a tokenizer would read in `text`, each once, in order; `<image>` is no such token."""
    return list(dict.fromkeys(_TOKEN.findall(text))) if "<|" in text else []


def harmless(text: str) -> str:
    """Return `text` with every model token and `<image>` spelled apart (`< |im_end| >`, `< image >`).

    People read the same words, tokenizers and prompt builders read plain text. Text without such marks is unchanged,
    and a second call changes nothing.
    """
    if "<|" in text:
        text = _TOKEN.sub(lambda token: f"< {token[0][1:-1]} >", text)
    return text.replace(IMAGE_TAG, "< image >") if IMAGE_TAG in text else text


def harmless_question(question: str) -> str:
    """As `harmless`, for a question whose `<image>` tags stand for its pictures: the tags stay."""
    return IMAGE_TAG.join(harmless(piece) for piece in question.split(IMAGE_TAG)) if "<|" in question else question
