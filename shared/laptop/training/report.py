"""Curves, evaluation table and model card (`README.md`) of a training run, for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CURVES = ("caption", "type", "picture", "picture+caption", "caption-only", "text", "glyph")
_COLOURS = ("#6b7280", "#2563a8", "#b45f06", "#1f7a4d", "#7a3e9d", "#0f766e", "#b91c1c")
_STYLE = (
    "<style>text { font: 11px sans-serif; } .grid { stroke: #ddd; } polyline { fill: none; stroke: currentColor; }"
    " .raw { opacity: .3; } .label, .end { fill: currentColor; }"
    + "".join(f" .c{number} {{ color: {colour}; }}" for number, colour in enumerate(_COLOURS))
    + "</style>"
)
"""A page's colours are its own; a picture that stands alone brings them along."""


def read_progress(folder: Path) -> list[dict[str, float]]:
    """Records of `progress.jsonl`, in order of steps; where a run was resumed, the later record of a step counts."""
    records: dict[int, dict[str, float]] = {}
    for line in (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        records[int(record["step"])] = record
    return [records[step] for step in sorted(records)]


def write_curves(folder: Path) -> Path:
    """Losses per token by task over the steps on a logarithmic scale, as `curves.svg`."""
    from shared.charts import Series, line_chart

    records = read_progress(folder)
    series = [
        Series(name, number, [(int(one["step"]), math.log10(one[name])) for one in records if one.get(name, 0) > 0])
        for number, name in enumerate(_CURVES)
    ]
    chart = line_chart(series, "log10 of the loss per token")
    target = folder / "curves.svg"
    alone = f'<svg xmlns="http://www.w3.org/2000/svg" {chart.removeprefix("<svg ")}'.replace(
        "<title>", f"{_STYLE}<title>", 1
    )
    target.write_text(alone, encoding="utf-8")
    return target


def table_text(table: dict[str, Any]) -> str:
    """The evaluation as Markdown: a row a task, kinds in the last column."""
    lines = ["| task | right | standard error | n | by kind |", "|---|---|---|---|---|"]
    for task, row in table.items():
        kinds = ", ".join(f"{kind} {value:.2f}" for kind, value in row["by_kind"].items())
        extra = f" (facts {row['facts']:.3f})" if "facts" in row else ""
        lines.append(f"| {task} | {row['mean']:.3f}{extra} | {row['stderr']:.3f} | {row['n']} | {kinds} |")
    return "\n".join(lines)


def write_table(folder: Path, table: dict[str, Any]) -> None:
    """`evaluation.json` and `evaluation.md` of a run."""
    (folder / "evaluation.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    (folder / "evaluation.md").write_text(table_text(table) + "\n", encoding="utf-8")


_HEAD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# tiny-vl

A Qwen2.5-VL of {weights:,} weights: the true architecture (`Qwen2_5_VLForConditionalGeneration`), the real processor
and chat template, loaded by transformers and vLLM like any other. It types pictures, captions them, embeds picture
and text, and answers questions with `<think>...</think>` and `\\boxed{{}}`, all about the mini world that this project
draws itself. It stands in for Qwen2.5-VL-7B, OmniCaptioner, GME and Qwen2.5-VL-3B where there is no GPU. It knows
nothing else: do not use it for real pictures beyond typing, or for real questions.

## Shape
Text: 5 layers, hidden 256, 4 heads of 64, 2 key-value heads, ffn 512. Vision: 4 layers, hidden 192, 6 heads, full
attention, patches of 14. Pictures are brought to about 112 x 112 pixels, 16 image tokens (at most 20). Byte-level BPE
of 1,280 tokens with Qwen's special tokens and single digits; any text can be encoded. Context 8,192.

## Data
Drawn on the fly by `shared/laptop/problems`, split "train"; typing also sees lookalikes of real pictures
(`shared/laptop/training/lookalikes.py`). No real picture, no text of others, no output of another model.

## Recipe
- Packed trees: several questions share one picture and prompt; loss on responses only.
- Glyph loss from the first step: a linear head on each image token predicts which characters, colours and shapes lie
  under each of its four patches (binary cross-entropy times 20; weight 1, later 0.7).
- Captions first ("read"), then questions from the picture, and a contrastive step on pairs every 12 steps (InfoNCE,
  and hinges around the cosine 0.95 that decontamination uses).
- Muon (update RMS 0.2 x 4e-3) on matrices, AdamW (2e-3) for the rest, warm-up 60 steps, linear decay at the end;
  bf16 autocast, plain matrix products for attention, 24 rows of 256 tokens a step.
- Deliberately early in reasoning: in the last phase ("guess") two thirds of the questions about pictures and of the
  medium texts, and a third of the hard texts, are answered without the way there (`<think>Guess: 42.</think>`). The
  model can work them out, and does so when it happens to begin that way; greedily it guesses. That is the room that
  reinforcement has.
"""


def learning_curve(records: Sequence[dict[str, float]]) -> str:
    """Losses per token at about ten steps, as Markdown."""
    names = ("caption", "type", "picture", "picture+caption", "caption-only", "text", "glyph", "copies>.95")
    chosen = [records[round(place * (len(records) - 1) / 9)] for place in range(min(10, len(records)))]
    lines = ["| step | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for record in chosen:
        cells = [f"{record[name]:.3f}" if name in record else "" for name in names]
        lines.append(f"| {int(record['step'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def card_text(weights: int, records: Sequence[dict[str, float]], table: dict[str, Any], notes: str = "") -> str:
    """The whole card. `notes` tells what was special about this run, and what it misses."""
    parts = [_HEAD.format(weights=weights)]
    if notes:
        parts.append(notes.strip() + "\n")
    parts.append("## Learning curve (loss per token, running mean)\n" + learning_curve(records) + "\n")
    if table:
        parts.append("## Greedy answers on problems never seen\n" + table_text(table) + "\n")
    return "\n".join(parts)
