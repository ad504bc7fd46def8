"""Phases in order, checkpoint to checkpoint, with evaluation of the base and after each phase.

Input: a phase list (`curricula/NAME.toml` or names with commas). Output: a folder with `curriculum.json` (table of
accuracies), one run folder per phase (`1-fra`, `2-cmra`, ...) and evaluations (`0-base/evaluation.json`, ...).
Where a phase sets a bar (`evaluation.bar`, `evaluation.least_gain`) and its checkpoint misses it, the phases after it
are not trained and the reason is told (paper, section 4.2: the next phase begins "after assessing the robustness").
Killed at any point, the same command with `--resume` continues: finished phases and evaluations are not run again, and
the phase it was in continues from its newest state. Evaluations run in a process of their own, so that their engine's
memory is free again before the next phase.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from shared.config import Strict, build_model, read_toml
from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.progress import SWITCH, Progress
from shared.whole_file import made_folder, write_whole
from trainer.display import RunTold, followed
from trainer.openrlhf_bridge.progress import Stage
from trainer.phase import Phase, load_phase, phase_file, phase_names
from trainer.phase_run import PhaseRequest, RunRequest, check_data, checkpoint_of, run_phase
from trainer.run_record import FILE as RUN_FILE
from trainer.run_record import RunRecord

CURRICULA = Path(__file__).parent / "curricula"
FILE = "curriculum.json"


class CurriculumFile(Strict):
    """A named phase list."""

    name: str = Field(description="File name.")
    title: str = Field(description="What it is for.")
    phases: tuple[str, ...] = Field(min_length=1, description="Phase names in order; a phase may come twice.")


Evaluate = Callable[[str, Phase, Path], dict[str, Any]]
"""Evaluates a checkpoint as its phase asks; writes `trainer evaluate`'s document into a folder and returns it."""


@dataclass(frozen=True)
class CurriculumRequest(RunRequest):
    """A curriculum to be run."""

    phases: tuple[Phase, ...]
    output: Path
    evaluate: bool = True


def curriculum_names() -> tuple[str, ...]:
    """Names of the curriculum files, sorted."""
    return tuple(sorted(path.stem for path in CURRICULA.glob("*.toml")))


def phase_list(words: str) -> tuple[str, ...]:
    """Phases of `words`: a curriculum's name, or names and paths of phases with commas.

    Raises:
        UsageError: an unknown name; the nearest right one is given.

    """
    if words in curriculum_names():
        file = f"{words}.toml"
        table = read_toml(CURRICULA / file, "curriculum")
        return build_model(table, CurriculumFile, what="curriculum", file=file).phases
    names = tuple(word.strip() for word in words.split(",") if word.strip())
    known = phase_names()
    for name in names:
        if "/" in name or name.endswith(".toml"):
            phase_file(name)
        elif name not in known:
            raise UsageError(
                f"no phase or curriculum named {name!r}", did_you_mean(name, [*known, *curriculum_names()])
            )
    if not names:
        raise UsageError("an empty phase list", f"Known: {', '.join(known)}")
    return names


def load_phases(
    names: Sequence[str], profile: Literal["full", "local"], overrides: Sequence[str] = ()
) -> tuple[Phase, ...]:
    """The phases of a list. An override `fra:train.max_steps=3` is for one phase, others are for all.

    A phase file of the user's own is called like the file there, too.

    Raises:
        UsageError: an unknown phase or key.

    """
    phases = []
    called = [phase_file(name).stem for name in names]
    for words, name in zip(names, called, strict=True):
        mine = []
        for override in overrides:
            scope, colon, rest = override.partition(":")
            scoped = bool(colon) and "=" not in scope
            if scoped and scope not in called:
                raise UsageError(
                    f"--set {override}: {scope!r} is not a phase in this list", did_you_mean(scope, called)
                )
            if not scoped or scope == name:
                mine.append(rest if scoped else override)
        phases.append(load_phase(words, profile, mine))
    return tuple(phases)


