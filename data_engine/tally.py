"""What is kept of a million rows to count them: hashes of their keys and problems, answers as columns, kinds as bytes.

Input: rows taken, batch by batch. Output: which of them a build removes because they occur twice or with different
answers, and how many there are of each kind of answer (`gold_kinds`). About 60 bytes a row. Hashes are of 64
bits: among ten million rows the chance that two are taken for one is about 3e-6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.gold_kinds import UNSURE, count_kinds, plain_kinds
from data_engine.sources.arrow_texts import arrow, series
from data_engine.sources.given_answers import told_apart
from shared.answers import ANSWER_KINDS
from shared.code_points import carried

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Numbers = np.ndarray[Any, Any]
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""The golden ratio's odd 64-bit multiple: keeps the hash of a key from cancelling that of its problem."""


class Tally:
    """Rows taken so far; `kinds` are places in `ANSWER_KINDS`, or negative where they are not known yet."""

    def __init__(self) -> None:
        self._keys: list[Numbers] = []
        self._problems: list[Numbers] = []
        self._kinds: list[Numbers] = []
        self._answers: list[pa.Array] = []

    def add(
        self,
        keys: pl.Series,
        problems: pl.Series,
        answers: pl.Series,
        kinds: Numbers,
        mixed: Numbers | None = None,
    ) -> None:
        """Take rows: the source's keys, the problems (words, marks of pictures), the answers as texts.

        `mixed`: hashes of options (`list_hashes`).
        """
        if not len(keys):
            return
        problem = problems.hash().to_numpy()
        problem = problem if mixed is None else problem ^ mixed
        with np.errstate(over="ignore"):
            key = keys.hash().to_numpy() * _MIX ^ problem ^ answers.hash(1).to_numpy()
        self._problems.append(problem)
        self._keys.append(key)
        self._kinds.append(kinds.astype(np.int8))
        # Polars' own form of texts would keep all that they were read from, questions as well.
        self._answers.append(arrow(answers))

    def count(self) -> tuple[int, Counter[str], int, int, Counter[str]]:
        """Rows that stay, answers by kind, how many of these by proportion, and of how many read; removed by reason."""
        import pyarrow as pa

        none = np.zeros(0, np.int8)
        keys, problems, kinds = (np.concatenate(parts or [none]) for parts in (self._keys, self._problems, self._kinds))
        golds = pa.chunked_array(self._answers, pa.large_string())
        with ThreadPoolExecutor(1) as meanwhile:
            whole = meanwhile.submit(lambda: series(golds.combine_chunks()))
            removed: Counter[str] = Counter()
            kept = np.ones(len(kinds), dtype=bool)
            for group in _same(keys, kept):
                kept[group[1:]] = False
                removed["duplicate_id"] += len(group) - 1
            for group in _same(problems, kept):
                if told_apart({golds[place].as_py() for place in group}):
                    kept[group] = False
                    removed["conflicting_answers"] += len(group)
        held = whole.result()
        if len(unsure := np.flatnonzero(kept & (kinds == UNSURE))):
            kinds[unsure] = plain_kinds(held.gather(unsure))
        counts = np.bincount(kinds[kept & (kinds >= 0)], minlength=len(ANSWER_KINDS)).tolist()
        told, estimated, read = Counter(dict(zip(ANSWER_KINDS, counts, strict=True))), 0, 0
        if len(unread := np.flatnonzero(kept & (kinds < 0))):
            others, estimated, read = count_kinds(held.gather(unread))
            told += others
        return int(kept.sum()), +told, estimated, read, removed


def list_hashes(values: pl.Series, starts: Numbers, sizes: Numbers) -> Numbers:
    """Hashes of lists of texts that begin at `starts` of `values`; 0 for an empty one."""
    hashes = values.hash().to_numpy()
    mixed = np.zeros(len(sizes), dtype=np.uint64)
    for place in range(int(sizes.max(initial=0))):
        there = slice(None) if sizes.min() > place else np.flatnonzero(sizes > place)
        with np.errstate(over="ignore"):
            mixed[there] = (mixed[there] ^ hashes[starts[there] + place]) * _MIX
    return mixed


def texts(values: Sequence[str]) -> pl.Series:
    """Texts as a column; half characters, which occur in names of pictures only, are replaced."""
    import polars as pl

    try:
        return pl.Series(values, dtype=pl.String)
    except UnicodeEncodeError:
        return pl.Series([carried(value) for value in values], dtype=pl.String)


def _same(values: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> list[list[int]]:
    """Groups of kept places that hold the same value, two or more, in order."""
    ordered = np.sort(values[kept])  # a tenth of the time of a sort that keeps places, and mostly all there is to do
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    places = np.flatnonzero(kept & np.isin(values, repeated)) if len(repeated) else repeated
    order = places[np.argsort(values[places], kind="stable")] if len(places) else places
    ends = np.flatnonzero(np.diff(values[order]) != 0) + 1
    return [group.tolist() for group in np.split(order, ends) if len(group)]
