"""What vLLM's engines are told beyond OpenRLHF's arguments, each with its reason. Pure.

OpenRLHF starts its engines in a way that vLLM has no defaults for (`UsageContext.ENGINE_CONTEXT`), so that the oldest
ones hold on every card: 128 sequences at once and 2,048 tokens a scheduling step, where vLLM takes 1,024 and 8,192 to
16,384 on a card of 80 GB by itself. `benchmarks/rollouts.py` measures what can be seen without a card.
"""

from __future__ import annotations

from typing import Any, Literal

from trainer.phase import Phase

MOST_AT_ONCE = 512
"""Largest decoding batch of vLLM's CUDA graphs."""
STEP_TOKENS = 8192
"""Tokens of a scheduling step on a card, and of the pictures that the vision tower encodes and keeps: six of 1,280."""


def rollouts_per_engine(phase: Phase, device: Literal["cuda", "cpu"]) -> int:
    """Rollouts of a step that one engine makes."""
    engines = 1
    if device == "cuda":
        engines = phase.cluster.nodes * phase.cluster.gpus_per_node // phase.cluster.tensor_parallel
    return -(-phase.rollout.batch_size // engines) * phase.rollout.samples_per_prompt


def engine_arguments(phase: Phase, max_images: int, device: Literal["cuda", "cpu"]) -> dict[str, Any]:
    """Arguments of `vllm.AsyncEngineArgs` that take the place of OpenRLHF's."""
    at_once = rollouts_per_engine(phase, device)
    arguments: dict[str, Any] = {
        # Its statistics are kept token by token in the process that feeds the engine, and nobody reads them.
        "disable_log_stats": True,
        # All rollouts of a step are there at once: those that wait while others decode only make the step longer.
        "max_num_seqs": max(1, min(at_once, MOST_AT_ONCE)),
        # What is not named is allowed, so that an engine measures its memory, and spends its start, on 14 videos; in a
        # phase of text on as many pictures as fit a scheduling step. One at least: none takes the vision tower away,
        # whose weights are pushed with the others.
        "limit_mm_per_prompt": {"image": max(1, max_images), "video": 0},
    }
    if device == "cuda":
        # A prompt with a picture has up to 1,800 tokens: with 2,048 a step, prompts go through one by one.
        arguments["max_num_batched_tokens"] = STEP_TOKENS
    return arguments


def working_gib(phase: Phase, config: dict[str, Any]) -> float:
    """GiB on a card that an engine needs beside weights and cache: one step's activations, and logits to sample from.

    `config` has the model's `hidden_size` and `vocab_size`. Activations are those of a gated MLP (two of 5.4 times the
    hidden size) and three hidden states in bfloat16; logits are float32, with a copy for sampling and the original.
    """
    at_once = min(rollouts_per_engine(phase, "cuda"), MOST_AT_ONCE)
    share = phase.cluster.tensor_parallel
    activations = STEP_TOKENS * config["hidden_size"] * 2 * (2 * 5.4 / share + 3)
    logits = at_once * config["vocab_size"] * 10
    return float((activations + logits) / 1024**3)
