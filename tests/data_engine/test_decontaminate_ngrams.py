"""The n-gram step: what it writes, what it stores, what it says of its own recall."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest

from data_engine.steps import decontaminate_ngrams
from data_engine.steps.decontaminate_ngrams import Settings

LONG = (
    "Let a regular polygon be drawn in the plane so that every vertex of it lies on one of two concentric circles, and "
    "let the ratio of their radii be equal to the golden ratio. How many vertices can the polygon have at most?"
)


@pytest.fixture
def run(step_world):
    def run_step(rows, benchmarks, pictures=None, **settings):
        settings.setdefault("planted_duplicates", 0)
        return decontaminate_ngrams.run(step_world.context(rows, benchmarks, pictures), Settings(**settings))

    return run_step


def hits(result):
    columns = ("id", "rule", "benchmark", "item", "removes")
    return {tuple(row) for row in result.annotations.select(columns).rows()}


def test_each_rule_writes_its_evidence(run, step_world):
    rows = [
        ("r1", "Prelude. " + LONG.upper()),
        ("r2", "Add 3 to 4"),
        ("r3", "What is $x$?"),
        ("r4", "Unlike all others"),
    ]
    items = [("b1", LONG), ("b2", "Add 5 to 6"), ("b3", "what is x")]
    result = run(rows, [step_world.benchmark("math500", items)])
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
    assert evidence["row"]["text"].startswith("Prelude. ")
    assert (evidence["item"]["text"], evidence["item"]["span"]) == (LONG, [0, len(LONG) - 1])
    assert first["score"] == 1.0, "all words of the item, though not of the row"
    assert first["benchmark_revision"] == "r1"
    whole = json.loads(result.annotations.filter(id="r2")["evidence"][0])
    assert (whole["row"]["text"], whole["item"]["text"], whole["number_only"]) == ("Add 3 to 4", "Add 5 to 6", True)


@pytest.mark.parametrize(
    ("row", "item"),
    [
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("Solve x < 5 for whole x", "Solve x > 5 for whole x"),
        ("Calculate 61 + 38 - 24.", "Calculate 9 * 3 + 24."),
        ("Simplify |x| + 1 in one step", "Simplify x + 1 in one step"),
        ("求 3 × 4", "求 3 ÷ 4"),
    ],
)
def test_a_short_item_with_another_sign_is_another_problem(run, step_world, row, item):
    result = run([("r", row)], [step_world.benchmark("m", [("i", item)])])
    assert not any(removes for *_, removes in hits(result)), "noted at most"
    both = run([("r", row)], [step_world.benchmark("m", [("i", item), ("j", row)])])
    assert any(removes for *_, removes in hits(both)), "the item that it does repeat is not hidden by the other"


def test_a_second_build_reuses_every_cell_and_a_new_row_is_compared_alone(run, step_world):
    rows = [(f"r{i}", f"row number {i} of them") for i in range(5)]
    first = run(rows, [step_world.benchmark("b", [("i", LONG)])])
    again = run(rows, [step_world.benchmark("b", [("i", LONG)])])
    more = run([*rows, ("new", LONG)], [step_world.benchmark("b", [("i", LONG)])])
    assert (first.computed, first.reused) == (5, 0)
    assert (again.computed, again.reused) == (0, 5)
    assert (more.computed, more.reused) == (1, 5)
    assert hits(more) == {("new", "ngram_32", "b", "i", True), ("new", "numbers_removed", "b", "i", True)}
    assert again.annotations.equals(first.annotations)


def test_a_new_benchmark_is_compared_with_stored_hashes_only(run, step_world, monkeypatch):
    rows = [(f"r{i}", f"{LONG} variant {'abcde'[i]}") for i in range(5)]
    run(rows, [step_world.benchmark("one", [("i", "nothing alike in here")])])
    hashed = []
    real = decontaminate_ngrams.hashed_problems

    def spy(context, problems, n, character_n):
        known = real(context, problems, n, character_n)
        hashed.append((len(problems), known.computed))
        return known

    monkeypatch.setattr(decontaminate_ngrams, "hashed_problems", spy)
    both = [step_world.benchmark("one", [("i", "nothing alike in here")]), step_world.benchmark("two", [("j", LONG)])]
    result = run(rows, both)
    assert hashed == [(1, 0), (1, 1), (5, 0)]
    assert (result.computed, result.reused) == (5, 5)
    assert {hit[:4] for hit in hits(result)} == {(f"r{i}", "ngram_32", "two", "j") for i in range(5)}


def test_equal_words_about_another_picture_stay_as_a_near_miss(run, step_world):
    ours, theirs = step_world.Pictures(), step_world.Pictures()
    same, other = step_world.drawing(1), step_world.drawing(2)
    small = step_world.drawing(1, (72, 48))
    item = ("b", "<image>What is the overall ratio shown in this picture?", [], [theirs.add(same)])
    rows = [
        ("copy", "<image>What is the overall ratio shown in this picture?", [], [ours.add(small)]),
        ("other", "<image>What is the overall ratio shown in this picture?", [], [ours.add(other)]),
    ]
    found = hits(run(rows, [step_world.benchmark("m", [item], theirs)], pictures=ours))
    assert ("copy", "exact_short", "m", "b", True) in found
    assert ("other", "exact_short", "m", "b", False) in found
    strict = run(rows, [step_world.benchmark("m", [item], theirs)], pictures=ours, other_picture="remove")
    assert ("other", "exact_short", "m", "b", True) in hits(strict)
    assert strict.computed == 0


def test_of_many_items_with_the_same_words_the_one_with_the_same_picture_is_found(run, step_world):
    ours, theirs = step_world.Pictures(), step_world.Pictures()
    words = "<image>How large is the marked angle?"
    items = [(f"b{i:02}", words, [], [theirs.add(step_world.drawing(i))]) for i in range(30)]
    rows = [("r", words, [], [ours.add(step_world.drawing(23, (72, 48)))])]
    found = hits(run(rows, [step_world.benchmark("m", items, theirs)], ours))
    assert found == {("r", rule, "m", "b23", True) for rule in ("exact_short", "numbers_removed")}


def test_generic_words_need_the_same_picture(run, step_world):
    theirs, ours = step_world.Pictures(), step_world.Pictures()
    shown = theirs.add(step_world.drawing(1))
    items = [("b", "<image>Find x", [], [shown]), ("t", "solve it", [], [])]
    rows = [
        ("unreadable", "<image>Find x.", [], ["0" * 64]),
        ("same", "<image>Find $x$", [], [ours.add(step_world.drawing(1))]),
        ("text", "Solve it", [], []),
    ]
    found = run(rows, [step_world.benchmark("m", items, theirs)], pictures=ours, rules=("exact_short",))
    assert {(hit[0], hit[4]) for hit in hits(found)} == {("unreadable", False), ("same", True), ("text", True)}


def test_rules_left_out_find_nothing_without_any_new_comparison(run, step_world):
    rows, items = [("r", LONG)], [("b", LONG)]
    run(rows, [step_world.benchmark("m", items)])
    only = run(rows, [step_world.benchmark("m", items)], rules=("numbers_removed",))
    assert {hit[1] for hit in hits(only)} == {"numbers_removed"}
    assert only.computed == 0


def test_coverage_says_how_many_items_each_rule_can_see(run, step_world):
    items = [("a", LONG), ("b", "short one"), ("c", "<image>"), ("d", "12")]
    result = run([("r", "x")], [step_world.benchmark("m", items)])
    counts = result.record["coverage"]["m"]["decontaminate_ngrams"]
    assert (counts["items"], counts["ngram_32"], counts["exact_short"], counts["unseen"]) == (4, 1, 2, 1)
    assert counts["numbers_removed"] == 2
    assert counts["revision"] == "r1"
    assert "1 of 4 items of m" in result.warnings[0]


def test_planted_duplicates_are_found_by_kind_and_never_become_rows(run, step_world):
    pictures = step_world.Pictures()
    items = [
        (
            f"b{i}",
            f"<image>{LONG} Take $x^2+{i}=3$ into account.",
            ["yes", "no"],
            [pictures.add(step_world.drawing(i, (256, 192)))],
        )
        for i in range(6)
    ]
    result = run([("r", "nothing of it")], [step_world.benchmark("m", items, pictures)], planted_duplicates=4)
    recall = result.record["planted_duplicates"]["decontaminate_ngrams"]
    assert set(recall) == set(decontaminate_ngrams.planting.KINDS)
    assert all(counts["planted"] == 4 for counts in recall.values())
    for kind in ("verbatim", "embedded", "whitespace", "case", "numbers_changed", "latex_respaced", "image_resized"):
        assert recall[kind]["recall"] == 1.0, kind
    assert result.annotations.height == 0


def test_no_rows_and_no_benchmarks_give_an_empty_frame(run, step_world):
    assert run([], [step_world.benchmark("m", [("b", LONG)])]).annotations.height == 0
    assert run([("r", LONG)], []).annotations.height == 0
    assert run([("r", LONG)], [step_world.benchmark("m", [])], planted_duplicates=3).annotations.height == 0


@pytest.mark.parametrize("question", ["", "<image>", "word", "!?", "word " * 50_000])
def test_odd_rows_are_answered(run, step_world, question):
    assert run([("r", question), ("s", question)], [step_world.benchmark("m", [("b", LONG)])]).annotations.height == 0


def test_the_overlaps_of_real_rows_with_real_benchmarks_are_found(run, step_world, real_data):
    rows = pl.read_parquet(real_data / "virl_like" / "virl_like.parquet")
    ours, theirs = step_world.Pictures(), step_world.Pictures()
    made = [
        (qid, text, [], [ours.add((real_data / "virl_like" / name).read_bytes()) for name in names])
        for qid, text, names in rows.filter(source="solidgeo").select("qid", "question", "image").rows()
    ]
    benchmarks = []
    for name in ("mathverse_via_solidgeo_150", "mathvision_via_solidgeo_120", "mathvision_testmini"):
        items = pl.read_parquet(real_data / "bench" / f"{name}.parquet").select("id", "question", "options", "images")
        made_items = [
            (str(i), text, options or [], [theirs.add(image["bytes"]) for image in images if image["bytes"]])
            for i, text, options, images in items.rows()
        ]
        benchmarks.append(step_world.benchmark(name, made_items, theirs))
    result = run(made, benchmarks)
    found = {(row[0], row[1]) for row in result.annotations.filter("removes").select("id", "benchmark").rows()}

    def normal(text):
        return " ".join(re.findall("[a-z0-9]+", re.sub(r"<image\d*>", " ", text).lower()))

    wanted = set()
    for benchmark in benchmarks:
        texts = [normal(text) for text in benchmark.rows["question"]]
        grams = {tuple(row[i : i + 32]) for row in map(str.split, texts) for i in range(len(row) - 31)}
        for identity, text, _, _ in made:
            row = normal(text).split()
            overlap = any(tuple(row[i : i + 32]) in grams for i in range(len(row) - 31))
            # Only texts of some length: a row without words is the embeddings' affair.
            if overlap or (len(row) >= 4 and " ".join(row) in texts):
                wanted.add((identity, benchmark.name))
    assert len(wanted) >= 20
    assert wanted <= found
