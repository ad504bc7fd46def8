"""The process that OpenRLHF runs in: start (or join) Ray, then run OpenRLHF's own entry, unmodified.

Started by `launch.py` as `python -m trainer.openrlhf_bridge.driver SPEC.json`; SPEC holds `ray` (keywords of
`ray.init`) and `arguments` (OpenRLHF's). Ray is started here because OpenRLHF then skips its own `ray.init`, which
would know nothing of pretended GPUs, temporary folders or the environment of workers.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import sys
from pathlib import Path

from trainer.openrlhf_bridge.private_ray import start_private

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the launcher dies, even by SIGKILL; Ray's own processes follow this one."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def main() -> None:
    """Run one phase's training."""
    if "INFI_MMR_LAUNCHER" in os.environ:  # not in a submitted job, whose parent is Ray
        die_with_parent(int(os.environ["INFI_MMR_LAUNCHER"]))
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if spec["ray"]["address"] == "local":
        start_private(spec["ray"])
    else:
        import ray

        ray.init(**spec["ray"])
    import ray

    from trainer.openrlhf_bridge.arguments import ENTRY

    sys.argv = [ENTRY, *spec["arguments"]]
    runpy.run_module(ENTRY, run_name="__main__", alter_sys=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
