"""Conversations as plain values: roles and parts, images as bytes.

A question's `<image>` tags say where its pictures stand; pictures without a tag come first, tags without a picture
stay text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE_TAG = "<image>"

Conversation = list[dict[str, Any]]
"""Messages `{"role", "content"}`; content is a string or parts `{"type": "text", "text"}`, `{"type": "image", "image"}`."""


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
