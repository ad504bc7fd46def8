# ruff: noqa: INP001 - Python looks for this very name on its path
"""Imported by every Python process of a run without CUDA (this folder is on its PYTHONPATH)."""

import os

if os.environ.get("INFI_MMR_CPU_COMPAT") == "1":
    from trainer.openrlhf_bridge.cpu_compat import install

    install()
