"""Readers and steps that packages beside this one bring, by entry points.

    [project.entry-points."infi_mmr.readers"]
    charts = "my_charts.reader:open_source"     # (settings: SourceSettings, what: str) -> Source
    [project.entry-points."infi_mmr.steps"]
    count_words = "my_charts.count_words"       # a module: Settings, run(context, settings) -> StepResult, and
                                                # NEEDS_ALL_ROWS = True where rows in blocks are not enough

A recipe names them as it names ours (`reader = "charts"`, `[steps.count_words]`). Nothing is looked for unless a recipe
names what is not ours, and only what it names is loaded. The package's name, version and the hash of its code are part
of what a build is, and of the keys of cells that `data_engine.step.judge_rows` stores: another version judges anew.

A step may also be one file that the recipe names (`[steps.count_words] path = "./count_words.py"`), with the same two
names in it. Its hash stands for it, and it travels to workers as it was read.
Not covered: trust. A package runs with the rights of whoever installed it, a file with those of whoever names it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from shared.config import Strict
from shared.errors import InfiMmrError, UsageError, reason_of
from shared.fingerprint import bytes_hash, fingerprint
from shared.own_code import OwnFunction, load_function

READERS, STEPS = "infi_mmr.readers", "infi_mmr.steps"
_SOURCE = ("name", "location", "revision", "licence", "taken", "rows", "fingerprint", "count")


@dataclass(frozen=True)
class Plugin:
    """What an entry point, or a recipe a file, names, loaded."""

    name: str
    package: str
    """Empty for a file."""
    version: str
    """A file's name without folders."""
    code: str
    """Hash over the Python files of its package, or of the file."""
    value: Any

    @property
    def words(self) -> str:
        """How messages call where it comes from."""
        return f"package {self.package} {self.version}" if self.package else f"file {self.version}"

    @property
    def advice(self) -> str:
        """What to do where it is wrong."""
        return "Fix or update that package" if self.package else "Fix that file"

    def identity(self) -> dict[str, str]:
        """What stands for it in manifests and keys."""
        where = {"package": self.package, "version": self.version} if self.package else {"file": self.version}
        return {**where, "code": self.code}


def plugin_names(group: str) -> tuple[str, ...]:
    """Names that installed packages bring, sorted; nothing is imported."""
    return tuple(sorted({entry.name for entry in metadata.entry_points(group=group)}))


@cache
def load_plugin(group: str, name: str) -> Plugin:
    """Import what is named.

    Raises:
        InfiMmrError: no package brings it, two do, or it cannot be imported; names the package.

    """
    what = f"{group.rpartition('.')[2].removesuffix('s')} {name}"
    entries = list(metadata.entry_points(group=group, name=name))
    owners = sorted({entry.dist.name for entry in entries if entry.dist is not None})
    if not entries:
        raise InfiMmrError(f"no installed package provides {what}", "Install the one that does")
    if len(owners) > 1:
        raise InfiMmrError(f"{what} is provided by {' and '.join(owners)}", "Uninstall one of them")
    entry, owner = entries[0], entries[0].dist
    package, version = (owner.name, owner.version) if owner is not None else ("?", "?")
    try:
        with redirect_stdout(sys.stderr):
            value = entry.load()
    except (Exception, SystemExit) as error:
        raise InfiMmrError(
            f"{what} of package {package} {version} cannot be loaded ({reason_of(error)})",
            "Fix or update that package",
        ) from error
    return Plugin(name, package, version, _code_hash(entry.module), value)


