"""Freed memory goes back to the system at once: a build that runs for days must hold what it uses, not what it used.

Polars (jemalloc), Arrow (mimalloc) and glibc each keep freed memory for later. On 100,000 drawn rows that was half of
what a build held (`benchmarks/ray_runner.py`). What the user has set in the environment stays.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT_BYTES = 1 << 28
_ARENAS = 2
"""Heaps of glibc: by default eight per core, each with its own free memory."""


def give_back_freed_memory() -> None:
    """Set the allocators of this process. Call it before polars and pyarrow are imported; later it does less."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    if "MALLOC_ARENA_MAX" not in os.environ:
        _glibc("mallopt", _M_ARENA_MAX, _ARENAS)


def keep_freed_memory() -> None:
    """Have a command that ends within seconds use freed memory again: a fifth of what `inspect` takes was page faults.

    It also spares what such a command never needs: threads of BLAS, a search for cycles every 700 objects and two more
    over all that was imported at the end (a tenth of `inspect`); and threads of Polars, which on a busy machine wait
    longer for each other than they save.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    _glibc("mallopt", _M_MMAP_THRESHOLD, _KEPT_BYTES)
    _glibc("mallopt", _M_TRIM_THRESHOLD, _KEPT_BYTES)
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


def trim() -> None:
    """Give back what is free now: holes between what is in use. Milliseconds; called after each step."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """Call a function of glibc's allocator; elsewhere do nothing."""
    found = getattr(ctypes.CDLL(None), function, None)
    if found is not None:
        found(*arguments)
