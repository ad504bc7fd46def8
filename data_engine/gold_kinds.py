"""Answers by kind: those that their spelling tells, and of many different others the share of each kind.

Input: golds as a column. Output: places in `ANSWER_KINDS`, or counts. The grader takes longer for a gold than a record
takes to be read: up to `READ_ALL` different golds are all read. Of more it reads `READ`: those that occur most often
(at most half, counted as they are) and every n-th of the others in order of the file, whose proportions tell the rest.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.answers import ANSWER_KINDS, answer_kind

if TYPE_CHECKING:
    import polars as pl

READ_ALL, READ = 2_000, 500
INTEGER = r"-?[0-9]{1,15}"
PLAIN_KINDS = {
    INTEGER: "integer",
    r"-?[0-9]{1,12}\.[0-9]{1,12}": "decimal",
    r"-?\\frac\{[0-9]{1,9}\}\{[0-9]{1,9}\}|-?[0-9]{1,9}/[0-9]{1,9}": "fraction",
    r"[A-J]": "choice",
}
"""Golds whose kind needs no grader (a test holds them to it)."""
CHOICE = ANSWER_KINDS.index("choice")
UNSURE, OPEN = -2, -3
"""In place of a kind: an answer to be looked at with `final_answer_of`, one that stands as it is, of any kind."""
_SIMPLE = {
    r"^[-+0-9A-Za-z.,/^*(){}\\_ ]*[0-9][-+0-9A-Za-z.,/^*(){}\\_ ]*$": True,
    r"(?:^|[^\\A-Za-z])[A-Za-z]{4,}": False,
    r"^\{|\\right|boxed|^ | $": False,
}
"""Whether an answer that stands as it is, whatever its kind, fits; the second is a word that is no command."""
_LONGEST = 60
Flags = np.ndarray[Any, Any]


def plain_kinds(answers: pl.Series, *, integers: bool = True) -> Flags:
    """Kinds of answers: places in `ANSWER_KINDS`, `OPEN` or `UNSURE`; without `integers` none of them is one."""
    kinds = np.full(len(answers), UNSURE, dtype=np.int8)
    places = np.arange(len(answers))
    rest = answers
    for pattern, name in list(PLAIN_KINDS.items())[0 if integers else 1 :]:
        fits = rest.str.contains(f"^(?:{pattern})$").fill_null(value=False)
        kinds[places[fits.to_numpy()]] = ANSWER_KINDS.index(name)
        places, rest = places[~fits.to_numpy()], rest.filter(~fits)
    for pattern, wanted in _SIMPLE.items():
        fits = rest.str.contains(pattern).fill_null(value=False)
        fits = fits if wanted else ~fits & rest.is_not_null()
        places, rest = places[fits.to_numpy()], rest.filter(fits)
    kinds[places[(rest.str.len_chars() <= _LONGEST).to_numpy()]] = OPEN
    return kinds


def count_kinds(golds: pl.Series) -> tuple[Counter[str], int, int]:
    """Golds by kind, all told; for how many of them this is a proportion, and of how many read ones; see the module."""
    different = golds.unique(maintain_order=True)
    counts = golds.unique_counts().to_numpy().astype(np.int64)
    kinds = plain_kinds(different)
    found = np.bincount(kinds[kinds >= 0], counts[kinds >= 0], len(ANSWER_KINDS)).astype(np.int64)
    told: Counter[str] = Counter(dict(zip(ANSWER_KINDS, found.tolist(), strict=True)))
    open_ = np.flatnonzero(kinds < 0)
    few = READ_ALL if len(open_) <= READ_ALL else READ
    often = open_[np.argsort(-counts[open_], kind="stable")][: few // 2]
    often = often[counts[often] > 1]
    others = np.setdiff1d(open_, often)
    drawn = others[np.unique(np.linspace(0, len(others) - 1, min(len(others), few - len(often))).astype(np.int64))]
    read: Counter[str] = Counter()
    for places, tally in ((often, told), (drawn, read)):
        for place, gold in zip(places.tolist(), different.gather(places).to_list(), strict=True):
            tally[answer_kind(gold)] += int(counts[place])
    read, estimated = _shared_out(read, int(counts[others].sum()))
    return +(told + read), estimated, len(drawn)


def _shared_out(counts: Counter[str], rows: int) -> tuple[Counter[str], int]:
    """Counts that add up to `rows`: what is missing is given in the proportions of those there; and how many it was."""
    total = counts.total()
    left = rows - total
    if left <= 0 or not total:
        return counts, 0
    out = Counter({kind: n + left * n // total for kind, n in counts.items()})
    out[counts.most_common(1)[0][0]] += rows - out.total()
    return out, left
