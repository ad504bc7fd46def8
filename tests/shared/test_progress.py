"""What a user sees of long work: lines where nobody watches, one line that is replaced where somebody does."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.progress import Progress, open_progress

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Told:
    """A progress under a clock of its own, and what it wrote."""

    def __init__(self, **options):
        self.clock, self.pieces = Clock(), []
        self.progress = Progress(self.pieces.append, clock=self.clock, **{"live": False, **options})

    def passes(self, seconds):
        """Let time pass as the ticker does."""
        for _ in range(round(seconds * 2)):
            self.clock.now += 0.5
            self.progress.tick()

    @property
    def lines(self):
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", piece.rstrip("\n")) for piece in self.pieces]

    @property
    def screen(self):
        """Lines that stay, and the replaced line, as a terminal shows them."""
        text = "".join(self.pieces)
        shown = [line.rsplit("\x1b[K", 1)[-1].strip("\r") for line in text.split("\n")]
        shown[-1] = text.rsplit("\n", 1)[-1].split("\x1b[K")[-2].strip("\r")
        return shown


def test_a_line_stands_there_for_each_step_with_counts_time_and_pace():
    told = Told()
    with told.progress.step("caption_images"):
        task = told.progress.task("caption_images", 200, unit="images", known=40)
        for _ in range(2):
            told.passes(5)
            task.advance(100, tokens=3000)
        task.done()
    with told.progress.step("assemble"):
        told.passes(1)
    assert told.lines == [
        "caption_images: 200 images in 10.0 s, 20 images/s, 600 answer tokens/s, 40 already there",
        "assemble: done in 1.0 s",
    ]


def test_a_long_step_is_told_of_every_half_minute_and_not_more_often():
    told = Told()
    with told.progress.step("embed"):
        for name in ("rows", "items"):
            task = told.progress.task(name, 100, unit="texts")
            for _ in range(50):
                told.passes(1)
                task.advance()
            task.done()
    assert told.lines == [
        "embed: rows 29/100 texts, 1 texts/s, 1:11 left, 0:30 so far",
        "embed: items 9/100 texts, 1 texts/s, 1:31 left, 0:10 so far",
        "embed: items 39/100 texts, 1 texts/s, 1:01 left, 0:40 so far",
        "embed: 100 texts in 1 min 40 s, 1 texts/s",
    ]


def test_time_left_comes_from_the_recent_pace_and_not_from_the_wait_for_an_engine():
    told = Told()
    task = told.progress.task("answers", 1000, unit="answers")
    task.waits("starting tiny-vl")
    told.passes(29)
    task.waits("")
    for _ in range(4):
        told.passes(0.5)
        task.advance(50)
    assert told.lines == ["answers 50/1,000 answers, 100 answers/s, 0:10 left, 0:30 so far"]
    told.pieces.clear()
    for _ in range(30):  # the machine is busy now
        told.passes(10)
        task.advance(1)
    assert re.match(r"answers 229/1,000 answers, 0\.1 answers/s, 2:\d\d:\d\d left", told.lines[-1])
    task.done()
    assert told.lines[-1] == "answers: 230 answers in 5 min 31 s, 0.76 answers/s"


def test_a_build_tells_after_seconds_how_long_all_of_it_will_take_and_learns_from_its_steps():
    told = Told()
    told.progress.expects({"source": 30.0, "judge": 20.0, "shards": 30.0})
    with told.progress.step("source"):
        task = told.progress.task("source", 100, unit="records")
        for _ in range(60):  # 3.4 times slower than thought, as the later steps will be then
            told.passes(1)
            task.advance(1)
        assert told.lines[-1].endswith("0:41 left, 1:00 so far; about 3:31 left of the whole")
        task.advance(40)
        task.done()
    with told.progress.step("judge"):  # nothing is counted: what was thought of it, at the pace so far
        told.passes(30)
    assert told.lines[-2] == "judge, 0:30; about 1:10 left of the whole"
    with told.progress.step("shards"):
        told.passes(31)
    assert told.lines[-2] == "shards, 0:30"


def test_an_amount_that_is_only_guessed_tells_the_time_left_of_the_whole_and_no_count():
    told = Told()
    told.progress.expects({"source": 10.0, "judge": 10.0})
    with told.progress.step("source"):
        task = told.progress.task("source", unit="records", about=100)
        for _ in range(30):
            told.passes(1)
            task.advance(1)
    assert told.lines[0] == "source 29 records, 1 records/s, 0:30 so far; about 1:23 left of the whole"


def test_steps_of_moments_say_nothing_about_the_time_that_a_model_takes():
    told = Told()
    told.progress.expects({"source": 0.02, "judge": 100.0, "shards": 20.0})
    with told.progress.step("source"):
        told.passes(5)
    with told.progress.step("judge"):
        told.passes(31)
    assert told.lines[-2].endswith("; about 1:30 left of the whole")


def test_what_was_there_already_says_nothing_about_the_pace_of_other_steps():
    told = Told()
    told.progress.expects({"source": 100.0, "judge": 50.0, "shards": 50.0})
    with told.progress.step("source"):
        told.progress.task("source", 1000, unit="records", known=1000).done()
        told.passes(1)
    with told.progress.step("judge"):
        told.passes(30)
    assert told.lines[-2] == "judge, 0:30; about 1:10 left of the whole"


def test_what_is_waited_for_is_named_while_nothing_happens():
    told = Told()
    task = told.progress.task("type_images", 64, unit="images")
    task.waits("starting tiny-vl")
    told.passes(61)
    assert told.lines == [
        "type_images 0/64 images, 0:30 so far, starting tiny-vl",
        "type_images 0/64 images, 1:00 so far, starting tiny-vl",
    ]


def test_each_stage_is_told_when_it_begins_and_a_very_long_one_again_after_one_two_four_minutes():
    told = Told(title="fra")
    told.progress.stage("starting Ray")
    told.progress.stage("starting Ray")  # said again by the log: nothing new
    told.progress.stage("importing", "vLLM")
    told.progress.stage("compiling", "policy")
    told.progress.stage("sampling answers 1/16", kept=False)
    told.passes(500)
    assert told.lines == [
        "fra: starting Ray",
        "fra: vLLM: importing",
        "fra: policy: compiling",
        *(f"fra: sampling answers 1/16, {clock}" for clock in ("1:00", "2:00", "4:00", "8:00")),
    ]


def test_on_a_terminal_what_ended_stays_and_the_clock_of_the_last_line_runs():
    told = Told(live=True, title="fra")
    told.progress.stage("starting Ray")
    told.passes(7)
    assert told.screen == ["fra: starting Ray, 0:07"]
    told.progress.stage("importing", "vLLM")
    told.progress.stage("compiling", "policy")
    told.passes(65)
    assert told.screen == ["fra: starting Ray: 7.0 s", "fra: vLLM: importing | policy: compiling, 1:05"]
    told.progress.say("step 1/12  reward 0.5")
    told.progress.stage("")
    told.progress.__exit__(None, None, None)
    assert told.screen == [
        "fra: starting Ray: 7.0 s",
        "fra: step 1/12  reward 0.5",
        "fra: vLLM: importing: 1 min 5 s",
        "fra: policy: compiling: 1 min 5 s",
        "",
    ]


def test_the_replaced_line_fits_the_terminal_and_keeps_its_numbers():
    told = Told(live=True, columns=lambda: 60)
    with told.progress.step("decontaminate_embeddings"):
        task = told.progress.task("embed rows and items 题目", 711, unit="texts")
        told.passes(2)
        task.advance(64)
        told.passes(2)
    for piece in told.pieces:
        assert len(piece.replace("\x1b[K", "").strip("\r\n")) < 60 or piece.endswith("\n")
    assert any("0:20 left, 0:04 so far" in piece for piece in told.pieces)


def test_a_name_with_control_characters_cannot_move_the_cursor():
    told = Told()
    told.progress.say("benchmark \x1b[2Jmine\r\nerror: all is lost")
    assert told.lines == ["benchmark  [2Jmine  error: all is lost"]


def test_a_step_that_fails_leaves_the_telling_to_the_error():
    told = Told(live=True)

    def fail():
        with told.progress.step("type_images"):
            told.progress.task("type_images", 3)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    told.passes(1)
    assert told.screen == [""]


@pytest.mark.parametrize(
    ("switch", "as_json", "tells"), [("", False, True), ("", True, False), ("1", True, True), ("0", False, False)]
)
def test_json_is_silent_unless_asked_and_the_switch_decides(monkeypatch, capfd, switch, as_json, tells):
    monkeypatch.setenv("INFI_MMR_PROGRESS", switch)
    progress = open_progress(as_json=as_json)
    assert progress.tells is tells
    with progress:
        progress.say("hello")
    assert ("hello" in capfd.readouterr().err) is tells


def build(store, *more, **environment):
    command = [sys.executable, "-m", "data_engine.cli", "build", "math500", "--profile", "local", "--store", store]
    return [*map(str, command), *more], {**os.environ, "PYTHONPATH": str(ROOT), **environment}


def test_a_build_without_a_terminal_writes_a_line_for_every_step_into_its_file(tmp_path):
    command, environment = build(tmp_path / "store")
    with (tmp_path / "log").open("w") as log:
        subprocess.run(command, env=environment, stderr=log, check=True)
    text = (tmp_path / "log").read_text()
    for step in (
        "source: 40 records in",
        "verify_answers: 40 rows in",
        "assemble: done in",
        "shards: 40 rows in",
        "publish: done in",
    ):
        assert len(re.findall(rf"^\d\d:\d\d:\d\d {step}", text, re.MULTILINE)) == 1, text
    assert "\x1b" not in text


def test_a_build_with_json_says_no_progress_unless_asked(tmp_path):
    for switch, lines in (("", 0), ("1", 1)):
        command, environment = build(tmp_path / f"store{switch}", "--json", INFI_MMR_PROGRESS=switch)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert len(re.findall(r"^\d\d:\d\d:\d\d shards: ", done.stderr, re.MULTILINE)) == lines
        assert done.stdout.count("\n") == 1


def on_a_terminal(command, environment, *, until=None, interrupt=False):
    """What a command shows on a terminal of its own, and its status."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, env=environment, stderr=follower, stdout=subprocess.DEVNULL)
    os.close(follower)
    text = ""
    while True:
        try:
            piece = os.read(leader, 65536).decode()
        except OSError:  # the other side is closed: the process ended
            break
        if not piece:
            break
        text += piece
        if interrupt and until in text:
            process.send_signal(signal.SIGINT)
            interrupt = False
    os.close(leader)
    return text, process.wait(60)


