"""Builds the report: what the page and the terminal show, computed once from the collected runs.

Input: run folders. Output: `Report`, and from it one self-contained HTML page (no network: a content policy in the page
forbids it) or text. Everything that came from a model or a data set is escaped by Jinja2.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from shared.answers import split_thinking
from shared.charts import Series, interval_bar, line_chart, share_bar
from shared.number_text import human_seconds
from trainer.evaluation.results import other_items
from trainer.evaluation.tasks import shown_task as task
from trainer.report import paper
from trainer.report.collect import Run, curves, differences, starts
from trainer.report.pictures import data_url

COLOURS = 6
"""Colours of runs that the page's style knows, used in turn."""
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


@dataclass
class Report:
    """Everything that is shown. Rows of `table` hold one cell per column of `columns`."""

    title: str
    runs: list[dict[str, Any]]
    columns: list[dict[str, str]]
    table: list[dict[str, Any]]
    paper_rows: list[dict[str, Any]]
    deltas: list[dict[str, Any]]
    charts: list[dict[str, str]]
    step_seconds: list[dict[str, Any]]
    details: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    notes: list[str]
    protocols: list[dict[str, str]]


def build(runs: Sequence[Run], title: str = "Infi-MMR report") -> Report:
    """The report of `runs`, in their order."""
    evaluated = [run for run in runs if run.evaluation]
    scored = {name for run in evaluated for name in _benchmarks(run)}
    # The paper's columns and rows say nothing to runs that were evaluated on other tasks alone.
    of_paper = not evaluated or not scored.isdisjoint(paper.COLUMNS)
    names = [*(paper.COLUMNS if of_paper else ()), *sorted(scored - set(paper.COLUMNS))]
    notes = [paper.LOCAL_NOTE] if of_paper and any(run.local for run in evaluated) else []
    if of_paper:
        notes.append(paper.GENERAL_NOTE if evaluated else paper.NO_EVALUATION_NOTE)
    for run in evaluated:
        for name, result in _benchmarks(run).items():
            if other := other_items(name, result.get("source", {})):
                notes.append(f"{run.name}: {task(name).title} was scored on other items: {other}")
    notes += [f"{run.name}: {note}" for run in runs for note in run.notes]
    return Report(
        title=title,
        runs=[_run_card(run, place) for place, run in enumerate(runs)],
        columns=[
            {"name": name, "title": task(name).title, "group": paper.COLUMNS.get(name, "Other")} for name in names
        ],
        table=[_row(run, names, place % COLOURS) for place, run in enumerate(runs) if run.evaluation],
        paper_rows=[
            {"name": name, "cells": [f"{value:.2f}" for value in values] + [""] * (len(names) - len(values))}
            for name, values in (paper.ROWS.items() if of_paper else ())
        ],
        deltas=_deltas(evaluated, names),
        charts=_charts(runs),
        step_seconds=_step_seconds(runs),
        details=[_detail(run, name) for name in names for run in evaluated if name in _benchmarks(run)],
        rollouts=_rollouts(runs),
        notes=notes,
        protocols=_protocols(evaluated, names),
    )


def _benchmarks(run: Run) -> Mapping[str, dict[str, Any]]:
    found = run.evaluation.get("benchmarks")
    return found if isinstance(found, dict) else {}


def _row(run: Run, names: Sequence[str], colour: int) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    for name in names:
        result = _benchmarks(run).get(name)
        if result is None or not result["n"]:
            cells.append({"text": "", "value": None})
            continue
        value, error = 100 * result["accuracy"], 100 * result["stderr"]
        low, high = (100 * bound for bound in result.get("interval95", (0, 1)))
        hint = f"n {result['n']}, 95% interval {low:.1f} to {high:.1f}, unscored {result['unscored']}"
        cells.append({"text": f"{value:.2f}", "error": f"{error:.2f}", "value": value, "hint": hint})
    return {"name": run.name, "colour": colour, "cells": cells}


