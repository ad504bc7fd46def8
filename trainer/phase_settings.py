"""The values of a phase, section by section: each with its default, meaning, unit and source.

The defaults are the values of the paper's section 5.1 where it states one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from shared.benchmarks import PAPER
from shared.config import Strict
from shared.vlm.spec import Temperature
from trainer.rewards import RewardWeights

SOURCE_RATE = "difficulty.pass_rate_large"
"""Column of the pass rates that came with the source."""


class DataSettings(Strict):
    """Which rows train."""

    dataset: str = Field(min_length=1, description="Dataset version to train on, `name[@vN|@tag]`.")
    split: str = Field(
        default="",
        description="Split that trains, where the version has splits: one must be named there; 'all' takes every row.",
    )
    captions: bool = Field(
        default=False, description="Put the image's caption into the prompt (paper, section 4.2: CMRA only)."
    )
    images: Literal["none", "required", "any"] = Field(
        default="any", description="Rows without images only, rows with images only, or both."
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
        description="Larger images are reduced to this many pixels (1,280 tokens; the paper states none). 0: never.",
    )
    profile_check: bool = Field(
        default=True, description="Refuse a dataset version that was built for the other profile."
    )
    allow_unfit_captions: bool = Field(
        default=False, description="Put captions into prompts whose writer does not know such images."
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
        min_length=1,
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
        description="Tokens of prompt, images and answer; longer rows are counted and left out, never truncated.",
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


APPLIES: dict[str, tuple[str, ...]] = {
    "reward": (),
    "rollout": ("max_new_tokens", "max_length"),
    "train": (
        "batch_size",
        "micro_batch_size",
        "learning_rate",
        "schedule",
        "warmup_ratio",
        "max_grad_norm",
        "weight_decay",
        "epochs",
        "max_steps",
        "dtype",
        "gradient_checkpointing",
        "seed",
    ),
    "cluster": ("nodes", "gpus_per_node", "zero_stage", "adam_offload", "attention"),
}
"""Settings of these sections that a supervised phase reads; the others are refused where they are set."""


def check_supervised(phase: Any) -> None:
    """Refuse by its name what a supervised phase would not heed.

    Raises:
        ValueError: with the setting and the reason.

    """
    for section, applies in APPLIES.items():
        values: Strict = getattr(phase, section)
        for name, field in type(values).model_fields.items():
            if name not in applies and getattr(values, name) != field.default:
                raise ValueError(f"{section}.{name} has no effect in a supervised phase: it samples no rollouts")
    refused = {
        'data.images must be "none": OpenRLHF\'s SFT entry reads texts only': phase.data.images != "none",
        "data.captions tell of images, which a supervised phase leaves out": phase.data.captions,
        "data.trace_column must name the column of the traces": not phase.data.trace_column,
        "model.freeze_vision has no effect: texts leave the vision tower as it is": phase.model.freeze_vision,
        "evaluation.every needs rollouts: a curriculum or `trainer evaluate` measures it": phase.evaluation.every > 0,
        "cluster.nodes must be 1: OpenRLHF's SFT entry is started on one machine": phase.cluster.nodes > 1,
    }
    for reason, holds in refused.items():
        if holds:
            raise ValueError(reason)
