"""A vLLM executor that answers at once: vLLM's scheduler, processes and front end are real, only the model is not.

Named to vLLM by `distributed_executor_backend="engine_stand_in.AnswersAtOnce"` with this folder on PYTHONPATH. Every
request gets tokens of a fixed row until its `max_tokens`. Used by `rollouts.py`.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import torch
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput

CACHE_BYTES = 2 * 1024**3
"""Pretended key-value cache: counted by the scheduler, never allocated."""
ORDINARY = range(100, 900)
"""Token ids that stand for letters and words."""


class AnswersAtOnce(Executor):
    """Executor without a model."""

    def _init_executor(self) -> None:
        self._length: dict[str, int] = {}
        """Tokens of each request's prompt."""

    def get_supported_kv_cache_layouts(self) -> list[list[str]]:
        """As one worker answers."""
        return [["LBNHC"]]

    def set_kv_cache_layout(self, layout_name: str) -> None:
        """Nothing: there is no cache."""

    def get_kv_cache_specs(self) -> list[dict[str, Any]]:
        """One small layer."""
        spec = FullAttentionSpec(
            block_size=self.vllm_config.cache_config.block_size, num_kv_heads=1, head_size=32, dtype=torch.bfloat16
        )
        return [{"layer": spec}]

    def determine_available_memory(self) -> list[int]:
        """Room for every request at once."""
        return [CACHE_BYTES]

    def initialize_from_config(self, kv_cache_configs: list[Any]) -> None:
        """Nothing to allocate."""

    def compile_or_warm_up_model(self) -> None:
        """Nothing to compile."""

    @property
    def supported_tasks(self) -> tuple[str, ...]:
        """Generation only."""
        return ("generate",)

    def collective_rpc(self, method: Any, *_: Any, **values: Any) -> Any:  # noqa: ARG002 - vLLM's signature
        """Weight pushes and the like: done."""
        if values.get("non_block"):
            future: Future[list[None]] = Future()
            future.set_result([None])
            return future
        return [None]

    def check_health(self) -> None:
        """Always well."""

    def reset_encoder_cache(self) -> None:
        """Nothing is kept."""

    def reset_mm_cache(self) -> None:
        """Nothing is kept."""

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        """One token for every request whose prompt is through."""
        for request in scheduler_output.scheduled_new_reqs:
            self._length[request.req_id] = len(request.prompt_token_ids)
        computed = {request.req_id: request.num_computed_tokens for request in scheduler_output.scheduled_new_reqs}
        cached = scheduler_output.scheduled_cached_reqs
        computed |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        for finished in scheduler_output.finished_req_ids:
            self._length.pop(finished, None)
        output = EMPTY_MODEL_RUNNER_OUTPUT
        scheduled = scheduler_output.num_scheduled_tokens
        if scheduled:
            ids = list(scheduled)
            sampled = []
            for name in ids:
                after = computed[name] + scheduled[name]
                through = after >= self._length[name]
                sampled.append([ORDINARY[after * 37 % len(ORDINARY)]] if through else [])
            places = {name: place for place, name in enumerate(ids)}
            output = ModelRunnerOutput(req_ids=ids, req_id_to_index=places, sampled_token_ids=sampled)
        if not non_block:
            return output
        future: Future[Any] = Future()
        future.set_result(output)
        return future
