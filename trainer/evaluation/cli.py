"""Adds `trainer evaluate` to the command line. Parses only; the rooms behind it are imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.command import JsonOption, StoreOption, as_command
from trainer.options import AnswerOptions

if TYPE_CHECKING:
    from shared.progress import Progress


def register(app: typer.Typer) -> None:
    """Add the command `evaluate` to `app`."""
    app.command("evaluate")(evaluate)


@dataclass(frozen=True)
class EvaluateOptions(AnswerOptions):
    """Options of `evaluate`."""

    checkpoint: Annotated[str | None, typer.Option(help="Folder, hub id, or tiny-vl.")] = None
    outputs: Annotated[
        Path | None, typer.Option(help='Score lines {"benchmark","item","output"} made elsewhere; loads no model.')
    ] = None
    benchmarks: Annotated[
        str, typer.Option(help="all (the paper's five), or names and task files: math500,./my-task.toml,...")
    ] = "all"
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Items from a file, folder or dataset reference.")
    ] = None
    output: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json and outputs.parquet; default evaluations/NAME.")
    ] = None
    compare: Annotated[
        Path | None, typer.Option(help="Folder of an earlier evaluation: adds a paired test against it.")
    ] = None
    samples: Annotated[int, typer.Option(help="Answers drawn per item for avg@k and pass@k.")] = 1
    top_p: Annotated[float, typer.Option(help="top-p for sampled answers.")] = 1.0
    limit: Annotated[int | None, typer.Option(help="First items only, per benchmark.")] = None
    batch_size: Annotated[int, typer.Option(help="Requests per call; each call's answers are stored at once.")] = 64
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto"
    store: StoreOption = None
    as_json: JsonOption = False


@as_command()
def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Score a checkpoint, or outputs made elsewhere, by rules."""
    from shared.progress import open_progress

    with open_progress(as_json=options.as_json) as progress:
        document = _work(options, progress)
    if not options.as_json:
        from trainer.evaluation.show import print_document

        print_document(document)
    return document


def _work(options: EvaluateOptions, progress: Progress) -> dict[str, Any]:
    from shared.config import build_model
    from shared.errors import InfiMmrError, UsageError
    from shared.whole_file import made_folder
    from trainer.evaluation.asking import Settings
    from trainer.evaluation.items import parse_sources
    from trainer.evaluation.results import OUTPUTS_FILE, compare, save_document
    from trainer.evaluation.run import evaluate_checkpoint, evaluate_outputs
    from trainer.evaluation.tasks import benchmark_names

    checkpoint, outputs, names, store = options.checkpoint, options.outputs, options.benchmarks, options.store
    if (checkpoint is None) == (outputs is None):
        message = "name either --checkpoint DIR or --outputs FILE.jsonl"
        raise UsageError(message, "One of them says what is evaluated")
    benchmark_names(names)
    sources = parse_sources(options.source or [])
    benchmark_names(list(sources)) if sources else None
    folder = made_folder(options.output or default_folder(checkpoint, outputs))
    if outputs is not None:
        document = evaluate_outputs(outputs, names, store, sources=sources, output=folder, progress=progress)
    else:
        told = {name: getattr(options, name) for name in Settings.model_fields}
        model = build_model(told, Settings, what="evaluate", file="options")
        document = evaluate_checkpoint(
            str(checkpoint), names, store, sources=sources, settings=model, output=folder, progress=progress
        )
    if (before := options.compare) is not None:
        spoken = before if not before.is_absolute() else Path(*before.parts[-2:])
        document["compared_with"] = {"folder": str(spoken), "tests": compare(before, folder)}
        save_document(folder, document)
    for name, result in document["benchmarks"].items():  # last: all that was found is saved
        if not result["n"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in result["unscored_reasons"].items())
            message = f"benchmark {name}: none of its items could be scored ({reasons or 'nothing was asked'})"
            raise InfiMmrError(message, f"See the column reason of {folder / OUTPUTS_FILE}")
    return {**document, "results": str(folder)}


def default_folder(checkpoint: str | None, outputs: Path | None) -> Path:
    """Where results go unless told: the run directory that holds the checkpoint, else `evaluations/NAME` here."""
    if outputs is not None:
        return Path("evaluations") / outputs.stem
    place = Path(str(checkpoint))
    if (place.parent / "run.json").is_file():
        return place.parent
    return Path("evaluations") / (place.name or "checkpoint")
