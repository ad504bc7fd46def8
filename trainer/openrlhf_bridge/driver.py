"""The process that OpenRLHF runs in: start (or join) Ray, then run OpenRLHF's own entry, unmodified.

Of a supervised phase, which needs no Ray, it is the parent of the training processes.

Started by `launch.py` as `python -m trainer.openrlhf_bridge.driver SPEC.json`; SPEC holds `ray` (keywords of
`ray.init`), or `processes` (how many of a supervised phase), and `arguments` (OpenRLHF's). Ray is started here because
OpenRLHF then skips its own `ray.init`, which would know nothing of pretended GPUs, temporary folders or the environment
of workers. With a fork server, a private instance starts beside the driver's imports, in a process of its own.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from trainer.openrlhf_bridge import fork_server
from trainer.openrlhf_bridge.arguments import ENTRIES
from trainer.openrlhf_bridge.fork_server import die_with_parent
from trainer.openrlhf_bridge.private_ray import PrivateHead, start_private
from trainer.openrlhf_bridge.processes import run_processes


def start_ray(keywords: dict[str, Any]) -> None:
    """Start or join Ray, as the launcher says."""
    address = os.environ.get(fork_server.ADDRESS)
    if keywords["address"] != "local":
        import ray

        ray.init(**keywords)
    elif not address:
        start_private(keywords)
    else:
        head = PrivateHead(keywords)
        fork_server.serve(address)  # before Ray's threads
        import ray

        ray.init(address=head.address(), log_to_driver=True)


def main() -> None:
    """Run one phase's training."""
    if "INFI_MMR_LAUNCHER" in os.environ:  # not in a submitted job, whose parent is Ray
        die_with_parent(int(os.environ["INFI_MMR_LAUNCHER"]))
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "processes" in spec:
        sys.exit(run_processes(ENTRIES["sft"], spec["arguments"], spec["processes"]))
    start_ray(spec["ray"])
    import ray

    entry = ENTRIES["grpo"]
    sys.argv = [entry, *spec["arguments"]]
    runpy.run_module(entry, run_name="__main__", alter_sys=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
