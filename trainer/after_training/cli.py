"""Adds `ask`, `push` and `serve` to the command line. Parses only; the rooms behind it are imported when they run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from shared.command import Document, JsonOption, as_command
from trainer.options import AnswerOptions, ServeOptions

CheckpointArgument = Annotated[str, typer.Argument(help="Checkpoint or run folder, hub id, or tiny-vl.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("ask")(ask)
    app.command("push")(push)
    app.command("serve")(serve)


@as_command()
def ask(  # noqa: PLR0917 - typer turns each parameter into an option
    checkpoint: CheckpointArgument,
    question: Annotated[str, typer.Argument(help="The question; <image> says where an image stands.")],
    options: AnswerOptions,
    image: Annotated[list[Path] | None, typer.Option("--image", help="An image file; may be repeated.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Answers to draw; without it one answer is given greedily.")
    ] = None,
    as_json: JsonOption = False,
) -> Document:
    """Ask a checkpoint one question. Thinking goes to stderr, the answer to stdout, both as they are written."""
    from trainer.after_training.ask import ask_command

    return ask_command(checkpoint, question, image or [], dataclasses.asdict(options), samples, as_json=as_json)


@as_command()
def push(  # noqa: PLR0917 - typer turns each parameter into an option
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint or run folder, or tiny-vl.")],
    to: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub; a new one is made private.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show files, bytes and the card; send nothing, need no token.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite a repository that holds something else.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="Evaluation of this checkpoint (default: the one in its run folder).")
    ] = None,
    as_json: JsonOption = False,
) -> Document:
    """Share a checkpoint on the Hub. Weights, a card with run record and results, in one commit."""
    from trainer.after_training.push import push_command

    return push_command(checkpoint, to, results, dry_run=dry_run, replace=replace, as_json=as_json)


@as_command(json=False)
def serve(
    checkpoint: CheckpointArgument,
    options: ServeOptions,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and exit.")] = False,
) -> Document:
    """Serve a checkpoint with vLLM's own server. OpenAI-compatible, on 127.0.0.1; prints its command first."""
    from trainer.after_training.serve import serve_command

    return serve_command(checkpoint, port, dataclasses.asdict(options), dry_run=dry_run)
