"""Start OpenRLHF for one phase, follow it, and leave nothing behind.

Three ways to Ray: a private local instance (default), an existing cluster (`RAY_ADDRESS=host:port` or `auto`), or job
submission (`RAY_ADDRESS=http://host:8265`), the run folder then lying on a file system that all machines see.
A private instance has its own temporary folder, free ports and process group; every process of it carries the run's tag
in its environment, and what is left of them is ended however the run ends (Ctrl-C, kill, crash). If this process is
killed outright, the driver dies with it (`PR_SET_PDEATHSIG`) and Ray's processes with the driver.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from shared.caches import cache_folder
from shared.errors import InfiMmrError
from trainer.openrlhf_bridge import cpu_compat, fork_server, records
from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.compiled_operators import compiling, keep_operators, lend_operators
from trainer.openrlhf_bridge.job import submitted_lines
from trainer.openrlhf_bridge.private_ray import LOOPBACK
from trainer.openrlhf_bridge.progress import Done, Event, Fatal, Stage, Trouble, events

DRIVER = "trainer.openrlhf_bridge.driver"
"""Module that is run as the driver."""
TAG = "INFI_MMR_RUN"
"""Environment variable that marks every process of a run."""
OBJECT_STORE_BYTES = 256 * 1024**2
LOCAL_CPUS = 3
"""Ray's CPU slots of a local instance: one bundle for the GPU actors, one for OpenRLHF's trainer, one spare."""
GRACE_SECONDS = 10.0
SCRATCH = "mmr-"
OWNER = "owner"
"""File in a scratch folder that holds the launcher's process id."""
ENDING = "interrupted: ending the run's processes, which may take half a minute; --resume continues it\n"
"""Said at once: until everything has ended there is nothing else to be seen."""
LOOK_SECONDS = 0.5
"""Between two looks at what the run's processes have written, and at what they compile."""
TRACEBACK_SECONDS = 3.0
"""What a failed actor gets to print its traceback before the run is ended."""


@dataclass(frozen=True)
class LaunchSpec:
    """One training run, ready to start."""

    arguments: list[str]
    folder: Path
    """Run folder: log and spec are written here."""
    records: Path
    """Folder of the run in which its processes write down what they did (`records.py`)."""
    agent: AgentSettings | None
    """None in a supervised phase: it has no rollouts, and no Ray either."""
    device: Literal["cuda", "cpu"]
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Numbers of policy, reference and engine; CUDA knows bfloat16 only."""
    gpus: int = 1
    """GPUs of a local instance (pretended on a CPU), or processes of a supervised phase."""
    ray_address: str = ""
    """Empty: a private local instance."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further environment variables, for tests."""


@dataclass(frozen=True)
class Ending:
    """How OpenRLHF ended."""

    returncode: int
    trouble: str
    """The last line that named an exception; empty when there was none."""


def run_environment(spec: LaunchSpec, tag: str, scratch: Path) -> dict[str, str]:
    """Environment variables that a run adds, for the driver and all its workers."""
    values = {
        TAG: tag,
        records.FOLDER: str(spec.records),
        **({SETTINGS: spec.agent.to_json()} if spec.agent else {}),
        "RAY_DEDUP_LOGS": "0",  # the progress lines must not be folded together
        "RAY_USAGE_STATS_ENABLED": "0",
        # Under `uv run` Ray would send the working folder to every worker and start another `uv run` there.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # a dead head ends the run after this, not after a minute
        "RAY_worker_niceness": "0",  # Ray's 15 lets anything else on the machine starve the training; use nice instead
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",  # as OpenRLHF sets it
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # the checkpoint was fetched before the start, at its pinned revision
        "HF_DATASETS_CACHE": str(scratch / "datasets"),
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # ninja lies beside the interpreter, which need not be on the PATH of whoever started us
    values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    paths = [str(Path(__file__).parents[2])]
    if not spec.ray_address:
        values |= LOOPBACK
        values["TORCH_EXTENSIONS_DIR"] = str(scratch / "operators")
        if spec.device == "cpu":
            values |= with_bytecode(os.environ)
        if spec.device == "cpu" and spec.agent:
            # Not with CUDA, where a module may look for devices before Ray has said which.
            values[fork_server.ADDRESS] = str(scratch / "fork")
            values["RAY_worker_register_timeout_seconds"] = str(round(fork_server.PATIENCE_SECONDS))
    values |= cpu_compat.environment(spec.dtype) if spec.device == "cpu" else cpu_compat.with_cuda()
    if spec.device == "cpu" and spec.agent is None:  # nobody else wants the cores
        values["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    paths.insert(0, values["PYTHONPATH"])
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    values["PYTHONPATH"] = os.pathsep.join(paths)
    return values | spec.environment


def with_bytecode(environment: Mapping[str, str]) -> dict[str, str]:
    """Where Python keeps what it compiled, for machines (containers, mostly) that tell it to keep nothing.

    Compiling the 4,000 modules of a run anew takes 17 s of processor time, more than importing them.
    """
    if not environment.get("PYTHONDONTWRITEBYTECODE"):
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache_folder() / "bytecode")}


def ray_keywords(spec: LaunchSpec, environment: dict[str, str], scratch: Path) -> dict[str, object]:
    """Keywords of `ray.init` in the driver."""
    if spec.ray_address:
        return {"address": spec.ray_address, "runtime_env": {"env_vars": environment}}
    # The environment is inherited by a private instance's workers; a runtime_env would restart those already waiting.
    keywords: dict[str, object] = {
        "address": "local",
        "include_dashboard": False,
        "_temp_dir": str(scratch / "ray"),
        "num_gpus": spec.gpus,
    }
    if spec.device == "cpu":
        keywords |= {"num_cpus": LOCAL_CPUS, "object_store_memory": OBJECT_STORE_BYTES}
    return keywords


