"""What a phase is: one named file of values, resolved for a profile.

Input: a phase file, `phases/NAME.toml` or one of the user's own by path, a profile and `--set` overrides. Output: a
frozen `Phase`. A file of one's own may name one of ours as its `base` and hold only what differs. The defaults below
are the values of the paper's section 5.1 where it states one; each field says its meaning, unit and source. The `local`
tables of the phase files change sizes only, and the learning rate, which belongs to a model's size.
Not covered: what OpenRLHF calls these values (`openrlhf_bridge/arguments.py`).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from shared.benchmarks import PAPER
from shared.config import Strict, beside, build_model, merge, read_toml
from shared.errors import UsageError, did_you_mean
from shared.processor import cpu_dtype
from shared.prompts import SET_OF_PROFILE, SETS, load_prompt
from shared.vlm.spec import Temperature
from trainer.rewards import RewardWeights
from trainer.supervised_settings import check_supervised

PHASES = Path(__file__).parent / "phases"
QUESTION_FIELD, CAPTION_FIELD = "{question}", "{caption}"
BUNDLED = "tiny-vl"
NAMES_A_RUN = re.compile(r"\w[\w.-]*")
"""What a phase may be called: its name is a part of paths and of tables."""


SOURCE_RATE = "difficulty.pass_rate_large"
"""Column of the pass rates that came with the source."""


class DataSettings(Strict):
    """Which rows train."""

    dataset: str = Field(description="Dataset version to train on, `name[@vN|@tag]`.")
    split: str = Field(
        default="",
        description="Split that trains, where the version has splits: one must be named there; 'all' takes every row.",
    )
    captions: bool = Field(
        default=False, description="Put the picture's caption into the prompt (paper, section 4.2: CMRA only)."
    )
    images: Literal["none", "required", "any"] = Field(
        default="any", description="Rows without pictures only, rows with pictures only, or both."
    )
    max_rows: int = Field(default=0, ge=0, description="Most rows, drawn by the seed; 0 takes all.")
    min_pass_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Leave out rows whose pass rate (`pass_rate_column`) is below; 0 switches it off.",
    )
    max_pass_rate: float = Field(
        default=1.0, ge=0, le=1, description="Leave out rows whose pass rate is above; 1 switches it off."
    )
    pass_rate_column: str = Field(
        default=SOURCE_RATE,
        description="Which pass rate: the source's (ViRL39K's PassRate_32BTrained; rows without one stay), or "
        "'rating.pass_rate', the policy's own of the step rate_difficulty (with a bound, rows without one leave).",
    )
    rate_weight: Literal["none", "variance"] = Field(
        default="none",
        description="variance: rows that the policy passes half of the time come first, drawn by p (1 - p), so that "
        "they stay where max_rows or max_steps leave some out (MMR1's variance-aware sampling; not in the paper).",
    )
    trace_column: str = Field(
        default="",
        description="Where the reasoning traces of a supervised phase lie; a dot leads into JSON: 'extra.trace', or "
        "'answer_raw' where a set gives its answers as whole solutions (GSM8K).",
    )
    max_image_pixels: int = Field(
        default=1_003_520,
        ge=0,
        description="Larger pictures are reduced to this many pixels (1,280 tokens; the paper states none). 0: never.",
    )
    profile_check: bool = Field(
        default=True, description="Refuse a dataset version that was built for the other profile."
    )
    allow_unfit_captions: bool = Field(
        default=False, description="Put captions into prompts whose writer does not know such pictures."
    )
    allow_test_set: bool = Field(default=False, description="Train on a benchmark, which is for testing only.")


class PromptSettings(Strict):
    """How a row is asked: names of prompt files in the phase's prompt set."""

    system: str = Field(default="reason_system", description="System prompt; asks for <think> and \\boxed{}.")
    question: str = Field(default="question", description="User prompt with the field {question} (and {caption}).")


class ModelSettings(Strict):
    """The policy before this phase."""

    start: str = Field(
        default="Qwen/Qwen2.5-VL-3B-Instruct",
        description="Hub id, folder or 'tiny-vl'; `--from` replaces it (paper, section 5.1).",
    )
    revision: str = Field(
        default="66285546d2b821cf421d4f5eb2576359d3770cd3", description="Hub commit; unused for a folder."
    )
    freeze_vision: bool = Field(default=False, description="Train the language model only (not in the paper).")

    @model_validator(mode="before")
    @classmethod
    def _a_revision_is_of_its_model(cls, values: Any) -> Any:
        """Another model than the default one has no commit unless one is named with it."""
        if isinstance(values, dict) and values.get("start", (own := cls.model_fields["start"].default)) != own:
            return {"revision": "", **values}
        return values


