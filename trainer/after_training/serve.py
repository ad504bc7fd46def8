"""A checkpoint behind vLLM's own OpenAI-compatible server on loopback: the one line that starts it.

Arguments and environment are those of this project's own engine. Input: checkpoint and port. Output: the command, which
runs until it is told to end. `vllm serve` itself asks for the version of a package named vllm, which group cpu does not
have under that name (PackageNotFoundError): the server's module is started instead, on every device.
Not covered: other addresses than loopback, several servers, LoRA; the printed command is there to be changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shared.benchmark import Item
from shared.errors import InfiMmrError
from shared.installation import check_vllm
from shared.vlm.checkpoint import checkpoint_folder, is_folder
from shared.vlm.engine import engine_arguments
from shared.vlm.spec import pixel_limits
from shared.vlm.surroundings import cuda_seen, prepare_environment
from trainer.after_training.places import local_checkpoint, meant_checkpoint
from trainer.evaluation.asking import Settings, engine_spec
from trainer.openrlhf_bridge.fork_server import die_with_parent

MODULE = "vllm.entrypoints.launchers.api_server.entry"
HOST = "127.0.0.1"
MOST_PICTURES = 8
"""Pictures that one request may hold."""


@dataclass(frozen=True)
class Server:
    """How the server is started."""

    command: list[str]
    environment: dict[str, str]
    """Variables that differ from this process's own."""
    url: str

    @property
    def line(self) -> str:
        """The same for a shell."""
        words = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.environment.items())]
        return " ".join([*words, shlex.join(self.command)])


def server(checkpoint: str, port: int, settings: Settings | None = None, *, fetch: bool = False) -> Server:
    """What starts the server of `checkpoint`.

    With `fetch`, a checkpoint of the hub is brought here first, by this project's own way: what keeps it away is one
    line, where the server would end in a traceback.

    Raises:
        InfiMmrError: a folder that lacks files, no vLLM for this machine, a port that is taken, or the hub refuses.

    """
    meant = meant_checkpoint(checkpoint)
    folder = str(local_checkpoint(meant)) if is_folder(meant) else meant
    item = Item("serve", "", "", "", "text", images=(b"",) * MOST_PICTURES)
    spec, _ = engine_spec(meant, [item], settings or Settings.model_validate({}))
    check_vllm(cuda=cuda_seen())
    check_port(port)
    revision = spec.revision
    if fetch and not is_folder(meant):
        folder, revision = str(checkpoint_folder(spec)), None
    names = list(dict.fromkeys([checkpoint, meant, Path(meant).name]))
    command = [sys.executable, "-m", MODULE, "--model", folder, "--host", HOST, "--port", str(port)]
    command += ["--served-model-name", *names]
    command += ["--revision", revision] if revision else []
    if limits := pixel_limits(spec):
        command += ["--mm-processor-kwargs", json.dumps(limits)]
    return Server([*command, *_words(engine_arguments(spec))], _environment(), f"http://{HOST}:{port}/v1")


def check_port(port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        InfiMmrError: it is taken, or not for this user.

    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            message = f"port {port} cannot be listened on: {(error.strerror or str(error)).lower()}"
            raise InfiMmrError(message, "Name another one with --port") from error


def _words(arguments: Mapping[str, Any]) -> list[str]:
    """Keyword arguments of vLLM as options of its command line."""
    words: list[str] = []
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{option}"] if value else [f"--no-{option}"]
        else:
            words += [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return words


def _environment() -> dict[str, str]:
    """What the server's process needs beside this one's variables: it tells more, and its engine is another process."""
    before = dict(os.environ)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    prepare_environment()
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def run(found: Server) -> None:
    """Run the server until it ends; Ctrl-C and SIGTERM end it in order, a second one at once.

    vLLM 0.29 loses a SIGTERM that comes while its engine starts, and goes on; SIGINT to all its processes, what a
    terminal sends, ends it at any time.

    Raises:
        InfiMmrError: it ended by itself with an error.

    """
    told: list[int] = []
    children: list[int] = []

    def end(number: int, _: object) -> None:
        told.append(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGINT if len(told) == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server = subprocess.Popen(
            found.command,
            env={**os.environ, **found.environment},
            start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGINT),  # noqa: PLW1509 - no threads
        )
        children.append(server.pid)
        if told:
            end(told.pop(), None)
        code = server.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code and not told:
        raise InfiMmrError(f"the server ended with exit code {code}", "Its last lines above say why")


def serve_command(checkpoint: str, port: int, options: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """`trainer serve`: say the command and run it; with `dry_run` only say it, on stdout."""
    from shared.config import build_model

    found = server(checkpoint, port, build_model(options, Settings, what="serve", file="options"), fetch=not dry_run)
    if not dry_run:
        asked = shlex.join(["trainer", "ask", checkpoint, "QUESTION", "--endpoint", found.url])
        sys.stderr.write(f"{found.line}\n\nserves {found.url} until Ctrl-C; ask it: {asked}\n")
        sys.stderr.flush()
        run(found)
    else:
        sys.stdout.write(f"{found.line}\n")
    return {}