def _deltas(evaluated: Sequence[Run], names: Sequence[str]) -> list[dict[str, Any]]:
    """Each run against the one before it, and the last against the first."""
    steps = list(itertools.pairwise(evaluated))
    if len(evaluated) > 2:
        steps.append((evaluated[0], evaluated[-1]))
    found = [(first, second, differences(first, second)) for first, second in steps]
    widest = max((abs(d["points"]) + 1.96 * d["stderr"] for _, _, all_ in found for d in all_.values()), default=1.0)
    rows = []
    for first, second, by_name in found:
        cells = []
        for name in names:
            one = by_name.get(name)
            if one is None:
                cells.append({"text": ""})
                continue
            p_value = f"p = {one['p_value']:.2g}" if one["paired"] else "unpaired"
            if one["other_items"]:
                p_value = "other items"
            cells.append({
                "text": f"{one['points']:+.2f}".replace("-", "−"), "error": f"{one['stderr']:.2f}",
                "p": p_value, "hint": one["test"] or "two independent standard errors",
                "bar": interval_bar(one["points"], one["stderr"], max(widest, 1e-9)),
            })  # fmt: skip
        rows.append({"name": f"{first.name} → {second.name}", "cells": cells})
    return rows


def _charts(runs: Sequence[Run]) -> list[dict[str, str]]:
    charts = []
    before = starts(runs)
    for key, (_, title) in curves(runs).items():
        series = [Series(run.name, place % COLOURS, run.curve(key), before[place]) for place, run in enumerate(runs)]
        charts.append({"title": title, "svg": line_chart(series, title)})
    if len(trained := [run for run in runs if run.metrics]) == 1:  # colours are those of the runs otherwise
        charts.append(_by_kind(trained[0]))
    return [chart for chart in charts if chart["svg"]]


def _by_kind(run: Run) -> dict[str, str]:
    """Chart of one run's rewards by kind of answer."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in run.metrics:
        kinds = line.get("by_kind")
        for kind, numbers in kinds.items() if isinstance(kinds, dict) else ():
            if isinstance(numbers, dict) and isinstance(numbers.get("reward"), int | float):
                found.setdefault(kind, []).append((int(line["step"]), float(numbers["reward"])))
    title = "Reward by kind of answer"
    series = [Series(name, place % COLOURS, points) for place, (name, points) in enumerate(sorted(found.items()))]
    return {"title": title, "svg": line_chart(series, title)}


def _step_seconds(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Where the seconds of a step went, for each run that trained: means over its steps.

    The first step is aside: it pays for what is done once (first use of the engine, compiled operators).
    """
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


def _detail(run: Run, name: str) -> dict[str, Any]:
    result = _benchmarks(run)[name]
    tables = [
        {
            "title": key.removeprefix("by_").replace("_", " "),
            "rows": [
                {"name": group, "n": row["n"], "text": f"{100 * row['accuracy']:.0f}",
                 "interval": "–".join(f"{100 * bound:.0f}" for bound in row.get("interval95", ())),
                 "bar": share_bar(row["accuracy"], row.get("interval95"))}
                for group, row in value.items()
            ],
        }
        for key, value in result.items() if key.startswith("by_") and isinstance(value, dict) and value
    ]  # fmt: skip
    facts = [
        ("scored", result["n"]),
        ("unscored", result["unscored"]),
        *((f"unscored: {reason}", count) for reason, count in result.get("unscored_reasons", {}).items()),
        ("no answer", result.get("no_answer")),
        ("answer not readable", result.get("unreadable")),
        ("mean tokens", _number(result.get("mean_tokens"), ".0f")),
        ("cut off", f"{100 * result.get('truncation_rate', 0):.1f}%"),
    ]
    if (official := result.get("official")) and official["n"]:
        facts.append(("published rule", f"{100 * official['accuracy']:.2f}%"))
        facts.append(("accepted by it alone", official["only_official"]))
    if samples := result.get("samples"):
        facts.append(
            (f"avg@{samples['k']}", f"{100 * samples['avg_at_k']:.2f} ± {100 * samples['avg_at_k_stderr']:.2f}%")
        )
        facts += [(f"pass@{k}", f"{100 * value:.2f}%") for k, value in samples["pass_at"].items()]
    source = result.get("source", {})
    facts.append(("items from", source.get("label") or source.get("dataset") or ", ".join(source.get("files", []))))
    return {"run": run.name, "title": task(name).title, "facts": _known(facts), "tables": tables}


