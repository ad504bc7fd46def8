"""The steps that a recipe can name, in the order in which they run, and the module of each.

Not covered: which of them a recipe has (`data_engine.recipe`); how they are run (`data_engine.step_blocks`).
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from data_engine.plugins import plugin_step

STEP_ORDER = (
    "verify_answers",
    "type_images",
    "caption_images",
    "caption_leaks",
    "decontaminate_ngrams",
    "decontaminate_embeddings",
    "dedup_minhash",
    "rate_difficulty",
)


@cache
def step_module(name: str) -> Any:
    """Return the module of a step, ours or another package's; its `Settings` and `run` are all that is used."""
    return importlib.import_module(f"data_engine.steps.{name}") if name in STEP_ORDER else plugin_step(name)


def step_code(name: str) -> dict[str, Any]:
    """What stands for the code of another package's step in a recipe's identity; empty for ours."""
    return {} if name in STEP_ORDER else {"plugin": step_module(name).plugin.identity()}
