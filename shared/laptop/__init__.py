"""The laptop's room: what profile `local` takes in place of the hub's datasets and models.

- `problems/` draws problems with known answers, captions and image types;
- `mini_sets.py` shapes them as records with the columns of ViRL39K, DeepScaleR, reasoning traces and the benchmarks;
- `training/` trains tiny-vl on them (`trainer tiny-vl`), and `assets/` holds it as it is shipped.

This file is the only door: `data_engine/sources/mini.py` reads the records, `shared/vlm/checkpoint.py` finds the
checkpoint, `trainer/cli.py` mounts the commands, and nothing else asks here. What a name needs (pydantic, PIL, torch)
is imported when the name is asked for, because the door stands in the way of `--help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared.laptop.assets import CHECKPOINT

if TYPE_CHECKING:
    from shared.laptop.mini_sets import MiniSet, MiniSettings, MiniTraces, benchmark_record
    from shared.laptop.problems import IMAGE_TYPES, KINDS, PICTURE_KINDS, SPLITS, Problem, draw, draw_family
    from shared.laptop.training.cli import app as tiny_vl_commands

__all__ = [
    "CHECKPOINT",
    "IMAGE_TYPES",
    "KINDS",
    "PICTURE_KINDS",
    "SPLITS",
    "MiniSet",
    "MiniSettings",
    "MiniTraces",
    "Problem",
    "benchmark_record",
    "draw",
    "draw_family",
    "tiny_vl_commands",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what `name` stands for (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "tiny_vl_commands":
            return import_module("shared.laptop.training.cli").app
        file = "mini_sets" if name.startswith(("Mini", "benchmark")) else "problems"
        return getattr(import_module(f"shared.laptop.{file}"), name)
