"""`trainer tiny-vl train | evaluate`: the commands that make and measure the bundled checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from shared.command import say

app = typer.Typer(
    no_args_is_help=True, help="Train and evaluate tiny-vl, the bundled Qwen2.5-VL of a few million weights."
)


@app.command()
def train(  # noqa: PLR0917  # options of a command line
    output: Annotated[Path, typer.Option(help="Folder of the run: state, progress, curves, checkpoint.")] = Path(
        "runs/tiny-vl"
    ),
    steps: Annotated[int, typer.Option(help="Steps in all; may be changed on resuming before the decay begins.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights and of everything drawn.")] = 7,
    threads: Annotated[int, typer.Option(help="Threads of the training process (drawing has its own process).")] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between resumable states.")] = 100,
    evaluate_with: Annotated[int, typer.Option(help="Asks per task in the closing evaluation; 0 skips it.")] = 96,
) -> None:
    """Train from scratch, or resume the folder's run; ends with a checkpoint, curves and a table."""
    import dataclasses

    import torch

    from shared.laptop.training.architecture import save_folder
    from shared.laptop.training.evaluate import evaluate as measure
    from shared.laptop.training.report import card_text, read_progress, table_text, write_curves, write_table
    from shared.laptop.training.schedule import Schedule
    from shared.laptop.training.train import Run
    from shared.progress import open_progress

    if threads < 1 or save_every < 1 or steps < 0:
        raise typer.BadParameter("--threads and --save-every are at least 1, --steps at least 0")
    torch.set_num_threads(threads)
    schedule = Schedule(seed=seed)
    if steps:
        schedule = dataclasses.replace(schedule, steps=steps)
    run = Run(output, schedule)
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    say(f"tiny-vl: {weights:,} weights, step {run.step} of {schedule.steps}")
    with open_progress() as progress:
        run.advance(save_every=save_every, progress=progress)
    checkpoint = output / "tiny-vl"
    save_folder(run.model, run.tokenizer, checkpoint)
    write_curves(output)
    table = measure(checkpoint, evaluate_with) if evaluate_with else {}
    if table:
        write_table(output, table)
        say(table_text(table))
    (checkpoint / "README.md").write_text(card_text(weights, read_progress(output), table), encoding="utf-8")
    say(f"checkpoint: {checkpoint}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path | None, typer.Option(help="Folder; left out, the bundled checkpoint.")] = None,
    count: Annotated[int, typer.Option(help="Asks per task.")] = 96,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Score a checkpoint on problems it has never seen: types, captions, questions, arithmetic."""
    from shared.laptop.assets import CHECKPOINT
    from shared.laptop.training.evaluate import evaluate as measure
    from shared.laptop.training.report import table_text

    folder = checkpoint or CHECKPOINT
    if not (folder / "config.json").is_file():
        say(f"error: {folder} holds no checkpoint (no config.json). Name a Hugging Face folder with --checkpoint.")
        raise typer.Exit(1)
    table = measure(folder, count)
    if as_json:
        sys.stdout.write(json.dumps(table) + "\n")
    else:
        say(table_text(table))