def check_datasets(request: CurriculumRequest) -> None:
    """Refuse a list of which one phase could not start, before hours of training the phases before it.

    Raises:
        InfiMmrError: names the phase's dataset and what builds it.

    """
    for number, phase in enumerate(request.phases, start=1):
        folder = request.output / f"{number}-{phase.name}"
        if not (folder / RUN_FILE).is_file():
            check_data(PhaseRequest(phase, folder, store=request.store))


def run_curriculum(
    request: CurriculumRequest,
    watcher: RunTold | None = None,
    *,
    train: Callable[[PhaseRequest, RunTold | None], RunRecord] = run_phase,
    evaluate: Evaluate | None = None,
) -> dict[str, Any]:
    """Run what is not done yet; returns the content of `curriculum.json`.

    `train` and `evaluate` are replaced in tests.

    Raises:
        InfiMmrError: the folder holds another curriculum, or a phase failed; it can be resumed.

    """
    output = request.output.resolve()
    names = [phase.name for phase in request.phases]
    known = _read(output)
    if known and not request.resume:
        raise InfiMmrError(
            f"{output} already holds a curriculum", "Continue it with --resume, or choose another --output"
        )
    if known and known["phases"] != names:
        raise InfiMmrError(
            f"{output} holds the curriculum {','.join(known['phases'])}, not {','.join(names)}",
            "Name the same phases, or choose another --output",
        )
    unseen = next((phase.name for phase in request.phases if has_bar(phase) and not request.evaluate), "")
    if unseen:
        raise UsageError(f"phase {unseen} has a bar, and nothing is evaluated", "Leave --no-evaluate out")
    watcher = watcher or RunTold(Progress())
    made_folder(output)
    table: list[dict[str, Any]] = []
    content = {"phases": names, "finished": False, "table": table}

    def note(name: str, folder: Path, checkpoint: str, phase: Phase) -> None:
        entry: dict[str, Any] = {"name": name, "folder": folder.name}
        if request.evaluate:
            watcher.begins(name)
            watcher.stage(Stage(f"evaluation on {', '.join(phase.evaluation.names)}"))
            entry["accuracy"] = _evaluated(checkpoint, phase, folder, evaluate or _evaluator(request, watcher))
        table.append(entry)
        content["finished"] = len(table) == len(names) + 1
        write_whole(output / FILE, json.dumps(content, indent=1) + "\n")

    start = request.phases[0].model.start
    note("base", output / "0-base", start, request.phases[0])
    for number, phase in enumerate(request.phases, start=1):
        folder = output / f"{number}-{phase.name}"
        resolved = phase if number == 1 else phase.starting_from(start)
        watcher.begins("")
        request.tell(f"{phase.name}: phase {number} of {len(names)}")
        train(PhaseRequest(resolved, folder, **{**request.surroundings(), "resume": True}), watcher)
        start = str(checkpoint_of(folder))
        note(phase.name, folder, start, phase)
        _assess(phase, table, folder, last=number == len(request.phases), tell=request.tell)
    return content


def has_bar(phase: Phase) -> bool:
    """Whether a curriculum must assess this phase's checkpoint before it goes on."""
    return bool(phase.evaluation.bar) or phase.evaluation.least_gain > -1


