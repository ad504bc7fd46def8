"""The embedder with the bundled checkpoint, in a process that a CPU worker of vLLM has been at home in."""

from __future__ import annotations

import numpy as np
import pytest

from shared.vlm import EngineSpec
from shared.vlm.pooling import PoolingEngine

SPEC = EngineSpec(model="tiny-vl", runner="pooling", dtype="float32", max_model_len=1024)


def test_it_counts_on_one_thread_past_the_function_that_vllm_puts_in_torchs_place(monkeypatch):
    """vLLM's CPU worker replaces `torch.set_num_threads` by a function that only warns, at every local build."""
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("this one only warns"))
    before = torch.get_num_threads()
    torch._C.set_num_threads(2)
    engine = PoolingEngine(SPEC)
    try:
        assert torch.get_num_threads() == 1
        vectors = engine.embed([([], "one and one"), ([], "one and two")])
    finally:
        engine.close()
        torch._C.set_num_threads(before)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
