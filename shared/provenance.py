"""Which code made something: the commit of this checkout, and versions of installed packages."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def code_commit(*packages: str) -> str:
    """Commit of this checkout; `+changes` when files of the named packages differ from it.

    Empty where this is no checkout (an installed wheel) or git cannot tell.
    """

    def git(*words: str) -> str:
        ran = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20, check=False)
        return ran.stdout.strip() if ran.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD") if (ROOT / ".git").exists() else ""
        dirty = commit and packages and git("status", "--porcelain", "--", *packages)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{commit}+changes" if dirty else commit


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
