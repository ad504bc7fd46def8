"""Adaptations of every run, with CUDA and without: what no argument of OpenRLHF changes."""

from __future__ import annotations

import os
from typing import Any

from trainer.openrlhf_bridge.cpu_compat.adaptations import ActorClass
from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation
from trainer.openrlhf_bridge.kept_processor import send_by_name
from trainer.openrlhf_bridge.merged_lora import adapt_what_trains, push_merged, save_merged
from trainer.openrlhf_bridge.records import record_steps


def _engine(module: Any) -> None:
    from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings

    engine = AgentSettings.from_environment().engine if SETTINGS in os.environ else {}
    if engine:
        module.RolloutRayActor = ActorClass(module.RolloutRayActor, engine)


ROLLOUT_PATH = (
    Adaptation(
        "engine arguments",
        "openrlhf.trainer.ray.vllm_engine",
        ("RolloutRayActor", "create_vllm_engines"),
        "OpenRLHF leaves vLLM's scheduler at defaults that no card deserves (engine_arguments.py)",
        _engine,
    ),
    Adaptation(
        "processor by name",
        "openrlhf.trainer.ppo_trainer",
        ("get_tokenizer",),
        "the processor with its vocabulary is pickled for every problem (kept_processor.py)",
        send_by_name,
    ),
    Adaptation(
        "step records",
        "openrlhf.trainer.ppo_trainer",
        ("TensorboardLogger.log_train", "TensorboardLogger.log_eval"),
        "a step's numbers are only printed through Ray, and kept back for TensorBoard (records.py)",
        record_steps,
    ),
    Adaptation(
        "LoRA push",
        "openrlhf.trainer.ray.ppo_actor",
        ("ActorPPOTrainer.broadcast_to_vllm",),
        "adapters are pushed under names that vLLM's model does not have (merged_lora.py)",
        push_merged,
    ),
    Adaptation(
        "LoRA save",
        "openrlhf.utils.deepspeed.deepspeed",
        ("DeepspeedStrategy.save_model", "DeepspeedStrategy._unwrap_model"),
        "an adapter alone is saved, which no other tool takes for a checkpoint (merged_lora.py)",
        save_merged,
    ),
    Adaptation(
        "LoRA freeze",
        "openrlhf.models.actor",
        ("get_peft_model",),
        "adapters of a frozen vision tower would be trained (merged_lora.py)",
        adapt_what_trains,
    ),
)
