"""Adaptations of every run, with CUDA and without: what makes a step longer that no argument of OpenRLHF changes."""

from __future__ import annotations

import os
from typing import Any

from trainer.openrlhf_bridge.cpu_compat.adaptations import ActorClass, Adaptation


def _engine(module: Any) -> None:
    from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings

    engine = AgentSettings.from_environment().engine if SETTINGS in os.environ else {}
    if engine:
        module.RolloutRayActor = ActorClass(module.RolloutRayActor, engine)


def _processor(module: Any) -> None:
    from trainer.openrlhf_bridge.kept_processor import get_tokenizer

    module.get_tokenizer = get_tokenizer


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
        _processor,
    ),
)
