"""Collects what a report shows from run folders: records, evaluations, metrics, sampled rollouts.

Input: run folders of `trainer phase`, a folder of `trainer curriculum`, or folders of `trainer evaluate`. Output: one
`Run` each, in order. Files may be missing (a run without evaluation, an evaluation without training); damaged ones are
named in `notes` and never stop the report.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError
from shared.whole_file import json_table
from trainer.evaluation.results import OUTPUTS_FILE, RESULT_FILE, compare, read_result

CURVES = {
    # name in metrics.jsonl -> (in the terminal, on the page)
    "loss": ("loss", "Loss of supervised fine-tuning"),
    "reward": ("reward", "Reward"),
    "accuracy": ("accuracy", "Accuracy of rollouts"),
    "response_length": ("length", "Response length, tokens"),
    "kl": ("KL", "KL from the reference"),
    "grad_norm": ("gradient", "Gradient norm"),
    "seconds": ("s/step", "Seconds per step"),
}
"""Curves drawn, in order; one that no run has is left out."""
SAMPLED_STEPS = 8
"""Steps that rollouts are sampled from, evenly spaced, the first and the last among them."""

WROTE_IT = "Name folders that `trainer phase`, `curriculum` or `evaluate` wrote"


@dataclass
class Run:
    """One run folder as far as it could be read."""

    folder: Path
    name: str
    record: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, Path] = field(default_factory=dict)
    """Image hash -> file with its pixels, where the run's picture cache is at hand."""
    notes: list[str] = field(default_factory=list)

    @property
    def phase(self) -> dict[str, Any]:
        """The resolved phase; empty for a mere evaluation."""
        value = self.record.get("phase")
        return value if isinstance(value, dict) else {}

    @property
    def local(self) -> bool:
        """Whether anything about it is of the profile local."""
        sources = [result.get("source", {}) for result in self.evaluation.get("benchmarks", {}).values()]
        return self.phase.get("profile_name") == "local" or any(s.get("profile") == "local" for s in sources)

    def curve(self, key: str) -> list[tuple[int, float]]:
        """Step and value of a number in metrics.jsonl, in order, where a step has it."""
        return [
            (int(line["step"]), float(line[key])) for line in self.metrics if isinstance(line.get(key), int | float)
        ]


def collect(folders: Sequence[Path], rollouts: int) -> list[Run]:
    """Runs of all folders, a curriculum's in its order; at most `rollouts` sampled rollouts each.

    Raises:
        InfiMmrError: a folder that holds no run.

    """
    places = [place for folder in folders for place in _runs_in(folder)]
    runs = [_read(place, name, rollouts) for place, name in places]
    _tell_apart(runs)
    return runs


def _tell_apart(runs: Sequence[Run]) -> None:
    """Name runs that share a name by their folders, with as many parents as it takes."""
    for depth in range(1, 1 + max((len(run.folder.resolve().parts) for run in runs), default=0)):
        counts = Counter(run.name for run in runs)
        for run in runs:
            if counts[run.name] > 1:
                run.name = "/".join(run.folder.resolve().parts[-depth:])


def starts(runs: Sequence[Run]) -> list[int]:
    """Steps trained before each run on one axis: up to the end of the run that it went on from, else none.

    That is the phase before it in the same curriculum, or the run whose checkpoint its record names as its parent.
    """
    found: list[int] = []
    for place, run in enumerate(runs):
        start = 0
        for earlier in range(place):
            if runs[earlier].metrics and _goes_on_from(run, runs[earlier]):
                start = found[earlier] + int(runs[earlier].metrics[-1]["step"])
        found.append(start)
    return found


def _goes_on_from(run: Run, earlier: Run) -> bool:
    home = run.folder.resolve().parent
    if home == earlier.folder.resolve().parent and (home / "curriculum.json").is_file():
        return True
    parent = run.record.get("parent")
    location = parent.get("location") if isinstance(parent, dict) else ""
    return bool(location) and location == f"{earlier.folder.resolve().name}/checkpoint"


def _runs_in(folder: Path) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        raise InfiMmrError(f"run folder {folder} does not exist", WROTE_IT)
    curriculum = folder / "curriculum.json"
    if curriculum.is_file():
        table = json_table(curriculum).get("table")
        entries = [entry for entry in table if isinstance(entry, dict)] if isinstance(table, list) else []
        named = [(folder / str(entry.get("folder", "")), str(entry.get("name", ""))) for entry in entries]
        # A curriculum still under way has run folders that its table does not list yet.
        listed = {place for place, _ in named}
        return named + [(place, name) for place, name in _children(folder) if place not in listed]
    if any((folder / name).is_file() for name in ("run.json", RESULT_FILE, "metrics.jsonl")):
        return [(folder, "")]
    children = _children(folder)
    if not children:
        raise InfiMmrError(f"{folder} holds no run: neither run.json nor {RESULT_FILE} nor metrics.jsonl", WROTE_IT)
    return children


