"""The n-gram step: what it writes, what it stores, what it says of its own recall."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from data_engine.progress import QuietProgress
from data_engine.runners.local import LocalRunner
from data_engine.steps import decontaminate_ngrams
from data_engine.steps.base import BenchmarkItems, StepContext
from data_engine.steps.decontaminate_ngrams import Settings
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.store import Store

LONG = (
    "Let a regular polygon be drawn in the plane so that every vertex of it lies on one of two concentric circles, and "
    "let the ratio of their radii be equal to the golden ratio. How many vertices can the polygon have at most?"
)


class Pictures:
    def __init__(self):
        self.held = {}

    def add(self, data):
        self.held[bytes_hash(data)] = data
        return bytes_hash(data)

    def get(self, sha256):
        if sha256 not in self.held:
            raise InfiMmrError("no such picture")
        return self.held[sha256]


def drawing(seed, size=(96, 64), form="PNG"):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, form)
    return out.getvalue()


def frame(rows):
    return pl.DataFrame(
        [
            {"id": i, "question": q, "choices": list(c), "image_hashes": list(h), "answer": a}
            for i, q, c, h, a in (tuple(row) + ([], [], "1")[len(row) - 2 :] for row in rows)
        ],
        schema={
            "id": pl.String,
            "question": pl.String,
            "choices": pl.List(pl.String),
            "image_hashes": pl.List(pl.String),
            "answer": pl.String,
        },
    )


def benchmark(name, rows, pictures=None):
    return BenchmarkItems(name, f"hub/{name}", "r1", frame(rows), pictures or Pictures())


def context(tmp_path, rows, benchmarks, pictures=None):
    store = Store.open(tmp_path / "store")
    return StepContext(
        store, "local", LocalRunner(), {}, QuietProgress(), frame(rows), pictures or Pictures(), benchmarks
    )


def run(*args, pictures=None, **settings):
    settings.setdefault("canaries", 0)
    return decontaminate_ngrams.run(context(*args, pictures=pictures), Settings(**settings))


def hits(result):
    columns = ("id", "rule", "benchmark", "item", "removes")
    return {tuple(row) for row in result.annotations.select(columns).rows()}


def test_each_rule_writes_its_evidence(tmp_path):
    rows = [
        ("r1", "Prelude. " + LONG.upper()),
        ("r2", "Add 3 to 4"),
        ("r3", "What is $x$?"),
        ("r4", "Unlike all others"),
    ]
    items = [("b1", LONG), ("b2", "Add 5 to 6"), ("b3", "what is x")]
    result = run(tmp_path, rows, [benchmark("math500", items)])
    assert hits(result) == {
        ("r1", "ngram_32", "math500", "b1", True),
        ("r2", "numbers_removed", "math500", "b2", True),
        ("r3", "exact_short", "math500", "b3", True),
        ("r3", "numbers_removed", "math500", "b3", True),
    }
    first = result.annotations.filter(id="r1").row(0, named=True)
    evidence = json.loads(first["evidence"])
    start, end = evidence["row"]["span"]
    assert rows[0][1][start:end] == LONG.upper().rstrip("?")
    assert first["benchmark_revision"] == "r1"
    assert json.loads(result.annotations.filter(id="r2")["evidence"][0])["number_only"]


def test_a_second_build_reuses_every_cell_and_a_new_row_is_compared_alone(tmp_path):
    rows = [(f"r{i}", f"row number {i} of them") for i in range(5)]
    first = run(tmp_path, rows, [benchmark("b", [("i", LONG)])])
    again = run(tmp_path, rows, [benchmark("b", [("i", LONG)])])
    more = run(tmp_path, [*rows, ("new", LONG)], [benchmark("b", [("i", LONG)])])
    assert (first.computed, first.reused) == (5, 0)
    assert (again.computed, again.reused) == (0, 5)
    assert (more.computed, more.reused) == (1, 5)
    assert hits(more) == {("new", "ngram_32", "b", "i", True), ("new", "numbers_removed", "b", "i", True)}
    assert again.annotations.equals(first.annotations)


def test_a_new_benchmark_is_compared_with_stored_hashes_only(tmp_path, monkeypatch):
    rows = [(f"r{i}", f"{LONG} variant {'abcde'[i]}") for i in range(5)]
    run(tmp_path, rows, [benchmark("one", [("i", "nothing alike in here")])])
    hashed = []
    real = decontaminate_ngrams.hashed_problems

    def spy(store, problems, n, character_n):
        known = real(store, problems, n, character_n)
        hashed.append((len(problems), known.computed))
        return known

    monkeypatch.setattr(decontaminate_ngrams, "hashed_problems", spy)
    both = [benchmark("one", [("i", "nothing alike in here")]), benchmark("two", [("j", LONG)])]
    result = run(tmp_path, rows, both)
    assert hashed == [(5, 0), (1, 0), (1, 1)]
    assert (result.computed, result.reused) == (5, 5)
    assert {hit[:4] for hit in hits(result)} == {(f"r{i}", "ngram_32", "two", "j") for i in range(5)}


def test_equal_words_about_another_picture_stay_as_a_near_miss(tmp_path):
    ours, theirs = Pictures(), Pictures()
    same, other = drawing(1), drawing(2)
    small = drawing(1, (72, 48))
    item = ("b", "<image>What is the overall ratio shown in this picture?", [], [theirs.add(same)])
    rows = [
        ("copy", "<image>What is the overall ratio shown in this picture?", [], [ours.add(small)]),
        ("other", "<image>What is the overall ratio shown in this picture?", [], [ours.add(other)]),
    ]
    found = hits(run(tmp_path, rows, [benchmark("m", [item], theirs)], pictures=ours))
    assert ("copy", "exact_short", "m", "b", True) in found
    assert ("other", "exact_short", "m", "b", False) in found
    strict = run(tmp_path, rows, [benchmark("m", [item], theirs)], pictures=ours, other_picture="remove")
    assert ("other", "exact_short", "m", "b", True) in hits(strict)
    assert strict.computed == 0


def test_generic_words_need_the_same_picture(tmp_path):
    theirs, ours = Pictures(), Pictures()
    shown = theirs.add(drawing(1))
    items = [("b", "<image>Find x", [], [shown]), ("t", "solve it", [], [])]
    rows = [
        ("unreadable", "<image>Find x.", [], ["0" * 64]),
        ("same", "<image>Find $x$", [], [ours.add(drawing(1))]),
        ("text", "Solve it", [], []),
    ]
    found = run(tmp_path, rows, [benchmark("m", items, theirs)], pictures=ours, rules=("exact_short",))
    assert {(hit[0], hit[4]) for hit in hits(found)} == {("unreadable", False), ("same", True), ("text", True)}


def test_rules_left_out_find_nothing_without_any_new_comparison(tmp_path):
    rows, items = [("r", LONG)], [("b", LONG)]
    run(tmp_path, rows, [benchmark("m", items)])
    only = run(tmp_path, rows, [benchmark("m", items)], rules=("numbers_removed",))
    assert {hit[1] for hit in hits(only)} == {"numbers_removed"}
    assert only.computed == 0


def test_coverage_says_how_many_items_each_rule_can_see(tmp_path):
    result = run(
        tmp_path, [("r", "x")], [benchmark("m", [("a", LONG), ("b", "short one"), ("c", "<image>"), ("d", "12")])]
    )
    counts = result.record["coverage"]["m"]["decontaminate_ngrams"]
    assert (counts["items"], counts["ngram_32"], counts["exact_short"], counts["unseen"]) == (4, 1, 2, 1)
    assert counts["numbers_removed"] == 2
    assert counts["revision"] == "r1"
    assert "1 of 4 items of m" in result.warnings[0]


def test_canaries_are_found_by_kind_and_never_become_rows(tmp_path):
    pictures = Pictures()
    items = [
        (
            f"b{i}",
            f"<image>{LONG} Take $x^2+{i}=3$ into account.",
            ["yes", "no"],
            [pictures.add(drawing(i, (256, 192)))],
        )
        for i in range(6)
    ]
    result = run(tmp_path, [("r", "nothing of it")], [benchmark("m", items, pictures)], canaries=4)
    recall = result.record["canaries"]["decontaminate_ngrams"]
    assert set(recall) == set(decontaminate_ngrams.canaries.KINDS)
    assert all(counts["planted"] == 4 for counts in recall.values())
    for kind in ("verbatim", "embedded", "whitespace", "case", "numbers_changed", "latex_respaced", "image_resized"):
        assert recall[kind]["recall"] == 1.0, kind
    assert result.annotations.height == 0


def test_no_rows_and_no_benchmarks_give_an_empty_frame(tmp_path):
    assert run(tmp_path, [], [benchmark("m", [("b", LONG)])]).annotations.height == 0
    assert run(tmp_path, [("r", LONG)], []).annotations.height == 0
    assert run(tmp_path, [("r", LONG)], [benchmark("m", [])], canaries=3).annotations.height == 0


@pytest.mark.parametrize("question", ["", "<image>", "word", "!?", "word " * 50_000])
def test_odd_rows_are_answered(tmp_path, question):
    assert run(tmp_path, [("r", question), ("s", question)], [benchmark("m", [("b", LONG)])]).annotations.height == 0
