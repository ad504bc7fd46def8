"""What a run did, step by step: OpenRLHF's numbers and the agents' rollouts joined with the prompts, as files.

Input: the records that the run's processes write (`openrlhf_bridge/records.py`), live and at the end, and the prompt
file. Output: `rollouts/step-000012.parquet` (columns below), one line per step in `metrics.jsonl`, and one per
evaluation during training in `evaluations.jsonl`. A step that is trained again after a resume replaces its own file and
line.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shared.whole_file import write_whole
from trainer.openrlhf_bridge.records import ACTOR, TRAINER

COLUMNS = (
    # (name, polars type, meaning)
    ("step", "Int64", "training step, from 1"),
    ("prompt_id", "String", "id of the dataset row"),
    ("question", "String", "question of the row, with its <image> tags"),
    ("image_hashes", "List(String)", "sha256 of each image's original bytes"),
    ("output", "String", "what the policy wrote, without special tokens"),
    ("tokens", "Int64", "tokens of the output"),
    ("reward", "Float64", "shaped reward, what trains"),
    ("format", "Float64", "format part, 0 or 1"),
    ("accuracy", "Float64", "1 for a right answer behind a valid format, else 0: `accuracy` of metrics.jsonl"),
    ("accuracy_reward", "Float64", "accuracy part of the reward, from type_match and exact"),
    ("type_match", "Float64", "type part of the accuracy"),
    ("exact", "Float64", "exact part of the accuracy"),
    ("kind", "String", "answer kind"),
    ("verdict", "String", "verdict of the grader"),
    ("failure", "String", "why there is no accuracy; empty otherwise"),
    ("gold", "String", "gold answer"),
    ("truncated", "Boolean", "cut by max_new_tokens"),
)
PARTS = ".parts"
"""Folder of the records, inside `rollouts`."""
UNNAMED = "unnamed"
"""Folder inside it: actors' rows of steps that no trainer's file names."""
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
"""Accuracies on the held-out items during training, one line per evaluation."""
OPENRLHF_NAMES = {
    # OpenRLHF's name -> ours
    "reward": "reward",
    "accuracy": "accuracy",
    "format": "format",
    "response_length": "response_length",
    "kl": "kl",
    "policy_loss": "policy_loss",
    "actor_grad_norm": "grad_norm",
    "actor_lr": "learning_rate",
    "ppo_clip_ratio": "clip_ratio",
    "ppo_kl": "ppo_kl",
    "vllm_kl": "vllm_kl",
    "truncated": "truncated",
    "group_reward_std": "group_reward_std",
    "reward_failed": "reward_failed",
    "dynamic_filtering_pass_rate": "filter_pass_percent",
    # of OpenRLHF's SFT trainer
    "loss_mean": "loss",
    "lr": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens": "tokens",
    "trained_tokens": "trained_tokens",
    "timing/step_total": "seconds",
    "timing/generation": "seconds_generation",
    "timing/make_experience": "seconds_log_probabilities",
    "timing/ppo_train": "seconds_update",
    "timing/broadcast": "seconds_weight_push",
}


class RunWriter:
    """Collects and writes one run's rollouts and metrics."""

    def __init__(
        self,
        folder: Path,
        *,
        resumed_from: int = 0,
        supervised: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take a run folder; what an earlier attempt wrote about steps after `resumed_from` is dropped.

        Steps up to there that it recorded when nobody looked any more are written now. A supervised run has metrics
        only. `tell` hears of records that are damaged.
        """
        self._folder = folder
        self._supervised = supervised
        self._tell = tell
        self._rollouts = folder / "rollouts"
        self.parts = self._rollouts / PARTS
        self.parts.mkdir(parents=True, exist_ok=True)
        for file in self._rollouts.glob("step-*.parquet"):
            if int(file.stem.removeprefix("step-")) > resumed_from:
                file.unlink()
        self._prompts = _prompt_facts(folder / "prompts.jsonl")
        self._written = {name: _kept(folder / name, resumed_from) for name in (METRICS, EVALUATIONS)}
        (folder / METRICS).touch()
        self._forget()
        for _ in self.finished(resumed_from, over=True):
            pass
        self._put_away()
        self._forget()

    def _put_away(self) -> None:
        """Remove an earlier attempt's records; actors' rows that no trainer's file stands beside are kept aside.

        Such rows are of a run begun when OpenRLHF's numbers were read elsewhere: they are told nowhere else.
        """
        named = any(self.parts.glob(f"{TRAINER}-*.jsonl"))
        for old in self.parts.glob("*.jsonl"):
            if named or not old.stat().st_size:
                old.unlink()
            else:
                aside = self.parts / UNNAMED
                aside.mkdir(exist_ok=True)
                old.replace(aside / old.name)

    def _forget(self) -> None:
        self._read: dict[Path, int] = defaultdict(int)
        self._waiting: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._seconds: dict[int, dict[str, float]] = defaultdict(dict)
        self._held_out: list[dict[str, Any]] = []

    def finished(self, last: float = math.inf, *, over: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        """Write the steps and evaluations, up to step `last`, that have been recorded since the last call.

        Yields `METRICS` or `EVALUATIONS` and the line that this file got. `over`: nobody writes records any more, so a
        damaged one is left out; before, it may be one that another machine has not written whole, and is waited for.
        """
        ended = list(self._new_lines(TRAINER, over=over))  # before the actors': a step's line is written after theirs
        self._collect(over=over)
        for record in ended:
            name, step = (EVALUATIONS, record["evaluated"]) if "evaluated" in record else (METRICS, record["step"])
            if step > last or step in self._written[name]:
                self._held_out = [row for row in self._held_out if name == METRICS or row["step"] > step + 1]
                continue
            line = self._evaluation(step) if name == EVALUATIONS else self._step(step, record["values"])
            with (self._folder / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._written[name].add(step)
            yield name, line

    def _step(self, step: int, values: dict[str, float]) -> dict[str, Any]:
        """Write the Parquet file of a finished step; returns its metrics line."""
        rows = self._waiting.pop(step, [])
        for late in [number for number in self._waiting if number < step]:
            del self._waiting[late]
        if self._supervised:
            return openrlhf_metrics(step, values)
        self._write_parquet(step, rows)
        return step_metrics(step, values, rows, self._seconds.pop(step, {}))

    def _evaluation(self, step: int) -> dict[str, Any]:
        """The line of a finished evaluation during training: accuracy per benchmark after `step`.

        The answers are scored as `trainer evaluate` scores them: by the benchmark's task.
        """
        # The actors count an answer to the step that would come next.
        answers = [row for row in self._held_out if row["step"] == step + 1]
        self._held_out = [row for row in self._held_out if row["step"] > step + 1]
        return {"step": step, "accuracy": _accuracies(self._folder, answers)}

    def _new_lines(self, whose: str, *, over: bool) -> Iterator[dict[str, Any]]:
        for file in sorted(self.parts.glob(f"{whose}-*.jsonl")):
            damaged = 0
            with file.open("rb") as stream:
                stream.seek(self._read[file])
                for raw in stream:
                    line = _record(raw) if raw.endswith(b"\n") else None
                    if line is None and not (over and raw.endswith(b"\n")):  # still being written
                        break
                    self._read[file] += len(raw)
                    if line is None:
                        damaged += 1
                    else:
                        yield line
            if damaged:
                self._tell(f"{file} holds {damaged} damaged lines, which are left out of the rollouts and metrics")

    def _collect(self, *, over: bool = False) -> None:
        """Sort what the actors have written: rollouts, answers to held-out items, the seconds of a step."""
        for row in self._new_lines(ACTOR, over=over):
            if "seconds" in row:  # of the actor that took longest: the step waits for it
                kept = self._seconds[row["step"]]
                kept |= {part: max(value, kept.get(part, 0.0)) for part, value in row["seconds"].items()}
            elif row.get("held_out"):
                self._held_out.append(row)
            else:
                self._waiting[row["step"]].append(row)

    def _write_parquet(self, step: int, rows: list[dict[str, Any]]) -> None:
        import polars as pl

        types = {"List(String)": pl.List(pl.String)}
        schema = {name: types.get(kind) or getattr(pl, kind) for name, kind, _ in COLUMNS}
        told = []
        for row in rows:
            question, hashes = self._prompts.get(row["prompt_id"], ("", []))
            ours = {"reward": row["total"], "accuracy": float(row["score"]), "accuracy_reward": row["accuracy"]}
            told.append({**row, **ours, "question": question, "image_hashes": hashes})
        parts = sorted({name for row in told for name in row.get("parts", {})})  # of a reward of the user's own
        schema |= {f"reward_{name}": pl.Float64 for name in parts}
        told = [{**row, **{f"reward_{name}": row.get("parts", {}).get(name) for name in parts}} for row in told]
        table = pl.DataFrame([{name: row.get(name) for name in schema} for row in told], schema=schema)
        path = self._rollouts / f"step-{step:06d}.parquet"
        partial = path.with_name(f".{path.name}")
        table.write_parquet(partial)
        partial.replace(path)


def step_metrics(
    step: int, values: dict[str, float], rows: list[dict[str, Any]], seconds: dict[str, float] | None = None
) -> dict[str, Any]:
    """One line of `metrics.jsonl`: OpenRLHF's numbers under our names, and accuracy and reward by kind of answer.

    `values` are OpenRLHF's, `rows` the step's rollouts, `seconds` those of the slowest rollout actor by part.
    """
    line = openrlhf_metrics(step, values)
    line |= {f"seconds_{part}": value for part, value in (seconds or {}).items()}
    for name in rows[0].get("parts", {}) if rows else ():
        line[f"reward_{name}"] = sum(row.get("parts", {}).get(name, 0.0) for row in rows) / len(rows)
    line["rollouts"] = len(rows)
    line["tokens"] = sum(row["tokens"] for row in rows)
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row)
    line["by_kind"] = {
        kind: {
            "rollouts": len(found),
            "accuracy": sum(row["score"] for row in found) / len(found),
            "reward": sum(row["total"] for row in found) / len(found),
        }
        for kind, found in sorted(kinds.items())
    }
    return line


def openrlhf_metrics(step: int, values: dict[str, float]) -> dict[str, Any]:
    """OpenRLHF's numbers of a step under our names; those that are not finite become null: JSON has none."""
    line: dict[str, Any] = {"step": step}
    for theirs, ours in OPENRLHF_NAMES.items():
        if theirs in values:
            line[ours] = values[theirs] if math.isfinite(values[theirs]) else None
    return line


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl`, in order."""
    return read_lines(folder / METRICS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Steps' lines of a file, in order; what a kill or a disk left of others is left out, a missing file has none."""
    if not path.is_file():
        return []
    found = (_record(raw) for raw in path.read_bytes().splitlines())
    return [line for line in found if line is not None and isinstance(line.get("step"), int)]


def _accuracies(folder: Path, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Items, accuracy and standard error per benchmark of answers to the run's held-out items."""
    from shared.benchmark import Item
    from trainer.evaluation.cache import StoredAnswer
    from trainer.evaluation.results import summarise
    from trainer.evaluation.scoring import score
    from trainer.evaluation.tasks import task
    from trainer.held_out import read_items

    items = read_items(folder)
    outputs: dict[str, list[tuple[Item, int, StoredAnswer]]] = defaultdict(list)
    for row in rows:
        answer = StoredAnswer(row["output"], row["tokens"], 0, row["truncated"])
        outputs[row["held_out"]].append((items[row["prompt_id"]], 0, answer))
    found = {name: summarise(task(name), score(task(name), asked)) for name, asked in sorted(outputs.items())}
    return {name: {key: result[key] for key in ("n", "accuracy", "stderr")} for name, result in found.items()}


def _kept(path: Path, last: int) -> set[int]:
    """Drop a file's lines about steps after `last`; returns the steps that stay."""
    lines = [line for line in read_lines(path) if line["step"] <= last]
    if path.is_file():
        write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))
    return {line["step"] for line in lines}


def _record(raw: bytes) -> dict[str, Any] | None:
    """The record of a line; None where it is damaged."""
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _prompt_facts(path: Path) -> dict[str, tuple[str, list[str]]]:
    facts = {}
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            facts[json.loads(line["label"])["id"]] = (line.get("question", ""), line.get("image_hashes", []))
    return facts
