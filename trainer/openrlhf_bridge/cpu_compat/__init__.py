"""Adaptations that let the unmodified OpenRLHF 0.11.2 and vLLM 0.29 train on a machine without CUDA.

How it reaches every process: `site/sitecustomize.py` lies on `PYTHONPATH` of the run (driver, Ray workers, the
subprocess of vLLM's engine) and calls `install()`, which costs nothing until one of the named modules is imported.
Each adaptation names its target and the reason; a target that has moved raises `ImportError` at once, because a silent
miss would train a policy whose rollouts come from stale weights.
Where CUDA is present, only the stand-in for flash-attn, `ROLLOUT_PATH` and `SUPERVISED` are installed. Not covered on a
CPU: NCCL, CUDA IPC, sleep modes, flash-attention, tensor-parallel rollouts, several nodes.
"""

from __future__ import annotations

from pathlib import Path

from shared.processor import kernel_cache
from shared.vlm.surroundings import PLAIN_ATTENTION
from trainer.openrlhf_bridge.cpu_compat.adaptations import ADAPTATIONS as WITHOUT_CUDA
from trainer.openrlhf_bridge.cpu_compat.adaptations import DTYPE, WITH_CUDA
from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation, install_hook
from trainer.openrlhf_bridge.cpu_compat.rollout_path import ROLLOUT_PATH
from trainer.openrlhf_bridge.cpu_compat.step_line import SUPERVISED

__all__ = ["ADAPTATIONS", "Adaptation", "environment", "install", "with_cuda"]

ADAPTATIONS = (*WITHOUT_CUDA, *ROLLOUT_PATH, *SUPERVISED)
"""All of a run without CUDA."""
SITE = str(Path(__file__).parent / "site")


def install(device: str = "") -> None:
    """Arrange that a device's adaptations are applied when their modules are imported; twice is as good as once."""
    install_hook((*WITH_CUDA, *ROLLOUT_PATH, *SUPERVISED) if device == "cuda" else ADAPTATIONS)


def with_cuda() -> dict[str, str]:
    """Environment variables of a run on CUDA, for the driver and every worker."""
    return {"INFI_MMR_CPU_COMPAT": "cuda", "PYTHONPATH": SITE}


def environment(dtype: str = "bfloat16") -> dict[str, str]:
    """Environment variables of a run without CUDA, for the driver and (through Ray) for every worker.

    `dtype` is the number type of policy, reference and engine: bfloat16 or float32.
    """
    return {
        "INFI_MMR_CPU_COMPAT": "1",
        DTYPE: dtype,
        **kernel_cache(),
        **PLAIN_ATTENTION,
        "PYTHONPATH": SITE,
        "DS_ACCELERATOR": "cpu",  # DeepSpeed would otherwise probe for accelerators
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM would otherwise take half of the machine
        # The engine's process then holds the worker too: one process fewer, and its imports (20 s on two cores).
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several processes share the cores: pinning makes them fight
        "OMP_NUM_THREADS": "1",  # two threads halve vLLM's small-model throughput (measured: 23k to 13k tokens/s)
        # Ray's resources name pretended GPUs: it must not rewrite CUDA_VISIBLE_DEVICES for them.
        "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
    }
