"""Checks before anything is started: one clear line and the next thing to do, instead of a traceback after minutes.

Nothing here imports torch, ray or vllm.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import socket
import sys
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.hub_download import spoken_name
from shared.safetensors_files import headers
from shared.vlm.checkpoint import read_config
from trainer.families import check_family, check_reads_pictures
from trainer.phase import Phase

PINNED = {"openrlhf": "0.11.2", "deepspeed": "0.19.6"}
"""Versions that the bridge was written for."""
CODE_NAMED_IN = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
"""Files of a checkpoint whose `auto_map` leads to Python beside them. OpenRLHF always passes trust_remote_code=True."""
CPU_BASE_GIB = 6.5
"""Estimated resident memory of the run's processes on a CPU before any weight: driver, OpenRLHF's trainer, policy,
reference, rollout actor and vLLM's engine (about 1.1 GiB each), and 1 GiB of KV cache, less what they share."""
CPU_SFT_BASE_GIB = 2.5
"""Likewise of a supervised phase: one process, and eight that read the traces for a moment."""
CPU_BYTES_PER_WEIGHT = {"bfloat16": 2 + 2 + 2 + 4 + 4 + 8, "float32": 4 + 4 + 4 + 4 + 4 + 8}
"""vLLM, reference and policy in that type, its gradients, master weights and Adam's two moments in float32."""


def check_packages() -> None:
    """Refuse other versions than the bridge was written for."""
    for name, wanted in PINNED.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise ModuleNotFoundError(name=name) from error  # a command says which part brings it
        if found != wanted:
            raise InfiMmrError(f"{name} is {found}, but the trainer is written for {wanted}", "Run uv sync")


def check_compiler(headers: str | None = None) -> None:
    """Refuse a machine without g++, ninja or Python's header files: DeepSpeed compiles two operations at first use."""
    if not any(shutil.which(name) for name in ("g++", "c++")):
        raise InfiMmrError("no C++ compiler found, which DeepSpeed needs at first use", "Install g++ (build-essential)")
    if not (shutil.which("ninja") or (Path(sys.executable).parent / "ninja").exists()):
        raise InfiMmrError("ninja not found, which DeepSpeed needs at first use", "Run uv sync, or install ninja-build")
    if not (Path(headers or sysconfig.get_path("include")) / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise InfiMmrError(
            f"Python.h of Python {version} not found, which DeepSpeed needs at first use",
            f"Install python{version}-dev, or let uv install a complete Python (uv sync --managed-python)",
        )


def check_attention(phase: Phase, device: Literal["cuda", "cpu"]) -> None:
    """Refuse attention of flash-attn where it is not installed, or without CUDA."""
    wanted = phase.cluster.attention
    if wanted == "flash_attention_2" and device == "cpu":
        raise InfiMmrError(f"cluster.attention is {wanted}, which needs CUDA", "Leave it at eager or sdpa")
    if wanted == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise InfiMmrError(
            f"cluster.attention is {wanted}, but flash_attn is not installed",
            "Leave it at sdpa, or install a flash-attn that was built for this torch",
        )


def check_gpus(phase: Phase, here: int | None) -> None:
    """Refuse a phase of more GPUs than this machine shows, on which it would run alone; None: not known.

    Raises:
        InfiMmrError: OpenRLHF's processes would fail on cards that are not there, or Ray wait for them without an end.

    """
    cluster = phase.cluster
    wanted = cluster.nodes * cluster.gpus_per_node
    if here is None or wanted <= here:
        return
    larger = "" if phase.method == "sft" else ", or join a cluster with RAY_ADDRESS"
    raise InfiMmrError(
        f"phase {phase.name} takes {wanted} GPUs (cluster.nodes {cluster.nodes} x cluster.gpus_per_node "
        f"{cluster.gpus_per_node}), and this machine shows {here}",
        f"Take --set cluster.nodes=1 --set cluster.gpus_per_node={here}{larger}" if here else "Take --device cpu",
    )


def check_ray(address: str) -> None:
    """Refuse a cluster that does not answer. An empty address (private local instance) always passes."""
    if not address or address in ("auto", "local"):
        return
    if address.startswith("ray://"):
        raise InfiMmrError(
            f"RAY_ADDRESS={address} is Ray Client, which OpenRLHF cannot run through",
            "Use the head's own address (host:6379 on a node of the cluster) or job submission (http://host:8265)",
        )
    parts = urlsplit(address if "//" in address else f"//{address}")
    host, port = parts.hostname, parts.port or (8265 if address.startswith("http") else 6379)
    if not host:
        raise InfiMmrError(f"RAY_ADDRESS={address} is not an address", "Use host:port, auto, or http://host:8265")
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise InfiMmrError(
            f"no Ray cluster answers at {host}:{port} ({error.strerror or type(error).__name__})",
            "Start it (ray start --head), correct RAY_ADDRESS, or unset it for a private local instance",
        ) from error


def without_ray(phase: Phase, address: str) -> str:
    """Address of Ray for a phase: none for a supervised one, which trains on this very machine.

    Raises:
        InfiMmrError: the command runs elsewhere than on the cluster.

    """
    if phase.method == "sft" and address.startswith(("http://", "https://")):
        raise InfiMmrError(
            f"RAY_ADDRESS={address} submits jobs, but phase {phase.name} is supervised: it trains on this machine, "
            "without Ray",
            "Run it on a machine of the cluster (RAY_ADDRESS=auto there)",
        )
    return "" if phase.method == "sft" else address


def check_path(folder: Path) -> None:
    """Refuse run folders that OpenRLHF's `--data.prompt_dataset` would take apart."""
    for sign in ",@":
        if sign in str(folder):
            raise InfiMmrError(
                f"the run folder {folder} contains {sign!r}, which OpenRLHF reads as a separator",
                "Choose another --output",
            )


def check_architecture(checkpoint: Path, phase: Phase) -> None:
    """Refuse a checkpoint that cannot take the phase's pictures, or that lacks files a trained one needs."""
    config = read_config(checkpoint)
    check_family(spoken_name(checkpoint), config)
    check_own_code(checkpoint)
    _check_files(checkpoint, config)
    if "vision_config" in config and phase.method == "sft" and phase.train.weight_decay > 0:
        raise InfiMmrError(
            f"phase {phase.name}: train.weight_decay would shrink the vision tower of {spoken_name(checkpoint)}, "
            "which no text trains",
            "Leave it at 0",
        )
    if phase.data.images != "none":
        check_reads_pictures(spoken_name(checkpoint), config, phase.name)


def check_own_code(checkpoint: Path) -> None:
    """Refuse a checkpoint that brings Python of its own, which OpenRLHF would let transformers run unasked.

    Raises:
        InfiMmrError: names the file and the key that lead to it.

    """
    found = next((f"{name} with the key auto_map" for name in CODE_NAMED_IN if _has_auto_map(checkpoint / name)), "")
    if not found and (checkpoint / "custom_generate").is_dir():
        found = "the folder custom_generate"
    if found:
        raise InfiMmrError(
            f"checkpoint {spoken_name(checkpoint)} has {found}: OpenRLHF would run Python that comes with it",
            "Remove it if transformers knows the model without, or name a checkpoint that transformers knows",
        )


def _has_auto_map(file: Path) -> bool:
    def holds(value: Any) -> bool:
        if isinstance(value, dict):
            return bool(value.get("auto_map")) or any(map(holds, value.values()))
        return isinstance(value, list) and any(map(holds, value))

    try:
        return holds(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not there, or refused by whoever reads it
        return False


def check_lora(checkpoint: Path, phase: Phase) -> None:
    """Refuse adapters for layers that the checkpoint does not have, which peft finds out after minutes.

    Raises:
        UsageError: names the nearest layer.
        InfiMmrError: as `count_weights`.

    """
    if not (phase.lora.rank and phase.lora.targets):
        return
    layers = {
        name.removesuffix(".weight").rpartition(".")[2]
        for name, shape in _shapes(checkpoint).items()
        if name.endswith(".weight") and len(shape) == 2
    }
    for target in phase.lora.targets:
        # A tied output layer is the embedding, whose weight alone reaches vLLM.
        tied = target == "lm_head" and _is_tied(checkpoint)
        if target in layers and ("embed" in target or tied):
            raise UsageError(
                f"phase {phase.name}: lora.targets has {target!r}, an embedding: its adapter cannot reach vLLM",
                "Name linear layers, such as q_proj",
            )
        if target not in layers:
            raise UsageError(
                f"phase {phase.name}: lora.targets has {target!r}, which {spoken_name(checkpoint)} has no layer of",
                did_you_mean(target, layers),
            )


def _is_tied(checkpoint: Path) -> bool:
    """Whether the output layer is the embedding, as config.json or its part about text says."""
    config = read_config(checkpoint)
    text = config.get("text_config") or {}
    return bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))


