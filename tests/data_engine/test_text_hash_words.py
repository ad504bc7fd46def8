"""Token hashes in bulk equal the slow reference, for any text."""

from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.text_hash import VERSION, iterate_words, ngram_hashes, number_hashes, text_hashes
from data_engine.text_hash.reference import longest_common_run, tokens
from data_engine.text_hash.reference import words as reference_words
from tests.data_engine.plain_hashes import hash_words, ngram_hash, word_hash

# Characters that this Python does not know yet may be letters for Polars, whose Unicode tables are newer.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])

ODD_TEXTS = [
    "",
    None,
    "x",
    "  \n",
    "Find $x^2$ where 12ab",
    "glued",
    "Next Row",
    "a" * 100 + " b" * 3,
    "\x10\x11digits? no",
    "300 K \u212a9 \u0130x stanbul",
    "已知函数f(x)=2x+１，求最小值。",
    "Найдите x, если ∠ABC = 90°",
    "ÀÉ\u00df Straße naïve",
    "ภาษาไทย 12 ครั้ง",
    "٣ apples and ² squared",
]


def by_row(found, offsets):
    return [found[a:b].tolist() for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize("tokeniser", ["ascii_words", "unicode_words"])
def test_hashes_of_odd_texts_equal_the_reference(tokeniser):
    found = hash_words(ODD_TEXTS, tokeniser)
    wanted = [[word_hash(word) for word in reference_words(text, tokeniser)] for text in ODD_TEXTS]
    assert by_row(found.hashes, found.offsets) == wanted


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.text(ASSIGNED, max_size=60), max_size=12), st.integers(1, 40))
def test_any_texts_in_any_chunks_equal_the_reference(texts, chunk):
    for tokeniser in ("ascii_words", "unicode_words"):
        parts = list(iterate_words(texts, tokeniser, find_digits=True, chunk_bytes=chunk))
        found = [row for part in parts for row in by_row(part.hashes, part.offsets)]
        digits = [row for part in parts for row in by_row(part.has_digit, part.offsets)]
        expected = [reference_words(text, tokeniser) for text in texts]
        assert found == [[word_hash(word) for word in row] for row in expected]
        assert digits == [[re.search("[0-9]", word) is not None for word in row] for row in expected]


def test_only_two_characters_outside_ascii_lower_to_an_ascii_letter():
    found = [c for c in map(chr, range(128, sys.maxunicode + 1)) if re.search("[a-z0-9]", c.lower())]
    assert sorted(found) == ["\u0130", "\u212a"]


def test_ascii_text_has_the_same_tokens_in_both_tokenisers():
    texts = ["Let $m/n$ be 3.5%", "A_b-C d1e2", "~{|}"]
    assert hash_words(texts, "ascii_words").hashes.tolist() == hash_words(texts, "unicode_words").hashes.tolist()


def test_a_character_of_a_script_without_spaces_is_one_token():
    assert reference_words("求x1的最小值", "unicode_words") == ["求", "x1", "的", "最", "小", "值"]


def test_spans_point_into_the_original_text_even_where_lower_case_is_longer():
    text = "\u0130\u0130 Find \u212aB 7"
    for token in tokens(text):
        assert token.text in text[token.start : token.end].lower()
    assert [text[t.start : t.end] for t in tokens(text)][-3:] == ["Find", "\u212aB", "7"]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13, 20, 31, 32])
def test_ngram_hashes_equal_the_reference(n):
    rng = np.random.default_rng(n)
    texts = [" ".join(rng.choice(["a", "bb", "ccc", "7"], size)) for size in [0, 1, n - 1, n, n + 1, 50, 0, 64]]
    found = ngram_hashes(hash_words(texts), n)
    rows = [reference_words(text) for text in texts]
    wanted = [[ngram_hash(row[i : i + n]) for i in range(len(row) - n + 1)] for row in rows]
    assert by_row(found.hashes, found.offsets) == wanted
    assert found.texts().tolist() == [i for i, row in enumerate(wanted) for _ in row]


def test_a_short_text_can_have_one_window_of_all_its_tokens():
    found = ngram_hashes(hash_words(["a b", "", "a b c d", "c"]), 3, short=True)
    wanted = [["a b"], [], ["a b c", "b c d"], ["c"]]
    assert by_row(found.hashes, found.offsets) == [[ngram_hash(w.split()) for w in row] for row in wanted]


def test_zero_is_no_length_for_an_ngram():
    with pytest.raises(ValueError, match="n >= 1"):
        ngram_hashes(hash_words(["a"]), 0)


def test_hash_of_a_text_is_the_hash_of_one_window_of_all_its_tokens():
    texts = ["", "a", "a b c", "b a c", "A, (b) c!"]
    found = text_hashes(hash_words(texts)).tolist()
    assert found[0] == 0
    assert found[1:] == [ngram_hash(reference_words(text)) for text in texts[1:]]
    assert found[2] == found[4] != found[3]


def test_number_hash_knows_numbers_in_any_order_and_how_often_each_stands():
    texts = ["add 3 to 12", "add 12 to 3", "sum of 3 and 12", "add 3 to 3", "add 3", "none", ""]
    found = number_hashes(hash_words(texts, find_digits=True)).tolist()
    assert found[0] == found[1] == found[2]
    assert len(set(found)) == 4
    assert found[-1] == found[-2] == 0


def test_million_word_text_is_hashed():
    text = "word " * 1_000_000
    found = hash_words(pl.Series([text, "x"]))
    assert found.counts.tolist() == [1_000_000, 1]
    assert len(np.unique(ngram_hashes(found, 32).hashes)) == 1


def test_a_slice_of_a_series_gives_its_own_tokens():
    series = pl.Series(["one", "two three", "four", None])
    assert hash_words(series.slice(1, 2)).counts.tolist() == [2, 1]
    assert list(iterate_words(series.slice(0, 0))) == []


def test_hashes_are_pinned():
    assert VERSION == "words64/1"
    assert [word_hash(w) for w in ("a", "triangle", "circumference")] == [
        *hash_words(["a triangle circumference"]).hashes.tolist()
    ]
    assert ngram_hash(["find", "x"]) == int(text_hashes(hash_words(["Find $x$"]))[0])


def test_longest_common_run_is_found_where_it_stands():
    left, right = ["p", "q", "a", "b", "c", "d", "z", "a", "b"], ["a", "b", "x", "a", "b", "c", "d"]
    assert longest_common_run(left, right, 2) == (2, 3, 4)
    assert longest_common_run(left, right, 5) is None
    assert longest_common_run(["a"] * 500, ["a"] * 400, 3) == (0, 0, 400)


def test_hashing_leaves_the_series_as_it_was():
    series = pl.Series(["plain", "\u212aelvin", "求x"])
    for tokeniser in ("ascii_words", "unicode_words"):
        hash_words(series, tokeniser)
    assert series.to_list() == ["plain", "\u212aelvin", "求x"]