def _code_hash(module: str) -> str:
    """Hash over the Python files of the package that a module belongs to, or of the single file that it is."""
    top = sys.modules[module.partition(".")[0]]
    folders = [Path(place) for place in getattr(top, "__path__", ())]
    files = [(folder, file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and top.__file__:
        files = [(Path(top.__file__).parent, Path(top.__file__))]
    return fingerprint([[str(file.relative_to(folder)), bytes_hash(file.read_bytes())] for folder, file in files])


@dataclass(frozen=True)
class PluginStep:
    """A step of another package, used as the modules of ours are."""

    plugin: Plugin
    Settings: type[Strict]

    @property
    def BY_BLOCK(self) -> bool:
        """Whether it is run once per row block, on workers: unless it needs all rows at once, or asks a model."""
        needs = getattr(self.plugin.value, "NEEDS_ALL_ROWS", False)
        return not needs and "engine" not in self.Settings.model_fields

    def run(self, context: Any, settings: Any) -> Any:
        """Run it; what it raises becomes one line with its name.

        Raises:
            InfiMmrError: it failed, returned no `StepResult`, or tells about rows that it was not given.

        """
        identity = {"step": self.plugin.name, **self.plugin.identity()}
        with_rows = f"step {self.plugin.name} of {self.plugin.words}"
        advice = self.plugin.advice
        given = replace(context, plugin=identity)
        result = _told(with_rows, lambda: self.plugin.value.run(given, settings), advice)
        if not hasattr(result, "annotations"):
            raise InfiMmrError(f"{with_rows} returned no StepResult", advice)
        for frame in (result.annotations, getattr(result, "failures", None)):
            if frame is not None and (wrong := _wrong_key(frame, context.rows["id"])):
                raise InfiMmrError(f"{with_rows} {wrong}", advice)
        return result


@dataclass(frozen=True)
class OwnStep(PluginStep):
    """A step of one file that a recipe names; it is pickled as its source, which runs where it arrives."""

    source: bytes

    def named(self, name: str) -> OwnStep:
        """The same file under the name that a recipe gives it."""
        return replace(self, plugin=replace(self.plugin, name=name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Bring the file along."""
        return _arrived, (self.plugin.name, self.plugin.version, self.source)


OWN_STEPS: dict[type[Strict], OwnStep] = {}
"""Steps of files by their settings' class."""


def own_step(name: str, path: str, what: str) -> OwnStep:
    """The step `name` in the file `path`; `what` begins messages.

    Raises:
        UsageError: it is no Python file.
        InfiMmrError: no such file, it cannot be run, or it holds no step.

    """
    file = Path(path).expanduser().resolve()
    if file.suffix != ".py":
        raise UsageError(f"{what} path = {path!r} is no Python file", "Name one that ends in .py")
    own = _own_file(path, what, file.read_bytes() if file.is_file() else b"")
    plugin = Plugin(name, "", own.file.name, own.sha256, own.module)
    settings = _settings_of(plugin, f"{what} {path}")
    step = OWN_STEPS[settings] = OwnStep(plugin, settings, own.source)
    return step


@cache
def _own_file(path: str, what: str, source: bytes) -> OwnFunction:
    """A file loaded once for as long as it has this content, so that its classes are the same."""
    del source
    return load_function(f"{path}:run", "context, settings", what)


@cache
def _arrived(name: str, file: str, source: bytes) -> OwnStep:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, file)
        place.write_bytes(source)
        return own_step(name, str(place), f"step {name}, sent as")


def _wrong_key(frame: Any, ids: Any) -> str:
    """What is wrong with the column that says which rows or pictures a step's frame is about; empty for nothing."""
    import polars as pl

    if not isinstance(frame, pl.DataFrame):
        return f"returned a {type(frame).__name__} where a polars DataFrame belongs"
    if frame.height == 0:
        return ""
    key = next((name for name in ("id", "image_hash") if name in frame.columns), None)
    if key is None:
        return f"returned rows with neither id nor image_hash, but {', '.join(frame.columns)}"
    column = frame[key]
    if column.dtype != pl.String:
        return f"returned {key} {column[0]!r} in row 0, which is not text"
    if column.null_count():
        return f"returned no {key} in row {column.is_null().arg_max()}"
    strange = column.filter(~column.is_in(ids.implode())) if key == "id" else column.clear()
    return f"returned row {strange[0]!r}, which it was not given" if len(strange) else ""


@cache
def plugin_step(name: str) -> PluginStep:
    """The step `name` of another package.

    Raises:
        InfiMmrError: none brings it, it cannot be loaded, or it is no step.

    """
    plugin = load_plugin(STEPS, name)
    return PluginStep(plugin, _settings_of(plugin, f"step {name} of {plugin.words}"))


def _settings_of(plugin: Plugin, what: str) -> type[Strict]:
    settings = getattr(plugin.value, "Settings", None)
    if isinstance(settings, type) and issubclass(settings, Strict) and callable(getattr(plugin.value, "run", 0)):
        return settings
    message = f"{what} has no Settings (a shared.config.Strict) and run(context, settings)"
    raise InfiMmrError(message, plugin.advice)


def plugin_source(name: str, settings: Any, what: str) -> Any:
    """The source that a reader of another package opens.

    Raises:
        InfiMmrError: none brings it, it cannot be loaded, it failed, or what it returned is no `Source`.

    """
    plugin = load_plugin(READERS, name)
    where = f"reader {name} of {plugin.words}"
    source = _told(where, lambda: plugin.value(settings, what))
    if absent := [part for part in _SOURCE if not hasattr(source, part)]:
        raise InfiMmrError(f"{where} returned a source without {', '.join(absent)}", "Fix or update that package")
    return _PluginSource(source, where)


class _PluginSource:
    """A source of another package; what its rows raise becomes one line with its name."""

    def __init__(self, source: Any, where: str) -> None:
        self._source, self._where = source, where

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for before there is a `_source`, where it is unpickled
            raise AttributeError(name)
        return getattr(self._source, name)

    def rows(self) -> Iterator[Any]:
        """Rows of the source."""
        records = iter(self._source.rows())
        done = object()
        number = 0
        while (row := _told(f"{self._where}, record {number}", lambda: next(records, done))) is not done:
            yield row
            number += 1


def _told(what: str, work: Callable[[], Any], advice: str = "Fix or update that package") -> Any:
    try:
        with redirect_stdout(sys.stderr):  # stdout belongs to results
            return work()
    except InfiMmrError:
        raise
    except (Exception, SystemExit) as error:
        raise InfiMmrError(f"{what} failed: {reason_of(error)}", advice) from error
