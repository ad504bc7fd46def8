"""The plan: its formulas by hand, its warnings, and what it does not start."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest

from shared.errors import InfiMmrError, UsageError
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.phase import load_phase
from trainer.plan import (
    GIB,
    MEASURED_WEIGHTS,
    QWEN_3B,
    check_gpu_memory,
    gpu_named,
    make_plan,
    memory_per_gpu,
    plan_text,
)


def test_the_papers_phase_on_sixteen_gpus(tmp_path):
    plan = make_plan(load_phase("mre", "full"), gpus=16, gpu="h800", store=str(tmp_path))
    counts = plan["counts"]
    assert counts["steps"] == 39_000 // 256 == 152
    assert counts["updates"] == 152 * 16
    assert counts["rollouts"] == 152 * 256 * 16
    assert counts["tokens"] == counts["rollouts"] * 1100
    # 1,800 tokens a second on each of 16 GPUs
    assert plan["hours"] == pytest.approx(counts["tokens"] / (1800 * 16) / 3600, abs=0.01)
    assert plan["gpu_hours"] == pytest.approx(plan["hours"] * 16, rel=0.01)
    assert plan["warnings"] == []
    assert plan["configuration"]["train"]["learning_rate"] == 1e-6
    assert "--actor.num_nodes" in plan["arguments"]


def test_memory_by_hand():
    phase = load_phase("mre", "full")
    memory = memory_per_gpu(phase, MEASURED_WEIGHTS, dict(QWEN_3B), 16, 1000)
    assert memory["policy_weights"] == pytest.approx(2 * MEASURED_WEIGHTS / GIB, abs=0.01)
    assert memory["optimizer"] == pytest.approx(12 * MEASURED_WEIGHTS / 16 / GIB, abs=0.01)
    assert memory["gradients"] == pytest.approx(2 * MEASURED_WEIGHTS / 16 / GIB, abs=0.01)
    # 2 rollouts x 1,000 tokens x 151,936 entries x 10 bytes
    assert memory["logits"] == pytest.approx(2 * 1000 * 151_936 * 10 / GIB, abs=0.01)
    # 2 bytes x 2,000 tokens x 2,048 x (36 layers kept + 34 for the layer at work)
    assert memory["activations"] == pytest.approx(2 * 2000 * 2048 * 70 / GIB, abs=0.01)
    without = load_phase("mre", "full", ["train.kl_coefficient=0.0"])
    assert memory_per_gpu(without, MEASURED_WEIGHTS, dict(QWEN_3B), 16, 1000)["reference"] == 0


def test_what_cannot_fit_is_warned_of_with_the_value_to_change(tmp_path):
    alone = make_plan(load_phase("mre", "full"), gpus=1, gpu="a100-40", store=str(tmp_path))
    assert any("optimizer is the largest part" in warning for warning in alone["warnings"])
    big = load_phase("mre", "full", ["train.micro_batch_size=8"])
    assert any("micro_batch_size" in text for text in make_plan(big, gpus=16, store=str(tmp_path))["warnings"])


def test_sizes_that_no_cluster_of_that_size_can_run_are_refused(tmp_path):
    with pytest.raises(UsageError, match="must divide"):
        make_plan(load_phase("mre", "full"), gpus=6, store=str(tmp_path))
    with pytest.raises(UsageError, match="multiple of 8"):
        make_plan(load_phase("mre", "full"), gpus=12, store=str(tmp_path))
    with pytest.raises(UsageError, match="h800"):
        make_plan(load_phase("mre", "full"), gpu="h8000", store=str(tmp_path))


@pytest.mark.parametrize(
    ("spoken", "card"),
    [
        ("H100", "h100"),
        ("h20", "h20"),
        ("B200", "b200"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("A100 40GB", "a100-40"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("H100 PCIe", "h100-pcie"),
        ("rtx 4090", "4090"),
        ("NVIDIA GeForce RTX 3090", "3090"),
    ],
)
def test_a_card_is_known_by_what_people_and_nvidia_smi_call_it(spoken, card):
    assert gpu_named(spoken) == card


def test_a_card_with_two_sizes_of_memory_is_asked_for():
    with pytest.raises(UsageError, match=r"a100 comes with 80 or 40 GB of memory. Say a100-80 or a100-40"):
        gpu_named("a100")
    with pytest.raises(UsageError, match="Say a100-80 or a100-40"):
        gpu_named("A100-60GB")
    with pytest.raises(UsageError, match="unknown GPU 'v9000'"):
        gpu_named("v9000")


def broken_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def no_weights(folder):
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: broken_config(folder, model_type="llava"), "llava model, which is not trained"),
        (lambda folder: broken_config(folder, text_config={}), "does not say hidden_size"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no safetensors"),
        (no_weights, r"checkpoint/model\.safetensors cannot be read \(no safetensors, or cut off: 43 bytes\)"),
        (lambda folder: os.truncate(folder / "model.safetensors", 9_000_000), r"\(cut off: 9,000,000 of \d"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "lacks tokenizer.json"),
    ],
)
def test_a_model_folder_that_could_not_train_is_not_planned_with_either(mini_store, tmp_path, spoil, said):
    folder = tmp_path / "checkpoint"
    shutil.copytree(BUNDLED_FOLDER, folder)
    phase = load_phase("mre", "local", [f"model.start={json.dumps(str(folder))}"])
    make_plan(phase, store=mini_store)
    spoil(folder)
    with pytest.raises(InfiMmrError, match=said) as error:
        make_plan(phase, store=mini_store)
    assert "fra" not in error.value.next_step  # no advice that leads to the next refusal


def test_a_dataset_without_captions_is_not_planned_with_for_the_caption_phase(row, publish, tmp_path):
    rows = [row("mini-virl39k", index, captions=False) for index in range(20)]
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    with pytest.raises(InfiMmrError, match="has no captions"):
        make_plan(load_phase("cmra", "local"), store=store)
    assert make_plan(load_phase("mre", "local"), store=store)["counts"]["rows"] == 20


def test_rows_that_a_phase_leaves_out_for_their_images_are_not_planned_with(row, publish, tmp_path):
    pictured = [row("mini-virl39k", index) for index in range(20)]
    store = publish(tmp_path / "store", "pictured", pictured)
    publish(tmp_path / "store", "mixed", [*pictured, *(row("mini-deepscaler", index) for index in range(60))])
    with pytest.raises(InfiMmrError, match=r"all 20 rows of pictured@v1 \(local\) are with images, which a text phase"):
        make_plan(load_phase("fra", "local", ["data.dataset=pictured"]), store=store)
    plan = make_plan(load_phase("fra", "local", ["data.dataset=mixed"]), store=store)
    assert (plan["counts"]["rows"], "less 20 rows with images" in plan_text(plan)) == (60, True)


def test_a_misspelt_dataset_is_answered_with_the_nearest(mini_store):
    phase = load_phase("fra", "local", ["data.dataset=deepscalar"])
    assert "not in the store; Did you mean deepscaler?" in plan_text(make_plan(phase, store=mini_store))


def test_local_plan_knows_the_bundled_checkpoint_and_the_dataset(mini_store):
    plan = make_plan(load_phase("mre", "local"), store=mini_store)
    assert plan["counts"]["rows"] == 200
    assert plan["counts"]["steps"] == plan["configuration"]["train"]["max_steps"]
    assert plan["cluster"]["gpus"] == 0
    assert 5 < plan["memory_gib"]["total"] < 14
    assert plan["warnings"] == []
    longer = make_plan(load_phase("mre", "local", ["train.max_steps=40"]), store=mini_store)
    assert any("pass" in text for text in longer["warnings"])  # more prompts than rows
    text = plan_text(plan)
    assert "OpenRLHF arguments: --actor.model_name_or_path tiny-vl" in text


def test_a_cuda_run_that_does_not_fit_this_machines_gpus_is_refused_before_it_starts():
    phase = load_phase("mre", "full")
    check_gpu_memory(phase, gib=80)
    with pytest.raises(InfiMmrError, match="does not fit: training takes"):
        check_gpu_memory(phase, gib=24)


def test_unknown_rows_are_asked_for(tmp_path):
    phase = load_phase("mre", "full", ['data.dataset="ours"'])
    with pytest.raises(InfiMmrError, match="--rows"):
        make_plan(phase, store=str(tmp_path))
    assert make_plan(phase, rows=10_000, store=str(tmp_path))["counts"]["steps"] == 39


def test_planning_loads_no_heavy_library(tmp_path):
    import subprocess

    code = (
        "import sys\nfrom trainer.plan import make_plan\nfrom trainer.phase import load_phase\n"
        f"make_plan(load_phase('mre', 'full'), gpus=16, store={str(tmp_path)!r})\n"
        "print([name for name in ('torch', 'ray', 'vllm', 'transformers', 'openrlhf') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() in {"[]", "['openrlhf']"}  # openrlhf itself is an empty package


@pytest.mark.parametrize(("told", "dtype"), [("avx2", "float32"), ("avx512", None)])
def test_the_plan_says_in_which_numbers_a_laptop_will_train(mini_store, monkeypatch, told, dtype):
    from shared.processor import cpu_dtype

    monkeypatch.setenv("ATEN_CPU_CAPABILITY", told)
    plan = make_plan(load_phase("mre", "local"), store=mini_store)
    assert plan["dtype"] == (dtype or cpu_dtype())
    assert f"weights in {plan['dtype']}" in plan_text(plan)


def test_the_plan_knows_the_memory_of_a_steps_pictures_from_the_datasets_own(mini_store, tmp_path):
    plan = make_plan(load_phase("mre", "local"), store=mini_store)
    memory = plan["picture_memory_gib"]
    # 112 x 112 pixels are 16 tokens of four patches with 1,176 numbers; 16 problems a step
    number = {"bfloat16": 2, "float32": 4}[plan["dtype"]]
    assert memory["step"] == pytest.approx(16 * 16 * 4 * 1176 * number / GIB, rel=0.3)
    assert memory["source"].endswith("rows of virl39k-captioned@v1 (local)")
    assert memory["shared"] == memory["step"]  # they lie there once, whoever passes them on
    assert "of host memory a step" in plan_text(plan)
    assert make_plan(load_phase("fra", "local"), store=mini_store)["picture_memory_gib"] == {}
    sixteen = make_plan(load_phase("mre", "full"), gpus=16, store=str(tmp_path))["picture_memory_gib"]
    assert 0.3 < sixteen["step"] < 1.0  # 256 problems like ViRL39K's, whatever the number of rollouts
    assert sixteen["actor"] == pytest.approx(sixteen["step"] / 16 * 1.5, rel=0.03)


def test_pictures_that_do_not_fit_rays_shared_memory_are_warned_of_with_the_value_to_change(mini_store):
    phase = load_phase("mre", "local", ["rollout.batch_size=4096", "train.batch_size=32768"])
    warnings = make_plan(phase, rows=8192, store=mini_store)["warnings"]
    assert any("shared memory" in warning and "rollout.batch_size to" in warning for warning in warnings)
