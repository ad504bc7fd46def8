"""A rollout actor killed, then Ray's head killed, during one run: each time the same command continues it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from itertools import pairwise

import pytest

from trainer.rollouts import read_metrics

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

SETTINGS = [
    "train.max_steps=5",
    "checkpoint.save_every=1",
    "rollout.max_new_tokens=32",
    "train.kl_coefficient=0.0",
]


def steps_done(output):
    path = output / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def is_called(name, process, output):
    """Whether a process of a run has a name; a rollout actor, forked from the driver, is known by its file."""
    if name == "rollout actor":
        return any(output.rglob(f"actor-{process.pid}-*"))
    return any(name in word for word in process.cmdline())


def killed_after(steps, name, output, words, run_processes):
    """Run the command, kill the process called `name` after `steps` steps; returns its exit code."""
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while steps_done(output) < steps:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.5)
    victims = [found for found in run_processes(output) if is_called(name, found, output)]
    assert victims, name
    for victim in victims:
        victim.send_signal(signal.SIGKILL)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode in (0, 1), stderr
    assert ("--resume" in stderr) == bool(process.returncode)
    assert run_processes(output) == []
    return process.returncode


def test_a_killed_rollout_actor_and_a_killed_head_cost_only_the_steps_since_the_last_save(
    mini_store, phase_command, run_processes, tmp_path
):
    output = tmp_path / "run"
    words = phase_command("fra", output, mini_store, settings=SETTINGS)
    assert killed_after(1, "rollout actor", output, words, run_processes) == 1
    outcomes = ["failed", "finished"]
    # Without its head the run may go on unheard for a while, even to its end: what it saved then is told and not
    # trained again.
    if killed_after(3, "gcs_server", output, [*words, "--resume"], run_processes):
        outcomes.insert(1, "failed")
        last = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=1500, check=False)
        assert last.returncode == 0, last.stderr
    attempts = json.loads((output / "run.json").read_text())["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == outcomes
    for before, after in pairwise(attempts):
        assert after["first_step"] in {before["last_step"], before["last_step"] + 1}
    assert [line["step"] for line in read_metrics(output)] == [1, 2, 3, 4, 5]
    assert sorted(path.name for path in (output / "rollouts").glob("*.parquet")) == [
        f"step-{step:06d}.parquet" for step in range(1, 6)
    ]
    assert (output / "checkpoint" / "model.safetensors").is_file()


OWN = """
calls = []
def score(gold, output, row):
    calls.append(row["id"])
    if len(calls) > 40:
        raise ValueError("no unit in\\nthe answer")
    return row["graded"]["total"]
"""


def test_a_row_for_which_the_users_reward_fails_ends_the_run_by_its_id_and_the_mended_one_goes_on(
    mini_store, phase_command, tmp_path
):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "fra.toml").write_text('base = "fra"\n[reward]\nfunction = "mine.py:score"\n')
    words = phase_command(tmp_path / "fra.toml", tmp_path / "run", mini_store, settings=SETTINGS)
    first = subprocess.run(words, capture_output=True, text=True, check=False)
    told = first.stderr.strip().splitlines()[-1]
    assert first.returncode == 1
    assert "stopped after step 2 of 5: reward mine.py:score failed for row mini-deepscaler" in told
    assert "ValueError: no unit in the answer. Fix the function; the same command with --resume" in told
    (tmp_path / "mine.py").write_text(OWN.replace("> 40", "> 4000"))
    second = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "reward mine.py:score was changed since the run began" in second.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [attempt["first_step"] for attempt in record["attempts"]] == [1, 3]
    assert record["reward"]["earlier"][0]["until_step"] == 2
