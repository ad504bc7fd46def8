"""The two text rules of decontamination: shared n-grams, and exact match (also after numbers are removed).

Source: Infi-MMR, section on data decontamination: 32-gram overlap, and exact match after numbers are removed. Items too
short for a 32-gram are compared by exact match of the normalised text.

Input: problems of both sides as `HashedTexts` (bulk hashes) and `Problems` (the texts themselves). Output: `Match` per
row, rule and benchmark item, verified on the tokens, with spans in both texts.

Rules, each with the text it looks at:
- `ngram_<n>`: a run of n tokens of `[a-z0-9]+` of the lower-cased text, question and lettered options together.
- `character_ngram_<n>`: the same with the tokens of `unicode_words`, for texts with letters outside ASCII.
- `exact_short`: items with fewer tokens than n have no n-gram; their normalised text is compared as a whole.
- `numbers_removed`: normalised texts are equal once every digit is deleted.

Tokens hold no operators: where the signs of two whole texts differ (3 + 4, 3 - 4), the evidence says `other_signs`.

Normalised: image tags dropped, the tokens of `unicode_words` in order. With options three forms of a problem are
compared: the question alone, with options, with lettered options; a problem without options has the first only.

Not covered: paraphrase and translation (embeddings), images (the step adds their relation).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.text_hash import NgramIndex, Tokeniser, Windows, iterate_words, ngram_hashes, text_hashes
from data_engine.text_hash.reference import longest_common_run, tokens, without_numbers, words
from data_engine.text_hash.telling_symbols import signs
from data_engine.text_hash.words import replaced
from shared.image_tags import NUMBERED_TAG

if TYPE_CHECKING:
    import polars as pl

    from data_engine.text_hash.words import Hashes, Offsets

FORMS = 3
"""Question alone, with options, with lettered options."""

EXCERPT = 600
"""Characters of a text that evidence quotes at most; a longer text is cut around the matching span."""

TRIES = 8
"""Items of one benchmark checked for a row until one is confirmed on the tokens; one is enough without collisions."""

EQUAL_ITEMS = 256
"""Items of equal text that a row is matched with at most."""

_TAG = re.compile(NUMBERED_TAG)


@dataclass(frozen=True)
class Problems:
    """Questions and options of some rows, [rows] each."""

    questions: Sequence[str]
    choices: Sequence[Sequence[str]]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Problems:
        """Take them from rows in the row schema; null counts as empty."""
        options = [[option or "" for option in row or ()] for row in rows["choices"].to_list()]
        return cls([question or "" for question in rows["question"].to_list()], options)

    def form(self, row: int, form: int) -> str:
        """One of the three forms; image tags become as many spaces, so that places stay those of the question."""
        question = _TAG.sub(lambda tag: " " * len(tag.group()), self.questions[row])
        options = self.choices[row]
        if form == 0 or not options:
            return question
        if form == 1:
            return "\n".join((question, *options))
        return "\n".join((question, *(f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(options))))

    def take(self, rows: Sequence[int]) -> Problems:
        """Some of the rows."""
        return Problems([self.questions[row] for row in rows], [self.choices[row] for row in rows])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.questions)


@dataclass(frozen=True)
class HashedTexts:
    """Hashes of some problems; what is stored per text.

    Attributes:
        ngrams: n-grams of `ascii_words` over the lettered form.
        characters: n-grams of `unicode_words` over the lettered form, for texts with letters outside ASCII only.
        exact: uint64 [rows, FORMS], hash of the normalised text; 0 where it has no token.
        numberless: uint64 [rows, FORMS], the same without digits.
        tokens: int64 [rows], tokens of `ascii_words` in the lettered form.

    """

    ngrams: Windows
    characters: Windows
    exact: Hashes
    numberless: Hashes
    tokens: Offsets


def hash_problems(problems: Problems, n: int, character_n: int) -> HashedTexts:
    """Hash problems in bulk; linear in their text."""
    import polars as pl

    optioned = [row for row in range(len(problems)) if problems.choices[row]]
    question = pl.Series("text", problems.questions, dtype=pl.String).str.replace_all(NUMBERED_TAG, " ")
    forms = [question]
    for form in range(1, FORMS):
        texts = [problems.form(row, form) for row in optioned]
        forms.append(replaced(pl.Series("text", [""] * len(problems), dtype=pl.String), optioned, texts))
    lettered = replaced(question, optioned, forms[-1].gather(optioned))
    parts, counts = [], [np.empty(0, np.int64)]
    for piece in iterate_words(lettered):
        parts.append(ngram_hashes(piece, n))
        counts.append(piece.counts)
    foreign = lettered.str.contains(r"[\p{L}\p{N}&&[^\x00-\x7f]]")
    wide = iterate_words(lettered.set(~foreign, ""), "unicode_words")
    return HashedTexts(
        _joined(parts),
        _joined([ngram_hashes(piece, character_n) for piece in wide]),
        np.stack([_whole(form) for form in forms], axis=1),
        np.stack([_whole(form.str.replace_all(r"\p{N}", "")) for form in forms], axis=1),
        np.concatenate(counts),
    )


def _whole(texts: pl.Series) -> Hashes:
    parts = [text_hashes(piece) for piece in iterate_words(texts, "unicode_words")]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def _joined(parts: Sequence[Windows]) -> Windows:
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Windows(np.concatenate([np.empty(0, np.uint64), *(part.hashes for part in parts)]), np.cumsum(counts))


@dataclass(frozen=True)
class Match:
    """A row overlaps with an item.

    Attributes:
        row, item: Indices.
        rule: Name of the rule.
        score: Share of the item's tokens in the matching run (n-gram rules); similarity of the texts with their
            numbers, 1.0 for equal ones (exact rules).
        evidence: Both texts, the matching spans with offsets in characters, `number_only` where the texts differ in
            nothing but numbers.

    """

    row: int
    item: int
    rule: str
    score: float
    evidence: dict[str, Any]


class BenchmarkIndex:
    """The items of one benchmark, ready to be searched.

    Args:
        problems: The items' texts.
        hashed: Their hashes, with the same n as the rows will have.
        n: Tokens of an n-gram of `ascii_words`.
        character_n: Tokens of an n-gram of `unicode_words`.

    """

    def __init__(self, problems: Problems, hashed: HashedTexts, n: int, character_n: int) -> None:
        self.problems = problems
        self.hashed = hashed
        self.n = n
        self.character_n = character_n
        self.rules = {
            f"ngram_{n}": NgramIndex.build(hashed.ngrams),
            f"character_ngram_{character_n}": NgramIndex.build(hashed.characters),
        }
        long = (np.diff(hashed.ngrams.offsets) > 0) | (np.diff(hashed.characters.offsets) > 0)
        self.short = ~long
        exact = np.where(self.short[:, None], hashed.exact, np.uint64(0))
        self.exact = NgramIndex.build(_forms(exact))
        self.numberless = NgramIndex.build(_forms(hashed.numberless))

    def coverage(self) -> dict[str, int]:
        """Items that each rule can see: `items`, one number per rule, and `unseen` by any of them."""
        seen = {rule: index.covered for rule, index in self.rules.items()}
        any_rule = (self.hashed.exact != 0).any(axis=1)
        return {
            "items": len(self.problems),
            **seen,
            "exact_short": self.exact.covered,
            "numbers_removed": self.numberless.covered,
            "unseen": int((~any_rule).sum()),
        }

    def find(self, problems: Problems, hashed: HashedTexts) -> Iterator[Match]:
        """All matches of rows: by n-grams the item that shares most, by whole texts every item of that text.

        Many items ask the same words ("Find x") about other pictures; which of them a row repeats, its pictures say.
        """
        ngram, character = self.rules
        yield from self._find_runs(problems, hashed.ngrams, ngram, "ascii_words", self.n)
        yield from self._find_runs(problems, hashed.characters, character, "unicode_words", self.character_n)
        yield from self._find_whole(problems, hashed.exact, self.exact, "exact_short")
        yield from self._find_whole(problems, hashed.numberless, self.numberless, "numbers_removed")

    def _find_runs(
        self, problems: Problems, windows: Windows, rule: str, tokeniser: Tokeniser, n: int
    ) -> Iterator[Match]:
        for row, items in _best_first(*self.rules[rule].find(windows)):
            left = problems.form(row, FORMS - 1)
            for item in items[:TRIES]:
                right = self.problems.form(item, FORMS - 1)
                found = _shared_run(left, right, tokeniser, n)
                if found is not None:
                    score, evidence = found
                    yield Match(row, item, rule, score, {**evidence, "items_found": len(items)})
                    break

    def _find_whole(self, problems: Problems, hashes: Hashes, index: NgramIndex, rule: str) -> Iterator[Match]:
        for row, items in _best_first(*index.find(_forms(hashes))):
            for item in items[:EQUAL_ITEMS]:
                found = _equal_whole(problems, row, self.problems, item, numbers=rule != "numbers_removed")
                if found is not None:
                    yield Match(row, item, rule, found[0], {**found[1], "items_found": len(items)})


def _forms(hashes: Hashes) -> Windows:
    """Forms of a text as its windows, without those that have no token."""
    has = hashes != 0
    return Windows(hashes[has], np.concatenate(([0], np.cumsum(has.sum(axis=1)))))


def _best_first(rows: Offsets, items: Offsets, shared: Offsets) -> Iterator[tuple[int, list[int]]]:
    """Each row with its items, those sharing most first."""
    order = np.lexsort((items, -shared, rows))
    rows, items = rows[order], items[order]
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])) if len(rows) else rows
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=False):
        yield int(rows[start]), items[start:end].tolist()


def _shared_run(left: str, right: str, tokeniser: Tokeniser, n: int) -> tuple[float, dict[str, Any]] | None:
    """Check a hash hit on the tokens: the longest run of at least n in both texts; None where there is none."""
    ours, theirs = tokens(left, tokeniser), tokens(right, tokeniser)
    run = longest_common_run([t.text for t in ours], [t.text for t in theirs], n)
    if run is None:
        return None
    start, other, length = run
    spans = [(t[s].start, t[s + length - 1].end) for t, s in ((ours, start), (theirs, other))]
    evidence = {
        "tokens": length,
        "row": _excerpt(left, spans[0]),
        "item": _excerpt(right, spans[1]),
        "number_only": _numbers_apart(left, right),
    }
    return length / len(theirs), evidence


def _equal_whole(
    problems: Problems, row: int, others: Problems, item: int, *, numbers: bool
) -> tuple[float, dict[str, Any]] | None:
    """Check that some form of the row equals some form of the item, on the tokens."""
    for form in range(FORMS):
        left = problems.form(row, form)
        wanted = words(left if numbers else without_numbers(left), "unicode_words")
        for other in range(FORMS):
            right = others.form(item, other)
            if not wanted or words(right if numbers else without_numbers(right), "unicode_words") != wanted:
                continue
            ours, theirs = words(left, "unicode_words"), words(right, "unicode_words")
            score = 1.0 if ours == theirs else difflib.SequenceMatcher(None, ours, theirs, autojunk=False).ratio()
            evidence = {
                "tokens": len(wanted),
                "row": _excerpt(left, (0, len(left))),
                "item": _excerpt(right, (0, len(right))),
                "number_only": ours != theirs,
            }
            if signs(left) != signs(right):
                evidence["other_signs"] = True
            return score, evidence
    return None


def _numbers_apart(left: str, right: str) -> bool:
    """Do the texts differ, but in nothing except their numbers?"""
    if not 0.5 < (len(left) + 1) / (len(right) + 1) < 2:
        return False
    one, two = words(left, "unicode_words"), words(right, "unicode_words")
    bare = [words(without_numbers(text), "unicode_words") for text in (left, right)]
    return one != two and bare[0] == bare[1]


def _excerpt(text: str, span: tuple[int, int]) -> dict[str, Any]:
    """The span and the text around it; `offset` is where the excerpt begins in the text."""
    start, end = span
    spare = max(0, EXCERPT - (end - start))
    first = max(0, start - spare // 2)
    return {"span": [start, end], "offset": first, "text": text[first : first + EXCERPT]}
