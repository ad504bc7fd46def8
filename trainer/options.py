"""Options that several commands of `trainer` take, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from shared.command import JsonOption, StoreOption

DatasetOption = Annotated[str | None, typer.Option("--dataset", metavar="NAME[@V]", help="Dataset version.")]
MaxStepsOption = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="Stop each phase after this many steps.")
]


@dataclass(frozen=True)
class PhaseOptions:
    """Options of every command about a phase."""

    profile: Annotated[str, typer.Option(help="full, local, or auto (full where CUDA is seen).")] = "auto"
    start: Annotated[
        str | None, typer.Option("--from", help="Checkpoint to start from: folder, hub id or tiny-vl.")
    ] = None
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. train.max_steps=3.")
    ] = None
    store: StoreOption = None
    as_json: JsonOption = False


@dataclass(frozen=True)
class RunOptions(PhaseOptions):
    """Options of `phase` and `curriculum`."""

    output: Annotated[Path | None, typer.Option(help="Run folder (default: a name below ./runs).")] = None
    max_steps: MaxStepsOption = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False
    device: Annotated[str, typer.Option(help="cuda, cpu, or auto.")] = "auto"


@dataclass(frozen=True)
class ServeOptions:
    """Options of every command that starts an engine with a checkpoint."""

    max_model_len: Annotated[int | None, typer.Option(help="Tokens of prompt and answer.")] = None
    max_pixels: Annotated[int | None, typer.Option(help="Downscale images to at most this many pixels.")] = None
    revision: Annotated[str | None, typer.Option(help="Commit of a hub checkpoint.")] = None


@dataclass(frozen=True)
class AnswerOptions(ServeOptions):
    """Options of `evaluate` and `ask`, named like the fields of `trainer.evaluation.asking.Settings`."""

    temperature: Annotated[
        float, typer.Option(help="Temperature for sampled answers; a single answer is always greedy.")
    ] = 1.0
    seed: Annotated[int, typer.Option(help="Sample k is drawn with seed + k.")] = 0
    max_tokens: Annotated[int, typer.Option(help="Maximum tokens per answer.")] = 2048
    system_prompt: Annotated[
        str, typer.Option("--prompt", help="System prompt: a name in the prompt set, or a file.")
    ] = "reason_system"
    prompts: Annotated[
        str, typer.Option(help="Prompt set: full, bundled, or a folder; default: tiny-vl's own, else full.")
    ] = ""
    endpoint: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible server with the checkpoint.")] = None
