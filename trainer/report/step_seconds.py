"""Where the seconds of a training step went, as a table: the mean over a run's steps, its first aside.

The first step pays for what is done once (first use of the engine, compiled operators).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from shared.charts import share_bar
from trainer.report.collect import Run

STEP_PARTS = {
    # the metric's name in metrics.jsonl: what it is called; together they are the step
    "seconds_generation": "rollouts",
    "seconds_log_probabilities": "log-probabilities",
    "seconds_update": "update",
    "seconds_weight_push": "weights to vLLM",
}
WITHIN_ROLLOUTS = {
    "seconds_engine": "engine at work",
    "seconds_front_end": "feeding it (processor time)",
    "seconds_pictures": "images (processor time)",
    "seconds_reward": "reward (processor time)",
}


def step_seconds(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One entry per run that trained: its name, mean seconds of a step, and rows of parts."""
    found = []
    for run in runs:
        lines = run.metrics[1:] or run.metrics
        whole = _mean(lines, "seconds")
        if not whole:
            continue
        rows = [
            {"name": name, "inner": inner, "text": f"{value:.2f} s", "bar": share_bar(min(1.0, value / whole), None)}
            for inner, parts in ((False, STEP_PARTS), (True, WITHIN_ROLLOUTS))
            for key, name in parts.items()
            if (value := _mean(lines, key)) is not None
        ]
        found.append({"run": run.name, "whole": f"{whole:.1f} s", "rows": rows})
    return found


def _mean(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if isinstance(line.get(key), int | float)]
    return fmean(values) if values else None
