"""A private Ray instance that comes up on a busy machine, listens on loopback only, and uses ports of its own.

Ray 2.55 gives a starting node 30 seconds, and its raylet waits 15 seconds for port files that its agents write after
heavy imports; neither is configurable, and on two busy cores both pass (measured). Ports chosen beforehand need
no files, and the question whether the node is up can be asked for longer. Both are set on Ray's own classes, and a Ray
where they are not found is refused.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from typing import Any

from trainer.openrlhf_bridge import fork_server

PORTS = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port")
PATIENCE_SECONDS = 240.0
ADDRESS_LINE = "address "
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's own switch for "this machine only": nodes then bind to 127.0.0.1. Must be set before Ray is imported."""


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    holders = [socket.socket() for _ in range(number)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()


def start_private(keywords: dict[str, Any]) -> None:
    """`ray.init` for an instance of this process alone.

    Raises:
        ImportError: Ray is not the pinned one.

    """
    os.environ.update(LOOPBACK)
    import ray
    import tenacity
    from ray._private import parameter, ray_constants, services

    if not all(hasattr(services, name) for name in ("get_node", "start_ray_process")):
        message = f"ray {ray.__version__} starts nodes in another way than the pinned 2.55.0: run uv sync"
        raise ImportError(message)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    original = parameter.RayParams.__init__
    start = services.start_ray_process

    def with_ports(self: Any, *arguments: Any, **values: Any) -> None:
        original(self, *arguments, **{**values, **{name: port for name, port in ports.items() if not values.get(name)}})

    def start_ray_process(command: list[str], process_type: str, *arguments: Any, **values: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            # Ray tells this port to the agent only; the raylet would wait for the agent's file
            command = [*command, f"--dashboard_agent_listen_port={ports['dashboard_agent_listen_port']}"]
            if fork_server.ADDRESS in os.environ:
                command = [with_forked_workers(word) for word in command]
        return start(command, process_type, *arguments, **values)

    parameter.RayParams.__init__ = with_ports
    services.start_ray_process = start_ray_process
    patient = tenacity.retry(
        retry=tenacity.retry_if_exception_type(RuntimeError),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )
    services.get_node = patient(services.get_node)
    ray.init(**keywords)


def with_forked_workers(word: str) -> str:
    """The raylet's option that says how a Python worker is started, by the fork server; other words as they are."""
    name, _, value = word.partition("=")
    if name != "--python_worker_command":
        return word
    python, setup, *rest = shlex.split(value)
    words = [python, "-m", "trainer.openrlhf_bridge.fork_server", setup, *rest]
    return f"{name}={subprocess.list2cmdline(words)}"


class PrivateHead:
    """A private instance in a process of its own, which comes up while this one imports, and ends with it."""

    def __init__(self, keywords: dict[str, Any]) -> None:
        """Start it; does not wait."""
        words = [sys.executable, "-m", "trainer.openrlhf_bridge.private_ray", json.dumps(keywords)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def address(self) -> str:
        """Address for `ray.init`, once the instance is up.

        Raises:
            RuntimeError: it did not come up, with its reason.

        """
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.startswith(ADDRESS_LINE):
            message = f"Ray's private instance did not start: {line or f'status {self._process.wait()}'}"
            raise RuntimeError(message)
        return line.removeprefix(ADDRESS_LINE).strip()


def main() -> None:
    """Hold a private instance until the process that started this one closes our input or dies."""
    fork_server.die_with_parent(os.getppid())
    told = os.dup(1)
    os.dup2(2, 1)  # Ray prints what it likes; the pipe is for the address
    keywords = json.loads(sys.argv[1])
    with os.fdopen(told, "w") as out:
        try:
            start_private({**keywords, "log_to_driver": False})
        except Exception as error:
            out.write(f"{type(error).__name__}: {error}".replace("\n", " "))
            raise
        import ray

        out.write(f"{ADDRESS_LINE}{ray.get_runtime_context().gcs_address}\n")
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
