"""Weights that OpenRLHF saved -> a checkpoint that transformers and vLLM load at once.

OpenRLHF saves weights, but neither the image processor's files nor the original configuration. The finished
folder holds the new weights (safetensors), every other file of the parent checkpoint, and the run record.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from shared.errors import InfiMmrError
from shared.safetensors_files import headers
from trainer.families import UNLOADED
from trainer.preflight import count_weights
from trainer.run_record import FILE_IN_CHECKPOINT, RunRecord, write_record

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
NOT_COPIED = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "run_record.json", "README.md", ".*", *WEIGHTS)


def finish_checkpoint(saved: Path, parent: Path, target: Path, record: RunRecord) -> str:
    """Assemble `target` from OpenRLHF's `saved` weights and the parent's other files; returns the weights' sha256.

    The folder appears whole: it is prepared beside and renamed.

    Raises:
        InfiMmrError: OpenRLHF saved no weights, or not as many as the parent has.

    """
    files = sorted(saved.glob("*.safetensors"))
    if not files:
        raise InfiMmrError("OpenRLHF ended without saving weights", "Look at openrlhf.log in the run folder")
    check_same_weights(saved, parent)
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in parent.iterdir():
        if file.is_file() and not any(file.match(pattern) for pattern in NOT_COPIED):
            shutil.copyfile(file, partial / file.name)
    for pattern in WEIGHTS:
        for file in saved.glob(pattern):
            shutil.copyfile(file, partial / file.name)
    _state_numbers(partial)
    digest = weights_hash(partial)
    write_record(partial, record.model_copy(update={"checkpoint_sha256": digest}), FILE_IN_CHECKPOINT)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    shutil.rmtree(saved, ignore_errors=True)
    return digest


def _state_numbers(folder: Path) -> None:
    """Have config.json say float32 where a run on a CPU without bfloat16 units saved float32 weights.

    The weights stay as they were trained: rounded to the parent's type they would be another policy than the one that
    was evaluated while it trained.
    """
    types = {entry["dtype"] for header in headers(folder).values() for entry in header.values()}
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    name = "dtype" if "dtype" in config else "torch_dtype"
    if types == {"F32"} and config.get(name) != "float32":
        config[name] = "float32"
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def weights_hash(folder: Path) -> str:
    """sha256 over names and bytes of a folder's safetensors files."""
    from shared.fingerprint import file_hash, fingerprint

    return fingerprint([[file.name, file_hash(file)] for file in sorted(folder.glob("*.safetensors"))])


def check_same_weights(saved: Path, parent: Path) -> None:
    """Compare the number of weights; a tied output layer may be in one of both only, unloaded ones in the parent.

    Raises:
        InfiMmrError: the numbers differ.

    """
    new, old = count_weights(saved), count_weights(parent, without=UNLOADED)
    tied = {
        math.prod(entry["shape"])
        for folder in (saved, parent)
        for header in headers(folder).values()
        for name, entry in header.items()
        if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    }
    if new != old and abs(new - old) not in tied:
        raise InfiMmrError(
            f"OpenRLHF saved {new:,} weights, the parent checkpoint has {old:,}",
            "Look at openrlhf.log in the run folder",
        )
