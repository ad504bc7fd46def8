"""The process around an engine: environment variables before the first heavy import, and quiet output.

vLLM and its libraries print to stdout, which belongs to our JSON, and to stderr, which belongs to progress bars. While
an engine starts or works, both file descriptors go to a log file; if it fails, the log's end is part of the error.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.devices import cuda_device
from shared.processor import has_bfloat16_units, kernel_cache

_CPU_WORKER = "vllm.v1.worker.cpu_worker"
"""Name of that module's logger."""
_redirect = threading.RLock()
_depth = 0


def cuda_seen() -> bool:
    """Whether an NVIDIA GPU may be used by this process."""
    return bool(cuda_device())


CPU_GATED_DELTA = "vLLM 0.29 computes that on a CPU in bfloat16 alone"


def has_linear_attention(config: Mapping[str, Any]) -> bool:
    """Whether a model (its config.json) has layers of linear attention, as Qwen3.5 has."""
    text = config.get("text_config") or config
    return "linear_attention" in (text.get("layer_types") or ())


def number_type(dtype: str, config: Mapping[str, Any] | None = None) -> str:
    """`dtype`, or float32 for "auto" on a CPU without bfloat16 units, where a checkpoint's own bfloat16 crawls.

    `config` is the checkpoint's: one with linear attention runs in its own numbers also there, or not at all.
    """
    if dtype != "auto" or cuda_seen() or has_bfloat16_units() or has_linear_attention(config or {}):
        return dtype
    return "float32"


PLAIN_ATTENTION = {"VLLM_MLA_DISABLE": "1"}
"""vLLM 0.29 asks, on a CPU alone, whether a model has DeepSeek's latent attention, and the question fails for the
language model inside a Qwen3-VL, which names no architecture (findings/vllm_cpu_qwen3_vl.sh). Switched off, nothing is
asked."""


def prepare_environment(*, tensor_parallel_size: int = 1) -> None:
    """Set what vLLM and torch read at import; a variable that the user has set stays.

    On a CPU: one OpenMP thread (measured faster than two for the bundled model, and sums do not depend on the number of
    cores), no core binding (its `auto` takes cores from others), the engine inside this process (no second import, and
    the same batches every time). KV cache: see `engine`.
    """
    values = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not cuda_seen():
        values |= {
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if tensor_parallel_size == 1 else "1",
            **PLAIN_ATTENTION,
            **kernel_cache(),
        }
    for name, value in values.items():
        os.environ.setdefault(name, value)
    if not cuda_seen():
        logging.getLogger(_CPU_WORKER).addFilter(_no_thread_warning)


def _no_thread_warning(record: logging.LogRecord) -> bool:
    """Leave out what vLLM's CPU worker says at every call of `torch.set_num_threads`, several times an answer."""
    return "torch.set_num_threads" not in str(record.msg)


def log_path() -> Path:
    """File that takes an engine's own output, one per process: `INFI_MMR_ENGINE_LOG`, else in the temp folder."""
    named = os.environ.get("INFI_MMR_ENGINE_LOG")
    return Path(named) if named else Path(tempfile.gettempdir()) / f"infi-mmr-engine-{os.getpid()}.log"


def log_tail() -> str:
    """The last five lines of the log, joined, for an error message."""
    path = log_path()
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return " | ".join(line.strip() for line in text.splitlines()[-5:] if line.strip())


@contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 of this process to the log file while inside; nests; for one thread at a time."""
    global _depth
    with _redirect:
        if _depth:
            yield
            return
        sys.stdout.flush()
        sys.stderr.flush()
        log = os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        saved = [(number, os.dup(number)) for number in (1, 2)]
        _depth = 1
        try:
            for number, _ in saved:
                os.dup2(log, number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
            os.close(log)
            _depth = 0
