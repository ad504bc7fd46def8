"""Which graphics cards are here."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path


def cuda_device() -> str:
    """What shows that this process may use an NVIDIA GPU, in words; empty where nothing does. Imports nothing heavy."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in {"", "-1"}:
        return ""
    if devices := sorted(Path("/dev").glob("nvidia[0-9]*")):
        return f"a CUDA device is here ({devices[0]})"
    first = next(iter(_listed_devices()), "")  # where devices have other names (WSL)
    return f"nvidia-smi lists {first}" if first else ""


def gpus_here() -> int | None:
    """How many NVIDIA GPUs this process may use; None where nothing tells."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(_listed_devices()) or None
    names = [name.strip() for name in visible.split(",")]  # CUDA stops at the first that is none
    return next((place for place, name in enumerate(names) if name in {"", "-1"}), len(names))


@cache
def _listed_devices() -> tuple[str, ...]:
    """The GPUs that nvidia-smi lists, asked once; without the MIG devices of each."""
    return tuple(line.split(" (UUID")[0] for line in nvidia_smi("-L") if line.startswith("GPU "))


def nvidia_smi(*words: str) -> list[str]:
    """Lines that nvidia-smi answers `words` with; none where it is not there or fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    import subprocess

    try:
        found = subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return found.stdout.strip().splitlines() if found.returncode == 0 else []


def smallest_gpu_gib() -> float | None:
    """GiB of the smallest GPU that nvidia-smi lists; None where it tells none."""
    found = nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    return min((float(line) / 1024 for line in found if line.replace(".", "", 1).isdigit()), default=None)
