"""Rollouts of vLLM get the same log-probabilities from transformers: what reinforcement learning stands on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from shared.laptop.training.evaluate import asks
from shared.vlm.checkpoint import BUNDLED_FOLDER

ROOT = Path(__file__).resolve().parents[3]

# vLLM keeps a core and memory for as long as its process lives: it rolls out in a process of its own.
_ROLL_OUT = """
import io, json, sys
from shared.vlm.surroundings import prepare_environment
prepare_environment()
from PIL import Image
from vllm import LLM, SamplingParams
from shared.vlm.checkpoint import BUNDLED_FOLDER
from shared.laptop.training.evaluate import asks

if __name__ == "__main__":
    dtype, target = sys.argv[1:]
    engine = LLM(str(BUNDLED_FOLDER), dtype=dtype, max_model_len=1024, enforce_eager=True, seed=0,
                 limit_mm_per_prompt={"image": 1}, kv_cache_memory_bytes=1 << 28)
    asked = asks("picture", 12) + asks("text-hard", 4) + asks("caption", 12)
    chats = []
    for ask in asked:
        png = ask.problem.image_png
        image = Image.open(io.BytesIO(png)).convert("RGB") if png else None
        chat = ask.conversation()
        for part in chat[-1]["content"]:
            if part["type"] == "image":
                part.clear()
                part.update(type="image_pil", image_pil=image)
        chats.append(chat)
    sampling = SamplingParams(temperature=1.0, max_tokens=64, seed=3, logprobs=0)
    rows = []
    for result in engine.chat(chats, sampling, use_tqdm=False):
        answer = result.outputs[0]
        ids = list(answer.token_ids)
        rows.append({"prompt": list(result.prompt_token_ids), "ids": ids,
                     "logprobs": [place[token].logprob for place, token in zip(answer.logprobs, ids)]})
    with open(target, "w") as file:
        json.dump(rows, file)
"""


def _rollouts(dtype: str, folder: Path) -> list[dict[str, Any]]:
    script, target = folder / "roll_out.py", folder / "rollouts.json"
    script.write_text(_ROLL_OUT)
    command = [sys.executable, str(script), dtype, str(target)]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(target.read_text())


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("dtype", "mean_bound", "worst_bound"), [("float32", 1e-4, 5e-3), ("bfloat16", 0.02, 0.6)])
def test_vllm_and_transformers_agree_on_the_same_rollouts(
    dtype: str, mean_bound: float, worst_bound: float, tmp_path: Path
) -> None:
    rows = _rollouts(dtype, tmp_path)
    processor = AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(BUNDLED_FOLDER, dtype=getattr(torch, dtype)).eval()
    asked = asks("picture", 12) + asks("text-hard", 4) + asks("caption", 12)
    differences = []
    for ask, row in zip(asked, rows, strict=True):
        text = processor.apply_chat_template(ask.conversation(), add_generation_prompt=True)
        png = ask.problem.image_png
        images = [Image.open(io.BytesIO(png)).convert("RGB")] if png else None
        inputs = processor(text=[text], images=images, return_tensors="pt")
        assert inputs["input_ids"][0].tolist() == row["prompt"]
        whole = torch.tensor([row["prompt"] + row["ids"]])
        inputs["input_ids"], inputs["attention_mask"] = whole, torch.ones_like(whole)
        if "mm_token_type_ids" in inputs:
            kinds = torch.zeros_like(whole)
            kinds[whole == model.config.image_token_id] = 1
            inputs["mm_token_type_ids"] = kinds
        with torch.no_grad():
            logits = model(**inputs).logits[0].float()
        start = len(row["prompt"]) - 1
        found = torch.log_softmax(logits[start:-1], dim=-1)
        found = found.gather(1, torch.tensor(row["ids"])[:, None])[:, 0]
        differences.append((found - torch.tensor(row["logprobs"])).abs())
    everything = torch.cat(differences)
    assert len(everything) > 300
    assert everything.mean() < mean_bound
    assert everything.max() < worst_bound