def run(spec: LaunchSpec, on_event: Callable[[Event], None], look: Callable[[], None]) -> Ending:
    """Run to the end; the whole output goes to `openrlhf.log` in the run folder.

    `on_event` is told what the output says, `look` is called again and again, and once when all has ended, to see what
    is in `spec.records`: both from this thread.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after everything that was started has been ended.

    """
    tag = uuid.uuid4().hex
    # Unix sockets allow 107 characters: Ray's folder must be short, so it is not inside the run folder.
    sweep_scratch()
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
    (scratch / OWNER).write_text(str(os.getpid()), encoding="utf-8")
    trouble = ""
    try:
        lend_operators(scratch, spec.device)
        with (
            _interruptible(),
            (spec.folder / "openrlhf.log").open("a", encoding="utf-8") as log,
            _lines(spec, tag, scratch, on_event) as (lines, returncode),
        ):
            look_at_operators = _operators_look(scratch, on_event)

            def look_at_all() -> None:
                look_at_operators()
                look()

            for event in events(_between_looks(lines, log, look_at_all)):
                if isinstance(event, Done):  # its record is there sooner than the line has come through Ray
                    look()
                if isinstance(event, Trouble):
                    trouble = event.text
                if isinstance(event, Fatal):
                    threading.Timer(TRACEBACK_SECONDS, end_processes, [tag]).start()
                on_event(event)
            return Ending(returncode(), trouble)
    except KeyboardInterrupt:
        sys.stderr.write(ENDING)
        on_event(Stage("ending the run's processes"))
        raise
    finally:
        end_processes(tag)
        keep_operators(scratch, spec.device)
        shutil.rmtree(scratch, ignore_errors=True)


def sweep_scratch() -> None:
    """Remove scratch folders of launchers that were killed outright and could not do it themselves."""
    for owner in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*/{OWNER}"):
        with contextlib.suppress(OSError, ValueError):
            if not Path(f"/proc/{int(owner.read_text(encoding='utf-8'))}").exists():
                shutil.rmtree(owner.parent, ignore_errors=True)


def _operators_look(scratch: Path, on_event: Callable[[Event], None]) -> Callable[[], None]:
    """A look that tells when DeepSpeed's operators are compiled, of which the log says nothing for half a minute."""
    before: list[str] = []
    told = ""

    def look() -> None:
        nonlocal before, told
        now = compiling(scratch)
        text = f"compiling {', '.join(now)}" if now and now == before else ""  # not what was only opened
        before = now
        if text != told:
            told = text
            on_event(Stage(text, "DeepSpeed"))

    return look


def _between_looks(lines: Iterator[str], log: IO[str], look: Callable[[], None]) -> Iterator[str]:
    """Hand on the lines, copied to `log`; `look` is called meanwhile, whether any come or not, and behind the last."""
    heard: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for line in lines:
                heard.put(line)
            heard.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for the lines
            heard.put(error)

    threading.Thread(target=read, name="output", daemon=True).start()
    due = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            line = heard.get(timeout=max(0.0, due - time.monotonic()))
        except queue.Empty:  # what has been written belongs behind all that has been said
            look()
            due = time.monotonic() + LOOK_SECONDS
            continue
        if line is None:
            look()
            return
        if isinstance(line, BaseException):
            raise line
        log.write(line)
        log.flush()
        yield line


@contextlib.contextmanager
def _lines(
    spec: LaunchSpec, tag: str, scratch: Path, on_event: Callable[[Event], None]
) -> Iterator[tuple[Iterator[str], Callable[[], int]]]:
    """Output lines of the driver and, once they end, its exit status."""
    environment = run_environment(spec, tag, scratch)
    if spec.ray_address.startswith(("http://", "https://")):
        with submitted_lines(spec.ray_address, spec.folder, spec.arguments, environment, on_event) as following:
            yield following
        return
    spec_file = scratch / "spec.json"
    how = {"ray": ray_keywords(spec, environment, scratch)} if spec.agent else {"processes": spec.gpus}
    spec_file.write_text(json.dumps({**how, "arguments": spec.arguments}), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", DRIVER, str(spec_file)],
        env={**_inherited(spec), **environment, "INFI_MMR_LAUNCHER": str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us only; we then end the whole run in order
    )
    if process.stdout is None:
        raise InfiMmrError("the driver has no output")
    watcher = threading.Thread(target=_end_when_driver_ends, args=(process, tag), daemon=True)
    watcher.start()
    yield iter(process.stdout), process.wait


def _inherited(spec: LaunchSpec) -> dict[str, str]:
    """Our own environment, without what would tie the run to another cluster or its pretended GPUs to real ones."""
    dropped = {"RAY_ADDRESS", "RAY_JOB_ID"} | ({"CUDA_VISIBLE_DEVICES"} if spec.device == "cpu" else set())
    return {name: value for name, value in os.environ.items() if name not in dropped}


def _end_when_driver_ends(process: subprocess.Popen[str], tag: str) -> None:
    # Ray's processes inherit the output pipe: a killed driver would leave it open and us waiting on it.
    process.wait()
    time.sleep(1.0)
    end_processes(tag)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that it is cleaned up like Ctrl-C. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def tagged_processes(tag: str) -> list[int]:
    """Process ids on this machine whose environment carries the run's tag, without this process."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def end_processes(tag: str, grace_seconds: float = GRACE_SECONDS) -> None:
    """End every process of a run: SIGTERM, then SIGKILL after `grace_seconds`."""
    for number in tagged_processes(tag):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline:
        if not tagged_processes(tag):
            return
        time.sleep(0.2)
    for number in tagged_processes(tag):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
