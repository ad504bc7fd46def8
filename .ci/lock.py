"""Keep every version pinned without committing an address, and prove that nothing is lost by it.

A lock that uv accepts names the index and the files that one site uses. This repository may not: `pyproject.toml` pins
the version of every package that the lock ever resolved to (`constraint-dependencies`), and `uv.lock` is a link to
`.ci/uv.lock`, which uv writes on the machine where it runs and git ignores. So a checkout stays clean.

    python .ci/lock.py pin              pin the versions that uv.lock names now
    python .ci/lock.py upgrade [NAME]   let uv choose newer versions, of all packages or of NAME, and pin them
    python .ci/lock.py check            the pins hold no address, a lock made from them alone has exactly their
                                        versions, and only known small packages are built from source
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?<=\nconstraint-dependencies = \[\n).*?(?=^\]$)", re.MULTILINE | re.DOTALL)
PYTHONS = ((3, 11), (3, 12))
GLIBC = 35
"""Wheels may ask for glibc 2.35 at most: Ubuntu 22.04, which vLLM's own wheels ask for."""
FROM_SOURCE = {
    "deepspeed": "compiles its operators at first use, not while it is installed; its build needs no torch",
    "transformers-stream-generator": "one Python file that OpenRLHF lists",
}
"""Packages that may have no wheel, and why they do no harm on a machine without compiler, torch or CUDA."""


def _packages(lock: str) -> list[dict[str, Any]]:
    """Packages of a lock that come from an index."""
    return [package for package in tomllib.loads(lock)["package"] if "registry" in package["source"]]


def pins(lock: str) -> list[str]:
    """Requirements that allow only the versions of a lock.

    A package may have two versions: one for each Python (each gets its marker), or one for each of the two groups that
    exclude each other, which one constraint cannot tell apart (a range then, whose ends are the two versions).
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for package in _packages(lock):
        found[package["name"]].append(package)
    requirements = []
    for name, packages in sorted(found.items()):
        markers = [set(package.get("resolution-markers", [])) for package in packages]
        versions = [package["version"] for package in packages]
        if len(packages) == 1:
            requirements.append(f"{name}=={versions[0]}")
        elif all(len(marker) == 1 for marker in markers) and len(set.union(*markers)) == len(packages):
            requirements += [
                f"{name}=={version} ; {re.match(r'python_full_version [<>=]+ .[0-9.]+.', next(iter(marker)))[0]}"  # type: ignore[index]
                for version, marker in zip(versions, markers, strict=True)
            ]
        else:
            requirements.append(f"{name}>={versions[0]},<={versions[-1]}")
    return requirements


def with_pins(project: str, requirements: list[str]) -> str:
    """The text of pyproject.toml with its pins replaced."""
    lines = "".join(f'    "{requirement}",\n' for requirement in requirements)
    return BLOCK.sub(lambda _: lines, project, count=1)


def built_from_source(lock: str) -> set[str]:
    """Names of the packages of a completed lock that some supported Python gets no wheel for."""
    from packaging.tags import Tag, compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    accepted: list[set[Tag]] = [
        {*cpython_tags(python, platforms=platforms), *compatible_tags(python, f"cp3{python[1]}", platforms)}
        for python in PYTHONS
    ]
    built = set()
    for package in _packages(lock):
        names = [unquote(wheel["url"].rpartition("/")[2]) for wheel in package.get("wheels", [])]
        tags = set().union(*(parse_wheel_filename(name)[3] for name in names))
        markers = " ".join(package.get("resolution-markers", []))
        wanted = [ok for ok, (_, minor) in zip(accepted, PYTHONS, strict=True) if _meant_for(markers, minor)]
        if not all(tags & ok for ok in wanted):
            built.add(package["name"])
    return built


def _meant_for(markers: str, minor: int) -> bool:
    """Whether a package with these resolution markers is installed on Python 3.`minor` at all."""
    other = "python_full_version < '3.12'" if minor >= 12 else "python_full_version >= '3.12'"
    this = "python_full_version >= '3.12'" if minor >= 12 else "python_full_version < '3.12'"
    return this in markers or other not in markers


def check() -> list[str]:
    """Return what is wrong with the pins, one line each; empty when they are sound."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    problems = [
        f"line {n} of pyproject.toml holds an address" for n, s in enumerate(project.splitlines(), 1) if "://" in s
    ]
    entry = subprocess.run(["git", "ls-files", "-s", "uv.lock"], cwd=ROOT, check=True, capture_output=True, text=True)
    if not entry.stdout.startswith("120000 "):
        problems.append("uv.lock is committed as a file: it must stay the link to .ci/uv.lock (git checkout uv.lock)")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder)
        subprocess.run(["uv", "lock", "--quiet"], cwd=folder, check=True)
        lock = (Path(folder) / "uv.lock").read_text(encoding="utf-8")
    block = BLOCK.search(project)
    pinned = set(re.findall(r'"([^"]+)"', block[0])) if block else set()
    for requirement in sorted(pinned ^ set(pins(lock))):
        where = "the pins" if requirement in pinned else "a lock made from the pins"
        problems.append(f"{requirement} is only in {where}: run python .ci/lock.py pin")
    unknown = sorted(built_from_source(lock) - set(FROM_SOURCE))
    return problems + [f"{name} has no wheel: its build may ask for a compiler, torch or CUDA" for name in unknown]


def pin() -> None:
    """Write the versions of uv.lock into pyproject.toml."""
    path = ROOT / "pyproject.toml"
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    path.write_text(with_pins(path.read_text(encoding="utf-8"), pins(lock)), encoding="utf-8")
    subprocess.run(["uv", "lock", "--quiet"], cwd=ROOT, check=True)


def upgrade(names: list[str]) -> None:
    """Lift the pins of `names` (of all packages where none is named), lock again and pin the result."""
    path = ROOT / "pyproject.toml"
    project = path.read_text(encoding="utf-8")
    kept = [
        r
        for r in pins((ROOT / "uv.lock").read_text(encoding="utf-8"))
        if names and re.split("[=<>]", r)[0] not in names
    ]
    path.write_text(with_pins(project, kept), encoding="utf-8")
    options = [option for name in names for option in ("--upgrade-package", name)] or ["--upgrade"]
    try:
        subprocess.run(["uv", "lock", *options], cwd=ROOT, check=True)
    except subprocess.CalledProcessError:
        path.write_text(project, encoding="utf-8")
        raise
    pin()


def main() -> int:
    """Run one command; exit 0 when done or sound, 1 when the pins are wrong, 2 on wrong usage."""
    match sys.argv[1:]:
        case ["pin"]:
            pin()
        case ["upgrade", *names]:
            upgrade(names)
        case ["check"]:
            problems = check()
            print("\n".join(problems) or "pins: no address, and a lock made from them has exactly their versions")
            return 1 if problems else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
