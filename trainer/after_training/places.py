"""Which checkpoint the words of a command mean: a folder, a run folder that holds one, a hub id, or tiny-vl."""

from __future__ import annotations

from pathlib import Path

from shared.vlm.checkpoint import checkpoint_folder, is_folder
from shared.vlm.spec import EngineSpec
from trainer.evaluation.asking import check_checkpoint


def meant_checkpoint(words: str) -> str:
    """`words`, or the checkpoint in the run folder that they name."""
    inside = Path(words) / "checkpoint"
    return str(inside) if (inside / "config.json").is_file() and not (Path(words) / "config.json").is_file() else words


def local_checkpoint(words: str) -> Path:
    """Folder of a checkpoint on this machine, with the files that asking it needs.

    Raises:
        InfiMmrError: no folder, or one without configuration, weights, tokenizer or processor.

    """
    folder = checkpoint_folder(EngineSpec.model_validate({"model": words}))
    if is_folder(words):
        check_checkpoint(folder)
    return folder
