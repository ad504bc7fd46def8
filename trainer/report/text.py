"""The report in the terminal: the same table, differences and curves as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.charts import sparkline
from trainer.evaluation.tasks import shown_task
from trainer.report.build import Report
from trainer.report.collect import Run, curves
from trainer.report.paper import SHORT


def print_report(report: Report, runs: Sequence[Run], console: Console | None = None) -> None:
    """Print to stderr, where people read; stdout belongs to results."""
    console = console or Console(stderr=True)
    titles = [column["title"] for column in report.columns]
    if report.table:
        table = _table("Accuracy, percent ± standard error", titles)
        for row in report.table:
            table.add_row(row["name"], *(_cell(cell) for cell in row["cells"]))
        table.add_section()
        for row in report.paper_rows:
            table.add_row(f"paper {SHORT[row['name']]}", *row["cells"], style="dim")
        console.print(table)
    if report.deltas:
        table = _table("Differences, percentage points ± standard error", titles)
        for row in report.deltas:
            table.add_row(row["name"], *(_cell(cell) for cell in row["cells"]))
        console.print(table)
    widest = max((len(run.name) for run in runs), default=0) + 1
    for key, (name, _) in curves(runs).items():
        for run in runs:
            if values := [value for _, value in run.curve(key)]:
                head = f"  {name:<9}{run.name:<{widest}}"
                console.print(f"{head} {sparkline(values)}  {values[0]:.3g} → {values[-1]:.3g}", highlight=False)
    for note in report.notes:
        console.print(Text(note, style="dim"))


def print_comparison(document: Mapping[str, Any]) -> None:
    """Print what `trainer compare` counted, to stderr."""
    console = Console(stderr=True)
    table = _table(
        f"{document['first']} (first), {document['second']} (second)",
        ("items", "both", "only first", "only second", "neither", "points", "p"),
    )
    rows = {shown_task(name).title: counts for name, counts in document["benchmarks"].items()}
    for title, row in {**rows, **({"all": document} if len(rows) > 1 else {})}.items():
        counts = [str(row[key]) for key in ("items", "both", "only_first", "only_second", "neither")]
        points = f"{100 * row['difference']:+.2f} ±{100 * row['stderr']:.2f}"
        table.add_row(title, *counts, points, f"{row['p_value']:.3g}")
    console.print(table)
    if document["other_items"]:
        console.print(f"  {document['other_items']} items were asked otherwise and are left out", highlight=False)


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", min_width=8)  # names give way, numbers do not: 80 characters must do
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cell(cell: dict[str, str]) -> str:
    return f"{cell['text']} ±{cell['error']}" if cell["text"] else ""
