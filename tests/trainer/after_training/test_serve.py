"""`trainer serve`: the line that starts vLLM's server, and what stops it before vLLM is imported."""

import http.client
import itertools
import json
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest

from shared.errors import InfiMmrError
from shared.vlm.checkpoint import BUNDLED_FOLDER
from tests.hub_stand_in import environment, serving
from trainer.after_training.serve import Server, run


def trainer(*words, env=None):
    return subprocess.run(
        [sys.executable, "-m", "trainer.cli", *map(str, words)], capture_output=True, text=True, check=False, env=env
    )


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_command_serves_on_loopback_with_the_arguments_of_the_projects_own_engine(port):
    ran = trainer("serve", "tiny-vl", "--port", port, "--dry-run")
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    words = shlex.split(line)
    command = words[words.index(sys.executable) :]
    value = {name: after for name, after in itertools.pairwise(command) if name.startswith("--")}
    assert (value["--host"], value["--port"]) == ("127.0.0.1", str(port))
    assert value["--model"] == str(BUNDLED_FOLDER)
    assert value["--served-model-name"] == "tiny-vl"
    assert json.loads(value["--limit-mm-per-prompt"]) == {"image": 8, "video": 0}
    assert value["--load-format"] == "safetensors"
    assert "--no-trust-remote-code" in command


@pytest.mark.slow
def test_vllms_own_parser_takes_every_option_of_the_command(port):
    ran = trainer("serve", "tiny-vl", "--port", port, "--dry-run")
    words = shlex.split(ran.stdout)
    options = words[words.index("--model") :]
    program = (
        "import sys\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('vllm.entrypoints.launchers.api_server.entry')\n"
        "print(make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:]).max_model_len)\n"
    )
    parsed = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr[-2000:]
    assert parsed.stdout.split()[-1] == "8192"


def test_an_occupied_port_and_a_wrong_folder_are_one_line_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = trainer("serve", "tiny-vl", "--port", port)
        assert ran.returncode == 1
        said = f"port {port} cannot be listened on: address already in use. Name another one with --port"
        assert ran.stderr == f"error: {said}\n"
    ran = trainer("serve", tmp_path / "nowhere")
    assert ran.returncode == 1
    assert "does not exist" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_checkpoint_that_the_hub_keeps_away_is_one_line_before_a_server_is_started(tmp_path):
    with serving() as hub:
        hub.place("acme/gated", {"config.json": b"{}"}, "model")
        hub.gated.add("acme/gated")
        told = environment(hub.url, tmp_path)
        for words, said in (
            (("serve", "acme/nope"), "the hub has no model acme/nope at revision main"),
            (("serve", "acme/gated"), "model acme/gated is gated"),
            (("evaluate", "--checkpoint", "acme/gated", "--benchmarks", "math500"), "model acme/gated is gated"),
            (("ask", "acme/nope", "What is 1 + 1?"), "the hub has no model acme/nope at revision main"),
        ):
            more = ("--output", tmp_path / "out", "--source", f"math500={sums(tmp_path)}") * (words[0] == "evaluate")
            ran = trainer(*words, *more, env={**told, "INFI_MMR_PROGRESS": "0"})
            assert ran.returncode == 1
            (error,) = [line for line in ran.stderr.splitlines() if "error: " in line]
            assert said in error
            assert "Traceback" not in ran.stderr
        assert not list((tmp_path / "out").glob("*"))


def sums(folder):
    file = folder / "sums.jsonl"
    file.write_text(json.dumps({"id": "1", "problem": "What is 1 + 1?", "answer": "2"}))
    return file


STANDS_IN = """
import signal, sys
from trainer.after_training.serve import Server, run
child = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print('up', flush=True); time.sleep(600)"
run(Server([sys.executable, "-c", child], {}, ""))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_command_ends_a_server_that_does_not_hear_of_sigterm(number):
    words = [sys.executable, "-c", STANDS_IN]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as command:
        assert command.stdout.readline() == b"up\n"
        command.send_signal(number)
        assert command.stdout.read() == b""  # the server, too, held the other end of the pipe
    assert command.returncode == (-number if number == signal.SIGKILL else 0)


def test_a_server_that_fails_by_itself_is_told():
    failing = Server([sys.executable, "-c", "raise SystemExit(7)"], {}, "")
    with pytest.raises(InfiMmrError, match="exit code 7"):
        run(failing)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_server_that_is_still_starting_hears_sigterm(port, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as told:
        words = [sys.executable, "-m", "trainer.cli", "serve", "tiny-vl", "--port", str(port)]
        server = subprocess.Popen(words, stdout=told, stderr=told)
    while "Resolved architecture" not in log.read_text():
        assert server.poll() is None, log.read_text()[-3000:]
        time.sleep(0.1)
    server.terminate()
    assert server.wait(60) == 0
    assert not _answers(port)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_served_checkpoint_answers_what_it_answers_here(port, tmp_path):
    words = [sys.executable, "-m", "trainer.cli", "serve", "tiny-vl", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        while not _answers(port):
            assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.5)
        ran = trainer("ask", "tiny-vl", "What is 17 + 25?", "--endpoint", f"http://127.0.0.1:{port}/v1", "--json")
        assert ran.returncode == 0, ran.stderr
        reply = json.loads(ran.stdout)
        assert reply["thinking"]
        assert reply["answer"]
        assert reply["tokens"] > 5
    finally:
        server.terminate()
        server.wait(60)


def _answers(port):
    try:
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        server.request("GET", "/health")
        return server.getresponse().status == 200
    except OSError:
        return False
