"""Conversations as plain values: roles and parts, images as bytes.

A question's `<image>` tags say where its pictures stand; pictures without a tag come first, tags without a picture
stay text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.image_tags import IMAGE_TAG

EMBEDDING_SYSTEM = "You are a helpful assistant."
EMBEDDING_TAIL = "<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"

Conversation = list[dict[str, Any]]
"""Messages `{"role", "content"}`; content: a string, or parts `{"type": "text", "text"}`,
`{"type": "image", "image"}`."""


def build_conversation(system: str, user: str, images: Sequence[bytes] = ()) -> Conversation:
    """One system message (left out when empty) and one user message with its images at their `<image>` tags."""
    pieces = user.split(IMAGE_TAG)
    tags = len(pieces) - 1
    untagged = max(0, len(images) - tags)
    parts: list[dict[str, Any]] = [{"type": "image", "image": image} for image in images[:untagged]]
    rest = list(images[untagged:])
    text = pieces[0]
    for piece in pieces[1:]:
        if rest:
            if text:
                parts.append({"type": "text", "text": text})
            parts.append({"type": "image", "image": rest.pop(0)})
            text = piece
        else:
            text += IMAGE_TAG + piece
    if text:
        parts.append({"type": "text", "text": text})
    messages: Conversation = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": parts}]


def embedding_prompt(text: str, images: int = 0) -> str:
    """Text that is embedded by its last token: GME's chat template (gme-Qwen2-VL), pictures first.

    `<image>` tags of the text are taken out: the pictures stand before it. The bundled checkpoint is trained on this.
    """
    pictures = "<|vision_start|><|image_pad|><|vision_end|>" * images
    words = " ".join(text.replace(IMAGE_TAG, " ").split()) if IMAGE_TAG in text else text
    return f"<|im_start|>system\n{EMBEDDING_SYSTEM}<|im_end|>\n<|im_start|>user\n{pictures}{words}{EMBEDDING_TAIL}"
