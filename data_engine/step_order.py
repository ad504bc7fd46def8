"""The steps that a recipe can name, in the order in which they run, and the module of each.

Not covered: which of them a recipe has (`data_engine.recipe`); how they are run (`data_engine.step_blocks`).
"""

from __future__ import annotations

import importlib
from typing import Any

from data_engine.plugins import OWN_STEPS, plugin_step

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


def step_module(name: str, settings: Any = None) -> Any:
    """Return the module of a step, ours or another package's; its `Settings` and `run` are all that is used.

    A step of a file that the recipe names is known by the class of its settings.
    """
    if name in STEP_ORDER:
        return importlib.import_module(f"data_engine.steps.{name}")
    own = OWN_STEPS.get(type(settings))
    return plugin_step(name) if own is None else own.named(name)


def step_code(name: str, settings: Any) -> dict[str, Any]:
    """What stands for the code of a step that is not ours in a recipe's identity; empty for ours."""
    return {} if name in STEP_ORDER else {"plugin": step_module(name, settings).plugin.identity()}
