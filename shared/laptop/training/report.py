"""Curves and the evaluation table of a training run, for people."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

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
