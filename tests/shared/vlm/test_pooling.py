"""The embedder with the bundled checkpoint, in a process that a CPU worker of vLLM has been at home in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shared.vlm import EngineSpec
from shared.vlm.failures import AskRefusedError
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


def png(seed, size):
    rng = np.random.default_rng(seed)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_a_row_with_many_large_pictures_is_embedded_and_its_words_and_pictures_count():
    """The pictures share what one prompt holds; a row that fits without sharing is what it was."""
    limits = {"min_pixels": 12544, "max_pixels": 15680}
    small = EngineSpec(model="tiny-vl", runner="pooling", dtype="float32", max_model_len=128, **limits)
    roomy = EngineSpec(model="tiny-vl", runner="pooling", dtype="float32", max_model_len=1024, **limits)
    pictures = [png(seed, (300, 200)) for seed in range(8)]
    others = [*pictures[:7], png(99, (300, 200))]
    engine, large = PoolingEngine(small), PoolingEngine(roomy)
    try:
        vectors = engine.embed([(pictures, "Which is it?"), (others, "Which is it?"), (pictures, "How many are red?")])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
        assert all(float(vectors[0] @ vectors[place]) < 0.99999 for place in (1, 2))
        fitting = [(pictures[:2], "Which is it?"), ([], "Which is it?")]
        np.testing.assert_array_equal(engine.embed(fitting), large.embed(fitting))
        with pytest.raises(AskRefusedError, match="pictures alone exceed"):
            engine.embed([([png(seed, (60, 60)) for seed in range(60)], "Which is it?")])
    finally:
        engine.close()
        large.close()
