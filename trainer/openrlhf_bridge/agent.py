"""The agent file that OpenRLHF loads in every rollout actor (`--train.agent_func_path`).

It does what OpenRLHF's own single-turn executor does, and five things more. A problem's pictures are processed once
for all its samples (`problem.py`), and the engine is asked for the last output alone. Image and video pad tokens can
never be sampled: a policy that does kills training ("image features and image tokens do not match"). Every rollout gets
a reward. Every rollout is appended to its actor's record file, which the launcher turns into Parquet step by step. And
after each weight push the engine forgets the pictures it has encoded.
The step a rollout belongs to is counted by the weight pushes seen by this actor's engine.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from openrlhf.utils.agent import SingleTurnAgentExecutor

from shared.errors import InfiMmrError
from shared.vlm.chat_template import opened_thinking
from shared.whole_file import write_whole
from trainer.openrlhf_bridge.agent_settings import AgentSettings
from trainer.openrlhf_bridge.problem import Problems, Request
from trainer.openrlhf_bridge.records import ACTOR, RecordFile
from trainer.openrlhf_bridge.reward_entry import Judges, Outcome, is_held_out, judge
from trainer.openrlhf_bridge.step_profile import StepProfile
from trainer.own_reward import FAILED, loaded_by_worker


class StepCounter:
    """Counts completed weight pushes of one vLLM engine: rollouts after push k belong to step first_step + k.

    After each push the engine forgets the pictures that the older vision tower encoded, and memory of the step is
    given back.
    """

    def __init__(self, first_step: int, on_push: Callable[[int], None]) -> None:
        """Begin at `first_step`; `on_push` is told the step that a push has ended."""
        self.step = first_step
        self._engine: Any = None
        self._on_push = on_push

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
                self._on_push(self.step)
                self.step += 1
                # vLLM keeps what the vision tower made of a picture; a trained tower makes something else of it.
                await engine.reset_encoder_cache()
                await engine.reset_mm_cache()  # a problem comes again in another epoch, if at all
                _give_back_memory()
            return result

        engine.collective_rpc = collective_rpc


def _give_back_memory() -> None:
    """Have glibc return what the step's pictures took; elsewhere do nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class AgentExecutor(SingleTurnAgentExecutor):  # type: ignore[misc]  # OpenRLHF has no type information
    """A single-turn executor with our reward and rollout record."""

    def __init__(self) -> None:
        super().__init__(None)
        settings = AgentSettings.from_environment()
        self._weights = settings.weights
        self._counter = StepCounter(settings.first_step, self._end_step)
        self._judges = Judges()
        self._problems = Problems(settings.dtype)
        self._profile = StepProfile()
        self._records = RecordFile(ACTOR)
        try:
            self._own = loaded_by_worker(settings.reward)
        except InfiMmrError as error:
            write_whole(self._records.folder / FAILED, error.message)
            raise

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
        llm = llm_engine.llm
        self._counter.watch(llm)
        step = self._counter.step
        profile = StepProfile() if is_held_out(label) else self._profile  # an evaluation is no part of its step
        request = Request(prompt, images, hf_tokenizer, sampling_params, max_length)
        async with self._problems.sample(request, llm.renderer, profile) as problem:
            read, answer = await problem.read(), await problem.ask(llm, profile)
        tokens = list(answer.token_ids)
        truncated = answer.finish_reason == "length"
        judged = partial(self._judged, hf_tokenizer, prompt, tokens, label, truncated)
        try:
            text, outcome, seconds = await (self._judges.ask(judged) if self._own else asyncio.to_thread(judged))
        except (InfiMmrError, TimeoutError) as error:  # of the user's own reward: the run ends
            row = json.loads(label).get("id", "")
            told = str(error) or f"reward {self._own and self._own.function.name} has no result for row {row}"
            write_whole(self._records.folder / FAILED, told)
            raise
        profile.reward += seconds
        line = {
            "step": step,
            "output": text,
            "tokens": len(tokens),
            "truncated": truncated,
            **outcome.record,
        }
        self._records.write(line, ends=is_held_out(label))  # an evaluation's last is the last of its file
        return {
            "prompt": prompt,
            "label": label,
            "images": images,
            "mm_train_inputs": read.tensors,  # one object for all samples
            "observation_tokens": read.token_ids + tokens,
            "action_ranges": [(len(read.token_ids), len(read.token_ids) + len(tokens))],
            "rollout_log_probs": sampled_log_probabilities(len(read.token_ids), tokens, answer.logprobs),
            "truncated": truncated,
            "reward": outcome.rewards,
            "scores": outcome.scores,
            "extra_logs": outcome.extra_logs,
        }

    def _judged(
        self, processor: Any, prompt: str, tokens: list[int], label: str, truncated: bool
    ) -> tuple[str, Outcome, float]:
        """Text of an answer, decoded once, what it earned, and the processor time of both."""
        started = time.thread_time()
        said = getattr(processor, "tokenizer", processor).decode(tokens, skip_special_tokens=True)
        text = opened_thinking(prompt) + said
        facts = {"tokens": len(tokens), "truncated": truncated}
        return text, judge(text, label, self._weights, self._own, facts), time.thread_time() - started

    def _end_step(self, step: int) -> None:
        self._records.write({"step": step, "seconds": self._profile.taken()}, ends=True)


def sampled_log_probabilities(prompt_tokens: int, tokens: list[int], logprobs: Any) -> list[float] | None:
    """Log-probability of every sampled token behind zeros for the prompt; None where none were asked for."""
    if logprobs is None:
        return None
    if logprobs.token_ids != tokens:
        message = "vLLM's log-probabilities are of other tokens than it sampled"
        raise ValueError(message)
    return [0.0] * prompt_tokens + list(logprobs.logprobs)
