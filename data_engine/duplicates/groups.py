"""Which rows are the same problem: the same words (Jaccard), the same numbers, and the same pictures.

Input: texts, their table (hashes and signatures), picture prints, answers, and an order of preference. Output: for
every row that repeats a better one, which one and why.

Text first: near texts are few, so only their pictures are decoded and compared. The same words about another picture
are another problem, and so are the same words with one other number, sign or name, or nearly the same words with
another answer. Every duplicate reported is checked directly against the row that stays, on tokens: a chain of near
texts never removes a row that is unlike the one kept.

Cost: linear in the text. Rows with equal words about m different pictures are compared picture with picture, m * m / 2
hash distances at 1 ns each.
Not covered: which rows take part and what is removed in the end (the step, assemble).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_engine.duplicates.image_identity import MAX_BITS, MAX_CELL, ImagePrint, distance, same_picture
from data_engine.duplicates.similar_texts import PRIME, clusters, similar_pairs
from data_engine.text_hash.reference import words
from data_engine.text_hash.telling_symbols import telling_symbols

if TYPE_CHECKING:
    import polars as pl

    from data_engine.duplicates.minhash import Shingling, TextTable
    from data_engine.text_hash.words import Offsets

KEEPERS = 64
"""Rows of one cluster that stay and are compared with those that follow; a row beyond all of them stays as well."""

_SPELLING = re.compile(r"[\s$]|\\boxed|[{}]|\.$")
_BLOCK = 1024

Pictures = tuple[str, ...]
How = Literal["none", "same_bytes", "same_pixels", "perceptual"]


@dataclass(frozen=True)
class Rules:
    """What makes two rows one problem.

    Attributes:
        threshold: Smallest Jaccard similarity of the texts.
        same_numbers: Texts with other numbers, signs, names or telling words (`telling_symbols`) are other problems.
        max_bits, max_cell: Largest differences of two prints of one picture.

    """

    threshold: float = 0.8
    same_numbers: bool = True
    max_bits: int = MAX_BITS
    max_cell: int = MAX_CELL


@dataclass(frozen=True)
class Duplicate:
    """Row `row` repeats row `of`, which stays.

    Attributes:
        row, of: Indices.
        score: Exact Jaccard similarity of the texts; 1.0 for equal tokens.
        cluster: Index of the row that stays and is first in the order of preference of all rows connected.
        images: How the pictures agree.
        image_bits: Differing bits of the perceptual hashes; None without pictures.

    """

    row: int
    of: int
    score: float
    cluster: int
    images: How
    image_bits: int | None


@dataclass(frozen=True)
class Rows:
    """Rows to compare, [rows] each.

    Attributes:
        texts: The words that are compared.
        table: Of `texts`, with numbers.
        pictures: sha256 of each row's pictures, in order.
        answers: Gold answers: pictures that are only nearly equal must agree in them.
        order: Rank of preference, smallest stays; no two alike.

    """

    texts: pl.Series
    table: TextTable
    pictures: Sequence[Pictures]
    answers: Sequence[str]
    order: Sequence[int]


def find_duplicates(
    rows: Rows,
    read_prints: Callable[[Iterable[str]], Mapping[str, ImagePrint]],
    shingling: Shingling,
    rules: Rules,
) -> tuple[list[Duplicate], int]:
    """Find all rows that repeat another one.

    Args:
        rows: What is compared.
        read_prints: Prints of pictures by sha256; asked once, for the pictures of rows with near texts only.
        shingling: What the table was made with.
        rules: What makes two rows one problem.

    Returns:
        Duplicates sorted by row; and the number of crowds of texts too large and mixed to compare in full.

    """
    counts = np.array([len(row) for row in rows.pictures], np.uint64)
    groups = counts * PRIME + (rows.table.numbers if rules.same_numbers else np.uint64(0))
    pairs = similar_pairs(rows.texts, rows.table, threshold=rules.threshold, shingling=shingling, groups=groups)
    like = _like_wordless(rows, pairs.like)
    topic = clusters(len(like), pairs.left, pairs.right)[like]
    crowds = [members for members in _grouped(topic) if len(members) > 1]
    prints = read_prints({sha256 for members in crowds for row in members for sha256 in rows.pictures[row]})
    checker = _Checker(rows, like, prints, shingling, rules)
    found: list[Duplicate] = []
    for members in crowds:
        for alike in _same_pictures(members, rows, prints, rules):
            found.extend(checker.duplicates(sorted(alike, key=lambda row: rows.order[row])))
    return sorted(found, key=lambda duplicate: duplicate.row), pairs.cut_buckets


def _like_wordless(rows: Rows, like: Offsets) -> Offsets:
    """Rows without any token: those with pictures share them as all they have, the others only the very same text."""
    like = like.copy()
    first: dict[tuple[int, str], int] = {}
    for row in np.flatnonzero(rows.table.text == 0).tolist():
        count = len(rows.pictures[row])
        text = "" if count else (rows.texts[row] or "").strip()
        like[row] = first.setdefault((count, text), row)
    return like


def _grouped(keys: Offsets) -> Iterator[list[int]]:
    """Indices of equal keys together, in order."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    for part in np.split(order, edges):
        if len(part):
            yield part.tolist()


