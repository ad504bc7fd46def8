"""Curves and the evaluation table of a training run, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CURVES = ("caption", "type", "picture", "picture+caption", "caption-only", "text", "glyph")


def read_progress(folder: Path) -> list[dict[str, float]]:
    """Records of `progress.jsonl`, in order of steps; where a run was resumed, the later record of a step counts."""
    records: dict[int, dict[str, float]] = {}
    for line in (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        records[int(record["step"])] = record
    return [records[step] for step in sorted(records)]


def write_curves(folder: Path) -> Path:
    """Losses per token by task over the steps, as `curves.svg`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = read_progress(folder)
    figure, axes = plt.subplots(figsize=(7, 4))
    for name in _CURVES:
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            axes.plot(*zip(*points, strict=True), label=name)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss per token")
    axes.legend()
    figure.tight_layout()
    target = folder / "curves.svg"
    figure.savefig(target)
    plt.close(figure)
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