def missed(phase: Phase, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What the accuracies after a phase miss of its bar, in words; empty where it is met.

    Args:
        phase: The phase with its bar.
        before: Accuracies of the checkpoint before it, by benchmark, as in `curriculum.json`.
        after: Those of its own checkpoint.

    """
    told = []
    for name, least in phase.evaluation.bar.items():
        found = fmean(one["accuracy"] for one in after.values()) if name == "mean" else after[name]["accuracy"]
        if found < least:
            told.append(f"{name} is {found:.1%}, its bar is {least:.1%}")
    both = before.keys() & after.keys()
    gain = fmean(after[name]["accuracy"] - before[name]["accuracy"] for name in both) if both else 0.0
    if both and gain < phase.evaluation.least_gain:
        least = 100 * phase.evaluation.least_gain
        told.append(f"the mean changed by {100 * gain:+.1f} points, the least is {least:+.1f}")
    return told


def _assess(
    phase: Phase, table: Sequence[dict[str, Any]], folder: Path, *, last: bool, tell: Callable[[str], None]
) -> None:
    """Stop, with what was missed, where a phase's checkpoint misses its bar and another phase would follow."""
    if not has_bar(phase):
        return
    told = missed(phase, table[-2].get("accuracy", {}), table[-1]["accuracy"])
    reason = f"phase {phase.name} misses its bar: {'; '.join(told)}"
    if told and last:
        tell(reason)
    elif told:
        raise InfiMmrError(
            f"{reason}. The phases after it were not trained",
            f"Look at {folder}/evaluation.json; lower the bar (--set {phase.name}:evaluation.bar.NAME=0.3 --resume) or "
            "train this phase longer in another --output",
        )


def _evaluated(checkpoint: str, phase: Phase, folder: Path, evaluate: Evaluate) -> dict[str, dict[str, float]]:
    """Accuracy and standard error per benchmark, from an evaluation made before where there is one."""
    names = phase.evaluation.names
    path = folder / "evaluation.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not set(names) <= set(document.get("benchmarks", {})):
        folder.mkdir(parents=True, exist_ok=True)
        document = evaluate(checkpoint, phase, folder)
    return {name: {key: document["benchmarks"][name][key] for key in ("n", "accuracy", "stderr")} for name in names}


def evaluation_words(phase: Phase, checkpoint: str, store: str | None) -> list[str]:
    """The command `evaluate` that asks a checkpoint as `phase` did: its benchmarks, prompt, lengths and limit."""
    words = ["evaluate", "--checkpoint", checkpoint]
    words += ["--revision", phase.model.revision] if checkpoint == phase.model.start and phase.model.revision else []
    words += ["--benchmarks", ",".join(phase.evaluation.benchmarks)]
    words += ["--max-tokens", str(phase.rollout.max_new_tokens), "--max-model-len", str(phase.rollout.max_length)]
    words += ["--prompts", phase.prompts] if phase.prompts else []
    words += ["--prompt", phase.prompt.system]
    words += ["--limit", str(phase.evaluation.limit)] if phase.evaluation.limit else []
    return [*words, "--store", store] if store else words


def _evaluator(request: CurriculumRequest, watcher: RunTold) -> Evaluate:
    """`trainer evaluate` in a process of its own."""

    def evaluate(checkpoint: str, phase: Phase, output: Path) -> dict[str, Any]:
        words = [sys.executable, "-m", "trainer.cli", *evaluation_words(phase, checkpoint, request.store)]
        words += ["--output", str(output), "--json"]
        log = output / "evaluation.log"
        environment = {**os.environ, SWITCH: "1"}
        with log.open("a", encoding="utf-8") as errors, followed(log, watcher.said):
            ran = subprocess.run(words, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, env=environment)
        try:
            document = json.loads(ran.stdout)
        except ValueError:
            document = {"error": f"evaluation ended with status {ran.returncode}", "next": f"see {log}"}
        if ran.returncode != 0 or "error" in document:
            raise InfiMmrError(str(document.get("error", "evaluation failed")), str(document.get("next", f"see {log}")))
        return dict(document)

    return evaluate


def _read(output: Path) -> dict[str, Any] | None:
    path = output / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfiMmrError(f"{path} is unreadable", "Choose another --output") from error
    if not isinstance(content, dict) or not {"phases", "table"} <= content.keys():
        raise InfiMmrError(f"{path} is not a record of a curriculum", "Choose another --output")
    return content


def table_text(content: dict[str, Any]) -> str:
    """The accuracies of a curriculum as a Markdown table, in percent with standard errors."""
    rows = content["table"]
    names = list(rows[0].get("accuracy", {})) if rows else []
    lines = ["| checkpoint | " + " | ".join(names) + " | mean |", "|---|" + "---|" * (len(names) + 1)]
    for row in rows:
        found = row.get("accuracy", {})
        cells = [f"{100 * found[name]['accuracy']:.1f} ± {100 * found[name]['stderr']:.1f}" for name in names]
        mean = sum(found[name]["accuracy"] for name in names) / max(len(names), 1)
        lines.append(f"| {row['name']} | " + " | ".join(cells) + f" | {100 * mean:.1f} |")
    return "\n".join(lines)