def test_on_a_terminal_a_builds_finished_steps_stay_and_nothing_of_the_replaced_line(tmp_path):
    command, environment = build(tmp_path / "store", TERM="xterm")
    text, status = on_a_terminal(command, environment)
    assert status == 0
    assert "\r" in text
    lines = [line.rsplit("\x1b[K", 1)[-1].strip("\r") for line in text.split("\n")]
    steps = [line.split(":")[0] for line in lines[1:7]]
    assert steps == [
        "opening the source and the benchmarks",
        "source",
        "verify_answers",
        "assemble",
        "shards",
        "publish",
    ]
    assert lines[7].startswith("math500@v1 (local): 40 rows")
    assert "\x1b[?25" not in text, "a cursor that is hidden stays hidden after a kill"


CHILD = """
import time
from shared.command import run_command
from shared.progress import open_progress
def work():
    with open_progress("fra") as progress:
        progress.stage("starting Ray")
        progress.stage("importing OpenRLHF")
        time.sleep(60)
run_command(work, as_json=False, resume="the same command with --resume")
"""


def test_ctrl_c_leaves_a_terminal_in_order(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    text, status = on_a_terminal(
        [sys.executable, "-c", CHILD], environment, until="importing OpenRLHF, 0:01", interrupt=True
    )
    assert status == 130, text
    first, last, rest = text.split("\n")
    assert "starting Ray: 0.0 s" in first
    assert last.endswith("\r\x1b[Kinterrupted; the same command with --resume continues where it was\r")
    assert rest == ""


def test_lines_are_written_while_an_engine_keeps_stderr_for_its_log(tmp_path):
    code = (
        "import os\nfrom shared.progress import open_progress\nfrom shared.vlm.surroundings import quiet\n"
        "with open_progress() as progress, quiet():\n    os.write(2, b'noise')\n    progress.say('step 1')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "INFI_MMR_ENGINE_LOG": str(tmp_path / "engine.log")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.endswith(" step 1\n")
    assert (tmp_path / "engine.log").read_text() == "noise"


def test_a_full_disk_under_the_log_ends_no_work():
    with Path("/dev/full").open("w") as full:
        code = "from shared.progress import open_progress\nwith open_progress() as p: p.say('x')\nprint('done')"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=True,
        )
    assert done.stdout == "done\n"


def test_no_torch_and_no_ray_and_no_rich_for_progress():
    probe = (
        "import sys, shared.progress\n"
        "print([name for name in ('torch', 'ray', 'rich', 'polars', 'pydantic') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
