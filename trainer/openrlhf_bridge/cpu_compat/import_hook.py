"""Adaptations, which run just before and just after a named module is executed for the first time in this process."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Adaptation:
    """One place of a pinned library that assumes CUDA.

    `targets` are the dotted attributes of `module` that must exist; `apply(module)` replaces them.
    """

    name: str
    module: str
    targets: tuple[str, ...]
    reason: str
    apply: Callable[[Any], None]
    prepare: Callable[[], None] = lambda: None
    """Runs before the module's own code."""

    def after(self, module: ModuleType) -> None:
        """Check that every target is still there, then apply.

        Raises:
            ImportError: a target has moved, which means that the pinned version changed under this adaptation.

        """
        for target in self.targets:
            place: Any = module
            for part in target.split("."):
                if not hasattr(place, part):
                    message = (
                        f"cpu_compat {self.name!r}: {self.module}.{target} has moved ({self.reason}). Pin the versions "
                        "of pyproject.toml again, or adapt trainer/openrlhf_bridge/cpu_compat/adaptations.py"
                    )
                    raise ImportError(message)
                place = getattr(place, part)
        self.apply(module)


class _Loader(importlib.abc.Loader):
    """Delegates to the module's own loader and runs the hooks around its `exec_module`."""

    def __init__(self, inner: importlib.abc.Loader, hooks: Sequence[Adaptation]) -> None:
        self._inner = inner
        self._hooks = hooks

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        for hook in self._hooks:
            hook.prepare()
        self._inner.exec_module(module)
        for hook in self._hooks:
            hook.after(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the hooked modules through the finders behind it, and wraps their loader."""

    def __init__(self, hooks: Mapping[str, Sequence[Adaptation]]) -> None:
        self.hooks = hooks

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.hooks:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self.hooks[fullname])
                return spec
        return None


def install_hook(hooks: Sequence[Adaptation]) -> None:
    """Put one finder in front of `sys.meta_path` for the modules of `hooks`. A second call changes nothing.

    Raises:
        ImportError: one of the modules is already imported, so that its adaptation would come too late.

    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    late = sorted({hook.module for hook in hooks} & set(sys.modules))
    if late:
        message = f"cpu_compat must be installed before {late[0]} is imported (start the process with its site folder)"
        raise ImportError(message)
    by_module: dict[str, list[Adaptation]] = {}
    for hook in hooks:
        by_module.setdefault(hook.module, []).append(hook)
    sys.meta_path.insert(0, _Finder(by_module))
