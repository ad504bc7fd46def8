"""One real phase on the CPU, through the command: Ray, vLLM, DeepSpeed, killed and resumed, checkpoint, reload.

The driver is killed outright after its second step; the same command with `--resume` finishes the run. Everything else
is checked on what is then in the run folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from trainer.report.watch import watching

# About five minutes on two idle cores; the limit is for a machine that is busy with other things.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

STEPS = 4
SETTINGS = [
    f"train.max_steps={STEPS}",
    "checkpoint.save_every=1",
    "rollout.max_new_tokens=48",
    # Large, and with a decay that moves every weight even when all rewards are equal: weights that did not reach vLLM
    # would show at once.
    "train.learning_rate=1e-3",
    "train.weight_decay=20.0",
    "train.warmup_ratio=0.0",
    "train.rollout_correction=token",
    "evaluation.every=2",
    'evaluation.benchmarks=["math500","mathverse"]',
]
MEMORY_LIMIT = 14 * 1024**3


REWARD = """
def score(gold, output, row):
    short = 1 - row["tokens"] / 48
    return {"reward": 0.9 * row["graded"]["total"] + 0.1 * short, "short": short, "asked": bool(row["question"])}
"""


@pytest.fixture(scope="module")
def command(phase_command):
    """Words of a run of phase cmra with a reward of one's own, into a folder."""

    def words(output, store, *more):
        (output.parent / "score.py").write_text(REWARD)
        own = output.parent / "own.toml"
        own.write_text('base = "cmra"\n[reward]\nfunction = "score.py:score"\n')
        return phase_command(own, output, store, "--json", *more, settings=SETTINGS)

    return words


