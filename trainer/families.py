"""Which vision-language models a phase trains, and why not the others: what config.json says of itself.

Everything else about a family comes from the checkpoint's own files: chat template, token ids, the pixels of a picture
token and their limits, tied weights, the weights' names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from shared.errors import InfiMmrError
from shared.vlm.surroundings import CPU_GATED_DELTA, has_linear_attention

TRAINED = {"qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL", "qwen3_5": "Qwen3.5"}
"""Model types whose miniatures run a phase and an evaluation (tests/flows/test_families.py), and their names."""
NOT_TRAINED = {
    "gemma4": "OpenRLHF 0.11.2 marks image tokens as token_type_ids, where transformers 5.15 reads "
    "mm_token_type_ids: the policy would look at images otherwise than its rollouts",
    "qwen3_vl_moe": "transformers 5.15 transposes its experts' weights when it loads them, and OpenRLHF 0.11.2 pushes "
    "them so, where vLLM 0.29 expects them as published: rollouts would come from other weights",
}
"""Model types that the pinned libraries know and cannot train together, and why (findings/ shows Gemma 4's)."""
_OTHER = f"Name a checkpoint of {', '.join(TRAINED.values())} with --from"
UNLOADED = ("mtp.",)
"""Beginnings of the names of weights that are published beside a model and that transformers does not load: Qwen3.5's
multi-token prediction, which serves speculative decoding alone."""


def check_family(name: str, config: Mapping[str, Any]) -> None:
    """Refuse (`InfiMmrError`, with the reason) a checkpoint that reads pictures and that the libraries do not train."""
    model_type = str(config.get("model_type", "unknown"))
    if model_type in TRAINED or not ("vision_config" in config or model_type in NOT_TRAINED):
        return
    why = NOT_TRAINED.get(model_type, "no phase of this project has been run with it")
    raise InfiMmrError(f"checkpoint {name} is a {model_type} model, which is not trained: {why}", _OTHER)


def check_reads_pictures(name: str, config: Mapping[str, Any], phase: str) -> None:
    """Refuse (`InfiMmrError`) a text model for a phase with pictures."""
    if config.get("model_type") not in TRAINED:
        raise InfiMmrError(
            f"checkpoint {name} is a {config.get('model_type', 'unknown')} model, which reads text alone, but phase "
            f"{phase} asks about images",
            f"{_OTHER}, or train phase fra, which is text only",
        )


def engine_number_bytes(config: Mapping[str, Any], number: int) -> int:
    """Bytes of a picture's number as vLLM is sent and keeps it: one where its vision tower normalises, else `number`.

    `number` is what the policy gets. No configuration means Qwen2.5-VL's.
    """
    return 1 if config.get("model_type", "qwen2_5_vl") in {"qwen2_vl", "qwen2_5_vl"} else number


def check_linear_attention(name: str, config: Mapping[str, Any], device: Literal["cuda", "cpu"], dtype: str) -> None:
    """Refuse numbers that vLLM's linear attention on a CPU does not compute with.

    Raises:
        InfiMmrError: float32 on a CPU, which is what a processor without bfloat16 units takes.

    """
    if device == "cpu" and dtype != "bfloat16" and has_linear_attention(config):
        raise InfiMmrError(
            f"checkpoint {name} has linear attention, and {CPU_GATED_DELTA}, but this run is in {dtype}",
            "Allow bfloat16 with --set train.dtype=bfloat16 (slow on a processor without units for it)",
        )
