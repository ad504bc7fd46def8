"""Shows an evaluation in the terminal, on stderr where people read: one table, and what to know about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trainer.evaluation.results import other_items
from trainer.evaluation.tasks import shown_task as task


def print_document(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print accuracy with standard error, counts, and the published rule's score where there is one."""
    console = console or Console(stderr=True)
    subject = document.get("checkpoint") or document.get("outputs")
    table = Table(title=f"{subject}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    ruled = any("official" in result for result in document["benchmarks"].values())
    for name in ("n", "acc. %", "±", *(["rule* %"] if ruled else []), "unscored", "no answer", "tokens", "cut %"):
        table.add_column(name, justify="right")
    for name, result in document["benchmarks"].items():
        official = result.get("official")
        table.add_row(
            f"{task(name).title}†" if other_items(name, result.get("source", {})) else task(name).title,
            str(result["n"]),
            f"{100 * result['accuracy']:.2f}",
            f"{100 * result['stderr']:.2f}",
            *([f"{100 * official['accuracy']:.2f}" if official and official["n"] else ""] if ruled else []),
            str(result["unscored"]),
            str(result["no_answer"]),
            f"{result['mean_tokens']:.0f}" if result.get("mean_tokens") else "",
            f"{100 * result['truncation_rate']:.1f}",
        )
    console.print(table)
    if ruled:
        console.print("  * by the benchmark's published rule, for comparison with other reports", highlight=False)
    for line in (*_remarks(document), *(document.get("bad_lines") or ()), *_comparison(document)):
        console.print(f"  {line}", highlight=False)
    if document.get("results"):
        console.print(f"  outputs to read: {document['results']}", highlight=False)


def _remarks(document: Mapping[str, Any]) -> Iterator[str]:
    for name, result in document["benchmarks"].items():
        title = task(name).title
        if other := other_items(name, result.get("source", {})):
            yield f"† {title}: other items than the benchmark's dataset version: {other}"
        if result.get("subset"):
            yield f"{title}: subset {result['subset']}"
        for share, found in result.get("together", {}).items():
            yield f"{title}: {share} {100 * found['accuracy']:.2f} ± {100 * found['stderr']:.2f} of {found['n']}"
        if result["unscored"]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in result["unscored_reasons"].items())
            yield f"{title}: unscored {result['unscored']} ({reasons})"
        if result.get("unreadable"):
            yield f"{title}: {result['unreadable']} answers could not be read, they count as wrong"
        samples = result.get("samples")
        if samples:
            errors = samples.get("pass_at_stderr", {})
            passes = ", ".join(
                f"pass@{k} {100 * value:.2f} ± {100 * errors.get(k, 0):.2f}" for k, value in samples["pass_at"].items()
            )
            mean = f"avg@{samples['k']} {100 * samples['avg_at_k']:.2f} ± {100 * samples['avg_at_k_stderr']:.2f}"
            yield f"{title}: {mean}; {passes}"
        if result.get("missing_outputs"):
            yield f"{title}: {result['missing_outputs']} items without output"
        if result.get("unknown_items"):
            yield f"{title}: unknown items {', '.join(result['unknown_items'])}"


def _comparison(document: Mapping[str, Any]) -> Iterator[str]:
    compared = document.get("compared_with") or {"tests": {}}
    for name, test in compared["tests"].items():
        yield (
            f"{task(name).title} against {compared['folder']}: {100 * test['difference']:+.2f} ± "
            f"{100 * test['stderr']:.2f} points on {test['n']} items, {test['test']} p = {test['p_value']:.3g}"
            + (f"; {test['other_items']} items asked otherwise, left out" if test["other_items"] else "")
        )
