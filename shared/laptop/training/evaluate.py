"""What a tiny-vl checkpoint can do: asks with known answers on a split it has never seen, and their scores.

Input: a task name and how many. Output: `Ask`s (chats with a gold) and, for outputs, scores between 0 and 1. Who
generates is left open: `generate_with_transformers` here serves the training, `benchmarks/tiny_vl.py` uses vLLM.
"""

from __future__ import annotations

import io
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.laptop.problems import PICTURE_KINDS, Problem, draw
from shared.prompts import prompt, render

SPLIT = "fresh"
_BATCH = 48
TASKS: tuple[str, ...] = (
    "type", "caption", "picture", "picture+caption", "text-easy", "text-medium", "text-hard",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One chat: system prompt (None = the template's own), user text, picture, and the problem it is about."""

    task: str
    system: str | None
    text: str
    problem: Problem

    def conversation(self, image: Any = None) -> list[dict[str, Any]]:  # a picture or a marker
        """Messages in the form of chat templates; `image` is put where the picture goes."""
        content: list[dict[str, Any]] = []
        if self.problem.image_png is not None:
            content.append({"type": "image", "image": image})
        if self.text:
            content.append({"type": "text", "text": self.text})
        head = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*head, {"role": "user", "content": content}]

    def gold(self) -> str:
        """What is right."""
        if self.task == "type":
            return self.problem.image_type or ""
        return self.problem.caption if self.task == "caption" else self.problem.answer


def asks(task: str, count: int, first: int = 0) -> list[Ask]:
    """`count` asks of a task; picture kinds take turns, so that each has the same share.

    Raises:
        KeyError: no such task.
    """
    if task.startswith("text-"):
        drawn = (draw(SPLIT, index, text_only=True) for index in itertools.count(first))
        problems = list(itertools.islice((p for p in drawn if p.grade == task.removeprefix("text-")), count))
        return [Ask(task, prompt("reason_system"), render("question", question=p.question), p) for p in problems]
    kinds = [kind.name for kind in PICTURE_KINDS]
    problems = [draw(SPLIT, first + number, kind=kinds[number % len(kinds)]) for number in range(count)]
    if task == "type":
        return [Ask(task, None, prompt("type_images"), problem) for problem in problems]
    if task == "caption":
        return [Ask(task, prompt(f"caption_{problem.image_type}"), "", problem) for problem in problems]
    if task == "picture":
        return [Ask(task, prompt("reason_system"), render("question", question=p.question), p) for p in problems]
    if task == "picture+caption":
        texts = [render("question_with_caption", caption=p.caption, question=p.question) for p in problems]
        return [Ask(task, prompt("reason_system"), text, p) for text, p in zip(texts, problems, strict=True)]
    raise KeyError(f"no task {task!r}; known: {', '.join(TASKS)}")


def boxed(output: str) -> str | None:
    r"""What stands in the last `\boxed{}`, None where there is none."""
    start = output.rfind("\\boxed{")
    if start < 0:
        return None
    end = output.find("}", start)
    return output[start + 7 : end].strip() if end > 0 else None


def score(ask: Ask, output: str) -> float:
    """1 for a right answer, exact caption or type, else 0."""
    if ask.task in {"type", "caption"}:
        return float(output.strip() == ask.gold())
    return float("<think>" in output and "</think>" in output and boxed(output) == ask.gold())


def facts_right(ask: Ask, output: str) -> tuple[int, int]:
    """How many of the caption's facts the output states, each in its place, and how many there are."""
    said = output.strip().split(". ")
    gold = ask.problem.caption.split(". ")
    clean = [part.rstrip(".") for part in said]
    return sum(part.rstrip(".") in clean for part in gold), len(gold)


def share(values: Iterable[float]) -> dict[str, float]:
    """Mean with its standard error and the number of values."""
    numbers = list(values)
    mean = sum(numbers) / max(1, len(numbers))
    return {
        "mean": round(mean, 4),
        "stderr": round(math.sqrt(max(0.0, mean * (1 - mean)) / max(1, len(numbers))), 4),
        "n": len(numbers),
    }


def by_kind(asked: Sequence[Ask], scores: Sequence[float]) -> dict[str, float]:
    """Mean score of each kind of problem."""
    groups: dict[str, list[float]] = defaultdict(list)
    for ask, value in zip(asked, scores, strict=True):
        groups[ask.problem.kind].append(value)
    return {kind: round(sum(values) / len(values), 3) for kind, values in sorted(groups.items())}


def generate_with_transformers(folder: Path, asked: Sequence[Ask], max_new_tokens: int) -> list[str]:
    """Greedy outputs of a checkpoint through the real processor and chat template, in float32 on the CPU."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    outputs: list[str] = []
    for start in range(0, len(asked), _BATCH):
        part = asked[start : start + _BATCH]
        texts = [processor.apply_chat_template(ask.conversation(), add_generation_prompt=True) for ask in part]
        pngs = [ask.problem.image_png for ask in part if ask.problem.image_png is not None]
        images = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
        inputs = processor(text=texts, images=images or None, padding=True, return_tensors="pt")
        with torch.inference_mode():
            ids = model.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None
            )
        outputs += processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return outputs


def evaluate(folder: Path, count: int = 96, tasks: Sequence[str] = TASKS) -> dict[str, Any]:
    """Scores of a checkpoint by task and kind, greedy, with standard errors."""
    table: dict[str, Any] = {}
    for task in tasks:
        asked = asks(task, count)
        outputs = generate_with_transformers(folder, asked, 8 if task == "type" else 110)
        scores = [score(ask, output) for ask, output in zip(asked, outputs, strict=True)]
        table[task] = {**share(scores), "by_kind": by_kind(asked, scores)}
        if task == "caption":
            counts = [facts_right(ask, output) for ask, output in zip(asked, outputs, strict=True)]
            table[task]["facts"] = round(sum(right for right, _ in counts) / sum(total for _, total in counts), 4)
    return table