def _same_pictures(
    members: list[int], rows: Rows, prints: Mapping[str, ImagePrint], rules: Rules
) -> Iterator[list[int]]:
    """Split rows of near texts into those whose pictures are the same, place by place."""
    if not rows.pictures[members[0]]:
        yield members
        return
    pictures = sorted({sha256 for row in members for sha256 in rows.pictures[row]})
    name = _picture_names([prints[sha256] for sha256 in pictures], rules)
    known = dict(zip(pictures, name, strict=True))
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row in members:
        alike[tuple(known[sha256] for sha256 in rows.pictures[row])].append(row)
    yield from (group for group in alike.values() if len(group) > 1)


def _picture_names(prints: Sequence[ImagePrint], rules: Rules) -> list[int]:
    """One number per picture: equal pixels, equal number; nearly equal ones are joined as well."""
    by_pixels: dict[str, int] = {}
    first = [by_pixels.setdefault(p.pixels or p.sha256, place) for place, p in enumerate(prints)]
    distinct = [place for place in by_pixels.values() if prints[place].pixels]
    bits = np.array([prints[place].bits for place in distinct], np.uint64)
    left: list[int] = []
    right: list[int] = []
    for start in range(0, len(distinct), _BLOCK):
        near = np.bitwise_count(bits[start : start + _BLOCK, None] ^ bits[None, start:]) <= rules.max_bits
        for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
            one, two = distinct[start + int(i)], distinct[start + int(j)]
            if same_picture(prints[one], prints[two], rules.max_bits, rules.max_cell):
                left.append(one)
                right.append(two)
    root = clusters(len(prints), np.array(left, np.int64), np.array(right, np.int64))
    return [int(root[place]) for place in first]


class _Checker:
    """Direct comparison of two rows, as text is compared at last: on the tokens themselves."""

    def __init__(
        self, rows: Rows, like: Offsets, prints: Mapping[str, ImagePrint], shingling: Shingling, rules: Rules
    ) -> None:
        self.rows, self.like, self.prints, self.shingling, self.rules = rows, like, prints, shingling, rules
        self._shingles: dict[int, set[tuple[str, ...]]] = {}
        self._symbols: dict[int, list[str]] = {}

    def duplicates(self, members: list[int]) -> Iterator[Duplicate]:
        """Of rows sorted by preference: each that repeats one before it which stays."""
        self._shingles.clear()
        self._symbols.clear()
        keepers: list[int] = []
        for row in members:
            found = next((d for d in (self._compare(row, of, members[0]) for of in keepers) if d is not None), None)
            if found is not None:
                yield found
            elif len(keepers) < KEEPERS:
                keepers.append(row)

    def _compare(self, row: int, of: int, cluster: int) -> Duplicate | None:
        if self.rules.same_numbers and not self._same_symbols(row, of):
            return None
        how, bits = self._pictures(row, of)
        if how is None or (how == "perceptual" and self.rows.answers[row].strip() != self.rows.answers[of].strip()):
            return None
        score = self._jaccard(row, of)
        if score < self.rules.threshold or (score < 1.0 and self.rules.same_numbers and not self._same_answer(row, of)):
            return None
        return Duplicate(row, of, score, cluster, how, bits)

    def _same_symbols(self, row: int, of: int) -> bool:
        ours, theirs = self.rows.texts[row] or "", self.rows.texts[of] or ""
        return ours == theirs or self._symbols_of(row) == self._symbols_of(of)

    def _symbols_of(self, row: int) -> list[str]:
        if row not in self._symbols:
            self._symbols[row] = telling_symbols(self.rows.texts[row] or "")
        return self._symbols[row]

    def _same_answer(self, row: int, of: int) -> bool:
        """Whether two golds are spelled alike, dollars, blanks and letter case aside.

        Near texts with other answers are other problems (another name, another colour); one problem whose answer is
        spelled in two ways is kept twice, which costs less.
        """
        one, two = (_SPELLING.sub("", self.rows.answers[place]).casefold() for place in (row, of))
        return one == two

    def _pictures(self, row: int, of: int) -> tuple[How | None, int | None]:
        ours, theirs = self.rows.pictures[row], self.rows.pictures[of]
        if not ours:
            return "none", None
        if ours == theirs:
            return "same_bytes", 0
        both = [(self.prints[a], self.prints[b]) for a, b in zip(ours, theirs, strict=True)]
        if not all(same_picture(a, b, self.rules.max_bits, self.rules.max_cell) for a, b in both):
            return None, None
        how: How = "same_pixels" if all(a.sha256 == b.sha256 or a.pixels == b.pixels for a, b in both) else "perceptual"
        return how, max(distance(a, b) for a, b in both)

    def _jaccard(self, row: int, of: int) -> float:
        one, two = int(self.like[row]), int(self.like[of])
        if one == two:
            return 1.0
        ours, theirs = self._shingles_of(one), self._shingles_of(two)
        return len(ours & theirs) / len(ours | theirs)

    def _shingles_of(self, row: int) -> set[tuple[str, ...]]:
        if row not in self._shingles:
            size = self.shingling.size
            tokens = words(self.rows.texts[row], self.shingling.tokeniser)
            windows = {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}
            self._shingles[row] = windows or {tuple(tokens)}
        return self._shingles[row]
