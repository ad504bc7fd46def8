"""What of a phase applies to a supervised one (`method = "sft"`); the rest is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

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
        values: BaseModel = getattr(phase, section)
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
