"""Cut bytes where their content says so, so that equal stretches of two files become equal pieces wherever they lie.

A new caption prompt changes a few narrow columns of a shard; the pictures beside them are the same bytes at other
offsets. Cutting by content (and not every so many bytes) finds them again without knowing Parquet. The rule: a cut
may follow a byte ``0x65`` whose next six bytes hash to a multiple of 128, about every 32 KiB of compressed pictures;
pieces are at least `SMALLEST` and at most `LARGEST` bytes long. Looking for one byte value first keeps this faster
than hashing the pieces.

Same idea: FastCDC (Xia et al., USENIX ATC 2016) and the Hub's Xet. Not covered: adversarial files, which only cost
savings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

SMALLEST = 4 << 10
LARGEST = 128 << 10
_MARK = 0x65
_WINDOW = 6
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - 7)
_BLOCK = 4 << 20


def cuts(data: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the pieces of `data` (uint8, any length), in order and without gaps."""
    start = 0
    for candidate in _candidates(data):
        while candidate - start > LARGEST:
            yield start, start + LARGEST
            start += LARGEST
        if candidate - start >= SMALLEST:
            yield start, candidate
            start = candidate
    while start < len(data):
        stop = min(start + LARGEST, len(data))
        yield start, stop
        start = stop


def pieces_by_hash(data: np.ndarray) -> Iterator[tuple[bytes, int, int]]:
    """Yield (sha256 digest, start, stop) of the pieces of `data`."""
    for start, stop in cuts(data):
        yield hashlib.sha256(data[start:stop].data).digest(), start, stop


def _candidates(data: np.ndarray) -> Iterator[int]:
    for offset in range(0, len(data) - _WINDOW, _BLOCK):
        block = data[offset : offset + _BLOCK + _WINDOW]
        marks = np.flatnonzero(block[: len(block) - _WINDOW] == _MARK)
        window = np.zeros(len(marks), dtype=np.uint64)
        for distance in range(1, _WINDOW + 1):
            window = (window << np.uint64(8)) | block[marks + distance]
        for mark in marks[(window * _MULTIPLIER) >> _SHIFT == 0].tolist():
            yield offset + mark + 1
