"""What the checks on a card need: the trainer's small datasets, and a checkpoint of a real model's shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shared.vlm.checkpoint import BUNDLED_FOLDER
from tests.trainer.conftest import mini_store  # noqa: F401 - a fixture

TEXT_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 128_000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
}
VISION_3B = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
"""Sizes of Qwen/Qwen2.5-VL-3B-Instruct where they differ from tiny-vl's (its config.json)."""


def write_random_checkpoint(folder: Path, text: dict, vision: dict, device: str) -> Path:
    """Write a Qwen2.5-VL of the given sizes with random weights in bfloat16, that reads prompts as tiny-vl does.

    Its tokenizer is tiny-vl's with a word for every further token that the model may write, so that all can be read.
    """
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    folder.mkdir(parents=True)
    for file in BUNDLED_FOLDER.iterdir():
        if file.suffix in {".json", ".jinja"}:
            shutil.copy(file, folder / file.name)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    vocabulary |= {f"w{number}": number for number in range(len(vocabulary), text["vocab_size"])}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["text_config"]["layer_types"]  # one entry per layer, which transformers fills in
    sizes = {"text_config": config["text_config"] | text, "vision_config": config["vision_config"] | vision}
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**(config | sizes)))
    finally:
        torch.set_default_dtype(usual)
    model.save_pretrained(folder)
    shutil.copy(BUNDLED_FOLDER / "generation_config.json", folder)
    return folder


@pytest.fixture(scope="session")
def shape_3b(tmp_path_factory) -> Path:
    """A random-weight Qwen2.5-VL of 3B's exact shape: 3.755 billion weights, 7.5 GB."""
    import torch

    folder = write_random_checkpoint(tmp_path_factory.mktemp("3b") / "qwen-3b-shape", TEXT_3B, VISION_3B, "cuda")
    torch.cuda.empty_cache()
    yield folder
    shutil.rmtree(folder)
