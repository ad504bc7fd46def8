"""From token hashes to hashes of n-grams, of whole texts and of their numbers, without Python loops over rows.

Hash of a window of n tokens with hashes h_0 ... h_(n-1) (`ngram64/1`): `x = sum(h_k * BASE**k)`, then the finaliser
`x = (x ^ x >> 32) * C1; x ^= x >> 29`, all modulo 2**64. Sums of doubling width give all windows in O(log n) passes
over the tokens: S_2m(i) = S_m(i) + BASE**m * S_m(i + m); n is composed of its powers of two. A whole text is one window
of all its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from data_engine.text_hash.words import Hashes, Offsets, Tokens

BASE = 0xD1342543DE82EF95
"""Base of the n-gram polynomial, odd (L'Ecuyer and Steele's 64-bit multiplier)."""
_C1 = np.uint64(0x9E3779B97F4A7C15)
_S32, _S29 = np.uint64(32), np.uint64(29)


@dataclass(frozen=True)
class Windows:
    """Hashes of all n-grams.

    Attributes:
        hashes: uint64 [windows], in text order.
        offsets: int64 [texts + 1]; text i owns `hashes[offsets[i]:offsets[i + 1]]`, one per token it starts at.

    """

    hashes: Hashes
    offsets: Offsets

    def texts(self) -> Offsets:
        """Text that each window belongs to, int64 [windows]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def ngram_hashes(tokens: Tokens, n: int, *, short: bool = False) -> Windows:
    """Hash every window of `n` tokens of every text.

    Args:
        tokens: Hashed tokens.
        n: Tokens per window, at least 1.
        short: Give a text of 1 to n - 1 tokens one window of all it has; else it has none.

    Raises:
        ValueError: n is below 1.

    """
    if n < 1:
        message = f"n-grams need n >= 1, not {n}"
        raise ValueError(message)
    counts = tokens.counts
    windows = np.maximum(counts - (n - 1), 0)
    offsets = np.zeros(len(counts) + 1, np.int64)
    few = (counts > 0) & (counts < n)
    if short and few.any():
        np.cumsum(windows + few, out=offsets[1:])
        hashes = np.empty(offsets[-1], np.uint64)
        is_short = np.repeat(few, windows + few)
        hashes[~is_short] = _full_windows(tokens, n, windows)
        hashes[is_short] = text_hashes(tokens)[few]
        return Windows(hashes, offsets)
    np.cumsum(windows, out=offsets[1:])
    return Windows(_full_windows(tokens, n, windows), offsets)


def text_hashes(tokens: Tokens) -> Hashes:
    """Hash of each text as one window of all its tokens, uint64 [texts]; 0 where a text has no token."""
    counts = tokens.counts
    place = np.arange(len(tokens.hashes)) - np.repeat(tokens.offsets[:-1], counts)
    powers = _powers(int(counts.max(initial=0)))
    result = sums_per_text(tokens.hashes * powers[place], tokens.offsets)
    _finish(result)
    result[counts == 0] = 0
    return result


def number_hashes(tokens: Tokens) -> Hashes:
    """Hash of the multiset of tokens with digits in each text, uint64 [texts]: equal numbers in any order, equal hash.

    Raises:
        ValueError: `tokens` were hashed without `find_digits`.

    """
    if tokens.has_digit is None:
        message = "hash the words with find_digits=True to compare their numbers"
        raise ValueError(message)
    mixed = tokens.hashes.copy()
    _finish(mixed)
    mixed[~tokens.has_digit] = 0
    return sums_per_text(mixed, tokens.offsets)


def _full_windows(tokens: Tokens, n: int, windows: Offsets) -> Hashes:
    hashes = tokens.hashes
    if len(hashes) < n:
        return np.empty(0, np.uint64)
    sums = polynomial_windows(hashes, n)
    _finish(sums)
    if len(windows) == 1:
        return sums
    # A window that starts in text i stays in it for the first `windows[i]` tokens of the text.
    edges = np.zeros(len(hashes) + 1, np.int8)
    has = windows > 0
    edges[tokens.offsets[:-1][has]] = 1
    edges[(tokens.offsets[:-1] + windows)[has]] -= 1
    inside = np.cumsum(edges[: len(sums)], dtype=np.int8).view(bool)
    kept: Hashes = sums[inside]
    return kept


def polynomial_windows(hashes: Hashes, n: int) -> Hashes:
    """Sum of h_(i+k) * BASE**k for k < n at every i, not finished, across text borders: uint64 [len - n + 1]."""
    length = len(hashes) - n + 1
    total: Hashes | None = None
    covered, width, sums = 0, 1, hashes
    while True:
        if n & width:
            part = sums[covered : covered + length]
            total = part.copy() if total is None else total + part * _power(covered)
            covered += width
        if covered == n and total is not None:
            return total
        sums = sums[:-width] + sums[width:] * _power(width)
        width *= 2


def sums_per_text(values: Hashes, offsets: Offsets) -> Hashes:
    """Sum of each text's values modulo 2**64, uint64 [texts]; 0 for a text that has none."""
    result = np.zeros(len(offsets) - 1, np.uint64)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        result[filled] = np.add.reduceat(values, offsets[filled])
    return result


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(BASE, exponent, 2**64))


def _powers(count: int) -> Hashes:
    powers = np.full(max(count, 1), np.uint64(BASE))
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _finish(values: Hashes) -> None:
    values ^= values >> _S32
    values *= _C1
    values ^= values >> _S29
