"""Which numbers this machine's processor multiplies fast: bfloat16 where it has units for it, else float32.

Most laptops, and Intel's desktops since the 12th generation, have no bfloat16 units: torch then works through each
product piece by piece, 10 to 30 times slower than in float32. The processor is asked for its units, not for its name.
Input: the flags that Linux lists, and the variables by which oneDNN and ATen are told to use less than there is.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path
from typing import Literal

UNITS = frozenset({"avx512_bf16", "amx_bf16"})
"""Linux's names of the instruction sets that multiply bfloat16."""
WITH_UNITS = ("DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10_")
"""Values of ONEDNN_MAX_CPU_ISA (the last two by their beginning) that leave oneDNN its bfloat16 units."""
CPUINFO = Path("/proc/cpuinfo")


def has_bfloat16_units(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this processor has units for bfloat16 and nobody told torch's libraries to do without.

    `ONEDNN_MAX_CPU_ISA` below AVX512_CORE_BF16, or `ATEN_CPU_CAPABILITY` default or avx2, are such words: a fast
    processor then behaves like a slow one, and is treated as one.
    """
    told = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if told and not told.startswith(WITH_UNITS):
        return False
    if os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in {"default", "avx2"}:
        return False
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not UNITS.isdisjoint(flags)


def cpu_dtype() -> Literal["bfloat16", "float32"]:
    """The number type for a model on this processor, where nobody chose one."""
    return "bfloat16" if has_bfloat16_units() else "float32"


def kernel_cache() -> dict[str, str]:
    """Variable that keeps torch's compiled kernels of a processor told to do with less apart from its ordinary ones.

    torch 2.13 finds a compiled kernel by its source alone, and its source is written for one vector length: compiled
    again for the other, it computes something else without a word (`findings/inductor_cache_and_cpu_capability.sh`).
    Empty where nobody told the processor anything: torch's own folder then serves.
    """
    told = os.environ.get("ATEN_CPU_CAPABILITY", "")
    if not told:
        return {}
    folder = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}_{told.lower()}"
    return {"TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR") or str(folder)}
