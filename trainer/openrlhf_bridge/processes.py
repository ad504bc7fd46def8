"""The processes of a supervised phase: one per GPU of this machine (or one without), started without Ray.

In: OpenRLHF's SFT entry, its arguments, how many. torch finds the others through `RANK`, `WORLD_SIZE` and an address on
loopback, as under `torchrun`, whose workers outlive it when it is killed outright: these end with whoever started them.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence

from trainer.openrlhf_bridge.fork_server import die_with_parent
from trainer.openrlhf_bridge.private_ray import free_ports

PARENT = "INFI_MMR_TRAINED_BY"
"""Environment variable: process id of who started the processes."""
BEGINS = "supervised process"
LOOK_SECONDS = 0.2


def run_processes(entry: str, arguments: Sequence[str], number: int) -> int:
    """Run `number` processes to their end; returns 0, or the status of the first that failed, the others then ended."""
    rank_all = {"WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_ports(1)[0], PARENT: os.getpid()}
    processes = []
    for rank in range(number):
        own = {name: str(value) for name, value in (rank_all | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        command = [sys.executable, "-m", __name__, entry, *arguments]
        processes.append(subprocess.Popen(command, env={**os.environ, **own}, stdin=subprocess.DEVNULL))
    try:
        while True:
            ended = [process.poll() for process in processes]
            failed = next((status for status in ended if status), 0)
            if failed or None not in ended:
                return failed
            time.sleep(LOOK_SECONDS)
    finally:
        for process in processes:
            process.kill()


def main() -> None:
    """Be one of the processes: run OpenRLHF's entry, unmodified."""
    die_with_parent(int(os.environ[PARENT]))
    sys.stdout.write(f"{BEGINS} {os.environ['RANK']} of {os.environ['WORLD_SIZE']}\n")
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
