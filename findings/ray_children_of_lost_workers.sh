#!/usr/bin/env bash
# Ray 2.55.0: what an actor had started lives on when the actor is killed (by the memory killer, say): a process that
# holds a GPU's memory then keeps it from the actor that follows. With RAY_process_group_cleanup_enabled=1 each worker has
# a process group of its own, which the raylet ends with it; data_engine/runners/ray_runner.py sets it.
# Exit 0: still so. Exit 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset VIRTUAL_ENV PYTHONPATH RAY_ADDRESS RAY_process_group_cleanup_enabled
python3 -m venv run && run/bin/pip install -q ray==2.55.0
cat >look.py <<'PYTHON'
import os
import signal
import subprocess
import time
from pathlib import Path

import ray

ray.init(address="local", include_dashboard=False, num_cpus=1, object_store_memory=100 * 2**20, log_to_driver=False)


@ray.remote(num_cpus=1)
class Actor:
    def starts(self):
        return os.getpid(), subprocess.Popen(["sleep", "600"]).pid


def runs(process):
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


actor = Actor.remote()
own, child = ray.get(actor.starts.remote())
os.kill(own, signal.SIGKILL)
end = time.monotonic() + 20
while runs(child) and time.monotonic() < end:
    time.sleep(0.2)
print("its child", "lives on" if runs(child) else "ends")
if runs(child):
    os.kill(child, signal.SIGKILL)
PYTHON
plain=$(run/bin/python look.py 2>/dev/null | tail -1)
cleaned=$(RAY_process_group_cleanup_enabled=1 run/bin/python look.py 2>/dev/null | tail -1)
run/bin/python -c 'import ray; print("ray", ray.__version__)'
echo "an actor is killed: $plain; with RAY_process_group_cleanup_enabled=1 $cleaned"
[ "$plain" = "its child lives on" ] && [ "$cleaned" = "its child ends" ]
