"""What a phase is: one named file of values, resolved for a profile.

Input: a phase file, `phases/NAME.toml` or one of the user's own by path, a profile and `--set` overrides. Output: a
frozen `Phase`, whose sections are in `phase_settings`. A file of one's own may name one of ours as its `base` and hold
only what differs. The `local` tables of the phase files change sizes only, and the learning rate, which belongs to a
model's size.
Not covered: what OpenRLHF calls these values (`openrlhf_bridge/arguments.py`).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from shared.config import Strict, beside, build_model, merge, read_toml
from shared.errors import UsageError, did_you_mean
from shared.processor import cpu_dtype
from shared.prompts import SET_OF_PROFILE, SETS, load_prompt
from trainer.phase_settings import (
    CheckpointSettings,
    ClusterSettings,
    DataSettings,
    EvaluationSettings,
    LoggingSettings,
    LoraSettings,
    ModelSettings,
    PromptSettings,
    RewardSettings,
    RolloutSettings,
    TrainSettings,
    check_supervised,
)

PHASES = Path(__file__).parent / "phases"
QUESTION_FIELD, CAPTION_FIELD = "{question}", "{caption}"
BUNDLED = "tiny-vl"
NAMES_A_RUN = re.compile(r"\w[\w.-]*")
"""What a phase may be called: its name is a part of paths and of tables."""


class Phase(Strict):
    """One phase, resolved: what `run.json` records and what OpenRLHF's arguments are made of."""

    name: str = Field(description="How runs and tables call it; empty in a file: the file's name.")
    title: str = Field(default="", description="What the phase is for.")
    profile_name: Literal["full", "local"] = Field(default="full", description="Profile it was resolved for.")
    prompts: str = Field(
        default="", description="Prompt set: full, bundled (tiny-vl's), or a folder; empty: the profile's."
    )
    method: Literal["grpo", "sft"] = Field(
        default="grpo",
        description="Reinforcement learning as in the paper, or supervised fine-tuning on `data.trace_column`: one "
        "step is then one update on train.batch_size traces, and what belongs to rollouts and rewards is refused.",
    )
    data: DataSettings
    prompt: PromptSettings = PromptSettings()
    model: ModelSettings = ModelSettings()
    reward: RewardSettings = RewardSettings()
    rollout: RolloutSettings = RolloutSettings()
    train: TrainSettings = TrainSettings()
    lora: LoraSettings = LoraSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    cluster: ClusterSettings = ClusterSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="before")
    @classmethod
    def _set_of_profile(cls, values: Any) -> Any:
        """Take the profile's prompt set where the file names none."""
        if not isinstance(values, dict) or values.get("prompts"):
            return values
        return {**values, "prompts": SET_OF_PROFILE.get(values.get("profile_name", "full"), "full")}

    @model_validator(mode="after")
    def _bar_is_for_its_benchmarks(self) -> Phase:
        """Refuse a bar that no evaluation of this phase could meet or miss."""
        known = ("mean", *self.evaluation.names)
        for name, least in self.evaluation.bar.items():
            if name not in known:
                raise ValueError(f"evaluation.bar names {name!r}. {did_you_mean(name, known)}")
            if not 0 <= least <= 1:
                raise ValueError(f"evaluation.bar.{name} is {least}: an accuracy lies between 0 and 1")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Phase:
        """Refuse sizes that OpenRLHF would only refuse, or silently round, after minutes of start-up."""
        if self.method == "sft":
            check_supervised(self)
        elif self.data.trace_column:
            raise ValueError('data.trace_column is for phases with method = "sft"')
        rollouts = self.rows_per_step * (1 if self.method == "sft" else self.rollout.samples_per_prompt)
        gpus = self.cluster.nodes * self.cluster.gpus_per_node
        if rollouts % self.update_rollouts:
            raise ValueError(
                f"train.batch_size ({self.update_rollouts} rollouts) must divide the {rollouts} rollouts of a step "
                f"(rollout.batch_size {self.rollout.batch_size} x samples_per_prompt {self.rollout.samples_per_prompt})"
            )
        if self.update_rollouts % (self.train.micro_batch_size * gpus):
            raise ValueError(
                f"train.micro_batch_size {self.train.micro_batch_size} x {gpus} GPUs must divide "
                f"the {self.update_rollouts} {'traces' if self.method == 'sft' else 'rollouts'} of an update"
            )
        if self.rollout.max_new_tokens >= self.rollout.max_length:
            raise ValueError("rollout.max_new_tokens must leave room for a prompt within rollout.max_length")
        if self.lora.rank and self.cluster.zero_stage == 3:
            raise ValueError(
                "lora.rank needs cluster.zero_stage 1 or 2: with 3 no GPU holds a layer's whole weight, which vLLM is "
                "pushed with its adapter merged"
            )
        if self.data.min_pass_rate > self.data.max_pass_rate:
            raise ValueError("data.min_pass_rate is above data.max_pass_rate: no row can pass")
        return self

    def dtype_on(self, device: str) -> Literal["bfloat16", "float32"]:
        """Number type of a run on `device` ("cuda" or "cpu").

        Raises:
            UsageError: float32 on CUDA, where OpenRLHF trains in 16 bits.

        """
        chosen = self.train.dtype
        if device == "cpu":
            return cpu_dtype() if chosen == "auto" else chosen
        if chosen == "float32":
            raise UsageError(
                f"phase {self.name}: train.dtype=float32 is for runs on a CPU; OpenRLHF trains in bfloat16 on CUDA",
                "Leave train.dtype at auto",
            )
        return "bfloat16"

    def starting_from(self, checkpoint: str) -> Phase:
        """This phase with another start, a folder, which has no revision."""
        return self.model_copy(update={"model": self.model.model_copy(update={"start": checkpoint, "revision": ""})})

    @property
    def update_rollouts(self) -> int:
        """Rollouts (or traces) of one update: what OpenRLHF calls train.batch_size."""
        per_unit = self.rollout.samples_per_prompt if self.train.batch_unit == "prompts" else 1
        return self.train.batch_size * per_unit

    @property
    def rows_per_step(self) -> int:
        """Rows of the dataset that one step takes."""
        return self.train.batch_size if self.method == "sft" else self.rollout.batch_size

    @property
    def updates_per_step(self) -> int:
        """Optimiser updates that one step's rollouts are used for."""
        if self.method == "sft":
            return 1
        return self.rollout.batch_size * self.rollout.samples_per_prompt // self.update_rollouts

    def steps(self, rows: int) -> int:
        """Steps of this phase with `rows` usable rows: whole steps only, none with a partial batch of prompts."""
        by_epochs = rows * self.train.epochs // self.rows_per_step
        return self.train.max_steps or by_epochs

    def epochs_needed(self, rows: int) -> int:
        """Passes over `rows` rows that the steps of this phase take (more than `train.epochs` if max_steps asks)."""
        return max(1, math.ceil(self.steps(rows) * self.rows_per_step / max(rows, 1)))