def _known(facts: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(label, value) for label, value in facts if value not in (None, "")]


def _number(value: object, form: str = ".3g") -> str | None:
    return format(value, form) if isinstance(value, int | float) else None


def _run_card(run: Run, place: int) -> dict[str, Any]:
    """What a run was: for the list at the head of the page."""
    phase, record = run.phase, run.record
    dataset = record.get("dataset", {})
    last = run.metrics[-1] if run.metrics else {}
    trained = [seconds for _, seconds in run.curve("seconds")]  # start-up and evaluations aside
    facts = [
        ("phase", phase.get("title")),
        ("dataset", dataset.get("label") or dataset.get("name")),
        ("from", record.get("parent", {}).get("location") or run.evaluation.get("checkpoint")),
        ("outputs", run.evaluation.get("outputs")),
        ("steps", last.get("step")),
        ("last loss", _number(last.get("loss"))),
        ("last reward", _number(last.get("reward"))),
        ("last accuracy", _number(last.get("accuracy"))),
        ("last KL", _number(last.get("kl"))),
        ("last gradient norm", _number(last.get("grad_norm"))),
        ("training", human_seconds(sum(trained)) if trained else None),
        ("learning rate", phase.get("train", {}).get("learning_rate")),
        ("commit", str(record.get("code_commit", ""))[:12]),
    ]
    return {"name": run.name, "colour": place % COLOURS, "facts": _known(facts)}


def _protocols(evaluated: Sequence[Run], names: Sequence[str]) -> list[dict[str, str]]:
    """One plain sentence per benchmark on how this differs from the published protocol, with the subset if named."""
    rows = []
    for name in names:
        results = [_benchmarks(run)[name] for run in evaluated if name in _benchmarks(run)]
        if not results:
            continue
        subsets = sorted({result["subset"] for result in results if result.get("subset")})
        counts = sorted({result["n"] + result["unscored"] for result in results})
        text = task(name).protocol + (f" Subset: {', '.join(subsets)}." if subsets else "")
        rows.append({"title": task(name).title, "text": text, "count": ", ".join(str(count) for count in counts)})
    return rows


def _rollouts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    urls: dict[str, str | None] = {}
    for place, run in enumerate(runs):
        for row in run.rollouts:
            for digest in row["image_hashes"]:
                if digest not in urls:
                    urls[digest] = data_url(run.pictures[digest]) if digest in run.pictures else None
            thinking, answer = (part.strip() for part in split_thinking(str(row.get("output") or "")))
            rows.append({
                "run": run.name, "colour": place % COLOURS, "step": row.get("step"),
                "prompt_id": row.get("prompt_id") or "",
                "question": re.sub(r"<image>\s*", "", str(row.get("question") or "")),
                "thinking": thinking, "answer": answer, "gold": row.get("gold") or "", "kind": row.get("kind") or "",
                "verdict": row.get("verdict") or "", "reward": row.get("reward"), "format": row.get("format"),
                "exact": row.get("exact"), "type_match": row.get("type_match"), "truncated": bool(row.get("truncated")),
                "length": row.get("tokens") or len(str(row.get("output") or "")),
                "unit": "tokens" if row.get("tokens") else "characters",
                "images": [urls[digest] for digest in row["image_hashes"]],
            })  # fmt: skip
    return rows


def render(report: Report) -> str:
    """The page as text."""
    return render_page("page.html", report=report)


def render_page(template: str, **values: Any) -> str:
    """A template of the folder `page` with its style and script; what it is given is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    folder = Path(__file__).parent / "page"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # only charts, which this project drew and escaped itself
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # Style and script are this project's own files.
    own = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
    return environment.get_template(template).render(**own, **values)
