"""The evaluation tasks, one small file each, found by name.

Input: a benchmark's name, or the path of a task file. Output: its `Task`. The five of the paper in the order of its
Table 1, then what else is scored the same way: Python where rules need it, else a task file (`*.toml` here, see
`trainer.evaluation.task_files`).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.evaluation.task import Task

PAPER = ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista")
"""Table 1 of the paper, in its order; what `all` stands for."""
OTHERS = ("gsm8k",)


_OWN: dict[str, Task] = {}
"""Tasks from files of the user, by name, in this process."""


def file_names() -> tuple[str, ...]:
    """Names of the tasks that are files of this folder."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


def code_names() -> tuple[str, ...]:
    """Names of the tasks of this folder that are written in Python."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__"))


def task_names() -> tuple[str, ...]:
    """All names of tasks: the paper's, the others, the user's own."""
    return tuple(dict.fromkeys((*PAPER, *OTHERS, *file_names(), *code_names(), *_OWN)))


def task(name: str) -> Task:
    """The task `name`.

    Raises:
        UsageError: no such benchmark; names the nearest one.

    """
    if name in _OWN:
        return _OWN[name]
    if name in file_names():
        return _from_file(Path(__file__).parent / f"{name}.toml")
    if name not in code_names():
        near = nearest(name, task_names())
        hint = f"Did you mean {near}? " if near else ""
        message = f"unknown benchmark {name!r}"
        raise UsageError(message, f"{hint}Known: {', '.join(task_names())}, or the path of a task file")
    found: Task = import_module(f"trainer.evaluation.tasks.{name}").TASK
    return found


def shown_task(name: str) -> Task:
    """The task `name`, or one that only has its name: results may be of a task file that is not at hand."""
    from trainer.evaluation.task import Task

    try:
        return task(name)
    except UsageError:
        return Task(name=name, title=name, version=0, protocol="A task file of the user's own.")


@cache
def _from_file(path: Path) -> Task:
    from trainer.evaluation.task_files import load_task_file

    return load_task_file(path)


def add_task_file(words: str) -> str:
    """Read a task file of the user and return its name.

    Raises:
        UsageError: no such file, wrong content, or a name that a benchmark of this project has.

    """
    from trainer.evaluation.task_files import load_task_file

    found = load_task_file(Path(words).expanduser())
    if found.name in {*PAPER, *OTHERS, *file_names(), *code_names()}:
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
