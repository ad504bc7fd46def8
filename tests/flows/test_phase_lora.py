"""A phase that trains adapters, for real: vLLM answers with the adapted policy, the checkpoint is a whole model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from shared.vlm.checkpoint import BUNDLED_FOLDER

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

SETTINGS = [
    "train.max_steps=3",
    "lora.rank=8",
    "lora.alpha=32",
    "model.freeze_vision=true",
    "train.learning_rate=1e-2",
    "train.weight_decay=20.0",  # moves every adapter, also where all rewards are equal
    "train.warmup_ratio=0.0",
    "train.rollout_correction=token",
    "checkpoint.save_every=1",
    "rollout.max_new_tokens=48",
]


def test_vllm_follows_the_adapters_and_the_checkpoint_is_whole_with_the_rest_untouched(
    mini_store, phase_command, tmp_path
):
    from safetensors.torch import load_file

    trained = phase_command("mre", tmp_path / "run", mini_store, settings=SETTINGS)
    ran = subprocess.run(trained, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    drift = max(abs(line["vllm_kl"]) for line in lines)
    assert drift < 0.02
    assert max(line["kl"] for line in lines[1:]) > 3 * drift, lines  # a missed push would make them alike
    checkpoint = tmp_path / "run" / "checkpoint"
    assert sorted(path.name for path in checkpoint.glob("*.safetensors")) == ["model.safetensors"]
    old, new = load_file(BUNDLED_FOLDER / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    assert set(new) - set(old) <= {"lm_head.weight"}  # tied to the embeddings, saved as in any phase
    changed = {name for name in old if not old[name].float().equal(new[name].float())}
    assert changed
    assert not [name for name in changed if "visual" in name or "embed" in name or "norm" in name]
    words = ["evaluate", "--checkpoint", str(checkpoint), "--benchmarks", "mathverse", "--limit", "8", "--json"]
    words += ["--store", mini_store, "--output", str(tmp_path / "evaluated"), "--max-tokens", "48"]
    ran = subprocess.run([sys.executable, "-m", "trainer.cli", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["benchmarks"]["mathverse"]["n"] == 8
