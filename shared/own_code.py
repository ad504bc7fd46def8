"""A Python function of the user's own, from a file that she named: `my_reward.py:score`.

Input: the words, the folder they lead from, the arguments it will be called with. Output: the function, and the hash of
the very source that was run. It is one file: what lies beside it is not on its path, so that the hash tells all of it.
Nothing is loaded that nobody named.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.errors import InfiMmrError, UsageError, did_you_mean, reason_of
from shared.fingerprint import bytes_hash

ALONE = "Only the named file is copied into a run: name others by whole paths, not beside it"


@dataclass(frozen=True)
class OwnFunction:
    """A loaded function."""

    name: str
    """File and function, without folders."""
    file: Path
    source: bytes
    """What was run."""
    call: Callable[..., Any]
    module: ModuleType

    @property
    def sha256(self) -> str:
        """Hash of the source."""
        return bytes_hash(self.source)


def load_function(
    words: str, arguments: str, what: str, folder: Path = Path(), apart: Path | None = None
) -> OwnFunction:
    """The function that `words` name.

    Args:
        words: `FILE.py:FUNCTION`.
        arguments: Names of what it will be called with, in order, such as `item, answer`.
        what: Who wants it, for messages: `task charts.toml: scorer`.
        folder: Where a relative path leads from.
        apart: A folder to run a copy in, for what will be carried elsewhere: files beside the named one are not there.

    Raises:
        UsageError: the words have another form.
        InfiMmrError: no such file or function, the file cannot be run, or the function takes other arguments.
    """
    file, _, function = words.rpartition(":")
    if not file.endswith(".py") or not function:
        raise UsageError(f"{what} {words!r} is not FILE.py:FUNCTION", f"The function takes ({arguments})")
    place = (folder / Path(file).expanduser()).resolve()
    advice = f"Name one file and a function ({arguments}) in it"
    try:
        source = place.read_bytes()
        module = ModuleType(f"own_{place.stem}_{bytes_hash(source)[:12]}")
        module.__file__ = run = str((apart or place.parent) / place.name)
        if apart:
            Path(run).write_bytes(source)
        sys.modules[module.__name__] = module  # dataclasses and pickle look for it there
        with redirect_stdout(sys.stderr):  # stdout belongs to results
            exec(compile(source, run, "exec"), module.__dict__)  # noqa: S102 - the user's code, which she named
    except (Exception, SystemExit) as error:
        reason = reason_of(error)
        if apart and isinstance(error, FileNotFoundError) and place.is_file():
            advice = ALONE
        raise InfiMmrError(f"{what} {words} cannot be loaded ({reason})", advice) from error
    own = getattr(module, function, None)
    if not callable(own):
        known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        hint = did_you_mean(function, known)
        raise InfiMmrError(f"{what} {words} cannot be loaded ({place.name} has no function {function})", hint or advice)
    try:
        inspect.signature(own).bind(*arguments.split(", "))
    except (TypeError, ValueError) as error:  # ValueError: of a builtin
        raise InfiMmrError(f"{what} {words} does not take ({arguments}): {error}", advice) from error
    return OwnFunction(f"{place.name}:{function}", place, source, own, module)
