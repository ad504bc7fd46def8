"""The slow, obvious way: tokens of one text with their places, in plain Python.

Used for evidence (a few hits need exact spans in the original text), to check hash hits against the tokens themselves,
and in tests as what the bulk code must equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from data_engine.text_hash.words import UNSPACED, Tokeniser

_PATTERNS: dict[str, re.Pattern[str]] = {
    "ascii_words": re.compile(r"[a-z0-9]+"),
    "unicode_words": re.compile(rf"(?=[^\W_])[{UNSPACED}]|(?:(?![{UNSPACED}])[^\W_])+"),
}


class Token(NamedTuple):
    """A token and where it stands: `text[start:end]` of the original text, in characters."""

    text: str
    start: int
    end: int


def tokens(text: str | None, tokeniser: Tokeniser = "ascii_words") -> list[Token]:
    """All tokens of `text` with their spans in characters of `text` itself, though lower case may be longer."""
    text = text or ""
    lower = text.lower()
    found = [(match.group(), match.start(), match.end()) for match in _PATTERNS[tokeniser].finditer(lower)]
    if len(lower) == len(text):
        return [Token(*item) for item in found]
    origin = [index for index, character in enumerate(text) for _ in character.lower()]
    return [Token(word, origin[start], origin[end - 1] + 1) for word, start, end in found]


def words(text: str | None, tokeniser: Tokeniser = "ascii_words") -> list[str]:
    """The tokens of `text` without their places."""
    return _PATTERNS[tokeniser].findall((text or "").lower())


def without_numbers(text: str) -> str:
    """`text` without its digits: every character of a Unicode number category is deleted, nothing put in its place."""
    if text.isascii():
        return re.sub("[0-9]+", "", text)
    return "".join(character for character in text if not unicodedata.category(character).startswith("N"))


def longest_common_run(left: Sequence[str], right: Sequence[str], at_least: int) -> tuple[int, int, int] | None:
    """Longest run of tokens in both texts: (start in `left`, start in `right`, length); None below `at_least` tokens.

    Anchors on shared windows of `at_least` tokens and extends each to the right, so the work is about
    len(left) + len(right) + the length of the runs.
    """
    at_least = max(1, at_least)
    places: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(right) - at_least + 1):
        places.setdefault(tuple(right[start : start + at_least]), []).append(start)
    best: tuple[int, int, int] | None = None
    reached: dict[int, int] = {}  # diagonal -> position in `left` up to which it was walked
    for start in range(len(left) - at_least + 1):
        for other in places.get(tuple(left[start : start + at_least]), ()):
            if reached.get(start - other, 0) > start:
                continue
            length = at_least
            while (
                start + length < len(left)
                and other + length < len(right)
                and left[start + length] == right[other + length]
            ):
                length += 1
            reached[start - other] = start + length - at_least + 1
            if best is None or length > best[2]:
                best = (start, other, length)
    return best
