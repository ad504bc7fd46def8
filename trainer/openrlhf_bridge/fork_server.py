"""One process imports torch, DeepSpeed, vLLM and OpenRLHF; all others of a local run are forked from it.

Six processes of a run import the same modules, about 10 s of processor time each: most of a start on two cores. Here
the driver imports them once and forks a server (Python's own `multiprocessing.forkserver`) while it is alone; Ray's
workers and vLLM's engine process come from that server within milliseconds, sharing its memory.

How Ray gets there: the raylet's command for a worker is `python -m trainer.openrlhf_bridge.fork_server ...` in place of
`python setup_worker.py ...`; that small process asks the server for the worker, and lives as long as the worker does.
How vLLM gets there: an adaptation of `cpu_compat` hands it `context()`.
Only for private instances without CUDA: libraries that have seen a driver must not be forked.
"""

from __future__ import annotations

import ctypes
import gc
import io
import multiprocessing.context
import os
import runpy
import signal
import socket
import sys
import time
from importlib import import_module
from multiprocessing import forkserver, reduction, resource_tracker
from pathlib import Path
from typing import Any

ADDRESS = "INFI_MMR_FORK_SERVER"
"""Environment variable: path of the server's Unix socket; absent where a run has no server."""
PATIENCE_SECONDS = 240.0
"""How long a worker waits for the imports of the server, which takes a busy machine a while."""
PR_SET_PDEATHSIG = 1
MODULES = (
    "torch",
    "torch.utils.tensorboard",
    "torchdata.stateful_dataloader",
    "datasets",
    "deepspeed",
    "peft",
    "pylatexenc.latex2text",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen2_5_vl",
)
"""What the processes of a run import, less Ray; what another family's checkpoint needs is imported where it is."""
WITHOUT_RAY = "vllm.v1.executor.ray_utils"
"""vLLM's module that imports Ray if it can; it is imported again where Ray is there."""


def serve(address: str) -> None:
    """Import everything, then fork the server. Call it before this process has other threads.

    The server ends when this process does.
    """
    # Ray's library reads a worker's identity from the environment when it is loaded: it must not be loaded yet.
    sys.modules["ray"] = None  # type: ignore[assignment]  # Python's way to say that a module is not there
    for name in MODULES:
        import_module(name)
    for name in ("ray", WITHOUT_RAY):
        sys.modules.pop(name, None)
    gc.collect()
    gc.freeze()  # collections in the forked processes then leave the shared pages alone
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    Path(f"{address}.new").chmod(0o600)
    listener.listen(64)
    alive, held = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        os.close(held)
        die_with_parent(parent)
        try:
            forkserver.main(listener.detach(), alive, [])
        finally:
            os._exit(0)
    os.close(alive)
    os.set_inheritable(held, False)
    listener.close()
    Path(f"{address}.new").rename(address)  # it appears when somebody listens


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


class ForkedProcess(multiprocessing.context.ForkServerProcess):
    """A process that the server forks; it gets the environment of whoever starts it."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": dict(os.environ)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        environment = state.pop("_environment")
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        self.__dict__.update(state)


class ForkContext(multiprocessing.context.ForkServerContext):
    """multiprocessing's context of processes that the run's server forks."""

    Process = ForkedProcess


def context(address: str) -> ForkContext:
    """The context of the server at `address`, which this process did not start itself."""
    server: Any = forkserver._forkserver  # noqa: SLF001 - one per process, as the module says
    if server._forkserver_address != address or server._forkserver_pid is None:  # noqa: SLF001 - likewise
        server._forkserver_address = address  # noqa: SLF001 - likewise
        server._forkserver_alive_fd = os.open(os.devnull, os.O_WRONLY)  # noqa: SLF001 - it outlives its clients
        server._forkserver_pid = 0  # noqa: SLF001 - not ours to wait for
        server.ensure_running = resource_tracker.ensure_running
    return ForkContext()


def ray_worker(script: str, arguments: list[str]) -> None:
    """Be a Ray worker: run Ray's own script as it would be run."""
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def _wait_for(address: str) -> bool:
    """Whether the server is there; this process ends with the raylet that wants the worker."""
    deadline, parent = time.monotonic() + PATIENCE_SECONDS, os.getppid()
    raylet = os.environ.get("RAY_RAYLET_PID", str(parent))  # it may be gone before this process asked for its parent
    while not Path(address).exists():
        if os.getppid() != parent or not Path(f"/proc/{raylet}").exists():
            sys.exit(1)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _start_worker(address: str, script: str, arguments: list[str]) -> int:
    """Have the server fork a worker; returns its exit status. Nothing of Ray is imported here."""
    alive = tracker = os.open(os.devnull, os.O_WRONLY)
    process = ForkedProcess(target=ray_worker, args=(script, arguments))
    data = io.BytesIO()
    multiprocessing.context.set_spawning_popen(object())  # type: ignore[arg-type]  # pickling asks whether, not what
    try:
        reduction.dump({"dir": str(Path.cwd()), "orig_dir": str(Path.cwd())}, data)
        reduction.dump(process, data)
    finally:
        multiprocessing.context.set_spawning_popen(None)
    status, child_status = os.pipe()
    child_data, feed = os.pipe()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        reduction.sendfds(client, [child_data, child_status, alive, tracker])
    for number in (child_data, child_status):
        os.close(number)
    os.write(feed, data.getbuffer())  # shorter than a pipe holds; its end stays open as the worker's sentinel
    forkserver.read_signed(status)
    try:
        return int(forkserver.read_signed(status))
    except EOFError:  # the server was killed with the run
        return 1


def main() -> None:
    """`python -m trainer.openrlhf_bridge.fork_server SETUP_WORKER [its options] WORKER_SCRIPT ...`, by the raylet."""
    setup, *rest = sys.argv[1:]
    options = [word for word in rest if word.startswith(("--serialized-runtime-env-context=", "--language="))]
    words = [word for word in rest if word not in options]
    plain = all(word in {"--serialized-runtime-env-context={}", "--language=PYTHON"} for word in options)
    address = os.environ.get(ADDRESS, "")
    if plain and words and words[0].endswith("default_worker.py") and _wait_for(address):
        sys.exit(_start_worker(address, words[0], words[1:]))
    os.execv(sys.executable, [sys.executable, setup, *rest])  # noqa: S606 - Ray's own command, as a list


if __name__ == "__main__":
    # by its own name: the server could not find classes of this process's __main__
    from trainer.openrlhf_bridge.fork_server import main as door

    door()
