"""Hashes of words and n-grams in plain Python, as the bulk code's documentation states them."""

from __future__ import annotations

from data_engine.text_hash import iterate_words
from data_engine.text_hash.windows import BASE

_MASK = 2**64 - 1
_C1, _C2 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


def hash_words(texts, tokeniser="ascii_words", **options):
    """Tokens of some texts, not in chunks."""
    return next(iterate_words(texts, tokeniser, chunk_bytes=2**40, **options))


def word_hash(word):
    """Hash of one token as `words.py` states it, one piece of 8 bytes after the other."""
    data, value = word.encode(), 0
    for start in range(0, len(data), 8):
        value = (value ^ int.from_bytes(data[start : start + 8].rjust(8, b"\0"), "little")) * _C1 & _MASK
        value ^= value >> 32
    value = value * _C2 & _MASK
    return value ^ value >> 29


def ngram_hash(window):
    """Hash of the tokens of one window: sum of `word_hash(token k) * BASE**k`, then the finaliser; modulo 2**64."""
    value = sum(word_hash(word) * pow(BASE, index, 2**64) for index, word in enumerate(window)) & _MASK
    value = (value ^ value >> 32) * _C1 & _MASK
    return value ^ value >> 29
