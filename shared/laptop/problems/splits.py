"""Splits that never mix: each owns a part of all possible contents, and a part of the wordings.

A content (what is drawn or calculated) is hashed into one of 256 buckets, and a split only takes contents of its own
buckets: no picture and no calculation of one split occurs in another, whatever the indices. Wordings are shared out
too: the paper's decontamination compares questions after numbers are removed, so a benchmark that asked in the words
of the training sets would lose them every row.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from shared.benchmarks import minis


@dataclass(frozen=True, slots=True)
class Split:
    """One split: its buckets, whose wordings it uses, and whether its problems are text alone."""

    first_bucket: int
    buckets: int
    wordings: slice
    text_only: bool
    grades: tuple[str, ...]
    """Grades to draw from, with repetition as weight."""

    def owns(self, content: str) -> bool:
        """Whether a content belongs to this split."""
        bucket = hashlib.sha256(content.encode()).digest()[0]
        return self.first_bucket <= bucket < self.first_bucket + self.buckets


_ALL, _SOURCES, _BENCHMARKS = slice(0, 4), slice(0, 2), slice(2, 4)
_EVEN = ("easy", "medium", "hard")

SPLITS: dict[str, Split] = {
    "train": Split(0, 112, _ALL, text_only=False, grades=_EVEN),
    "fresh": Split(112, 24, _ALL, text_only=False, grades=_EVEN),
    "mini-virl39k": Split(136, 40, _SOURCES, text_only=False, grades=_EVEN),
    "mini-deepscaler": Split(176, 24, _SOURCES, text_only=True, grades=_EVEN),
    **{
        f"mini-{name}": Split(mini.first_bucket, mini.buckets, _BENCHMARKS, mini.text_only, mini.grades)
        for name, mini in minis().items()
    },
}


def split_of(name: str) -> Split:
    """The split called `name`.

    Raises:
        KeyError: no such split; the message names the nearest one.
    """
    if name not in SPLITS:
        raise unknown("split", name, SPLITS)
    return SPLITS[name]


def unknown(what: str, name: str, known: Collection[str]) -> KeyError:
    """What to raise for a name that is none of `known`: it names the nearest."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return KeyError(f"the mini world has no {what} {name!r}; {hint}")
