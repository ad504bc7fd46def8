"""What only a CUDA card can show, as a user's commands: `uv run pytest -m gpu` with group gpu on a machine with a card.

Elsewhere every check skips with the reason. `-s` shows the card's name and the times, which belong to a result that is
kept. A phase starts and ends in about three minutes, the whole file in a quarter of an hour.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from shared.dataset_version import open_dataset
from shared.laptop import draw
from shared.vlm.surroundings import cuda_seen

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not cuda_seen(), reason="needs a CUDA card (none is seen by this process)"),
]

TINY = [
    "rollout.batch_size=8",
    "rollout.samples_per_prompt=4",
    "rollout.max_new_tokens=64",
    "train.batch_size=16",
    "train.rollout_correction=token",  # logs how far vLLM and policy are apart
    "train.micro_batch_size=8",
    "checkpoint.save_every=1",
]
SHAPE_3B = [
    "rollout.batch_size=8",
    "rollout.samples_per_prompt=8",
    "rollout.max_new_tokens=256",
    "rollout.max_length=1024",
    "train.batch_size=32",
    "train.rollout_correction=token",
    "train.micro_batch_size=4",
    "train.learning_rate=1e-6",
    "train.gradient_checkpointing=true",
    "cluster.vllm_memory=0.3",
]
CARD_FOR_3B_GIB = 75
"""Policy, reference, gradients, float32 master weights and Adam's moments of 3.755 billion weights: 63 GiB."""


@pytest.fixture(scope="module", autouse=True)
def card():
    """Say which card it was."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    if shutil.which("nvidia-smi"):
        print("\ncard:", subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip())


def program(module: str, *words: object, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.Popen(
        command, env={**os.environ, **variables}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def document(process: subprocess.Popen[str], what: str) -> dict:
    """The JSON of a command that ended well."""
    started = time.monotonic()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr[-4000:]
    print(f"{what}: {time.monotonic() - started:.0f} s")
    return json.loads(stdout)


def settings(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def phase(output: Path, store: str, *words: object) -> subprocess.Popen[str]:
    common = ("--name", "mre", "--profile", "local", "--device", "cuda", "--store", store, "--output", output, "--json")
    return program("trainer.cli", "phase", *common, *words)


def metrics(output: Path) -> list[dict]:
    path = output / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def drivers(output: Path) -> list[psutil.Process]:
    """The driver of the run in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = str(output / "rollouts") in process.environ().get("INFI_MMR_RECORDS", "")
            if ours and "trainer.openrlhf_bridge.driver" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def sound(line: dict, rollouts: int) -> None:
    """A step whose rollouts were all scored, and whose vLLM and policy are the same model."""
    assert line["rollouts"] == rollouts
    assert line["reward_failed"] == 0
    assert all(math.isfinite(value) for value in line.values() if isinstance(value, float))
    assert abs(line["vllm_kl"]) < 0.05, "vLLM's log-probabilities are not the policy's: its weights are others"
    assert line["grad_norm"] > 0


def test_a_build_in_float32_types_and_captions_the_mini_set_and_finds_everything_planted(tmp_path):
    words = ("build", "virl39k-captioned", "--profile", "local", "--store", tmp_path / "store", "--json")
    report = document(program("data_engine.cli", *words), "build of 240 problems")
    version = open_dataset("virl39k-captioned", tmp_path / "store")
    assert version.verify(images=True).ok
    rows = version.scan().select("source_id", "image_types", "captions").collect()
    assert rows.height == report["rows"] > 200
    pictured = rows.filter(pl.col("image_types").list.len() > 0)
    assert pictured["captions"].list.eval(pl.element().str.len_chars()).list.min().min() > 0
    drawn = {problem.key: problem.image_type for problem in (draw("mini-virl39k", n) for n in range(400))}
    known = [(kinds[0], drawn[key]) for key, kinds, _ in pictured.iter_rows() if key in drawn]
    assert len(known) > 150
    assert np.mean([found == true for found, true in known]) > 0.9
    removed = version.ledger().filter(pl.col("removed"))
    planted = set(removed.filter(pl.col("source_id").str.starts_with("from-mini-"))["source_id"])
    assert len(planted) == 5 * 2 + 2 * 2
    again = document(program("data_engine.cli", *words), "the same build again")
    assert again["fingerprint"] == report["fingerprint"]
    assert {step["computed"] for step in again["steps"]} == {0}


