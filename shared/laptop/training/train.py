"""The supervised training of tiny-vl in one run: captions first, then questions, pairs for embeddings at the end.

Input: a `Schedule` (steps, seed, mixes). Output: a folder with `state.pt` (resumable, read with `weights_only`),
`progress.jsonl` (losses), the tokenizer, and Hugging Face folders that any tool loads.

The phases of a run, their mixes and the learning rates are told in `schedule.py`: "read", "answer", "guess".
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from shared.laptop.training.architecture import HIDDEN, build_config
from shared.laptop.training.batches import LABELS, TASKS, Batch, BatchMaker, stream
from shared.laptop.training.forward import hidden_states, image_tokens, tree_mask
from shared.laptop.training.muon import build_optimisers
from shared.laptop.training.schedule import Schedule
from shared.laptop.training.tokenizer import build_tokenizer
from shared.laptop.training.trees import TreeMaker
from shared.processor import has_bfloat16_units
from shared.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration


_LONGEST_GRADIENT = 5.0
_LONGEST_PAIR_GRADIENT = 0.5


def glyph_loss(logits: Tensor, marks: Tensor) -> Tensor:
    """Binary cross-entropy of what lies under each patch, times 20 because almost all labels are absent.

    `logits` and `marks` are [n, tokens, 4 * labels]; 255 in `marks` means unknown.
    """
    known = marks[:, 0, 0] != 255  # the mark of an unlabelled picture
    if not bool(known.any()):
        return logits.sum() * 0.0
    return 20.0 * F.binary_cross_entropy_with_logits(logits[known].float(), marks[known].float())


def pair_loss(vectors: Tensor, same: Tensor) -> tuple[Tensor, float, float]:
    """Contrastive loss of pairs [n, 2, D] of unit vectors, and the shares of pairs on the right side of 0.95.

    InfoNCE (temperature 0.05) plus hinges that push copies above 0.98 and others below 0.85. `same` [n, n] marks
    pairs that are about the same thing and are no negatives of each other.
    """
    first, second = vectors[:, 0], vectors[:, 1]
    scores = first @ second.T
    apart = ~same
    eye = torch.eye(len(scores), dtype=torch.bool)
    logits = (scores / 0.05).masked_fill(same & ~eye, -1e4)
    target = torch.arange(len(scores))
    contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    positive, negative = scores[eye], scores[apart]
    hinge = F.relu(0.985 - positive).mean() * 10 + F.relu(negative - 0.85).pow(2).sum() / len(scores) * 10
    return contrast + hinge, float((positive > 0.95).float().mean()), float((negative < 0.95).float().mean())


def batch_losses(
    model: Qwen2_5_VLForConditionalGeneration, glyphs: nn.Linear, batch: Batch, glyph_weight: float
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a packed batch, and its parts: glyphs, pairs, tasks."""
    features, glyph_terms = [], []
    for pixels, marks in zip(batch.pictures, batch.marks, strict=True):
        found = image_tokens(model, torch.from_numpy(pixels))
        features.append(found.flatten(0, 1))
        if len(marks):
            glyph_terms.append((glyph_loss(glyphs(found), torch.from_numpy(marks)), len(pixels)))
    hidden = hidden_states(
        model,
        torch.from_numpy(batch.tokens),
        torch.from_numpy(batch.positions),
        tree_mask(torch.from_numpy(batch.tree), torch.from_numpy(batch.branch)),
        features=torch.cat(features) if features else None,
        slots=torch.from_numpy(batch.slots),
    )
    pictures = sum(count for _, count in glyph_terms)
    glyph = sum((loss * count / pictures for loss, count in glyph_terms), torch.zeros(()))
    total, parts = glyph_weight * glyph, {"glyph": float(glyph.detach())}
    if len(batch.pooled):
        where = torch.from_numpy(batch.pooled)
        vectors = F.normalize(hidden[where[..., 0], where[..., 1]].float(), dim=-1)
        names = batch.texts_of_pairs
        same = torch.tensor([[left == right for right in names] for left in names])
        loss, near, far = pair_loss(vectors, same)
        return total + loss, parts | {"pairs": float(loss.detach()), "copies>.95": near, "others<.95": far}
    weights = torch.from_numpy(batch.weights)
    where = weights > 0
    logits = F.linear(hidden[where], model.model.language_model.embed_tokens.weight).float()
    targets = torch.from_numpy(batch.tokens).roll(-1, dims=1)[where]
    each = F.cross_entropy(logits, targets, reduction="none")
    total = total + (each * weights[where]).sum() / weights[where].sum()
    tasks = torch.from_numpy(batch.tasks)[where]
    for number, name in enumerate(TASKS):
        chosen = tasks == number
        if bool(chosen.any()):
            parts[name] = float(each.detach()[chosen].mean())
    return total, parts


