"""Which texts of a column need a second look, told by their bytes, at gigabytes a second.

Input: an Arrow column of texts. Output: a boolean per text for each of a few signs. A sign may be told of a text that
does not hold it (a pair of bytes across two texts), never the other way round; who asks looks at these texts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.sources.arrow_texts import BLOCK, spread

if TYPE_CHECKING:
    import pyarrow as pa

Flags = np.ndarray[Any, Any]
_BLANK, _CLOSE, _STOP, _COLON, _ANGLE, _BRACKET, _SMALL_A, _CASE = b" ).:<[a "
_WIDE = 0x80
_WIDE_MARKS = 0xE2
"""First bytes of full-width brackets and colons are above."""
_WORD = np.zeros(256, dtype=bool)
_WORD[[ord(sign) for sign in map(chr, range(128)) if sign.isalnum()]] = True


@dataclass(frozen=True)
class TextFlags:
    """Signs of texts, one entry per text in each.

    Attributes:
        empty: No character, or null.
        marked: `<` or `[`.
        spaced: Anything but single blanks between words: other blanks, at the edges, non-ASCII characters.
        edged: As `spaced`, but single and double blanks inside do not count.
        lists: An `A` that is no part of a word, and behind it a mark as options have it.

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
    if low := bool(codes.min() < _BLANK):
        odd |= np.minimum.reduceat(codes, first) < _BLANK
    if wide:
        odd |= np.maximum.reduceat(codes, first) >= _WIDE
    edged = np.zeros(len(empty), dtype=bool)
    edged[full] = odd
    marks: list[Flags] = []
    doubles: list[Flags] = []
    letters: list[Flags] = []
    for at in range(0, len(codes), BLOCK):
        block = codes[at : at + BLOCK + 2]
        blank = block <= _BLANK if low else block == _BLANK
        stop = (block == _CLOSE) | (block == _STOP) | (block == _COLON)
        stop = stop | (block > _WIDE_MARKS) if wide else stop
        letter = (block | _CASE) == _SMALL_A
        apart = blank[:-1] & stop[1:]
        for found, hits in (
            (marks, (block == _ANGLE) | (block == _BRACKET)),
            (doubles, blank[:-1] & blank[1:]),
            (letters, letter[:-1] & stop[1:]),
            (letters, letter[:-2] & apart[1:] if apart.any() else apart),
        ):
            if hits.any():
                found.append(np.flatnonzero(hits) + at)
    listed = np.concatenate(letters) if letters else np.zeros(0, np.int64)
    held = np.searchsorted(ends, listed, side="right")
    alone = (starts[held] == listed) | ~_WORD[codes[listed - 1]]
    lists = np.zeros(len(empty), dtype=bool)
    lists[held[alone]] = True
    return TextFlags(empty, _those(marks, ends), _those(doubles, ends) | edged, edged, lists)


def _those(found: list[Flags], ends: Flags) -> Flags:
    """Which texts hold some of the places."""
    told = np.zeros(len(ends), dtype=bool)
    for places in found:
        told[np.searchsorted(ends, places, side="right")] = True
    return told
