"""Every command of the README runs, in its order, in one fresh folder: documentation that lies fails the suite.

Commands stand in fenced blocks tagged `bash`, one per line. A block that cannot run here (a cluster, CUDA, a hub) is
tagged `text`, and the README says beside it what it needs. Two things differ from what a user types: training stops
after two steps, and `uv run` is left out because the environment is already the right one.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL_DATA = ROOT.parent / "shared" / "data"
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
THIS_SUITE = "uv run pytest"


def readme_commands() -> list[str]:
    """The README's shell lines in order."""
    text = "\n".join(FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def needs_real_rows(command: str) -> bool:
    """Whether a command reads the real rows, or the version or recipe that only they make."""
    return any(words in command for words in ("../shared/data", "@v2", "my-rows.toml"))


def test_the_readme_leads_with_the_two_commands():
    assert readme_commands()[:2] == [
        "uv run data-engine build virl39k-captioned",
        "uv run trainer phase --name mre",
    ]


def test_every_command_of_the_readme_can_be_pasted():
    assert [c for c in readme_commands() if not c.startswith("uv run ")] == []


def test_the_readme_names_every_file_of_the_three_packages():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text[text.index("## Where things are") :]
    files = [p for room in ("shared", "data_engine", "trainer") for p in (ROOT / room).rglob("*.py")]
    missing = [str(p.relative_to(ROOT)) for p in files if p.name != "__init__.py" and f"{p.name} " not in tree]
    assert missing == []


@pytest.mark.nightly
@pytest.mark.timeout(2700)
def test_every_command_of_the_readme_runs(tmp_path):
    workplace = tmp_path / "checkout"
    workplace.mkdir()
    if REAL_DATA.is_dir():
        (tmp_path / "shared").symlink_to(REAL_DATA.parent)
    environment = {key: value for key, value in os.environ.items() if key != "INFI_MMR_STORE"}
    environment["INFI_MMR_CACHE"] = str(tmp_path / "cache")
    for command in readme_commands():
        if command == THIS_SUITE or (needs_real_rows(command) and not REAL_DATA.is_dir()):
            continue
        words = shlex.split(command.removeprefix("uv run "))
        if words[:2] == ["trainer", "phase"]:
            words += ["--max-steps", "2"]
        words[0] = str(Path(sys.executable).parent / words[0])
        done = subprocess.run(words, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"$ {command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert (workplace / "report.html").stat().st_size > 10_000
