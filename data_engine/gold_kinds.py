"""Answers by kind: those that their spelling tells, and of many different others the share of each kind.

Input: golds as a column. Output: places in `ANSWER_KINDS`, or counts. The grader takes longer for a gold than a record
takes to be read: up to `READ_ALL` different golds are all read. Of more it reads `READ`: those that occur most often
(at most half, counted as they are) and every n-th of the others in order of the file, whose proportions tell the rest.
"""

from __future__ import annotations

import string
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.sources.arrow_texts import arrow, spread
from shared.answers import ANSWER_KINDS, answer_kind

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

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
_NOT_OPEN = (r"(?:^|[^\\A-Za-z])[A-Za-z]{4,}", r"^\{|\\right|boxed|^ | $")
"""What no answer holds that stands as it is, of simple signs with a digit; the first is a word that is no command."""
_LONGEST = 60
_DIGIT, _MINUS, _DOT, _SLASH, _COMMAND, _SIMPLE, _OTHER = (1 << place for place in range(7))
_NUMBER = _DIGIT | _MINUS
_SIGNS = bytearray([_OTHER]) * 256
for _sign, _letters in (
    (_SIMPLE, string.ascii_letters + "+,^*(){}_ "), (_DIGIT, string.digits), (_MINUS, "-"), (_DOT, "."), (_SLASH, "/"),
    (_COMMAND, "\\"),
):  # fmt: skip
    for _letter in _letters:
        _SIGNS[ord(_letter)] = _sign
Flags = np.ndarray[Any, Any]


def plain_kinds(answers: pl.Series, column: pa.Array | None = None) -> Flags:
    """Kinds of answers: places in `ANSWER_KINDS`, `OPEN` or `UNSURE`. `column` are the same texts for Arrow.

    Which signs a text holds, told by its bytes, decides which patterns it is held against: most against none.
    """
    import polars as pl

    codes, starts, ends = spread(arrow(answers) if column is None else column)
    sizes, signs = ends - starts, np.zeros(len(answers), dtype=np.uint8)
    full = np.flatnonzero(sizes)
    if len(full):
        told = np.frombuffer(codes.tobytes().translate(_SIGNS), np.uint8)
        signs[full] = np.bitwise_or.reduceat(told, starts[full])
    kinds = np.full(len(answers), UNSURE, dtype=np.int8)
    kinds[(signs == _DIGIT) & (sizes <= 15)] = ANSWER_KINDS.index("integer")
    may_be = (
        signs == _NUMBER,
        (signs | _MINUS) == (_NUMBER | _DOT),
        ((signs | _MINUS) == (_NUMBER | _SLASH)) | ((signs | _MINUS) == (_NUMBER | _COMMAND | _SIMPLE)),
        (signs == _SIMPLE) & (sizes == 1),
    )
    for places, (pattern, name) in zip(map(np.flatnonzero, may_be), PLAIN_KINDS.items(), strict=True):
        if len(places):
            kinds[places[_fits(answers.gather(places), f"^(?:{pattern})$")]] = ANSWER_KINDS.index(name)
    simple = (signs < _OTHER) & ((signs & _DIGIT) > 0) & (sizes <= _LONGEST)
    places = np.flatnonzero(simple & (kinds == UNSURE))
    rest = answers.gather(places)
    for pattern in _NOT_OPEN:
        others = ~_fits(rest, pattern)
        places, rest = places[others], rest.filter(pl.Series(others))
    kinds[places] = OPEN
    return kinds


def _fits(answers: pl.Series, pattern: str) -> Flags:
    return answers.str.contains(pattern).to_numpy()


def count_kinds(golds: pl.Series) -> tuple[Counter[str], int, int]:
    """Golds of no plain kind by kind, all told; for how many of them this is a proportion, and of how many read ones.

    See the module.
    """
    grouped = golds.alias("gold").to_frame().group_by("gold", maintain_order=True).len()
    different, counts = grouped["gold"], grouped["len"].to_numpy().astype(np.int64)
    few = READ_ALL if len(different) <= READ_ALL else READ
    repeated = np.flatnonzero(counts > 1)
    often = repeated[np.argsort(-counts[repeated], kind="stable")][: few // 2]
    rare = np.ones(len(different), dtype=bool)
    rare[often] = False
    others = np.flatnonzero(rare)
    drawn = others[np.unique(np.linspace(0, len(others) - 1, min(len(others), few - len(often))).astype(np.int64))]
    told, read = Counter[str](), Counter[str]()
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
