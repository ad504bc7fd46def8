"""Run code just before and just after a named module is executed for the first time in this process."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Protocol


class Hook(Protocol):
    """What is to happen around the execution of one module."""

    @property
    def module(self) -> str:
        """Name of the module."""

    def before(self) -> None:
        """Run before the module's code."""

    def after(self, module: ModuleType) -> None:
        """Run after the module's code, with the module."""


class _Loader(importlib.abc.Loader):
    """Delegates to the module's own loader and runs the hooks around its `exec_module`."""

    def __init__(self, inner: importlib.abc.Loader, hooks: Sequence[Hook]) -> None:
        self._inner = inner
        self._hooks = hooks

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        for hook in self._hooks:
            hook.before()
        self._inner.exec_module(module)
        for hook in self._hooks:
            hook.after(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the hooked modules through the finders behind it, and wraps their loader."""

    def __init__(self, hooks: Mapping[str, Sequence[Hook]]) -> None:
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


def install_hook(hooks: Sequence[Hook]) -> None:
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
    by_module: dict[str, list[Hook]] = {}
    for hook in hooks:
        by_module.setdefault(hook.module, []).append(hook)
    sys.meta_path.insert(0, _Finder(by_module))
