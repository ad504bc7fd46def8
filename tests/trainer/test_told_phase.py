"""What a phase tells while it goes on: the real command, with a recorded log in the place of OpenRLHF."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shared.progress import Progress
from trainer.display import RunTold, followed
from trainer.next_steps import accuracies, next_commands
from trainer.openrlhf_bridge.launch import LOOK_SECONDS
from trainer.openrlhf_bridge.progress import Stage
from trainer.phase import load_phase
from trainer.rollouts import EVALUATIONS

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).parent / "recorded" / "openrlhf-start.log"
SEEN_SECONDS = 2.0
"""Within this a step's line is in the file after its end, as users were promised: a step is looked for more often."""

REPLAY = """
import ast, json, os, shutil, sys, time, zipfile
from pathlib import Path
from trainer.openrlhf_bridge.records import TRAINER, RecordFile

def of(name):
    return Path(arguments[arguments.index(name) + 1])


arguments = json.loads(Path(sys.argv[1]).read_text())["arguments"]
def wait_for(there):
    for _ in range(12_000):  # minutes: a machine may be busy, and what never comes must not hang
        if there():
            return
        time.sleep(0.01)
    sys.exit("not told")


def heard():  # whether the launcher has all lines so far: only then is a step's record surely told behind them
    return log.is_file() and log.stat().st_size - before >= said


told, records = os.environ.get("TOLD"), RecordFile(TRAINER)
log = Path(os.environ["LOG"])
before, said = log.stat().st_size if log.is_file() else 0, 0
ended, pause = "", float(os.environ["PAUSE_SECONDS"])
for line in open(os.environ["RECORDED"], newline=""):
    step, _, values = line.partition("Global step ")[2].partition(": ")
    if step:
        wait_for(heard)
        records.write_step(int(step), ast.literal_eval(values))
    sys.stdout.write(line)
    sys.stdout.flush()
    said += len(line.encode())
    ended = step or ended
    if ended == "1" and "Train epoch" in line and "3/4" in line:
        time.sleep(pause)  # a long update in the second step
        pause = 0
    if step and step == os.environ.get("KILLED_AFTER"):
        state = of("--ckpt.path") / "_actor" / f"global_step{step}"
        state.mkdir(parents=True)
        zipfile.ZipFile(state / "model_states.pt", "w").close()
        (of("--ckpt.path") / "_actor" / "latest").write_text(f"global_step{step}")
        sys.exit(1)
    if step and told:  # the next step does not begin before this one's line is in the file
        wait_for(lambda: f"step {step}/4" in Path(told).read_text())
shutil.copytree(os.environ["BUNDLED"], of("--ckpt.output_dir"), dirs_exist_ok=True)
"""
COMMAND = """
import sys
from trainer.openrlhf_bridge import launch
launch.DRIVER = "replay"
from trainer.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def phase(tmp_path, mini_store):
    """Words and environment of `trainer phase`, whose driver replays the recorded log."""
    from shared.vlm.checkpoint import BUNDLED_FOLDER

    (tmp_path / "replay.py").write_text(REPLAY)
    words = [sys.executable, "-c", COMMAND, "phase", "--name", "fra", "--profile", "local", "--max-steps", "4"]
    words += ["--store", mini_store, "--output", str(tmp_path / "run"), "--device", "cpu"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        "RECORDED": str(RECORDED),
        "BUNDLED": str(BUNDLED_FOLDER),
        "LOG": str(tmp_path / "run" / "openrlhf.log"),
        "PAUSE_SECONDS": "0",
    }
    environment.pop("UV", None)
    return words, environment


def test_with_output_to_a_file_each_step_is_there_before_the_next_begins(phase, tmp_path):
    words, environment = phase
    assert LOOK_SECONDS < SEEN_SECONDS
    log = tmp_path / "nohup.out"
    with log.open("w") as file:
        done = subprocess.run(words, env={**environment, "TOLD": str(log)}, stderr=file, check=False)
    text = log.read_text()
    assert done.returncode == 0, text
    told = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]
    start = [line for line in told if line.startswith("fra: ") and "/4" not in line]
    assert start == [
        "fra: checking packages, checkpoint and memory",
        "fra: reading the dataset and writing prompts",
        "fra: asking OpenRLHF's parser about the arguments",
        "fra: starting Ray",
        "fra: importing OpenRLHF",
        "fra: starting the processes of vLLM and the policy",
        "fra: vLLM: importing vLLM",
        "fra: policy: preparing DeepSpeed",
        "fra: vLLM: starting the engine's process",
        "fra: reference: preparing DeepSpeed",
        "fra: vLLM: starting the engine",
        "fra: vLLM: loading weights",
        "fra: vLLM: setting up its caches",
        "fra: policy: loading weights",
        "fra: policy: preparing the optimiser",
        "fra: reference: loading weights",
        "fra: linking vLLM and the policy",
        "fra: first step: sampling rollouts",
        "fra: first step: log-probabilities of the rollouts",
        "fra: first step: updating the policy",
        "fra: saving the weights",
        "fra: ending the run's processes",
        "fra: making the checkpoint",
    ]
    steps = [line for line in told if line.startswith("fra: step ")]
    assert len(steps) == 4
    assert re.fullmatch(
        r"fra: step 3/4  reward 0\.\d{3}  accuracy 0\.\d{3}  length 29  KL 0\.034  5\.7 s  0:11 left", steps[2]
    )
    checkpoint = tmp_path / "run" / "checkpoint"
    last = told[told.index(steps[-1]) :]
    assert f"phase fra: 4 steps on deepscaler@v1 (local); checkpoint {checkpoint}" in last
    assert "accuracy of rollouts: 63.3% in the first step, 76.6% in the last step" in last
    commands = [shlex.split(line) for line in last[last.index("next:") + 1 :]]
    assert [words[:4] for words in commands] == [
        ["trainer", "evaluate", "--checkpoint", "tiny-vl"],
        ["trainer", "evaluate", "--checkpoint", str(checkpoint)],
        ["trainer", "phase", "--name", "cmra"],
    ]
    assert commands[2][4:6] == ["--from", str(checkpoint)]


def test_a_resumed_phase_says_where_it_goes_on(phase):
    words, environment = phase
    killed = subprocess.run(
        words, env={**environment, "KILLED_AFTER": "2"}, capture_output=True, text=True, check=False
    )
    assert killed.returncode == 1
    assert "step 2/4" in killed.stderr
    resumed = subprocess.run([*words, "--resume"], env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"^\d\d:\d\d:\d\d fra: continues after step 2 of 4$", resumed.stderr, re.MULTILINE)


def test_with_json_a_phase_is_silent_and_the_next_commands_are_in_the_object(phase):
    words, environment = phase
    done = subprocess.run([*words, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == "profile local: as asked\n"
    document = json.loads(done.stdout)
    assert document["accuracy"]["rollouts"]["before"] == 0.6328125
    assert len(document["next_commands"]) == 3


def test_on_a_terminal_finished_steps_stay_above_a_line_whose_clock_runs(phase):
    words, environment = phase
    leader, follower = pty.openpty()
    environment |= {"TERM": "xterm", "PAUSE_SECONDS": "2"}
    process = subprocess.Popen(words, env=environment, stderr=follower, stdout=subprocess.DEVNULL)
    os.close(follower)
    text = b""
    while True:
        try:
            text += os.read(leader, 65536)
        except OSError:
            break
    os.close(leader)
    assert process.wait(60) == 0
    shown = text.decode()
    stayed = [line.rsplit("\x1b[K", 1)[-1].strip("\r") for line in shown.split("\n")]
    assert [line.split("  ")[0] for line in stayed if " step " in line][:4] == [
        f"fra: step {step}/4" for step in (1, 2, 3, 4)
    ]
    assert any(re.fullmatch(r"fra: checking packages, checkpoint and memory: \d+\.\d s", line) for line in stayed)
    clocks = re.findall(r"\rfra: step 2/4: updating the policy, (0:\d\d), 3/4\x1b\[K", shown)
    assert len(set(clocks)) > 1, clocks  # nothing happened meanwhile, and the clock ran


def test_an_evaluation_after_the_last_step_is_not_called_sampling():
    lines = []
    told = RunTold(Progress(lines.append, live=False))
    told.begins("mre")
    told.step({"step": 4, "seconds": 2.0}, 4)
    for text in ("sampling rollouts", "answering the held-out items"):
        told.stage(Stage(text, count="0/40", training=True))
    told.said("held-out items after step 4: math500 70.0%")
    told.stage(Stage("saving the weights", training=True))
    assert [line[9:].split("  ")[0].rstrip() for line in lines] == [
        "mre: step 4/4",
        "mre: answering the held-out items",
        "mre: held-out items after step 4: math500 70.0%",
        "mre: saving the weights",
    ]


def test_the_first_steps_stages_are_told_before_it_even_where_its_record_comes_before_their_lines():
    lines = []
    told = RunTold(Progress(lines.append, live=False))
    told.begins("fra")
    told.stage(Stage("sampling rollouts", training=True))
    told.step({"step": 1, "seconds": 2.0}, 4)
    for late in ("log-probabilities of the rollouts", "updating the policy"):
        told.stage(Stage(late, training=True))
    assert [line[9:].split("  ")[0].rstrip() for line in lines] == [
        "fra: first step: sampling rollouts",
        "fra: first step: log-probabilities of the rollouts",
        "fra: first step: updating the policy",
        "fra: step 1/4",
    ]


def test_a_phase_of_ones_own_and_the_last_one_name_no_next_phase(tmp_path, monkeypatch):
    monkeypatch.delenv("UV", raising=False)  # set where uv runs the tests; commands then begin with its name
    phase = load_phase("mre", "local")
    commands = next_commands(phase, tmp_path, profile="auto", store=None)
    assert [shlex.split(command)[1] for command in commands] == ["evaluate", "evaluate"]


def test_held_out_accuracy_before_and_after_is_told_where_it_was_asked_for(tmp_path):
    found = {2: 0.25, 4: 0.5}
    lines = [{"step": step, "accuracy": {"math500": {"n": 40, "accuracy": share}}} for step, share in found.items()]
    (tmp_path / EVALUATIONS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    when = ["after step 2", "after step 4"]
    assert accuracies(tmp_path) == {"held-out math500": {"before": 0.25, "after": 0.5, "when": when}}


def test_what_another_process_tells_is_heard_while_it_works_and_its_noise_is_not(tmp_path):
    log, heard = tmp_path / "evaluation.log", []
    log.write_text("10:00:00 an earlier run\n")
    with followed(log, heard.append), log.open("a") as file:
        file.write("profile local: as asked\n10:00:01 math500 64/500 answers, 0:")
        file.flush()
        file.write("30 so far\nTraceback\n10:00:02 math500: accuracy 45.0 ± 2.2 %\n")
    assert heard == ["math500 64/500 answers, 0:30 so far", "math500: accuracy 45.0 ± 2.2 %"]
