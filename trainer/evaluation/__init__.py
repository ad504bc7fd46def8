"""Evaluation of checkpoints, or of outputs made elsewhere, on the paper's five benchmarks, by rules alone.

`evaluate_checkpoint` asks a model and scores, `evaluate_outputs` scores lines of a file; both return the JSON document.
Samples come from dataset versions or from files named on the command line. Imports only `shared`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.evaluation.asking import Settings
    from trainer.evaluation.run import evaluate_checkpoint, evaluate_outputs

__all__ = ["Settings", "evaluate_checkpoint", "evaluate_outputs"]

_ROOMS = {"Settings": "asking", "evaluate_checkpoint": "run", "evaluate_outputs": "run"}


def __getattr__(name: str) -> Any:
    """Import the room behind a public name at its first use: `trainer --help` passes this door and must stay fast."""
    if name not in _ROOMS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
