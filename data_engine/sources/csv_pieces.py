"""Where rows of a CSV begin, found stretch by stretch without what stands before one.

Input: a file and the bytes of a stretch. Output: what the stretch holds where it begins outside of quotes, and where it
begins inside: whoever knows of all stretches which of their quotes open and close knows which of both it is. A quote
ends a row's text only where every quote opens or closes a field. In a file where one does not, or a carriage return
ends a row, only a reader from the front knows where rows begin: it says so, and is read as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_engine.sources.arrow_texts import Numbers
from data_engine.sources.table_texts import CsvRows, csv_head, opened_bytes

Told = Sequence[Sequence[int]]
"""What a stretch holds from outside of quotes, and from inside: the byte where the first row begins (-1 for none), rows
that begin in it, whether its quotes are as they must be, and where it ends: 0 outside, 1 inside."""

_BLOCK = 1 << 18
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


def told_of(file: Path, start: int, end: int) -> Told:
    """Look at the bytes from `start` to `end`.

    Raises:
        InfiMmrError, OSError: the file, or its header, cannot be read.

    """
    with opened_bytes(file) as stream:
        head = csv_head(stream)
        mark = CsvRows((head.decode("utf-8", "surrogateescape"),), file).mark
        opens, closes = _among(mark + '\n"'), _among(mark + '\r\n"')
        start = max(start, stream.tell())
        good = [head.count(b"\r") == head.count(b"\r\n")] * 2
        first, rows, inside = [-1, -1], [0, 0], 0
        for at in range(start, end, _BLOCK):
            stream.seek(at - 1)  # the header stands before
            size = min(_BLOCK, end - at)
            read = stream.read(size + 2)
            block = np.frombuffer(read if len(read) == size + 2 else read + b"\n", np.uint8)
            quotes = np.flatnonzero(block[1:-1] == _QUOTE) + 1
            begins = np.flatnonzero(block[:-2] == _NEWLINE) + 1
            within = np.searchsorted(quotes, begins) & 1
            filled = (block[begins] != _NEWLINE) & (block[begins] != _RETURN)
            turns = np.flatnonzero(block[1:-1] == _RETURN) + 1 if b"\r" in read else begins[:0]
            turned = np.searchsorted(quotes, turns[block[turns + 1] != _NEWLINE]) & 1
            opening, closing = opens[block[quotes - 1]], closes[block[quotes + 1]]
            for state in (0, 1):
                now = state ^ inside
                there = within == now
                good[state] &= bool(opening[now::2].all() and closing[1 - now :: 2].all() and (turned != now).all())
                good[state] &= b"\0" not in read
                if first[state] < 0 and there.any():
                    first[state] = at - 1 + int(begins[there][0])
                rows[state] += int((filled & there).sum())
            inside ^= len(quotes) & 1
    return [(first[state], rows[state], int(good[state]), state ^ inside) for state in (0, 1)]


def row_stretches(told: Sequence[Told], size: int) -> list[tuple[int, int, int]] | None:
    """Where rows of a file of `size` bytes lie by what its stretches hold: from which byte, to which, and how many.

    None where that cannot be told.
    """
    state, found = 0, []
    for stretch in told:
        begin, rows, good, state = stretch[state]
        if not good:
            return None
        if rows:
            found.append((begin, rows))
    ends = [begin for begin, _ in found[1:]] + [size]
    return None if state else [(begin, end, rows) for (begin, rows), end in zip(found, ends, strict=True)]


def _among(signs: str) -> Numbers:
    found = np.zeros(256, dtype=bool)
    found[list(signs.encode())] = True
    return found
