"""The agent file that OpenRLHF loads in every rollout actor (`--train.agent_func_path`).

It adds four things to OpenRLHF's own single-turn executor. Image and video pad tokens can never be sampled: a policy
that does kills training ("image features and image tokens do not match"). Every rollout gets a reward. Every rollout is
appended to a file of its actor, which the launcher turns into Parquet step by step. And after each weight push the
engine forgets the pictures it has encoded.
The step a rollout belongs to is counted by the weight pushes seen by this actor's engine.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from openrlhf.utils.agent import SingleTurnAgentExecutor

from trainer.openrlhf_bridge.agent_settings import AgentSettings
from trainer.openrlhf_bridge.reward_entry import judge
from trainer.rewards import RewardWeights

FORBIDDEN = -100.0
"""Logit bias that vLLM documents as a ban."""
PAD_TOKENS = ("image_token_id", "video_token_id")


class StepCounter:
    """Counts completed weight pushes of one vLLM engine: rollouts after push k belong to step first_step + k.

    After each push the engine forgets the pictures that the older vision tower encoded.
    """

    def __init__(self, first_step: int) -> None:
        self.step = first_step
        self._engine: Any = None

    def watch(self, engine: Any) -> None:
        """Wrap the engine's `collective_rpc` once, through which OpenRLHF pushes every weight."""
        if self._engine is engine:
            return
        self._engine = engine
        original = engine.collective_rpc

        async def collective_rpc(method: Any, *args: Any, **kwargs: Any) -> Any:
            result = await original(method, *args, **kwargs)
            last_argument = (kwargs.get("args") or (args[-1] if args else ()))[-1:]
            if str(method).startswith("update_weight") and last_argument == (True,):  # empty_cache: the last weight
                self.step += 1
                # vLLM keeps what the vision tower made of a picture; a trained tower makes something else of it.
                await engine.reset_encoder_cache()
            return result

        engine.collective_rpc = collective_rpc


def forbid_pad_tokens(sampling_params: Any, processor: Any) -> None:
    """Make image and video pad tokens impossible to sample. Text-only tokenizers have none."""
    ids = {getattr(processor, name, None) for name in PAD_TOKENS} - {None}
    if ids:
        sampling_params.logit_bias = {**(sampling_params.logit_bias or {}), **dict.fromkeys(ids, FORBIDDEN)}


class AgentExecutor(SingleTurnAgentExecutor):  # type: ignore[misc]  # OpenRLHF has no type information
    """OpenRLHF's single-turn executor with our reward and rollout record."""

    def __init__(self) -> None:
        super().__init__(None)
        settings = AgentSettings.from_environment()
        self._weights = RewardWeights(**settings.weights)
        self._counter = StepCounter(settings.first_step)
        folder = Path(settings.rollouts)
        folder.mkdir(parents=True, exist_ok=True)
        # One file per actor: no two processes write to the same one.
        self._file = (folder / f"actor-{os.getpid()}-{os.urandom(3).hex()}.jsonl").open("a", encoding="utf-8")

    async def execute(  # noqa: PLR0917 - OpenRLHF's signature
        self,
        prompt: str,
        label: str,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        llm_engine: Any,
        images: Any = None,
    ) -> dict[str, Any]:
        """Generate one rollout, judge it, write it down; returns OpenRLHF's dictionary."""
        self._counter.watch(llm_engine.llm)
        step = self._counter.step
        forbid_pad_tokens(sampling_params, hf_tokenizer)
        response: dict[str, Any] = await super().execute(
            prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images
        )
        start, end = response["action_ranges"][0]
        tokenizer = getattr(hf_tokenizer, "tokenizer", hf_tokenizer)
        text = tokenizer.decode(response["observation_tokens"][start:end], skip_special_tokens=True)
        outcome = await asyncio.to_thread(judge, text, label, self._weights)
        response.update(reward=outcome.rewards, scores=outcome.scores, extra_logs=outcome.extra_logs)
        line = {
            "step": step,
            "output": text,
            "tokens": end - start,
            "truncated": bool(response["truncated"]),
            **outcome.record,
        }
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        return response