def _tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The run's tokenizer: built at its beginning, kept in its folder."""
    from transformers import AutoTokenizer

    kept = folder / "tokenizer"
    if not kept.is_dir():
        build_tokenizer().save_pretrained(kept)
    return AutoTokenizer.from_pretrained(kept)


class Run:
    """One training run in a folder; `advance` goes on from where the folder stands."""

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        """Build or reload tokenizer, model, heads and optimisers."""
        from transformers import Qwen2_5_VLForConditionalGeneration

        self.folder, self.schedule = folder, schedule
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(schedule.seed)
        self.tokenizer = _tokenizer_of(folder)
        config = build_config(self.tokenizer)
        self.model = Qwen2_5_VLForConditionalGeneration(config)
        self.glyphs = nn.Linear(HIDDEN, 4 * len(LABELS))
        nn.init.constant_(self.glyphs.bias, -5.0)  # almost all labels are absent
        self.optimisers = build_optimisers(self.model, self.glyphs, schedule.matrix_lr, schedule.other_lr)
        self.step = 0
        encode: Callable[[str], list[int]] = lambda text: self.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
        trees = TreeMaker(encode, config.image_token_id)
        self.maker = BatchMaker(trees, schedule.rows, schedule.seed)
        if (folder / "state.pt").is_file():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.glyphs.load_state_dict(state["glyphs"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = state["step"]

    def save(self) -> None:
        """Write the resumable state, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "glyphs": self.glyphs.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        partial = self.folder / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")

    def one_step(self, step: int, batch: Batch) -> dict[str, float]:
        """One update; returns the losses."""
        for optimiser, base in zip(self.optimisers, (self.schedule.matrix_lr, self.schedule.other_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = base * self.schedule.rate(step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16_units()):
            total, parts = batch_losses(self.model, self.glyphs, batch, self.schedule.glyph_weight(step))
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        total.backward()
        # A contrastive gradient is ten times as long as the others; unclipped it fills Muon's momentum for many steps
        # and captions get worse (seen: their loss rose by half).
        longest = _LONGEST_PAIR_GRADIENT if len(batch.pooled) else _LONGEST_GRADIENT
        norm = nn.utils.clip_grad_norm_([*self.model.parameters(), *self.glyphs.parameters()], longest)
        if math.isfinite(float(norm)):
            for optimiser in self.optimisers:
                optimiser.step()
        return {"loss": float(total.detach()), "norm": float(norm), **parts}

    def advance(self, *, save_every: int = 100, progress: Progress | None = None) -> None:
        """Train to the last step, saving as it goes."""
        begin, first = time.monotonic(), self.step
        mean: dict[str, float] = {}
        left = self.schedule.steps - first
        task = (progress or Progress()).task("tiny-vl", left, unit="steps", known=first)
        with (self.folder / "progress.jsonl").open("a", encoding="utf-8") as log:
            for step, batch in stream(self.maker, first, self.schedule.steps, self.schedule):
                parts = self.one_step(step, batch)
                for name, value in parts.items():
                    mean[name] = 0.9 * mean.get(name, value) + 0.1 * value
                self.step = step + 1
                task.advance()
                if self.step % 20 == 0 or self.step == self.schedule.steps:
                    record = {"step": self.step, "seconds": round(time.monotonic() - begin, 1)}
                    log.write(json.dumps(record | {k: round(v, 4) for k, v in mean.items()}) + "\n")
                    log.flush()
                    task.note(" ".join(f"{name} {value:.3f}" for name, value in mean.items()))
                if self.step % save_every == 0 or self.step == self.schedule.steps:
                    self.save()
        task.done()