def memory_of(processes):
    """Proportional memory of processes: what is shared between them counts once."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(what)


def steps_done(output):
    path = output / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def finished_run(mini_store, command, run_processes, tmp_path_factory):
    output = tmp_path_factory.mktemp("phase") / "run"
    found = {"output": output, "memory": 0}
    first = subprocess.Popen(command(output, mini_store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    looked = [0.0]

    def second_step():
        if time.monotonic() - looked[0] < 5:  # reading the memory of all processes is not free
            return first.poll() is not None or len(steps_done(output)) >= 2
        looked[0] = time.monotonic()
        found["memory"] = max(found["memory"], memory_of(run_processes(output)))
        return first.poll() is not None or len(steps_done(output)) >= 2

    try:
        wait_for(second_step, 3000, "the first attempt made no two steps")
    except BaseException:
        first.terminate()
        first.wait(120)
        raise
    drivers = [process for process in run_processes(output) if "trainer.openrlhf_bridge.driver" in process.cmdline()]
    assert drivers, first.communicate()
    drivers[0].send_signal(signal.SIGKILL)
    stdout, stderr = first.communicate(timeout=120)
    found |= {"first_status": first.returncode, "first_error": stderr, "first_json": stdout}
    found["steps_before"] = steps_done(output)
    found["left_after_kill"] = [process.name() for process in run_processes(output)]
    with watching(output, 0) as server:
        found["watched"] = httpx.get(server.url, timeout=60)
    second = subprocess.run(
        command(output, mini_store, "--resume"), capture_output=True, text=True, timeout=3000, check=False
    )
    found |= {"status": second.returncode, "error": second.stderr, "json": second.stdout}
    return found


def test_a_killed_driver_ends_the_command_with_one_line_that_says_how_to_go_on(finished_run):
    assert finished_run["first_status"] == 1
    errors = [line for line in finished_run["first_error"].splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "--resume" in errors[0]
    assert "Traceback" not in finished_run["first_error"]
    assert "--resume" in json.loads(finished_run["first_json"])["next"]


def test_no_process_is_left_after_a_kill_nor_at_the_end(finished_run, run_processes):
    assert finished_run["left_after_kill"] == []
    assert run_processes(finished_run["output"]) == []


def test_the_resumed_run_finishes_and_loses_at_most_the_steps_since_the_last_save(finished_run):
    assert finished_run["status"] == 0, finished_run["error"]
    record = json.loads((finished_run["output"] / "run.json").read_text())
    assert record["steps"] == STEPS
    first, second = record["attempts"]
    assert first["outcome"] == "failed"
    assert second["outcome"] == "finished"
    assert second["first_step"] >= finished_run["steps_before"][-1]  # a state of each step: at most one is repeated
    assert second["last_step"] == STEPS
    assert steps_done(finished_run["output"]) == list(range(1, STEPS + 1))


def test_stdout_is_one_json_object(finished_run):
    result = json.loads(finished_run["json"])
    assert result["steps"] == STEPS
    assert result["attempts"] == 2
    assert Path(result["checkpoint"]).is_dir()


def test_the_checkpoint_has_every_file_of_its_parent_new_weights_and_the_run_record(finished_run):
    from shared.vlm.checkpoint import BUNDLED_FOLDER, checkpoint_hash
    from trainer.checkpoint import weights_hash

    folder = finished_run["output"] / "checkpoint"
    record = json.loads((finished_run["output"] / "run.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    assert config == {**json.loads((BUNDLED_FOLDER / "config.json").read_text()), "dtype": record["dtype"]}
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        assert (folder / name).read_bytes() == (BUNDLED_FOLDER / name).read_bytes()
    record = json.loads((folder / "run_record.json").read_text())
    assert record["checkpoint_sha256"] == weights_hash(folder) != weights_hash(BUNDLED_FOLDER)
    assert record["parent"] == {"location": "tiny-vl", "sha256": checkpoint_hash(BUNDLED_FOLDER)}
    assert record["dataset"]["label"] == "virl39k-captioned@v1 (local)"
    assert record["dataset"]["fingerprint"]
    assert record["phase"]["train"]["learning_rate"] == 1e-3
    assert record["packages"]["openrlhf"] == "0.11.2"
    assert not list(folder.glob("*.bin"))


def test_transformers_loads_the_checkpoint_at_once(finished_run):
    transformers = pytest.importorskip("transformers")
    import torch

    folder = finished_run["output"] / "checkpoint"
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = processor(text=["2 + 2 ="], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    assert torch.isfinite(logits).all()


def test_weights_in_vllm_follow_the_trained_ones(finished_run):
    # vllm_kl is the mean of log-probability in vLLM minus log-probability in the trained model, on the same tokens.
    # With these steps one missed push would make it as large as the KL to the first policy; it must stay at the level
    # of bfloat16 rounding.
    lines = [json.loads(line) for line in (finished_run["output"] / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["learning_rate"] == 1e-3
    drift = [abs(line["vllm_kl"]) for line in lines]
    moved = max(line["kl"] for line in lines[1:])
    assert max(drift) < 0.02, drift
    assert moved > 5 * max(drift), (moved, drift)


def test_rollouts_metrics_and_tensorboard_are_written(finished_run):
    import polars as pl

    output = finished_run["output"]
    for step in range(1, STEPS + 1):
        table = pl.read_parquet(output / "rollouts" / f"step-{step:06d}.parquet")
        assert table.height == 16
        assert set(table["step"].to_list()) == {step}
        assert all(len(hashes) == 1 for hashes in table["image_hashes"].to_list())
        assert all(table["question"].to_list())
        assert table["prompt_id"].n_unique() <= 4
        assert table["reward"].is_between(0, 1).all()
        assert not table["output"].str.contains("<|image_pad|>", literal=True).any()
    assert list((output / "tensorboard").rglob("events.out.tfevents.*"))
    assert list((output / "tensorboard/samples").glob("events.out.tfevents.*"))
    assert not (output / "ckpt").exists()  # states are only for resuming


def test_a_reward_of_the_users_own_trains_and_lies_with_its_hash_in_the_run_folder(finished_run):
    import polars as pl

    output = finished_run["output"]
    record = json.loads((output / "checkpoint" / "run_record.json").read_text())
    assert record["phase"]["name"] == "own"
    kept = output / "reward" / record["reward"]["file"]
    assert kept.read_text() == REWARD
    assert record["reward"]["sha256"] == hashlib.sha256(kept.read_bytes()).hexdigest()
    table = pl.read_parquet(output / "rollouts" / "step-000001.parquet")
    graded = 0.1 * table["format"] + 0.9 * table["accuracy_reward"]
    assert (table["reward"] - 0.9 * graded - 0.1 * table["reward_short"]).abs().max() < 1e-9
    assert table["reward_asked"].to_list() == [1.0] * 16
    line = json.loads((output / "metrics.jsonl").read_text().splitlines()[0])
    assert line["reward_short"] == pytest.approx(table["reward_short"].mean())
    assert line["reward"] == pytest.approx(table["reward"].mean(), abs=1e-3)


def test_a_run_is_watched_before_its_end_and_afterwards(finished_run):
    before = finished_run["watched"]
    assert before.headers.get("Refresh"), "a run that has not ended is asked for again"
    assert '<img src="data:image/' in before.text
    words = [sys.executable, "-m", "trainer.cli", "watch", str(finished_run["output"]), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        told = next(line for line in process.stderr if line.startswith("http"))
        after = httpx.get(told.split()[0], timeout=60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert after.headers.get("Refresh") is None
    assert f"{STEPS} steps" in after.text
    assert "Reward by kind of answer" in after.text
    assert (finished_run["output"] / "watch.html").read_text() == after.text


def test_evaluation_during_training_agrees_with_trainer_evaluate(finished_run, mini_store, tmp_path):
    lines = [json.loads(text) for text in (finished_run["output"] / "evaluations.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == STEPS  # the driver may have been killed before the one after step 2
    words = [
        sys.executable,
        "-m",
        "trainer.cli",
        "evaluate",
        "--checkpoint",
        str(finished_run["output"] / "checkpoint"),
    ]
    words += ["--benchmarks", "math500,mathverse", "--store", mini_store, "--output", str(tmp_path), "--json"]
    words += ["--max-tokens", "48", "--max-model-len", "512"]  # numbers: the checkpoint's own, as it was trained
    ran = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    for name, after in json.loads(ran.stdout)["benchmarks"].items():
        during = lines[-1]["accuracy"][name]
        assert during["n"] == after["n"] == 40
        # A step of one item is the finest difference; where nearly all or none are right the error is below it.
        assert abs(during["accuracy"] - after["accuracy"]) <= max(after["stderr"], 1 / after["n"]), (
            name,
            during,
            after,
        )


def test_memory_stays_below_14_gigabytes(finished_run):
    assert 0 < finished_run["memory"] < MEMORY_LIMIT


def test_a_finished_run_is_not_run_again(finished_run, command, mini_store):
    before = (finished_run["output"] / "run.json").read_bytes()
    again = subprocess.run(
        command(finished_run["output"], mini_store, "--resume"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert (finished_run["output"] / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly), signal.SIGKILL]
)
def test_an_interrupted_or_killed_command_leaves_no_process(number, mini_store, command, run_processes, tmp_path):
    output = tmp_path / "run"
    process = subprocess.Popen(command(output, mini_store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any("raylet" in found.name() for found in run_processes(output)), 300, "Ray did not start")
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    wait_for(lambda: run_processes(output) == [], 60, "processes are left")
    outcome = json.loads((output / "run.json").read_text())["attempts"][0]["outcome"]
    if number == signal.SIGKILL:
        assert outcome == "running"  # it had no chance to say; a resumed run will call it killed
    else:
        assert process.returncode == 130
        assert "--resume" in stderr
        assert outcome == "interrupted"
