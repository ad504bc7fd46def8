"""The work behind the commands `phase`, `curriculum` and `plan`: options in, files and one document out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.command import say
from shared.config import pick_profile
from shared.errors import UsageError, nearest
from trainer.phase import load_phase

if TYPE_CHECKING:
    from shared.progress import Progress
    from trainer.options import PhaseOptions, RunOptions


def pick_device(device: str) -> Literal["cuda", "cpu"]:
    """`cuda` or `cpu`; `auto` takes CUDA where it is seen, without importing torch.

    Raises:
        UsageError: another word.

    """
    if device not in {"auto", "cuda", "cpu"}:
        raise UsageError(f"unknown device {device!r}", "Known: auto, cuda, cpu")
    return "cuda" if device == "cuda" or (device == "auto" and pick_profile("auto").name == "full") else "cpu"


def _overrides(options: PhaseOptions, *, dataset: str | None = None, max_steps: int | None = None) -> list[str]:
    """`--set` values and the options that stand for some of them; options win."""
    found = list(options.overrides or ())
    if dataset:
        found.append(f"data.dataset={json.dumps(dataset)}")
    if options.start:
        found += [f"model.start={json.dumps(options.start)}", 'model.revision=""']
    if max_steps:
        found.append(f"train.max_steps={max_steps}")
    return found


def check_begun(folder: Path) -> None:
    """Refuse to resume what was never started: a misspelt folder would begin a run of its own.

    Raises:
        UsageError: the folder is absent or empty; the nearest one beside it is named.

    """
    if folder.is_dir() and any(folder.iterdir()):
        return
    beside = [place.name for place in folder.parent.iterdir() if place.is_dir()] if folder.parent.is_dir() else []
    close = nearest(folder.name, beside)
    hint = f"Did you mean {folder.parent / close}? " if close and close != folder.name else ""
    raise UsageError(f"{folder} holds no run to resume", f"{hint}Leave --resume out to start one there")


def train_phase(name: str, dataset: str | None, options: RunOptions) -> dict[str, Any]:
    """`trainer phase`."""
    from shared.progress import open_progress
    from trainer.display import RunTold
    from trainer.next_steps import accuracies, after_text, next_commands
    from trainer.phase_run import PhaseRequest, checkpoint_of, run_phase

    chosen = pick_profile(options.profile)
    phase = load_phase(name, chosen.name, _overrides(options, dataset=dataset, max_steps=options.max_steps))
    say(chosen.why)
    folder = options.output or Path("runs") / f"{phase.name}-{chosen.name}"
    if options.resume:
        check_begun(folder)
    with open_progress(as_json=options.as_json) as progress:
        record = run_phase(PhaseRequest(phase, folder, **_surroundings(options, progress)), RunTold(progress))
    result = {
        "phase": phase.name,
        "profile": chosen.name,
        "output": str(folder),
        "checkpoint": str(checkpoint_of(folder)),
        "steps": record.steps,
        "dataset": record.dataset["label"],
        "attempts": len(record.attempts),
        "results": record.results,
    }
    accuracy = accuracies(folder)
    commands = next_commands(phase, folder, profile=options.profile, store=options.store)
    if not options.as_json:
        say(f"phase {phase.name}: {record.steps} steps on {record.dataset['label']}; checkpoint {result['checkpoint']}")
        say(after_text(accuracy, commands))
    return result | {"accuracy": accuracy, "next_commands": commands}


def train_curriculum(phases: str, eval_limit: int | None, options: RunOptions, *, evaluate: bool) -> dict[str, Any]:
    """`trainer curriculum`."""
    from shared.progress import open_progress
    from trainer.curriculum import (
        CurriculumRequest,
        check_datasets,
        curriculum_names,
        load_phases,
        phase_list,
        run_curriculum,
        table_text,
    )
    from trainer.display import RunTold

    chosen = pick_profile(options.profile)
    names = phase_list(phases)
    words = _overrides(options, max_steps=options.max_steps)
    if eval_limit:
        words.append(f"evaluation.limit={eval_limit}")
    loaded = load_phases(names, chosen.name, words)
    say(chosen.why)
    called = phases if phases in curriculum_names() else "-".join(phase.name for phase in loaded)
    folder = options.output or Path("runs") / f"curriculum-{called}-{chosen.name}"
    if options.resume:
        check_begun(folder)
    with open_progress(as_json=options.as_json) as progress:
        request = CurriculumRequest(loaded, folder, evaluate=evaluate, **_surroundings(options, progress))
        check_datasets(request)
        content = run_curriculum(request, RunTold(progress))
    if not options.as_json:
        say(table_text(content) if evaluate else f"finished: {folder}")
    return {**content, "output": str(folder)}


def _surroundings(options: RunOptions, progress: Progress) -> dict[str, Any]:
    """How and where to train; remarks go among the lines of progress, or alone where there are none."""
    return {
        "resume": options.resume,
        "store": options.store,
        "device": pick_device(options.device),
        "ray_address": os.environ.get("RAY_ADDRESS", ""),
        "tell": progress.say if progress.tells else say,
    }


def show_prompts(name: str, row: str | None, dataset: str | None, options: PhaseOptions) -> dict[str, Any]:
    """`trainer prompts`."""
    from shared.vlm.chat_template import say_prompts
    from trainer.show_prompts import prompts_of

    chosen = pick_profile(options.profile)
    say(chosen.why)
    found = prompts_of(load_phase(name, chosen.name, _overrides(options, dataset=dataset)), row, options.store)
    say_prompts(found["prompts"], say)
    return found


def show_plan(
    name: str, options: PhaseOptions, *, gpus: int | None, gpu: str, rows: int | None, max_steps: int | None
) -> dict[str, Any]:
    """`trainer plan`."""
    from trainer.plan import make_plan, plan_text

    chosen = pick_profile(options.profile)
    phase = load_phase(name, chosen.name, _overrides(options, max_steps=max_steps))
    say(chosen.why)
    plan: dict[str, Any] = make_plan(phase, gpus=gpus, gpu=gpu, rows=rows, store=options.store)
    if not options.as_json:
        sys.stdout.write(plan_text(plan) + "\n")
    return plan
