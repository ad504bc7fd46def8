"""Adds `report`, `compare` and `watch` to the command line. Parses only; rooms are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shared.command import JsonOption, StoreOption, as_command, say


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("report")(report)
    app.command("compare")(compare)
    app.command("watch")(watch)


@as_command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, a curriculum's folder, or evaluation folders.")],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    rollouts: Annotated[int, typer.Option(min=0, help="Sampled rollouts per run on the page.")] = 24,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Infi-MMR report",
    as_json: JsonOption = False,
) -> dict[str, Any]:
    """Compare runs with each other and the paper's Table 1. Scores, differences, curves, rollouts."""
    from trainer.report.build import build, render
    from trainer.report.collect import collect
    from trainer.report.text import print_report

    found = collect(runs, rollouts if html is not None else 0)
    built = build(found, title)
    if html is not None:
        _write(html, render(built))
    if not as_json:
        print_report(built, found)
        if html is not None:
            say(f"page: {html}")
    names = [column["name"] for column in built.columns]
    scores = {row["name"]: [cell["value"] for cell in row["cells"]] for row in built.table}
    accuracy = {name: dict(zip(names, values, strict=True)) for name, values in scores.items()}
    return {"html": str(html) if html else None, "accuracy": accuracy}


@as_command()
def compare(  # noqa: PLR0917 - typer turns each parameter into an option
    first: Annotated[Path, typer.Argument(help="Evaluation folder, or run folder that was evaluated.")],
    second: Annotated[Path, typer.Argument(help="Another, scored on the same items.")],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page with won and lost items.")] = None,
    task: Annotated[str, typer.Option(help="Compare these alone: comma-separated names, or paths of task files.")] = "",
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="Where images of a benchmark's items are, for the page."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> dict[str, Any]:
    """Compare two results item by item. Won and lost, a paired exact test, a page with both outputs."""
    from trainer.evaluation.items import parse_sources
    from trainer.evaluation.tasks import benchmark_names
    from trainer.report.compare import compare_runs, page, results_folder
    from trainer.report.text import print_comparison

    sources = parse_sources(source or [])
    found = compare_runs(first, second, benchmark_names(task) if task else ())
    document = found.document()
    if not as_json:
        print_comparison(document)
    if html is not None:
        _write(html, page(found, results_folder(first), sources, store))
        if not as_json:
            say(f"page: {html}")
    return {**document, "html": str(html) if html else None}


@as_command(json=False)
def watch(
    run: Annotated[Path, typer.Argument(help="Run folder, running or finished.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8100,
) -> dict[str, Any]:
    """Show a run while it runs. Curves, rollouts and results on a page on 127.0.0.1 that follows it."""
    from trainer.report.watch import watch as watch_run

    watch_run(run, port, say)
    return {}


def _write(path: Path, text: str) -> None:
    from shared.errors import InfiMmrError
    from shared.whole_file import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        message = f"the page cannot be written to {path}: {error.strerror or error}"
        raise InfiMmrError(message, "Name another file with --html") from error
