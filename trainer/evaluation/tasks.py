"""The evaluation tasks, found by name: those of `shared.benchmarks`, and task files of the user.

Input: a benchmark's name, or the path of a task file. Output: its `Task`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from shared.benchmarks import PAPER, declared
from shared.errors import UsageError, nearest
from trainer.evaluation.task import Task
from trainer.evaluation.task_files import declared_task, load_task_file

_OWN: dict[str, Task] = {}
"""Tasks from files of the user, by name, in this process."""
_declared = cache(declared_task)


def task_names() -> tuple[str, ...]:
    """All names of tasks: the paper's, the others, the user's own."""
    return tuple(dict.fromkeys((*declared(), *_OWN)))


def task(name: str) -> Task:
    """The task `name`.

    Raises:
        UsageError: no such benchmark; names the nearest one.

    """
    if name in _OWN:
        return _OWN[name]
    if name not in declared():
        near = nearest(name, task_names())
        hint = f"Did you mean {near}? " if near else ""
        message = f"unknown benchmark {name!r}"
        raise UsageError(message, f"{hint}Known: {', '.join(task_names())}, or the path of a task file")
    return _declared(name)


def shown_task(name: str) -> Task:
    """The task `name`, or one that only has its name: results may be of a task file that is not at hand."""
    try:
        return task(name)
    except UsageError:
        return Task(name=name, title=name, version=0, protocol="A task file of the user's own.")


def add_task_file(words: str) -> str:
    """Read a task file of the user and return its name.

    Raises:
        UsageError: no such file, wrong content, or a name that a benchmark of this project has.

    """
    found = load_task_file(Path(words).expanduser())
    if found.name in declared():
        raise UsageError(f"{words}: {found.name} is a benchmark of this project", "Give your file another name")
    _OWN[found.name] = found
    return found.name


def benchmark_names(spoken: str | Sequence[str]) -> list[str]:
    """Names from `all` or a comma-separated list, checked, without repetition; a path of a task file adds its task.

    Raises:
        UsageError: an unknown name, or none at all.

    """
    words = spoken.split(",") if isinstance(spoken, str) else list(spoken)
    words = [word.strip() for word in words if word.strip()]
    words = [add_task_file(word) if word.lower().endswith(".toml") else word.lower() for word in words]
    names = [name for word in words for name in (PAPER if word == "all" else (word,))]
    if not names:
        message = "no benchmark named"
        raise UsageError(message, f"Name some of {', '.join(task_names())}, all, or the path of a task file")
    for name in names:
        task(name)
    return list(dict.fromkeys(names))
