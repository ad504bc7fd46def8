"""Keep `uv.lock` free of addresses, and prove that nothing is lost by it.

The committed lock names packages, versions and dependencies only. Where each file lies (`sdist`, `wheels`) and which
index it came from differ from site to site, so they are left out; uv completes the file on the user's machine from the
index that machine uses and takes the recorded versions as preferences.

    python .ci/lock.py strip            rewrite uv.lock without addresses (run before committing it)
    python .ci/lock.py check            the committed lock has no address, and a completed lock has the same versions
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = re.compile(r'registry = "[^"]*"')


def strip(text: str) -> str:
    """Return the lock `text` without `sdist`, `wheels` and `[package.metadata*]`, its registries named `index`."""
    kept: list[str] = []
    in_wheels = in_metadata = False
    for line in text.splitlines():
        if line.startswith("["):
            in_metadata = line.startswith("[package.metadata")
        if in_metadata:
            continue
        if in_wheels:
            in_wheels = line != "]"
            continue
        if line.startswith("wheels = ["):
            in_wheels = not line.endswith("]")
            continue
        if line.startswith("sdist = "):
            continue
        kept.append(REGISTRY.sub('registry = "index"', line))
    # Dropped tables leave runs of blank lines behind; one is enough.
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).rstrip("\n") + "\n"


def versions(text: str) -> set[tuple[str, str]]:
    """Return the (name, version) pairs of a lock; the project itself has no version and is left out."""
    return {(p["name"], p["version"]) for p in tomllib.loads(text)["package"] if "registry" in p["source"]}


def committed_lock() -> str:
    """Return uv.lock as HEAD has it: the working copy is completed by uv as soon as anything runs."""
    return subprocess.run(["git", "show", "HEAD:uv.lock"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def check() -> list[str]:
    """Return what is wrong with the committed lock, one line each; empty when it is sound."""
    lock = committed_lock()
    problems = [f"line {n} of uv.lock holds an address" for n, line in enumerate(lock.splitlines(), 1) if "://" in line]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "pyproject.toml", folder)
        shutil.copy(ROOT / "README.md", folder)
        (Path(folder) / "uv.lock").write_text(lock)
        subprocess.run(["uv", "lock", "--quiet"], cwd=folder, check=True)
        completed = (Path(folder) / "uv.lock").read_text()
    for name, version in sorted(versions(lock) ^ versions(completed)):
        problems.append(f"{name} {version} is in only one of the committed and the completed lock")
    return problems


def main() -> int:
    """Run `strip` or `check`; exit 0 when done or sound, 1 when the lock is wrong, 2 on wrong usage."""
    match sys.argv[1:]:
        case ["strip"]:
            path = ROOT / "uv.lock"
            path.write_text(strip(path.read_text()))
            return 0
        case ["check"]:
            problems = check()
            print("\n".join(problems) or "uv.lock: no addresses, and a completed lock has the same versions")
            return 1 if problems else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
