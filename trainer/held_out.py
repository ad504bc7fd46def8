"""Held-out items -> the prompt file of the evaluation during training (OpenRLHF's `--eval.dataset`).

Input: the phase's benchmarks from the store, a checkpoint's chat template. Output: `held_out.jsonl`, lines as in
`prompts.jsonl` whose labels name their benchmark in `held_out` and whose `item` is what the benchmark's scorer needs.
Questions are put in the words of `trainer evaluate`, and `trainer.rollouts` has the answers scored by the same task, so
that both measure the same thing. (OpenRLHF's own log shows what the reward's grader says of them, which wants the
format, too.) Items that cannot be asked (missing picture, too long) are left out and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.caches import cache_folder
from shared.vlm.chat_template import PromptRenderer
from trainer.picture_cache import cached_picture
from trainer.prompts import messages

if TYPE_CHECKING:
    from shared.benchmark import Item
    from trainer.phase import Phase

FILE = "held_out.jsonl"
_FIELDS = ("benchmark", "key", "question", "answer", "kind", "category", "problem")


def write_held_out(
    phase: Phase, checkpoint: Path, folder: Path, store: str | None, cache: Path | None = None
) -> dict[str, Any]:
    """Write `held_out.jsonl` into `folder`; returns its record.

    That is: lines per benchmark, sources, what was left out, and the pictures of an item at most (vLLM must be ready
    for them in a phase without pictures, too).

    Raises:
        InfiMmrError: a benchmark has no dataset version in the store.

    """
    from trainer.evaluation.items import load_items
    from trainer.evaluation.tasks import task as task_named

    renderer = PromptRenderer(checkpoint)
    left_out: Counter[str] = Counter()
    counts: dict[str, int] = {}
    sources: dict[str, Any] = {}
    max_images = 0
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for name in phase.evaluation.names:
            task = task_named(name)
            found = load_items(name, None, store, images=True, limit=phase.evaluation.limit or None)
            counts[name], sources[name] = 0, found.record
            for item in found.items:
                line = _line(item, task.question(item), phase, renderer, cache or cache_folder())
                if isinstance(line, str):
                    left_out[line] += 1
                    continue
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                counts[name] += 1
                max_images = max(max_images, len(item.images))
    left = dict(sorted(left_out.items()))
    return {"items": counts, "max_images": max_images, "left_out": left, "sources": sources}


def read_items(folder: Path) -> dict[str, Item]:
    """Items of `held_out.jsonl` in `folder` by the ids of their labels, without their pictures."""
    from shared.benchmark import Item

    items = {}
    with (folder / FILE).open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            fields = json.loads(line["item"])
            items[json.loads(line["label"])["id"]] = Item(**{**fields, "choices": tuple(fields["choices"])})
    return items


def at_hand(folder: Path) -> bool:
    """Whether `folder` holds a file as `write_held_out` writes it today, and every picture that it names.

    An older run's file has no items, a cache may have been emptied: both are written again from the store.
    """
    try:
        read_items(folder)
        with (folder / FILE).open(encoding="utf-8") as file:
            return all(Path(name).is_file() for text in file for name in json.loads(text)["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _line(item: Item, question: str, phase: Phase, renderer: PromptRenderer, cache: Path) -> dict[str, Any] | str:
    """One line, or why there is none."""
    from shared.images import ImageRefused

    if item.problem or item.missing_images:
        return "unaskable"
    try:
        pictures = [
            cached_picture(data, hashlib.sha256(data).hexdigest(), cache, phase.data.max_image_pixels)
            for data in item.images
        ]
    except ImageRefused as error:
        return f"image_{error.reason}"
    settings = phase.prompt.model_copy(update={"question": "question"})
    conversation = messages(settings, question, len(pictures), prompts=phase.prompts)
    if renderer.special_token(conversation):
        return "special_token"
    text = renderer.text(conversation)
    if renderer.tokens(text, [size for _, size in pictures]) > phase.rollout.max_length - phase.rollout.max_new_tokens:
        return "too_long"
    label = {"id": f"{item.benchmark}/{item.key}", "held_out": item.benchmark, **item.label()}
    return {
        "prompt": text,
        "label": json.dumps(label, ensure_ascii=False),
        "images": [str(path) for path, _ in pictures],
        "datasource": item.benchmark,
        "item": _item_text(item),
    }


def _item_text(item: Item) -> str:
    """An item as JSON in one string: nested fields that differ from line to line would confuse the file's reader."""
    fields = {name: getattr(item, name) for name in _FIELDS}
    more = {"choices": list(item.choices), "extra": dict(item.extra)}
    return json.dumps(fields | more, ensure_ascii=False, default=str)
