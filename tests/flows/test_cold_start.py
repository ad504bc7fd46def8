"""A cold start for real: OpenRLHF's SFT entry trains tiny-vl on traces, killed and continued; then a curriculum of it.

The short part (a minute) is one phase whose training process is killed outright. The long part (nightly) is the
curriculum cold start, fra, mre, whose command is killed when the second phase has begun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.checkpoint import weights_hash
from trainer.rollouts import read_metrics

pytestmark = pytest.mark.timeout(3600)

SHORT = ["train.batch_size=8", "train.micro_batch_size=8", "checkpoint.save_every=1"]
STEPS = 6


def trainer(words, output, store, settings, *more):
    command = [sys.executable, "-m", "trainer.cli", *words, "--profile", "local", "--device", "cpu"]
    command += ["--output", str(output), "--store", store, *more]
    for setting in settings:
        command += ["--set", setting]
    return command


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_processes(output):
    """Processes that train into `output`: its folder stands among OpenRLHF's arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(output) in words and "trainer.openrlhf_bridge" in words:
            found.append(process)
    return found


def wait_for(condition, process, seconds=1500):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.fixture(scope="module")
def cold_started(mini_store, tmp_path_factory):
    output = tmp_path_factory.mktemp("cold") / "run"
    words = ["phase", "--name", "cold-start"]
    settings = [*SHORT, f"train.max_steps={STEPS}", "train.learning_rate=1e-3"]
    first = start(trainer(words, output, mini_store, settings))
    wait_for(lambda: len(read_metrics(output)) >= 2, first)
    for process in run_processes(output):
        process.send_signal(signal.SIGKILL)
    _, error = first.communicate(timeout=120)
    found = {"output": output, "first_status": first.returncode, "first_error": error, "left": run_processes(output)}
    resumed = trainer(words, output, mini_store, settings, "--resume")
    second = subprocess.run(resumed, capture_output=True, text=True, timeout=1500, check=False)
    assert second.returncode == 0, second.stderr
    return found | {"told": second.stderr}


@pytest.mark.slow
def test_a_cold_start_whose_process_is_killed_says_how_to_go_on_and_goes_on(cold_started):
    assert cold_started["first_status"] == 1
    assert "--resume" in cold_started["first_error"]
    assert "10 without a trace in data.trace_column" in cold_started["first_error"]
    assert cold_started["left"] == run_processes(cold_started["output"]) == []
    output = cold_started["output"]
    record = json.loads((output / "run.json").read_text())
    first, second = record["attempts"]
    assert (first["outcome"], second["outcome"], second["last_step"]) == ("failed", "finished", STEPS)
    assert second["first_step"] > 1
    assert f"continues after step {second['first_step'] - 1} of {STEPS}" in cold_started["told"]
    assert [line["step"] for line in read_metrics(output)] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_each_step_tells_loss_tokens_and_seconds_and_the_loss_falls_on_what_was_learnt(cold_started):
    lines = read_metrics(cold_started["output"])
    for line in lines:
        assert 0 < line["trained_tokens"] < line["tokens"]
        assert {"loss", "grad_norm", "learning_rate", "seconds"} <= line.keys()
    assert f"step {STEPS}/{STEPS}  loss " in cold_started["told"]
    assert "tokens/s" in cold_started["told"]
    assert list((cold_started["output"] / "tensorboard").rglob("events.out.tfevents.*"))
    assert not (cold_started["output"] / "ckpt").exists()  # states are only for resuming


@pytest.mark.slow
def test_the_checkpoint_of_a_cold_start_has_its_parents_files_and_keys_and_the_very_same_vision_tower(cold_started):
    import torch
    from safetensors.torch import load_file

    folder = cold_started["output"] / "checkpoint"
    record = json.loads((folder / "run_record.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (BUNDLED_FOLDER / name).read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert config == {**json.loads((BUNDLED_FOLDER / "config.json").read_text()), "dtype": record["dtype"]}
    new, old = load_file(folder / "model.safetensors"), load_file(BUNDLED_FOLDER / "model.safetensors")
    assert new.keys() - {"lm_head.weight"} == old.keys()  # tied to the embedding; OpenRLHF writes it, too
    seen = [name for name in old if "visual" in name]
    assert seen
    assert all(torch.equal(new[name].float(), old[name].float()) for name in seen)
    moved = [name for name in old if name not in seen and not torch.equal(new[name].float(), old[name].float())]
    assert len(moved) > 40
    assert record["checkpoint_sha256"] == weights_hash(folder)
    assert record["phase"]["method"] == "sft"
    assert record["prompts"]["left_out"] == {"no_trace": 10, "rest_of_last_step": 58, "trace_wrong": 4}


@pytest.mark.slow
def test_the_report_shows_the_loss_of_a_cold_start(cold_started):
    from pathlib import Path

    from trainer.report.build import build, render
    from trainer.report.collect import collect

    page = render(build(collect([Path(cold_started["output"])], 8)))
    assert "Loss of supervised fine-tuning" in page
    assert "last loss" in page


@pytest.mark.nightly
def test_cold_start_then_fra_then_mre_is_one_curriculum_that_goes_on_where_it_was_killed(
    mini_store, small_steps, tmp_path
):
    output = tmp_path / "curriculum"
    words = ["curriculum", "--phases", "cold-start,fra,mre", "--no-evaluate"]
    short = ("train.max_steps=1", "rollout.max_new_tokens=32", *small_steps)
    settings = [f"cold-start:{setting}" for setting in (*SHORT, "train.max_steps=2")]
    settings += [f"{name}:{setting}" for name in ("fra", "mre") for setting in short]
    first = start(trainer(words, output, mini_store, settings))
    second_run = output / "2-fra" / "run.json"
    wait_for(lambda: second_run.is_file() and json.loads(second_run.read_text())["attempts"], first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=300)
    trained = (output / "1-cold-start" / "run.json").read_bytes()
    resumed = subprocess.run(
        trainer(words, output, mini_store, settings, "--resume", "--json"),
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["finished"]
    assert (output / "1-cold-start" / "run.json").read_bytes() == trained  # a finished phase is not run again
    records = [json.loads((output / name / "run.json").read_text()) for name in ("1-cold-start", "2-fra", "3-mre")]
    assert [record["phase"]["method"] for record in records] == ["sft", "grpo", "grpo"]
    assert [record["attempts"][-1]["outcome"] for record in records] == ["finished"] * 3
    assert records[0]["parent"]["location"] == "tiny-vl"
    assert records[1]["parent"]["location"] == "1-cold-start/checkpoint"
    assert records[2]["parent"]["location"] == "2-fra/checkpoint"
    for name, record in zip(("1-cold-start", "2-fra", "3-mre"), records, strict=True):
        assert record["checkpoint_sha256"] == weights_hash(output / name / "checkpoint")
    # vLLM loaded what the cold start had saved: its rollouts have answers
    assert all(line["tokens"] > 0 and line["rollouts"] == 16 for line in read_metrics(output / "2-fra"))