def _children(folder: Path) -> list[tuple[Path, str]]:
    names = ("run.json", RESULT_FILE)
    return [(place, "") for place in sorted(folder.iterdir()) if any((place / name).is_file() for name in names)]


def _read(folder: Path, name: str, rollouts: int) -> Run:
    run = Run(folder, name)
    if (folder / "run.json").is_file():
        run.record = json_table(folder / "run.json")
        if not run.record:
            run.notes.append("run.json cannot be read")
    if (folder / RESULT_FILE).is_file():
        try:
            run.evaluation = read_result(folder)
        except InfiMmrError as error:
            run.notes.append(error.message)
    run.metrics = _metrics(folder / "metrics.jsonl", run.notes)
    run.name = run.name or str(run.phase.get("name") or folder.name)
    if rollouts > 0:
        run.rollouts = _rollouts(folder / "rollouts", rollouts, run.notes)
        wanted = {digest for row in run.rollouts for digest in row["image_hashes"]}
        run.pictures = _pictures(folder / "prompts.jsonl", wanted)
    return run


def _metrics(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a line cut short by a kill is left out, a repeated step keeps its last line."""
    if not path.is_file():
        return []
    by_step: dict[int, dict[str, Any]] = {}
    bad = 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            by_step[int(line["step"])] = line
        except (ValueError, KeyError, TypeError):
            bad += 1
    if bad:
        notes.append(f"{bad} lines of metrics.jsonl cannot be read")
    return [by_step[step] for step in sorted(by_step)]


def _rollouts(folder: Path, count: int, notes: list[str]) -> list[dict[str, Any]]:
    """At most `count` rollouts from evenly spaced steps, drawn with a fixed seed."""
    import pyarrow.parquet as pq

    files = sorted(folder.glob("step-*.parquet"))
    if not files:
        return []
    steps = min(SAMPLED_STEPS, len(files), count)
    chosen = sorted({round(place * (len(files) - 1) / max(steps - 1, 1)) for place in range(steps)})
    rows: list[dict[str, Any]] = []
    for rank, place in enumerate(chosen):
        share = count // len(chosen) + (rank >= len(chosen) - count % len(chosen))
        try:
            table = pq.read_table(files[place]).to_pylist()
        except (OSError, ValueError):
            notes.append(f"{files[place].name} cannot be read")
            continue
        picked = random.Random(place).sample(range(len(table)), min(share, len(table)))
        rows += [{**table[row], "image_hashes": table[row].get("image_hashes") or []} for row in sorted(picked)]
    return rows


def _pictures(path: Path, wanted: set[str]) -> dict[str, Path]:
    """Files of the wanted images, from the prompt file of the run."""
    found: dict[str, Path] = {}
    if not wanted or not path.is_file():
        return found
    with path.open(encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                line = json.loads(text)
                pairs = list(zip(line.get("image_hashes") or (), line.get("images") or (), strict=False))
            except (ValueError, AttributeError, TypeError):
                continue
            found |= {digest: Path(place) for digest, place in pairs if digest in wanted and isinstance(place, str)}
    return found


def curves(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """`CURVES`, and what rewards of the user's own name beside the reward."""
    named = {key for run in runs for line in run.metrics for key in line if key.startswith("reward_")}
    own = {key: key.removeprefix("reward_") for key in sorted(named - {"reward_failed"})}
    return CURVES | {key: (name, f"Reward of one's own: {name}") for key, name in own.items()}


def differences(first: Run, second: Run) -> dict[str, dict[str, Any]]:
    """Second minus first per benchmark, in percent: paired where both outputs are at hand, else from the two errors.

    `other_items` says that the two were asked different items, so that only their accuracies can be compared.
    """
    paired: dict[str, dict[str, Any]] = {}
    if all((run.folder / OUTPUTS_FILE).is_file() for run in (first, second)):
        with suppress(InfiMmrError):
            paired = compare(first.folder, second.folder)
    results = [run.evaluation.get("benchmarks", {}) for run in (first, second)]
    found: dict[str, dict[str, Any]] = {}
    for name in results[0].keys() & results[1].keys():
        a, b = results[0][name], results[1][name]
        test = paired.get(name)
        other_items = bool(test and test["other_items"])
        test = None if other_items else test
        apart = (a["stderr"] ** 2 + b["stderr"] ** 2) ** 0.5
        found[name] = {
            # The headline's own difference: for MathVerse a mean over versions, not over items.
            "points": 100 * (b["accuracy"] - a["accuracy"]),
            "stderr": 100 * (test["stderr"] if test else apart),
            "p_value": test["p_value"] if test else None,
            "test": test["test"] if test else None,
            "paired": bool(test),
            "other_items": other_items,
        }
    return found
