# ruff: noqa: INP001 - Python looks for this very name on its path
"""Imported by every Python process of a run (this folder is on its PYTHONPATH)."""

import os

if os.environ.get("INFI_MMR_CPU_COMPAT"):
    from trainer.openrlhf_bridge.cpu_compat import install

    install(os.environ["INFI_MMR_CPU_COMPAT"])
