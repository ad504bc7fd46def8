"""Lines of the three packages since the house began to be tidied: what tidying took, apart from what features brought.

Input: the history since `--since`, and `results/lines_tidying.txt` with hash and subject of a commit a line, by hand:
those that only move, rename, join, simplify or remove. Every other one is a feature, a mended fault or a measurement.
Counted are lines of `*.py` in data_engine, shared and trainer, blank ones and docstrings too, added less removed.

    python benchmarks/lines.py

Writes results/lines.md.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("data_engine", "shared", "trainer")
BEGAN = "08fd0b1"


def git(*words: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def net(commit: str) -> int:
    """Lines that a commit adds to the packages less those that it removes."""
    told = git("show", "--numstat", "--no-renames", "--format=", commit, "--", *PACKAGES)
    rows = [line.split("\t") for line in told.splitlines()]
    return sum(int(added) - int(removed) for added, removed, path in rows if path.endswith(".py"))


def lines_at(commit: str) -> int:
    """Lines of the packages at a commit."""
    names = git("ls-tree", "-r", "--name-only", commit, *PACKAGES).splitlines()
    return sum(git("show", f"{commit}:{name}").count("\n") for name in names if name.endswith(".py"))


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--since", default=BEGAN)
    since = parser.parse_args().since
    head = git("rev-parse", "--short", "HEAD").strip()
    tidying = {line.split()[0]: line for line in (RESULTS / "lines_tidying.txt").read_text().splitlines()}
    commits = git("log", "--reverse", "--format=%h", f"{since}..HEAD").split()
    unknown = [short for short in tidying if not any(commit.startswith(short) for commit in commits)]
    assert not unknown, f"no commits since {since}: {unknown}"
    tidied = [commit for commit in commits if any(commit.startswith(short) for short in tidying)]
    other = [commit for commit in commits if commit not in tidied]
    told = [
        "# Lines of the three packages",
        "",
        f"`python benchmarks/lines.py` at {head}: {lines_at(since):,} lines at {since}, {lines_at(head):,} now.",
        "Which commits tidy stands in `lines_tidying.txt`, by hand.",
        "",
        "| commits | how many | lines, net |",
        "|---|---:|---:|",
        f"| that tidy: move, rename, join, simplify, remove | {len(tidied)} | {sum(map(net, tidied)):+,} |",
        f"| that bring features, mend faults, measure | {len(other)} | {sum(map(net, other)):+,} |",
    ]
    (RESULTS / "lines.md").write_text("\n".join(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
