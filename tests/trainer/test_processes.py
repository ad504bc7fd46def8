"""The training processes of a supervised phase: one per GPU, each with its rank, and none left when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
ENTRY = """
import os, sys, time
print(*(os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")), sys.argv[1:], flush=True)
if sys.argv[1:] == ["fail"]:
    sys.exit(3) if os.environ["RANK"] == "1" else time.sleep(600)
"""
CODE = "import sys; from trainer.openrlhf_bridge.processes import run_processes; "


def run(tmp_path, word, number):
    (tmp_path / "toy_entry.py").write_text(ENTRY)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    code = f"{CODE}sys.exit(run_processes('toy_entry', ['{word}'], {number}))"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_each_process_knows_its_rank_and_gets_the_arguments(tmp_path):
    ran = run(tmp_path, "go", 2)
    assert ran.returncode == 0, ran.stderr
    lines = sorted(line for line in ran.stdout.splitlines() if "127.0.0.1" in line)
    assert lines == [f"{rank} {rank} 2 127.0.0.1 ['go']" for rank in range(2)]
    assert "supervised process 1 of 2" in ran.stdout


def test_one_that_fails_ends_the_others_and_its_status_is_told(tmp_path):
    assert run(tmp_path, "fail", 2).returncode == 3
