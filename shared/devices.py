"""Whether a graphics card is here."""

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
    return _listed_device()


@cache
def _listed_device() -> str:
    """What nvidia-smi lists first, asked once: where devices have other names (WSL)."""
    if shutil.which("nvidia-smi") is None:
        return ""
    import subprocess

    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if found.returncode == 0 and found.stdout.strip():
        return f"nvidia-smi lists {found.stdout.strip().splitlines()[0].split(' (UUID')[0]}"
    return ""
