"""Run the tests marked `nightly` one by one and keep their last results in benchmarks/results/nightly.md.

    python .ci/nightly.py [TEST_PATH...]

Each test has a process of its own, so that one which ends badly takes no other along. A line of the table is replaced
when its test has run again; lines of tests that are gone are dropped. Exit code 1 where one failed.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "results" / "nightly.md"
HEAD = """# Nightly flows: last results

Written by `.ci/nightly`, one line per test marked `nightly`: when it last ran, at which commit, where. A line that says
"never" has not been run by it.

| test | result | minutes | date | commit | machine |
|---|---|---|---|---|---|
"""
NEVER = ("never", "", "", "", "")
_LINE = re.compile(r"^\| `(?P<test>[^`]+)` \|(?P<rest>.*)\|$")


def collected(paths: list[str]) -> list[str]:
    """Ids of the nightly tests below `paths`, in pytest's order."""
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "nightly", *paths]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 5):  # 5: none
        sys.exit(done.stdout + done.stderr)
    return [line for line in done.stdout.splitlines() if "::" in line]


def known(text: str) -> dict[str, tuple[str, ...]]:
    """The cells after the test's name, by test, of an earlier table."""
    found = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            found[match["test"]] = tuple(cell.strip() for cell in match["rest"].split("|"))
    return found


def table(lines: dict[str, tuple[str, ...]]) -> str:
    """The file."""
    return HEAD + "".join(f"| `{test}` | {' | '.join(cells)} |\n" for test, cells in sorted(lines.items()))


def outcome(report: Path) -> str:
    """`passed`, `failed`, or `skipped: why`, as JUnit's XML of one test says it."""
    case = next(iter(ET.parse(report).getroot().iter("testcase")), None)  # noqa: S314 - written by pytest just now
    if case is None:
        return "failed"
    for kind in ("failure", "error"):
        if case.find(kind) is not None:
            return "failed"
    skipped = case.find("skipped")
    return "passed" if skipped is None else f"skipped: {skipped.get('message', '')}".replace("|", "/")


def commit_of_code() -> str:
    """Commit of this checkout, with `+changes` where more than the results differ from it."""
    sys.path.insert(0, str(ROOT))
    from shared.provenance import code_commit

    commit, plus, changes = code_commit(".", ":(exclude)benchmarks/results").partition("+")
    return commit[:10] + plus + changes


def run(test: str) -> tuple[str, ...]:
    """Run one test and return its cells."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from machine import machine

    commit = commit_of_code()
    here = machine()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        start = time.monotonic()
        words = [sys.executable, "-m", "pytest", "-q", "-m", "nightly", f"--junitxml={report}", test]
        subprocess.run(words, cwd=ROOT, check=False)
        minutes = (time.monotonic() - start) / 60
        result = outcome(report) if report.is_file() else "failed"
    where = f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB, Python {here['python']}"
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return result, f"{minutes:.1f}", today, commit, where


def main() -> int:
    """Run what was asked for; the table is written after each test."""
    everything = collected([])
    failed = False
    for test in collected(sys.argv[1:]) if sys.argv[1:] else everything:
        print(f"=== {test}", flush=True)
        cells = run(test)
        failed |= cells[0] == "failed"
        earlier = known(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}  # another run may have written
        lines = {name: earlier.get(name, NEVER) for name in everything} | {test: cells}
        TABLE.write_text(table(lines), encoding="utf-8")
        print(f"=== {test}: {cells[0]}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
