"""The duplicates step: words and pictures together, who stays, and inputs that must not hurt."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from PIL import Image

from data_engine.step import StepResult
from data_engine.steps import dedup_minhash
from data_engine.steps.dedup_minhash import Settings

LONG = (
    "A gardener plants {} tulips in the first row of a long flower bed and in every following row one tulip more than "
    "in the row before, until the bed is full; how many tulips has the gardener planted in all the rows together then?"
)


@pytest.fixture
def run(step_world):
    def run_step(rows, pictures=None, results=None, **settings):
        settings.setdefault("planted_duplicates", 0)
        return dedup_minhash.run(step_world.context(rows, (), pictures, results), Settings(**settings))

    return run_step


def pairs(result):
    return {tuple(row) for row in result.annotations.select("id", "duplicate_of").rows()}


def test_equal_and_nearly_equal_words_are_one_problem(run):
    rows = [("a", LONG.format(12)), ("b", LONG.format(12).upper()), ("c", LONG.format(12).replace("then", "there"))]
    result = run([*rows, ("d", "Something else altogether")])
    assert pairs(result) == {("b", "a"), ("c", "a")}
    scores = dict(result.annotations.select("id", "score").rows())
    windows = len(re.findall(r"\w+", LONG.format(12))) - 4  # of five words; the last word stands in one
    assert (scores["b"], scores["c"]) == (1.0, pytest.approx((windows - 1) / (windows + 1)))
    evidence = json.loads(result.annotations.filter(id="c")["evidence"][0])
    assert evidence["text"] == "near"
    assert evidence["kept"] == LONG.format(12)


def test_other_numbers_and_other_operators_are_other_problems(run):
    rows = [("a", LONG.format(12)), ("b", LONG.format(13)), ("c", "What is $5 + 3$?"), ("d", "What is $5 - 3$?")]
    assert pairs(run(rows)) == set()
    assert pairs(run(rows, same_numbers=False)) == {("b", "a"), ("d", "c")}


def test_nearly_the_same_words_with_another_answer_are_another_problem(run):
    """One name or colour differs, which no list of signs could hold."""
    other = LONG.format(12).replace("then?", "there?")
    assert pairs(run([("a", LONG.format(12), [], [], "78"), ("b", other, [], [], "91")])) == set()
    assert pairs(run([("a", LONG.format(12), [], [], "$78$"), ("b", other, [], [], "78")])) == {("b", "a")}
    same = [("a", LONG.format(12), [], [], "78"), ("b", LONG.format(12).upper(), [], [], "91")]
    result = run(same)
    assert pairs(result) == {("b", "a")}
    assert result.annotations["conflict"].to_list() == [True]


def test_one_symbol_within_a_long_text_makes_another_problem(run):
    texts = [
        ("x > 0 and x < 9", "x > 0 and x > 9"),
        (r"a \leq b", r"a \geq b"),
        ("3 red and 5 blue", "5 red and 3 blue"),
        ("the largest row", "the smallest row"),
        ("x² wide", "x³ wide"),
    ]
    for one, two in texts:
        rows = [("a", LONG.format(12) + one), ("b", LONG.format(12) + two)]
        assert pairs(run(rows)) == set(), (one, two)
        assert pairs(run(rows, same_numbers=False)) == {("b", "a")}, "near enough for the text alone"


def test_the_same_words_about_another_picture_stay(run, step_world):
    pictures = step_world.Pictures()
    shown = [pictures.add(step_world.drawing(seed)) for seed in range(12)]
    rows = [(f"r{i:02}", "<image>Which option completes the picture?", ["A", "B"], [shown[i]]) for i in range(12)]
    assert pairs(run(rows, pictures)) == set()


def test_the_same_picture_in_other_bytes_is_the_same_picture(run, step_world):
    pictures = step_world.Pictures()
    big = step_world.drawing(3, (256, 192))
    others = [
        step_world.drawing(3, (256, 192), "BMP"),
        step_world.drawing(3, (256, 192), "JPEG", quality=60),
        step_world.drawing(3, (192, 144)),
    ]
    question = "<image>What does the drawing show?"
    rows = [("a", question, [], [pictures.add(big)])]
    rows += [(f"b{i}", question, [], [pictures.add(data)]) for i, data in enumerate(others)]
    rows += [("c", question, [], [pictures.add(step_world.drawing(3, (200, 150)))], "another answer")]
    result = run(rows, pictures)
    assert pairs(result) == {("b0", "a"), ("b1", "a"), ("b2", "a")}
    how = [json.loads(evidence)["images"] for evidence in result.annotations["evidence"]]
    assert how == ["same_pixels", "perceptual", "perceptual"]


def test_a_chain_of_near_pictures_never_removes_a_row_unlike_the_one_kept(run, step_world):
    pictures = step_world.Pictures()
    dark = np.asarray(Image.open(io.BytesIO(step_world.drawing(3)))) // 2
    rows = []
    for brighter in (0, 20, 40):  # of neighbours no cell differs by more than the 32 that are allowed
        out = io.BytesIO()
        Image.fromarray(dark + np.uint8(brighter)).save(out, "PNG")
        rows.append((f"r{brighter:02}", "<image>What does the drawing show?", [], [pictures.add(out.getvalue())]))
    assert pairs(run(rows, pictures)) == {("r20", "r00")}


def test_order_and_number_of_pictures_matter(run, step_world):
    pictures = step_world.Pictures()
    one, two = pictures.add(step_world.drawing(1)), pictures.add(step_world.drawing(2))
    words = "Compare these pictures with each other"
    rows = [
        ("a", words, [], [one, two]),
        ("b", words, [], [two, one]),
        ("c", words, [], [one]),
        ("d", words, [], [one, two]),
    ]
    assert pairs(run(rows, pictures)) == {("d", "a")}


def test_a_verified_row_stays_then_the_better_source_then_the_smaller_id(run):
    text = LONG.format(7)
    rows = [
        (i, text, [], [], "1", source) for i, source in (("a", "poor"), ("b", "good"), ("c", "good"), ("d", "poor"))
    ]
    assert pairs(run(rows)) == {("b", "a"), ("c", "a"), ("d", "a")}
    assert pairs(run(rows, prefer_sources=("good",))) == {("a", "b"), ("c", "b"), ("d", "b")}
    verified = StepResult(pl.DataFrame({"id": ["a", "d"], "status": ["unverifiable", "verified"]}))
    found = run(rows, prefer_sources=("good",), results={"verify_answers": verified})
    assert pairs(found) == {("a", "d"), ("b", "d"), ("c", "d")}


def test_answers_that_differ_are_marked_as_a_conflict(run):
    text = LONG.format(7)
    rows = [("a", text, [], [], "179"), ("b", text, [], [], "312"), ("c", text, [], [], "179 ")]
    conflicts = dict(run(rows).annotations.select("id", "conflict").rows())
    assert conflicts == {"b": True, "c": False}


def test_a_chain_of_near_texts_never_removes_a_row_unlike_the_one_kept(run):
    base = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(80)]
    rows = []
    for step in range(12):
        rows.append((f"r{step:02}", " ".join(base)))
        base[step * 6] = "changed" + chr(97 + step)
    result = run(rows)
    assert 0 < result.annotations.height < 11
    assert set(result.annotations["cluster"]) == {"r00"}
    assert result.annotations["score"].min() >= 0.8
    kept = {row[0] for row in rows} - set(result.annotations["id"])
    assert set(result.annotations["duplicate_of"]) <= kept


def test_a_second_build_signs_nothing_again(run, step_world):
    pictures = step_world.Pictures()
    shown = [pictures.add(step_world.drawing(seed)) for seed in range(3)]
    rows = [(f"r{i}", f"<image>{LONG.format(5)}", [], [shown[i]]) for i in range(3)]
    first = run(rows, pictures)
    again = run(rows, pictures)
    more = run([*rows, ("new", "fresh words")], pictures)
    assert (first.computed, first.reused) == (4, 0)
    assert (again.computed, again.reused) == (0, 4)
    assert (more.computed, more.reused) == (1, 4)
    assert again.annotations.equals(first.annotations)


@pytest.mark.parametrize("question", ["", "<image>", "word", "?!", "word " * 20_000])
def test_identical_rows_of_any_kind_are_one_row(run, question):
    rows = [(f"r{i:03}", question) for i in range(200)]
    assert pairs(run(rows)) == {(f"r{i:03}", "r000") for i in range(1, 200)}


def test_wordless_rows_are_compared_by_their_pictures(run, step_world):
    pictures = step_world.Pictures()
    one, two = pictures.add(step_world.drawing(1)), pictures.add(step_world.drawing(2))
    rows = [
        ("a", "<image>", [], [one]),
        ("b", "<image>\n", [], [two]),
        ("c", "<image>", [], [one]),
        ("d", "!"),
        ("e", "?"),
    ]
    assert pairs(run(rows, pictures)) == {("c", "a")}


def test_pictures_that_cannot_be_read_are_the_same_only_as_bytes(run):
    rows = [(i, "<image>What is shown here?", [], [h * 64]) for i, h in (("a", "0"), ("b", "1"), ("c", "0"))]
    assert pairs(run(rows)) == {("c", "a")}


def test_no_rows_give_an_empty_frame(run):
    assert run([], planted_duplicates=3).annotations.height == 0


def test_planted_duplicates_say_how_many_copies_of_each_kind_are_found(run, step_world):
    pictures = step_world.Pictures()
    names = ["red", "blue", "green", "black", "white"]
    rows = [
        (
            f"r{i}",
            f"<image>{LONG.format('some ' + names[i] + ' ' + 'and fine ' * i)} Take $x+{i}=3$.",
            ["yes", "no"],
            [pictures.add(step_world.drawing(i, (256, 192)))],
        )
        for i in range(5)
    ]
    result = run(rows, pictures, planted_duplicates=4)
    recall = result.record["planted_duplicates"]["dedup_minhash"]
    assert all(counts["planted"] == 4 for counts in recall.values())
    for kind in ("verbatim", "whitespace", "case", "image_reencoded", "image_resized"):
        assert recall[kind]["recall"] == 1.0, kind
    assert recall["numbers_changed"]["recall"] == 0.0
    assert result.annotations.height == 0
    bands = result.record["duplicates"]
    assert 1 - (1 - 0.8 ** bands["rows_per_band"]) ** bands["bands"] >= 0.995


def test_real_rows_with_equal_words_about_other_pictures_survive(run, real_data, step_world):
    folder = real_data / "virl_like"
    rows = pl.read_parquet(folder / "virl_like.parquet")
    rows = rows.filter(pl.col("source").is_in(["blink_jigsaw", "nlvr", "puzzlevqa"]))
    pictures = step_world.Pictures()
    columns = [rows[name].to_list() for name in ("qid", "question", "image", "answer", "source")]
    made = [
        (qid, question, [], [pictures.add((folder / name).read_bytes()) for name in names], answer, source)
        for qid, question, names, answer, source in zip(*columns, strict=True)
    ]
    result = run(made, pictures)
    by_id = {row[0]: row for row in made}
    for gone, kept in pairs(result):
        assert len(by_id[gone][3]) == len(by_id[kept][3])
        evidence = json.loads(result.annotations.filter(id=gone)["evidence"][0])
        assert evidence["images"] != "perceptual" or by_id[gone][4] == by_id[kept][4]
    words = defaultdict(set)
    for row in made:
        words[" ".join(re.findall("[a-z0-9]+", row[1].lower()))].add(tuple(row[3]))
    repeated = sum(len(shown) for shown in words.values() if len(shown) > 1)
    assert repeated > 300
    assert sum(json.loads(evidence)["images"] == "perceptual" for evidence in result.annotations["evidence"]) <= 3


def test_the_rows_that_truly_repeat_in_real_data_are_found(run, real_data):
    rows = pl.read_parquet(real_data / "text" / "deepscaler_partial.parquet")["problem"].to_list()
    made = [(f"r{i:05}", text or "") for i, text in enumerate(rows)]
    found = pairs(run(made))
    seen = {}
    wanted = set()
    for identity, text in made:
        key = " ".join(text.split())
        if key in seen:
            wanted.add(identity)
        seen.setdefault(key, identity)
    assert len(wanted) > 100
    assert wanted <= {gone for gone, _ in found}