class RewardSettings(RewardWeights):
    """The weights of the paper's reward, or a function of one's own."""

    function: str = Field(
        default="", description="FILE.py:FUNCTION of your own (gold, output, row) in place of R; empty: none."
    )


class RolloutSettings(Strict):
    """How the policy is sampled."""

    batch_size: int = Field(default=256, gt=0, description="Prompts per step (paper: rollout batch size 256).")
    samples_per_prompt: int = Field(default=16, gt=1, description="Rollouts per prompt, G in equation 1 (paper: 16).")
    temperature: Temperature = Field(
        default=1.0, gt=0, description="Sampling temperature, 0.01 to 2 (the paper states none)."
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus; 1 switches it off (the paper states none).")
    max_new_tokens: int = Field(
        default=2048, gt=0, description="Tokens of one answer (the paper states none; its Figure 3 stays below 1,000)."
    )
    max_length: int = Field(
        default=6144,
        gt=0,
        description="Tokens of prompt, pictures and answer; longer rows are counted and left out, never truncated.",
    )
    dynamic_filtering: bool = Field(
        default=False, description="Replace groups that are all right or all wrong (DAPO; not in the paper)."
    )


class TrainSettings(Strict):
    """How the policy is updated (GRPO, paper equations 1 and 2)."""

    batch_size: int = Field(default=256, gt=0, description="Size of one update (paper: 256), in `batch_unit`s.")
    batch_unit: Literal["rollouts", "prompts"] = Field(
        default="rollouts",
        description=(
            "What batch_size counts. 'rollouts' is OpenRLHF's own meaning: 256 prompts x 16 rollouts / 256 = 16 "
            "updates a step, where equation 1's clipping matters. 'prompts' makes it one update a step."
        ),
    )
    micro_batch_size: int = Field(default=2, gt=0, description="Rollouts per forward and backward pass on one GPU.")
    learning_rate: float = Field(default=1e-6, gt=0, description="Adam's learning rate (paper: 1.0e-6).")
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine_with_min_lr"] = Field(
        default="constant_with_warmup",
        description="Constant after the warm-up: the paper states one rate; OpenRLHF's own default is a cosine.",
    )
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the updates that warm up.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradient norm clip; 0 switches it off.")
    weight_decay: float = Field(default=0.0, ge=0, description="Adam's decoupled weight decay.")
    clip_range: float = Field(default=0.2, gt=0, lt=1, description="Epsilon of equation 1 (GRPO's value).")
    clip_range_high: float = Field(
        default=0.0,
        ge=0,
        description="Upper epsilon where it is another one (DAPO's clip-higher, not in the paper); 0 takes clip_range.",
    )
    advantage: Literal["group_norm", "dr_grpo"] = Field(
        default="group_norm",
        description="(r - mean) / std of a prompt's rollouts as in the paper, or r - mean (Dr. GRPO).",
    )
    policy_loss: Literal["ppo", "gspo"] = Field(
        default="ppo",
        description="Ratio per token as in equation 1, or one per answer (GSPO; each answer then weighs the same).",
    )
    kl_coefficient: float = Field(
        default=0.001,
        ge=0,
        description="Beta of equation 1; the paper states none, 0.001 is that of verl's GRPO examples (EasyR1's have "
        "0.01). 0 needs no reference.",
    )
    kl_estimator: Literal["k3", "k2"] = Field(default="k3", description="k3 is the estimator of GRPO's paper.")
    loss_aggregation: Literal["seq-mean-token-mean", "token-mean"] = Field(
        default="seq-mean-token-mean", description="Equation 1 averages within an output, then over outputs."
    )
    rollout_correction: Literal["off", "token"] = Field(
        default="off",
        description=(
            "Weigh tokens by training over rollout probability where the two drift apart, and log the drift as vllm_kl "
            "(not in the paper)."
        ),
    )
    epochs: int = Field(default=1, gt=0, description="Passes over the rows, when max_steps does not stop before.")
    max_steps: int = Field(default=0, ge=0, description="Stop after this many steps; 0 trains `epochs`.")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="Numbers of policy, reference and rollouts. auto: bfloat16 on CUDA; on a CPU bfloat16 where the "
        "processor has units for it, else float32. The run record says which.",
    )
    gradient_checkpointing: bool = Field(default=True, description="Recompute activations to save memory.")
    seed: int = Field(default=42, ge=0, description="Seed of the row order, the rollouts and the update.")