def _check_files(checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint without the small files that any phase reads, before advice names another phase."""
    from shared.vlm.chat_template import PromptRenderer

    needed = ["tokenizer.json"]
    if "vision_config" in config and not any(
        (checkpoint / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")
    ):
        needed.append("preprocessor_config.json")
    for name in needed:
        if not (checkpoint / name).is_file():
            raise InfiMmrError(
                f"checkpoint {spoken_name(checkpoint)} lacks {name}",
                "Copy the tokenizer and processor files of its base model into it",
            )
    PromptRenderer(checkpoint)


def count_weights(checkpoint: Path, without: tuple[str, ...] = ()) -> int:
    """Weights of a checkpoint folder, less those whose names begin with one of `without`.

    Raises:
        InfiMmrError: a file that is no safetensors or not whole.

    """
    return sum(math.prod(shape) for name, shape in _shapes(checkpoint).items() if not name.startswith(without))


def _shapes(checkpoint: Path) -> dict[str, list[int]]:
    return {name: entry["shape"] for header in headers(checkpoint).values() for name, entry in header.items()}


def cpu_memory_needed_gib(weights: int, dtype: str = "bfloat16", method: str = "grpo") -> float:
    """GiB of memory of a local run on a CPU."""
    base = CPU_SFT_BASE_GIB if method == "sft" else CPU_BASE_GIB
    return base + weights * CPU_BYTES_PER_WEIGHT[dtype] / 1024**3


def check_memory(
    checkpoint: Path,
    device: Literal["cuda", "cpu"],
    available: Mapping[str, float] | None = None,
    dtype: str = "bfloat16",
    method: str = "grpo",
) -> None:
    """Refuse a CPU run that would not fit into the memory that is free now. GPUs are `trainer plan`'s business."""
    if device != "cpu":
        return
    import psutil

    free = available["gib"] if available else psutil.virtual_memory().available / 1024**3
    needed = cpu_memory_needed_gib(count_weights(checkpoint), dtype, method)
    if needed > free:
        raise InfiMmrError(
            f"training {spoken_name(checkpoint)} on the CPU takes about {needed:.1f} GiB of memory, "
            f"{free:.1f} GiB are free",
            "Free memory or name a smaller checkpoint",
        )
