"""What the policy will be sent in a phase about one row: `trainer prompts`.

Input: a phase and its dataset version. Output: the system prompt, the user's words with `<image>` where a picture
stands, the pictures' sizes as the phase gives them, the whole prompt with the start checkpoint's chat template, and why
the row would not train where it would not. Where the dataset is not in the store, an example problem stands in.
Nothing is started and nothing is kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError
from trainer.picture_cache import cached_picture
from trainer.prompts import messages
from trainer.supervised import fit_trace, learnt_response
from trainer.training_data import read_rows, reason_text, row_label, training_split, unsuited

if TYPE_CHECKING:
    from shared.vlm.chat_template import PromptRenderer, Sent
    from trainer.phase import Phase

EXAMPLE = {
    "id": "example",
    "question": "<image>In triangle ABC, angle C is a right angle. How long is AB?",
    "answer": "5",
    "images": [{"bytes": b"", "path": "example.png"}],
    "image_hashes": [""],
    "captions": ["A right triangle ABC with legs AC = 3 and BC = 4."],
    "difficulty": None,
}
"""Shown where there is no dataset yet; its picture is 448 x 336 pixels."""
EXAMPLE_SIZE = (336, 448)


def prompts_of(phase: Phase, words: str | None, store: str | None) -> dict[str, Any]:
    """Return `{"row", "prompts"}`: what the policy is sent about a row.

    Args:
        phase: The resolved phase.
        words: The row's id or its key in the source; None takes the first row that trains, one with a picture where
            the phase has them.
        store: Where the phase's dataset lies.

    Raises:
        InfiMmrError: the dataset has no such row, or it is not in the store and a row was named.

    """
    from shared.dataset_version import open_dataset

    try:
        files = training_split(open_dataset(phase.data.dataset, store), phase).files()
    except InfiMmrError as error:
        if words is not None:
            raise
        row, note = _example(phase), f"an example: {error.message}"
    else:
        row, note = _find(phase, files, words), ""
    return {"row": row["id"], "prompts": [_sent(phase, row, note).as_json()]}


def _example(phase: Phase) -> dict[str, Any]:
    if phase.data.images != "none":
        return EXAMPLE
    return {**EXAMPLE, "question": "What is 3 + 4?", "images": [], "image_hashes": [], "captions": []}


def _find(phase: Phase, files: list[Path], words: str | None) -> dict[str, Any]:
    bare: dict[str, Any] | None = None
    why = ""
    for row in read_rows(files, phase, more=("source_id",)):
        if words in {row["id"], row["source_id"]}:
            return row
        reason = "" if words else unsuited(row, phase) or _trace(row, phase)[1]
        why = why or reason
        if words is None and not reason:
            if row["images"] or phase.data.images == "none":
                return row
            bare = bare or row
    if bare is not None:
        return bare
    told = f" (the first is {reason_text(why)})" if why else ""
    what = f"no row {words}" if words else f"no row that phase {phase.name} trains on{told}"
    raise InfiMmrError(f"{phase.data.dataset} has {what}", "Give a row's id or its key in the source")


def _trace(row: dict[str, Any], phase: Phase) -> tuple[str, str]:
    """What a supervised phase learns of a row, or why nothing; two empty texts in other phases and for the example."""
    if phase.method != "sft" or "extra" not in row:
        return "", ""
    return fit_trace(row, phase.data.trace_column, row_label(row, phase))


def _sent(phase: Phase, row: dict[str, Any], note: str) -> Sent:
    from shared.vlm.chat_template import Sent, with_template

    images = []
    for image, sha256 in zip(row["images"], row["image_hashes"], strict=True):
        height, width = _size(image["bytes"], sha256, phase) if image["bytes"] else EXAMPLE_SIZE
        images.append({"sha256": sha256, "width": width, "height": height})
    captions = [caption or "" for caption in row["captions"][: len(images)]] if phase.data.captions else ()
    conversation = messages(phase.prompt, row["question"], len(images), captions, prompts=phase.prompts)
    content = conversation[-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    user = "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)
    trace, without = _trace(row, phase)
    reason = unsuited(row, phase) or without
    renderer, why = _renderer(phase)
    learnt = learnt_response(trace, renderer.text(conversation) if renderer else "")
    told = f"this row does not train: {reason}" if reason else f"it learns to answer:\n{learnt}" * bool(trace)
    notes = [text for text in (note, why, told) if text]
    model = phase.model.start if not Path(phase.model.start).is_dir() else Path(phase.model.start).name
    details = {"prompts": phase.prompts, "max_new_tokens": phase.rollout.max_new_tokens}
    system = str(conversation[0]["content"]) if len(conversation) > 1 else ""
    sent = Sent(phase.name, model, system, user, images, note="; ".join(notes), details=details)
    return with_template(sent, lambda template: template.text(conversation), renderer)


def _size(data: bytes, sha256: str, phase: Phase) -> tuple[int, int]:
    """(height, width) of a picture as the phase gives it to the policy."""
    with tempfile.TemporaryDirectory() as folder:
        return cached_picture(data, sha256, Path(folder), phase.data.max_image_pixels)[1]


def _renderer(phase: Phase) -> tuple[PromptRenderer | None, str]:
    """Chat template of the phase's start, or None and why not."""
    from shared.vlm.chat_template import PromptRenderer
    from shared.vlm.checkpoint import template_folder

    try:
        return PromptRenderer(template_folder(phase.model.start, phase.model.revision or None)), ""
    except InfiMmrError as error:
        return None, str(error)
