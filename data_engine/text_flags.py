"""Which texts of a column need a second look, told by their bytes, at gigabytes a second.

Input: an Arrow column of texts. Output: a boolean per text for each of a few signs. A sign may be told of a text that
does not hold it (a pair of bytes across two texts), never the other way round; who asks looks at these texts again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.sources.arrow_texts import BLOCK, spread

if TYPE_CHECKING:
    import pyarrow as pa

Flags = np.ndarray[Any, Any]
_BLANK, _OPEN, _CLOSE, _STOP, _COLON, _ANGLE, _BRACKET, _B, _SMALL_B, _CASE = b" ().:<[Bb "
_WIDE = 0x80
_find = ctypes.CDLL(None).memchr
"""The C library's: a comparison by NumPy takes four times as long."""
_find.restype, _find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)


@dataclass(frozen=True)
class TextFlags:
    """Signs of texts, one entry per text in each.

    Attributes:
        empty: No character, or null.
        marked: `<` or `[`.
        spaced: Anything but single blanks between words: other blanks, at the edges, non-ASCII characters.
        edged: As `spaced`, but single and double blanks inside do not count.
        lists: A second option may stand there: `(B)`, `(b)`, or `B` with a dot, a colon or a wide mark behind it.

    """

    empty: Flags
    marked: Flags
    spaced: Flags
    edged: Flags
    lists: Flags


def text_flags(column: pa.Array) -> TextFlags:
    """Look at the texts of a column of type `string` or `large_string`."""
    codes, starts, ends = spread(column)
    empty = starts == ends
    if not len(codes):
        none = np.zeros(len(empty), dtype=bool)
        return TextFlags(empty, none, none, none, none)
    full = np.flatnonzero(~empty) if empty.any() else slice(None)
    first = starts[full]
    wide = bool(codes.max() >= _WIDE)
    odd = (codes[first] <= _BLANK) | (codes[ends[full] - 1] <= _BLANK)
    if codes.min() < _BLANK:
        odd |= np.minimum.reduceat(codes, first) < _BLANK
    if wide:
        odd |= np.maximum.reduceat(codes, first) >= _WIDE
    edged = np.zeros(len(empty), dtype=bool)
    edged[full] = odd
    doubles: list[Flags] = []
    for at in range(0, len(codes), BLOCK):
        block = codes[at : at + BLOCK + 1]
        pairs = np.maximum(block[:-1], block[1:])
        if pairs.size and pairs.min() <= _BLANK:
            doubles.append(np.flatnonzero(pairs <= _BLANK) + at)
    marked = _those([*_places(codes, _ANGLE), *_places(codes, _BRACKET)], ends)
    lists = _those([*_bracketed(codes), *_dotted(codes)], ends)
    return TextFlags(empty, marked, _those(doubles, ends) | edged, edged, lists)


def _places(codes: Flags, sign: int) -> Iterator[Flags]:
    """Where a byte stands, some places at a time; of a byte that is rare, at the speed of memory."""
    start, left = codes.ctypes.data, len(codes)
    found = _find(start, sign, left)
    for at in range(found - start if found else left, left, BLOCK):
        yield np.flatnonzero(codes[at : at + BLOCK] == sign) + at


def _bracketed(codes: Flags) -> Iterator[Flags]:
    """Where `(B)` or `(b)` stands, without which no options in brackets do."""
    for places in _places(codes, _OPEN):
        letter, close = (codes.take(places + ahead, mode="clip") for ahead in (1, 2))
        yield places[((letter | _CASE) == _SMALL_B) & (close == _CLOSE)]


def _dotted(codes: Flags) -> Iterator[Flags]:
    """Where a `B` stands and behind it a dot or colon, without which no options with these do."""
    for places in _places(codes, _B):
        near, far = (codes.take(places + ahead, mode="clip") for ahead in (1, 2))
        stops, beyond = ((one == _STOP) | (one == _COLON) | (one >= _WIDE) for one in (near, far))
        yield places[stops | ((near <= _BLANK) & beyond)]


def _those(found: Iterable[Flags], ends: Flags) -> Flags:
    """Which texts hold some of the places."""
    told = np.zeros(len(ends), dtype=bool)
    for places in found:
        told[np.searchsorted(ends, places, side="right")] = True
    return told