class LoraSettings(Strict):
    """Low-rank adapters in place of all weights (Hu et al. 2021; not in the paper). A checkpoint has them merged."""

    rank: int = Field(default=0, ge=0, description="Rank of the adapters; 0 trains all weights.")
    alpha: int = Field(default=16, gt=0, description="An adapter counts alpha / rank times.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of an adapter's inputs left out in an update.")
    targets: tuple[str, ...] = Field(
        default=(), description="Last names of the layers to adapt, e.g. q_proj; empty: all linear ones but the last."
    )


class CheckpointSettings(Strict):
    """What is kept."""

    save_every: int = Field(default=10, gt=0, description="Steps between states that a killed run resumes from.")
    keep: int = Field(
        default=2, ge=2, description="States kept; at least two, because the oldest goes before the newest is whole."
    )


class ClusterSettings(Strict):
    """Where it runs; changes no result's meaning."""

    nodes: int = Field(default=2, gt=0, description="Machines (paper: 16 H800, here 2 x 8).")
    gpus_per_node: int = Field(default=8, gt=0, description="GPUs of one machine.")
    tensor_parallel: int = Field(default=1, gt=0, description="GPUs per vLLM engine.")
    vllm_memory: float = Field(
        default=0.6, gt=0, lt=1, description="Share of a GPU's memory for vLLM while it samples."
    )
    zero_stage: Literal[1, 2, 3] = Field(default=2, description="DeepSpeed ZeRO stage.")
    adam_offload: bool = Field(default=False, description="Keep Adam's states in host memory.")
    attention: Literal["sdpa", "flash_attention_2", "eager"] = Field(
        default="sdpa", description="Attention of the trained model; flash_attention_2 needs flash-attn and CUDA."
    )
    sleep: bool = Field(default=True, description="vLLM and DeepSpeed give their GPU memory to each other in turns.")


class EvaluationSettings(Strict):
    """Held-out tasks, run on the base and after each phase by a curriculum."""

    benchmarks: tuple[str, ...] = Field(
        default=PAPER,
        description="Evaluation tasks (paper, section 5.2), or paths of task files.",
    )
    limit: int = Field(default=0, ge=0, description="Items per task; 0 takes all.")
    bar: dict[str, float] = Field(
        default={},
        description="Least accuracy after this phase, by benchmark or as `mean`; below it a curriculum does not go on.",
    )
    least_gain: float = Field(
        default=-1.0,
        ge=-1,
        le=1,
        description="Least gain of the mean accuracy over the one before this phase, e.g. -0.02; -1 switches it off.",
    )
    every: int = Field(
        default=0, ge=0, description="Steps between greedy evaluations during training; 0: none, they cost rollouts."
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the benchmarks: a task file is called like its file."""
        return tuple(Path(one).stem.lower() if one.lower().endswith(".toml") else one for one in self.benchmarks)


class LoggingSettings(Strict):
    """Where metrics go besides the run folder and TensorBoard."""

    wandb_project: str = Field(default="", description="Weights & Biases project; empty switches it off.")


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
                message = f"evaluation.bar names {name!r}. {did_you_mean(name, known)}"
                raise ValueError(message)
            if not 0 <= least <= 1:
                message = f"evaluation.bar.{name} is {least}: an accuracy lies between 0 and 1"
                raise ValueError(message)
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
            message = (
                f"train.batch_size ({self.update_rollouts} rollouts) must divide the {rollouts} rollouts of a step "
                f"(rollout.batch_size {self.rollout.batch_size} x samples_per_prompt {self.rollout.samples_per_prompt})"
            )
            raise ValueError(message)
        if self.update_rollouts % (self.train.micro_batch_size * gpus):
            message = (
                f"train.micro_batch_size {self.train.micro_batch_size} x {gpus} GPUs must divide "
                f"the {self.update_rollouts} {'traces' if self.method == 'sft' else 'rollouts'} of an update"
            )
            raise ValueError(message)
        if self.rollout.max_new_tokens >= self.rollout.max_length:
            message = "rollout.max_new_tokens must leave room for a prompt within rollout.max_length"
            raise ValueError(message)
        if self.lora.rank and self.cluster.zero_stage == 3:
            message = (
                "lora.rank needs cluster.zero_stage 1 or 2: with 3 no GPU holds a layer's whole weight, which vLLM is "
                "pushed with its adapter merged"
            )
            raise ValueError(message)
        if self.data.min_pass_rate > self.data.max_pass_rate:
            message = "data.min_pass_rate is above data.max_pass_rate: no row can pass"
            raise ValueError(message)
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


def phase_names(folder: Path = PHASES) -> tuple[str, ...]:
    """Names of the phase files, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


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
            raise UsageError(f"phase {file.name}: base {base!r} is no phase", did_you_mean(str(base), phase_names()))
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
