"""DeepSpeed's small operators, compiled once, and lent to every run in a folder of its own.

torch guards the folder that it compiles into by a file that the compiling process removes when done. A run that is
killed in between leaves the file behind, and every later run on the machine waits for it without end. So no two runs
share a folder: each works on its own copy of what an earlier run compiled, and a copy is kept only when it is whole.

In: the run's scratch folder. Out: `TORCH_EXTENSIONS_DIR` for its processes. Not covered: a cluster's machines, which
compile where torch likes.
"""

from __future__ import annotations

import shutil
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

from shared.caches import cache_folder

GUARD = "lock"
"""Name of torch's guard file (torch/utils/cpp_extension.py, `FileBaton`)."""


def operators_cache(device: str) -> Path:
    """Folder of operators for this Python, torch, DeepSpeed and device ("cpu" or "cuda"); it need not exist yet."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return cache_folder() / "operators" / f"{python}-torch{version('torch')}-deepspeed{version('deepspeed')}-{device}"


def lend_operators(scratch: Path, device: str) -> Path:
    """Copy what is compiled already into `scratch` and return the folder for `TORCH_EXTENSIONS_DIR`."""
    folder = scratch / "operators"
    kept = operators_cache(device)
    if kept.is_dir():
        # copy2 keeps the times by which ninja knows that nothing has to be compiled
        shutil.copytree(kept, folder, ignore=shutil.ignore_patterns(GUARD), copy_function=shutil.copy2)
    else:
        folder.mkdir(parents=True)
    return folder


def compiling(scratch: Path) -> list[str]:
    """Operators that a process of the run compiles now (or has just opened), by name."""
    return sorted(path.parent.name for path in (scratch / "operators").glob(f"*/{GUARD}"))


def keep_operators(scratch: Path, device: str) -> bool:
    """Keep what a run compiled for the next one, unless it is unfinished or there is as much already; say whether."""
    folder, kept = scratch / "operators", operators_cache(device)
    compiled = {path.parent.name for path in folder.glob("*/*.so")}
    known = {path.parent.name for path in kept.glob("*/*.so")}
    if any(folder.glob(f"*/{GUARD}")) or not compiled > known:
        return False
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_name(f".{kept.name}-{uuid.uuid4().hex}")
    shutil.copytree(folder, fresh, copy_function=shutil.copy2)
    if kept.is_dir():
        kept.rename(fresh.with_name(f"{fresh.name}-old"))
        shutil.rmtree(fresh.with_name(f"{fresh.name}-old"), ignore_errors=True)
    try:
        fresh.rename(kept)
    except OSError:  # another run was first
        shutil.rmtree(fresh, ignore_errors=True)
        return False
    return True
