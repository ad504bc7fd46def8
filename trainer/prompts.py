"""A dataset row as chat messages.

Input: question, captions and number of pictures of a row. Output: messages whose pictures are placeholders.
Not covered: the checkpoint's chat template (`shared/vlm/chat_template.py`), reading pictures (`training_data.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.placeholders import harmless, harmless_question
from shared.prompts import prompt, render
from shared.vlm.conversation import build_conversation
from trainer.phase import CAPTION_FIELD
from trainer.phase_settings import PromptSettings

_PICTURE = b""


def messages(
    settings: PromptSettings, question: str, pictures: int, captions: Sequence[str] = (), *, prompts: str
) -> list[dict[str, Any]]:
    """Chat messages of one row; the same builder as evaluation uses, so that both ask in the same words.

    Args:
        settings: Names of the prompt files.
        question: The question with its `<image>` tags.
        pictures: Number of pictures; those without a tag come first.
        captions: One caption per picture for the caption form; several are numbered. A row without any is asked in
            the plain form.
        prompts: The prompt set that the names belong to.

    """
    fields = {"question": harmless_question(question)}
    if captions:
        said = [harmless(caption) for caption in captions]  # a tag in a caption is no place for a picture
        numbered = [f"({number}) {caption}" for number, caption in enumerate(said, start=1)]
        fields["caption"] = said[0] if len(said) == 1 else " ".join(numbered)
    form = settings.question
    if not captions and CAPTION_FIELD in prompt(form, prompts):
        plain = form.removesuffix("_with_caption")
        form = plain if plain != form else PromptSettings().question
    user = render(form, prompts, **fields)
    conversation = build_conversation(prompt(settings.system, prompts), user, [_PICTURE] * pictures)
    for message in conversation:
        if not isinstance(message["content"], list):
            continue
        if pictures:
            message["content"] = [{"type": "image"} if part["type"] == "image" else part for part in message["content"]]
        else:  # templates of text models join strings and refuse parts
            message["content"] = "".join(part["text"] for part in message["content"])
    return conversation
