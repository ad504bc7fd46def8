"""Every command of the README runs, in its order, in one fresh store: documentation that lies fails the suite.

Commands stand in fenced blocks tagged `bash`, one per line, `\\` continuing a line. A block that cannot run here (a
cluster, CUDA, a hub) is tagged `text`, and the README says beside it what it needs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
# `uv run pytest` is this very suite, and installing the environment is how it got here.
NOT_RUN_HERE = ("uv run pytest", "git clone", "cd ", "uv sync", ".ci/run")


def readme_commands() -> list[str]:
    """The README's shell lines in order, comments dropped and continued lines joined."""
    text = "\n".join(FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_leads_with_the_two_commands():
    commands = readme_commands()
    assert "uv run data-engine build virl39k-captioned" in commands
    assert "uv run trainer phase --name mre" in commands


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_command_of_the_readme_runs(tmp_path):
    environment = os.environ | {"INFI_MMR_STORE": str(tmp_path / "store"), "INFI_MMR_RUNS": str(tmp_path / "runs")}
    failures = []
    for command in readme_commands():
        if command.startswith(NOT_RUN_HERE):
            continue
        words = shlex.split(command)
        if any(word.startswith("../shared/data") for word in words) and not (ROOT / "../shared/data").is_dir():
            continue
        assert words[:2] == ["uv", "run"], f"a README command that users cannot paste: {command}"
        done = subprocess.run(
            ["uv", "run", "--no-sync", *words[2:]],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            failures.append(f"$ {command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    assert not failures, "\n\n".join(failures)
