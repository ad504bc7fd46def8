"""Expected failures, each with one clear line and the next thing to do.

Every room raises these for what a user can meet: a wrong word, a missing folder, a full disk, an endpoint that is down.
Command lines print ``error: MESSAGE. NEXT STEP`` on stderr and leave with `exit_code`; anything else that escapes is a
defect of this project and keeps its traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable


class InfiMmrError(Exception):
    """A failure that the user can do something about (exit code 1).

    `message` says what failed and where (recipe, step, row); `next_step` says what to do about it.
    """

    exit_code: int = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        """Join both halves into one line, `message. next_step`."""
        self.message = one_line(message).rstrip(".")
        self.next_step = one_line(next_step)
        super().__init__(message, next_step)

    def __str__(self) -> str:
        """Return the one line that a command line prints."""
        return f"{self.message}. {self.next_step}" if self.next_step else self.message


class UsageError(InfiMmrError):
    """Wrong words: an unknown recipe, a misspelt key, an unknown benchmark (exit code 2)."""

    exit_code = 2


_SYSTEM = {
    errno.ENOSPC: "Free some space, then use {again}",
    errno.EDQUOT: "Free some of your quota, then use {again}",
    errno.EACCES: "Ask for access or name another place",
    errno.EPERM: "Ask for access or name another place",
    errno.EROFS: "Name a place that can be written to",
    errno.ENOTDIR: "Name another place: a part of this one is a file",
    errno.EEXIST: "Name another place: this one is taken",
    errno.EISDIR: "Name a file",
    errno.ENAMETOOLONG: "Name a shorter path",
    errno.EMFILE: "Allow more open files (ulimit -n), then use {again}",
    errno.EIO: "Look at the disk or mount, then use {again}",
    errno.ESTALE: "Look at the mount, then use {again}",
}


def system_error(error: OSError, again: str = "the same command") -> InfiMmrError | None:
    """Return the one line for what the machine refused (disk, permission, mount); None for what may be a defect.

    `again` says what continues after the cause is gone.
    """
    step = _SYSTEM.get(error.errno or 0)
    if step is None:
        return None
    where = f": {error.filename}" if error.filename else ""
    return InfiMmrError(f"{error.strerror}{where}", step.format(again=again))


def reason_of(error: BaseException) -> str:
    """Return an exception by kind and words; many a failed `assert` has no words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def one_line(text: str) -> str:
    """Fold all white space, so that an error stays one line however many its cause had."""
    return " ".join(text.split())


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option most like `word` (difflib ratio of at least 0.5, letter case aside), or None."""
    import difflib

    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return the next step for a wrong word: the nearest right one where there is one, else all of them."""
    known = sorted(set(options))
    close = nearest(word, known)
    if close is not None:
        return f"Did you mean {close}? Known: {', '.join(known)}"
    return f"Known: {', '.join(known)}" if known else ""
