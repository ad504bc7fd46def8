"""Which texts share an n-gram with which items: a sorted table of the items' n-grams behind two filters.

Most n-grams of a corpus occur in no benchmark. A table of one byte per slot, looked at by the top bits of the hash,
turns seven of eight away; a second one by the lowest bits turns away as many of the rest; what is left is searched in
the sorted hashes. Small tables that stay in the cache and few searches are what makes it quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from data_engine.text_hash.windows import Windows
    from data_engine.text_hash.words import Flags, Hashes, Offsets

_SLOTS_PER_HASH = 8  # a foreign n-gram passes each filter with probability 1/8 at most
_MIN_BITS, _MAX_BITS = 12, 26


@dataclass(frozen=True)
class NgramIndex:
    """N-grams of all items, sorted by hash.

    Attributes:
        hashes: uint64 [n-grams], sorted; once per item that has it.
        items: int64 [n-grams], index of the item.
        item_count: Items indexed, those without any n-gram too.
        covered: Items with at least one n-gram.

    """

    hashes: Hashes
    items: Offsets
    item_count: int
    covered: int
    _top: Flags
    _low: Flags
    _shift: np.uint64

    @classmethod
    def build(cls, windows: Windows) -> NgramIndex:
        """Index the windows of all items (text i of `windows` is item i)."""
        items = windows.texts()
        order = np.lexsort((items, windows.hashes))
        hashes, items = windows.hashes[order], items[order]
        if len(hashes):
            first = np.ones(len(hashes), bool)
            first[1:] = (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])
            hashes, items = hashes[first], items[first]
        bits = min(max(int(len(hashes) * _SLOTS_PER_HASH).bit_length(), _MIN_BITS), _MAX_BITS)
        shift = np.uint64(64 - bits)
        top, low = np.zeros(2**bits, bool), np.zeros(2**bits, bool)
        top[hashes >> shift] = True
        low[hashes & np.uint64(2**bits - 1)] = True
        covered = int(np.count_nonzero(np.diff(windows.offsets)))
        return cls(hashes, items, len(windows.offsets) - 1, covered, top, low, shift)

    def find(self, windows: Windows) -> tuple[Offsets, Offsets, Offsets]:
        """Which texts share n-grams with which items.

        Returns:
            texts, items, shared: int64 [pairs] each, sorted by text and item; `shared` counts the text's windows that
            the item has too.

        """
        none = np.empty(0, np.int64)
        if len(self.hashes) == 0 or len(windows.hashes) == 0:
            return none, none, none
        # As signed numbers (they are small) slots are taken without another copy.
        passed = np.flatnonzero(self._top.take((windows.hashes >> self._shift).view(np.int64)))
        wanted = windows.hashes.take(passed)
        rest = self._low.take((wanted & np.uint64(len(self._low) - 1)).view(np.int64))
        passed, wanted = passed[rest], wanted[rest]
        left = np.searchsorted(self.hashes, wanted, side="left")
        found = self.hashes[np.minimum(left, len(self.hashes) - 1)] == wanted
        passed, wanted, left = passed[found], wanted[found], left[found]
        if len(passed) == 0:
            return none, none, none
        copies = np.searchsorted(self.hashes, wanted, side="right") - left
        texts = np.repeat(np.searchsorted(windows.offsets, passed, side="right") - 1, copies)
        before = np.repeat(np.cumsum(copies) - copies, copies)
        items = self.items[np.repeat(left, copies) + np.arange(len(texts)) - before]
        pairs, shared = np.unique(texts * self.item_count + items, return_counts=True)
        return pairs // self.item_count, pairs % self.item_count, shared
