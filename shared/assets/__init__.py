"""Checkpoints shipped with the project."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def tiny_vl_path(engine: bool = False) -> Path:  # part of the interface of the rooms
    """Folder of the bundled Qwen2.5-VL of a few million weights.

    `engine` asks for the state made for typing and captioning; where only one state is shipped, both are the same.

    Raises:
        FileNotFoundError: the checkpoint is not there (a source tree without its assets).

    """
    folder = _FOLDER / "tiny-vl"
    if engine and (_FOLDER / "tiny-vl-engine").is_dir():
        folder = _FOLDER / "tiny-vl-engine"
    if not (folder / "model.safetensors").is_file():
        message = f"the bundled checkpoint {folder.name} is missing; train it with `trainer tiny-vl train`"
        raise FileNotFoundError(message)
    return folder