def phase_names() -> tuple[str, ...]:
    """Names of the phase files, sorted."""
    return tuple(sorted(path.stem for path in PHASES.glob("*.toml")))


def phase_file(words: str) -> Path:
    """File of a phase by its name, or by the path of a file of one's own.

    Raises:
        UsageError: no such phase or file; the nearest name is given.

    """
    if words.endswith(".toml") or "/" in words:
        path = Path(words).expanduser()
        if not path.is_file():
            raise UsageError(f"phase file {words} does not exist", f"Phases by name: {', '.join(phase_names())}")
        if not NAMES_A_RUN.fullmatch(path.stem):
            raise UsageError(f"phase file {path.name}: its name cannot name a run", "Use letters, digits and ._-")
        return path
    path = PHASES / f"{words}.toml"
    if not path.is_file():
        raise UsageError(f"no phase named {words!r}", f"{did_you_mean(words, phase_names())}, or the path of a file")
    return path


def _table(file: Path, profile: str) -> dict[str, Any]:
    """What a phase file says, over what its `base` says for the profile."""
    table = read_toml(file, "phase")
    if file.parent != PHASES:
        table = beside(table, file.parent, _is_place)
        base = table.pop("base", None)
        if base is not None and base not in phase_names():
            raise UsageError(f"phase {file.name}: base {base!r} is not a phase", did_you_mean(str(base), phase_names()))
        if base is not None:
            below = read_toml(PHASES / f"{base}.toml", "phase")
            below.pop("name", None)  # a file over another is not that file
            table = merge(merge(below, below.pop("profile", {}).get(profile, {})), table)
    return table | {"name": table.get("name") or file.stem}


def _is_place(key: str, value: str) -> bool:
    """Whether a value may be a path that leads from the phase file."""
    if key in {"system", "question"}:
        return value.endswith((".md", ".txt"))
    return key in {"start", "prompts", "function", "benchmarks"} and value not in {*SETS, BUNDLED}


def load_phase(words: str, profile: Literal["full", "local"], overrides: list[str] | None = None) -> Phase:
    """Phase by name or path, resolved for `profile`, with `overrides` such as `train.max_steps=3`.

    Raises:
        UsageError: no such phase, an unknown key (the nearest right one is named), or values that do not fit together.

    """
    from trainer.evaluation.tasks import benchmark_names

    file = phase_file(words)
    settings = [*(overrides or []), f"profile_name={profile}"]
    phase = build_model(_table(file, profile), Phase, settings, what="phase", profile=profile, file=file.name)
    name = phase.name
    if not NAMES_A_RUN.fullmatch(name):
        raise UsageError(f"phase {file.name}: name {name!r} cannot name a run", "Use letters, digits and ._-")
    if sorted(benchmark_names(phase.evaluation.benchmarks)) != sorted(set(phase.evaluation.names)):
        raise UsageError(f"phase {name}: evaluation.benchmarks takes names and task files alone", "Name each of them")
    load_prompt(phase.prompt.system, phase.prompts)
    form = load_prompt(phase.prompt.question, phase.prompts).text
    if QUESTION_FIELD not in form:
        raise UsageError(
            f"phase {name}: prompt.question {phase.prompt.question!r} has no field {QUESTION_FIELD}",
            "Write it where the question belongs, or name another prompt",
        )
    if phase.data.captions != (CAPTION_FIELD in form):
        has = "has" if CAPTION_FIELD in form else "has no"
        raise UsageError(
            f"phase {name}: data.captions is {phase.data.captions}, but prompt.question {phase.prompt.question!r} "
            f"{has} field {CAPTION_FIELD}",
            "A prompt form with captions needs data.captions = true and the other way round",
        )
    return phase
