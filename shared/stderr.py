"""Stderr as long work uses it: written at once, past what engines do to descriptor 2, in lines that fit."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import unicodedata


def plain(text: str) -> str:
    """One line without control characters: names and reasons come from files and servers."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def fitted(text: str, columns: int) -> str:
    """A line that fits, for which names are cut rather than the numbers behind them."""
    name, comma, numbers = text.partition(", ")
    room = columns - len(comma + numbers)
    return _cut(name, room) + comma + numbers if room > 0 else _cut(text, columns)


def _cut(text: str, columns: int) -> str:
    """As much of a line as fits; wide signs take two columns."""
    used = 0
    for place, sign in enumerate(text):
        used += 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        if used > columns:
            return text[:place]
    return text


class Stderr:
    """A second way to stderr: engines send file descriptor 2 to their log while they work, progress goes on."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._descriptor = os.dup(sys.stderr.fileno())
        self._encoding = sys.stderr.encoding or "utf-8"

    def write(self, text: str) -> None:
        """Write at once. A terminal that is gone or a disk that is full ends no work."""
        data = text.encode(self._encoding, errors="replace")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]

    def columns(self) -> int:
        """Width of the terminal, now."""
        with contextlib.suppress(OSError):
            return os.get_terminal_size(self._descriptor).columns or 80
        return shutil.get_terminal_size().columns
