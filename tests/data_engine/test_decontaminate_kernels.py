"""The two text rules find what a slow and obvious reference finds, and every hit is checked on the tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_engine.decontamination import benchmark_overlap
from data_engine.decontamination.benchmark_overlap import BenchmarkIndex, Problems, hash_problems
from data_engine.text_hash import NgramIndex, Windows, ngram_hashes
from tests.data_engine.plain_hashes import hash_words

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="real data beside the checkout (../shared/data) is absent")


def slow_words(text):
    return re.findall(r"[a-z0-9]+", (text or "").lower())


def slow_ngrams(text, n):
    row = slow_words(text)
    return {tuple(row[i : i + n]) for i in range(len(row) - n + 1)}


def matches(rows, items, *, n=4, character_n=4, choices=None, item_choices=None):
    ours = Problems(rows, choices or [[] for _ in rows])
    theirs = Problems(items, item_choices or [[] for _ in items])
    index = BenchmarkIndex(theirs, hash_problems(theirs, n, character_n), n, character_n)
    return list(index.find(ours, hash_problems(ours, n, character_n)))


def rules(found):
    return sorted({(m.row, m.item, m.rule) for m in found})


BENCHMARKS = {
    "math500": ("math500.parquet", "problem"),
    "olympiadbench": ("olympiadbench_oe_tp_maths_en.parquet", "question"),
    "aime24": ("bench_aime24.parquet", "problem"),
    "aime25": ("bench_aime25.parquet", "problem"),
    "amc23": ("bench_amc23.parquet", "problem"),
    "agentica_amc": ("agentica_test_amc.json", "problem"),
    "omni_math": ("bench_omni_math_num_500.parquet", "problem"),
}


def texts_of(name):
    file, column = BENCHMARKS[name]
    path = DATA / "text" / file
    if path.suffix == ".json":
        return [row[column] for row in json.loads(path.read_text())]
    return pl.read_parquet(path)[column].to_list()


@needs_data
@pytest.mark.parametrize("n", [13, 20, 32])
def test_deepscaler_rows_with_an_overlap_are_those_of_the_slow_reference(n):
    rows = pl.read_parquet(DATA / "text" / "deepscaler_partial.parquet")["problem"].to_list()
    windows = ngram_hashes(hash_words(rows), n)
    slow_rows = [slow_ngrams(row, n) for row in rows]
    total = 0
    for name in BENCHMARKS:
        items = texts_of(name)
        found, _, _ = NgramIndex.build(ngram_hashes(hash_words(items), n)).find(windows)
        known = set().union(*(slow_ngrams(item, n) for item in items))
        wanted = [index for index, grams in enumerate(slow_rows) if not grams.isdisjoint(known)]
        assert np.unique(found).tolist() == wanted, name
        total += len(wanted)
    assert total > 0


@needs_data
def test_coverage_of_math500_counts_the_items_too_short_for_a_32_gram():
    problems = Problems(texts_of("math500"), [[]] * 500)
    coverage = BenchmarkIndex(problems, hash_problems(problems, 32, 32), 32, 32).coverage()
    long = sum(len(slow_words(text)) >= 32 for text in problems.questions)
    assert coverage["items"] == 500
    assert coverage["ngram_32"] == long
    assert coverage["exact_short"] == 500 - long
    assert coverage["unseen"] == 0


def test_an_index_hit_that_is_a_hash_collision_is_no_match(monkeypatch):
    real = benchmark_overlap.ngram_hashes

    def colliding(tokens, n, **options):
        found = real(tokens, n, **options)
        return Windows(np.zeros_like(found.hashes), found.offsets)

    monkeypatch.setattr(benchmark_overlap, "ngram_hashes", colliding)
    found = matches(["one two three four five", "a b c d e"], ["a b c d x"])
    assert [(m.row, m.item) for m in found if m.rule == "ngram_4"] == [(1, 0)]


def test_spans_of_both_texts_show_the_same_words():
    row, item = "<image>Prelude: LET $m$ be the Sum of its parts.", "We let m be the sum, then stop"
    [match] = matches([row], [item])
    assert match.rule == "ngram_4"
    (a, b), (c, d) = match.evidence["row"]["span"], match.evidence["item"]["span"]
    assert row[a:b] == "LET $m$ be the Sum"
    assert item[c:d] == "let m be the sum"
    assert match.evidence["tokens"] == 5
    assert match.score == pytest.approx(5 / 8)


def test_long_texts_are_quoted_around_the_span():
    row = "filler " * 500 + "alpha beta gamma delta" + " tail" * 500
    [match] = matches([row], ["alpha beta gamma delta"])
    quote = match.evidence["row"]
    start, end = (place - quote["offset"] for place in quote["span"])
    assert quote["text"][start:end] == "alpha beta gamma delta"
    assert len(quote["text"]) <= benchmark_overlap.EXCERPT


def test_items_too_short_for_an_ngram_match_exactly():
    found = matches(["Find $x$ now!", "find y now", "so find x now"], ["find x now"])
    assert rules(found) == [(0, 0, "exact_short"), (0, 0, "numbers_removed")]


def test_numbers_are_removed_and_number_only_variants_are_marked():
    found = matches(["Add 3 to 45.", "Add 1 to 2", "Add to it"], ["add 1 to 2"], n=9)
    by = {(m.row, m.rule): m for m in found}
    assert set(by) == {(0, "numbers_removed"), (1, "numbers_removed"), (1, "exact_short")}
    assert by[0, "numbers_removed"].evidence["number_only"]
    assert not by[1, "numbers_removed"].evidence["number_only"]
    assert by[1, "numbers_removed"].score == 1.0 > by[0, "numbers_removed"].score


def test_chinese_texts_are_compared_by_characters():
    found = matches(
        ["求函数的最小值和最大值。", "求别的"], ["已知f(x)，求函数的最小值和最大值", "求别的"], n=32, character_n=8
    )
    assert (0, 0, "character_ngram_8") in rules(found)
    assert (1, 1, "exact_short") in rules(found)


def test_options_are_part_of_a_problem_with_and_without_letters():
    item, options = "Which is prime", ["4", "seven", "9"]
    rows = ["Which is prime?\nA. 4\nB. seven\nC. 9", "which is prime: 4 seven 9", "Which is prime"]
    found = matches(rows, [item], n=32, item_choices=[options])
    assert {m.row for m in found if m.rule == "exact_short"} == {0, 1, 2}
    found = matches([item], [rows[0]], n=32, choices=[options])
    assert {m.row for m in found if m.rule == "exact_short"} == {0}


def test_empty_texts_match_nothing():
    assert matches(["", "<image>", "?!", "12", "12 34"], ["", "<image1>", "7"]) == []
    assert matches([], ["a b c d"]) == []
    assert matches(["a b c d"], []) == []


def test_a_million_word_row_is_searched():
    text = " ".join(f"w{i}" for i in range(1_000_000))
    [match] = [m for m in matches([text], [" ".join(f"w{i}" for i in range(900, 940))], n=32) if m.rule == "ngram_32"]
    assert match.score == 1.0