def test_embeddings_of_the_card_are_those_of_the_cpu(tmp_path):
    code = """
import sys
import numpy as np
from shared.laptop import draw
from shared.vlm import EngineSpec
from shared.vlm.pooling import PoolingEngine
engine = PoolingEngine(EngineSpec(model="tiny-vl", runner="pooling", dtype="float32", max_model_len=1024, batch_size=8))
problems = [draw("mini-virl39k", number) for number in range(24)]
pairs = [([p.image_png] if p.image_png else [], p.question) for p in problems] + [([], "words alone")]
np.save(sys.argv[1], engine.embed(pairs))
print(engine._device)
"""
    vectors = {}
    for device, variables in (("cuda", {}), ("cpu", {"CUDA_VISIBLE_DEVICES": ""})):
        file = tmp_path / f"{device}.npy"
        done = subprocess.run(
            [sys.executable, "-c", code, file], env=os.environ | variables, capture_output=True, text=True, check=False
        )
        assert done.stdout.split()[-1:] == [device], done.stderr[-3000:]
        vectors[device] = np.load(file)
    cosines = (vectors["cuda"] * vectors["cpu"]).sum(axis=1)
    assert cosines.min() > 0.9999


def test_an_evaluation_scores_every_item_and_asks_none_twice(mini_store, tmp_path):
    words = ("evaluate", "--checkpoint", "tiny-vl", "--benchmarks", "math500,mathverse", "--max-tokens", 128)
    words = (*words, "--store", mini_store, "--output", tmp_path / "evaluation", "--json")
    first = document(program("trainer.cli", *words), "evaluation of 80 items")
    assert {name: found["n"] for name, found in first["benchmarks"].items()} == {"math500": 40, "mathverse": 40}
    assert first["benchmarks"]["mathverse"]["accuracy"] > 0.1, "tiny-vl answers some problems with pictures"
    again = document(program("trainer.cli", *words), "the same evaluation again")
    assert (again["asking"]["asked"], again["asking"]["from_store"]) == (0, 80)
    assert {n: b["accuracy"] for n, b in again["benchmarks"].items()} == {
        n: b["accuracy"] for n, b in first["benchmarks"].items()
    }


def test_a_phase_killed_after_a_save_is_resumed_to_a_checkpoint_that_loads(mini_store, tmp_path):
    import torch
    from transformers import AutoModelForImageTextToText

    output = tmp_path / "run"
    words = ("--max-steps", 3, *settings(*TINY))
    first = phase(output, mini_store, *words)
    started = time.monotonic()
    latest = output / "ckpt" / "_actor" / "latest"
    while not (metrics(output) and latest.is_file()):
        assert first.poll() is None, first.communicate()[1][-4000:]
        time.sleep(0.5)
    print(f"command to first saved step: {time.monotonic() - started:.0f} s")
    (driver,) = drivers(output)
    driver.send_signal(signal.SIGKILL)
    _, stderr = first.communicate()
    assert first.returncode == 1
    assert "--resume" in stderr
    assert document(phase(output, mini_store, *words, "--resume"), "resumed phase")["attempts"] == 2
    lines = metrics(output)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        sound(line, rollouts=32)
        print({key: value for key, value in line.items() if key.startswith("seconds")})
    model = AutoModelForImageTextToText.from_pretrained(output / "checkpoint", dtype=torch.float32)
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_a_phase_trains_a_model_of_3bs_shape(mini_store, shape_3b, tmp_path):
    from shared.devices import smallest_gpu_gib

    if (smallest_gpu_gib() or 0) < CARD_FOR_3B_GIB:
        pytest.skip(f"needs a card of {CARD_FOR_3B_GIB} GiB")
    output = tmp_path / "run"
    words = ("--from", shape_3b, "--max-steps", 2, *settings(*SHAPE_3B))
    document(phase(output, mini_store, *words), "phase of 3B's shape, two steps")
    lines = metrics(output)
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        sound(line, rollouts=64)
        print({key: value for key, value in line.items() if key.startswith("seconds")})


def test_a_run_told_to_use_the_cpu_with_the_group_of_the_card_is_refused_in_one_line(mini_store, tmp_path):
    words = (
        "--name",
        "mre",
        "--profile",
        "local",
        "--device",
        "cpu",
        "--store",
        mini_store,
        "--output",
        tmp_path / "r",
    )
    process = program("trainer.cli", "phase", *words)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "group gpu. Run uv sync" in stderr.splitlines()[-1]
