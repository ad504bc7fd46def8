"""The evaluation tasks, one small file each, found by name.

Input: a benchmark's name. Output: its `Task`. The five of the paper in the order of its Table 1, then what else is
scored the same way.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from shared.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.evaluation.task import Task

PAPER = ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista")
"""Table 1 of the paper, in its order; what `all` stands for."""
OTHERS = ("gsm8k",)


def task(name: str) -> Task:
    """The task `name`.

    Raises:
        UsageError: no such benchmark; names the nearest one.

    """
    if name not in (*PAPER, *OTHERS):
        near = nearest(name, (*PAPER, *OTHERS))
        hint = f"Did you mean {near}? " if near else ""
        message = f"unknown benchmark {name!r}"
        raise UsageError(message, f"{hint}Known: {', '.join((*PAPER, *OTHERS))}")
    found: Task = import_module(f"trainer.evaluation.tasks.{name}").TASK
    return found


def benchmark_names(spoken: str | Sequence[str]) -> list[str]:
    """Names from `all` or a comma-separated list, checked, without repetition.

    Raises:
        UsageError: an unknown name, or none at all.

    """
    words = spoken.split(",") if isinstance(spoken, str) else list(spoken)
    words = [word.strip().lower() for word in words if word.strip()]
    names = [name for word in words for name in (PAPER if word == "all" else (word,))]
    if not names:
        message = "no benchmark named"
        raise UsageError(message, f"Name some of {', '.join((*PAPER, *OTHERS))}, or all")
    for name in names:
        task(name)
    return list(dict.fromkeys(names))
