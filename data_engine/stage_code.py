"""Which of our files a piece of a build can run, read from the files' own imports: their hash stands for its code.

Input: modules. Output: a hash over them and all that they import, directly or not, at their top or inside functions,
as worker processes (`-m`) or by a computed name, and over the data files beside packages among these. What only type
checkers read is left out, and so is what cells are keyed by themselves (`KEYED_ELSEWHERE`).
Not covered: other packages, whose versions decide nothing here that is not named elsewhere.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from shared.fingerprint import bytes_hash, fingerprint

ROOT = Path(__file__).resolve().parent.parent
KEYED_ELSEWHERE = ("shared/vlm", "shared/laptop/training")
"""How a model is asked, which is part of its cells' keys, and how one was trained, which is part of its weights."""
_NAME = re.compile(r"(?:data_engine|shared)(?:\.\w+)*\.?")


def code_of(modules: Iterable[str], *, apart: Iterable[str] = (), alone: Iterable[str] = ()) -> str:
    """Hash over the files that `modules` can run (see `files_of`), and those of the modules `alone` as they are."""
    own = {ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in alone}
    files = sorted(files_of(modules, apart) | own)
    return fingerprint([[str(file.relative_to(ROOT)), bytes_hash(file.read_bytes())] for file in files])


def files_of(modules: Iterable[str], apart: Iterable[str] = ()) -> set[Path]:
    """Files that `modules` can run.

    Args:
        modules: Full names.
        apart: Packages of which a module is imported by a computed name that the caller knows: it names those modules.

    """
    found: set[Path] = set()
    elsewhere = {ROOT / place for place in KEYED_ELSEWHERE}
    waiting, met = list(modules), set[str]()
    while waiting:
        if (module := waiting.pop()) in met:
            continue
        met.add(module)
        parts = module.split(".")
        for length in range(1, len(parts) + 1):  # importing a module runs its packages first
            file = _file(ROOT.joinpath(*parts[:length]))
            if file is None or file in found or not elsewhere.isdisjoint(file.parents):
                continue
            found.add(file)
            if file.name == "__init__.py":
                found |= _data_beside(file)
            for name in _names_in(file.read_bytes()):
                if not name.endswith("."):
                    waiting.append(name)
                elif name[:-1] not in apart:
                    waiting += [f"{name}{one.stem}" for one in ROOT.joinpath(*name[:-1].split(".")).glob("*.py")]
    return found


def _file(place: Path) -> Path | None:
    """File of a module or package."""
    package, module = place / "__init__.py", place.with_suffix(".py")
    return package if package.is_file() else module if module.is_file() else None


def _data_beside(file: Path) -> set[Path]:
    code = {".py", ".pyc", ".typed"}
    return {
        one
        for one in file.parent.iterdir()
        if one.is_file() and one.suffix not in code and not one.name.startswith(".")
    }


@functools.cache
def _names_in(source: bytes) -> tuple[str, ...]:
    """Our modules that a file names in imports and as whole texts; a package and a point: any module of it."""
    return tuple(dict.fromkeys(name for name in _named(ast.parse(source)) if _NAME.fullmatch(name)))


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield from _named(other)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        yield from _named(node)
