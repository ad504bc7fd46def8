"""The door: --help answers at once, and nothing heavy is imported before the arguments are parsed.

How fast a machine is says nothing about the program: what is measured is measured against this machine's own Python.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HEAVY = [
    "torch",
    "ray",
    "vllm",
    "transformers",
    "datasets",
    "polars",
    "pyarrow",
    "openrlhf",
    "deepspeed",
    "sympy",
    "numpy",
    "pydantic",
    "PIL",
    "asyncio",
    "http.client",
]
TIMES_BARE_PYTHON = 10
"""Processor time of `--help` in units of `python -c pass` (measured: 2.5; importing torch: 90)."""
MODULES = 300
"""Modules that `--help` may import (measured: 171 and 175); a heavy library brings hundreds."""


@pytest.mark.parametrize("program", ["data_engine.cli", "trainer.cli"])
def test_both_programs_say_their_version(program):
    ran = subprocess.run([sys.executable, "-m", program, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"infi-mmr {metadata.version('infi-mmr')}\n"


def processor_seconds(*arguments: str) -> float:
    """Least processor time of five runs of this Python: other work on the machine delays a run, it adds none."""

    def one() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)

    return min(one() for _ in range(5))


@pytest.mark.parametrize("module", ["data_engine.cli", "trainer.cli"])
def test_help_imports_nothing_heavy(module):
    probe = (
        f"import sys, importlib; sys.argv = ['x', '--help']\n"
        f"try: importlib.import_module('{module}').main()\n"
        f"except SystemExit: pass\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules], len(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stderr, done.stderr
    assert int(done.stderr.split()[-1]) < MODULES, done.stderr
    assert "Usage" in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2], "a command's first sentence does not fit on its line"


@pytest.mark.parametrize("module", ["data_engine.cli", "trainer.cli"])
def test_help_costs_a_small_multiple_of_starting_python(module):
    bare = processor_seconds("-c", "pass")
    door = processor_seconds("-c", f"from {module} import main; main()", "--help")
    assert door < TIMES_BARE_PYTHON * bare, f"{door:.3f} s of processor time against {bare:.3f} s"


def test_no_test_fails_by_the_clock():
    """Neither by an assertion on elapsed time nor by Hypothesis' deadline per example."""
    from hypothesis import HealthCheck, settings

    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
    clocks = re.compile(r"assert .*(time\.(time|monotonic|perf_counter)\(|deadline\b(?! is None))")
    found = [
        f"{file.name}:{number}"
        for file in Path(__file__).parent.rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if clocks.search(line) and file != Path(__file__)
    ]
    assert found == []
