"""What is said when a phase has ended: accuracy before and after, and the commands that follow.

In: the phase, its run folder, the options that the user gave. Out: lines for people and the same as JSON values. Not
covered: accuracy on benchmarks, which needs an evaluation; its commands are among those told.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from trainer.curriculum import evaluation_words, phase_list
from trainer.evaluation.cli import default_folder
from trainer.phase import Phase
from trainer.phase_run import checkpoint_of
from trainer.rollouts import EVALUATIONS, read_lines, read_metrics

CURRICULUM = "cold-start-first"
"""The curriculum by whose order a next phase is named: the paper's, with what may stand before it."""


def after_text(accuracy: Mapping[str, Any], commands: Sequence[str]) -> str:
    """What follows a phase, for people: its `accuracies` and `next_commands`."""
    said = [
        f"accuracy of {name}: {100 * found['before']:.1f}% {found['when'][0]}, "
        f"{100 * found['after']:.1f}% {found['when'][1]}"
        for name, found in accuracy.items()
    ]
    return "\n".join([*said, "next:", *(f"  {command}" for command in commands)])


def next_commands(phase: Phase, folder: Path, *, profile: str, store: str | None) -> list[str]:
    """What to do after `phase` has ended in `folder`; `profile` and `store` are the words of the command line."""
    given = [] if profile == "auto" else ["--profile", profile]
    checkpoint = str(checkpoint_of(folder))
    before = default_folder(phase.model.start, None)
    commands = []
    if not (before / "evaluation.json").is_file():
        commands.append(evaluation_words(phase, phase.model.start, store))
    commands.append([*evaluation_words(phase, checkpoint, store), "--compare", str(before)])
    if following := next_phase(phase.name):
        placed = ["--store", store] if store else []
        commands.append(["phase", "--name", following, "--from", checkpoint, *given, *placed])
    program = ["uv", "run", "trainer"] if "UV" in os.environ else ["trainer"]  # uv names itself to what it runs
    return [shlex.join([*program, *words]) for words in commands]


def next_phase(name: str) -> str:
    """The phase after `name` in that order; empty after the last one and for phases of one's own."""
    order = phase_list(CURRICULUM)
    return order[order.index(name) + 1] if name in order[:-1] else ""


def accuracies(folder: Path) -> dict[str, Any]:
    """Before and after: `{what: {"before", "after", "when": [.., ..]}}`, shares from 0 to 1.

    Of the rollouts (means over the first and last quarter of the steps), and of held-out items where asked.
    """
    found: dict[str, Any] = {}
    steps = [float(line["accuracy"]) for line in read_metrics(folder) if line.get("accuracy") is not None]
    if len(steps) > 1:
        some = max(1, len(steps) // 4)
        which = "step" if some == 1 else f"{some} steps"
        when = [f"in the first {which}", f"in the last {which}"]
        found["rollouts"] = {"before": fmean(steps[:some]), "after": fmean(steps[-some:]), "when": when}
    evaluations = read_lines(folder / EVALUATIONS)
    if len(evaluations) > 1:
        first, last = evaluations[0], evaluations[-1]
        when = [f"after step {first['step']}", f"after step {last['step']}"]
        for name in sorted(first["accuracy"].keys() & last["accuracy"].keys()):
            before, after = (line["accuracy"][name]["accuracy"] for line in (first, last))
            found[f"held-out {name}"] = {"before": before, "after": after, "when": when}
    return found
