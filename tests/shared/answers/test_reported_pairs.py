"""Pairs from public reports of wrong grading, and their neighbours: all are graded as expected."""

import json
from collections import Counter
from pathlib import Path

from shared.answers import grade
from trainer.grade import grade_file

FAULTS = Path(__file__).parent / "golden" / "faults.jsonl"


def rows() -> list[dict]:
    return [json.loads(line) for line in FAULTS.read_text(encoding="utf-8").split("\n") if line]


def test_every_reported_pair_and_its_neighbours_are_graded_as_expected():
    verdicts = [v["verdict"] == "correct" for v in grade_file(FAULTS)["verdicts"]]
    wrong = [row for row, accepted in zip(rows(), verdicts, strict=True) if accepted != row["expected"]]
    assert not wrong


def test_each_kind_of_report_has_answers_to_accept_and_answers_to_refuse():
    kinds = Counter((row["kind"], row["expected"]) for row in rows())
    names = {kind for kind, _ in kinds}
    assert len(names) > 10
    assert all(kinds[kind, expected] >= 2 for kind in names for expected in (True, False)), kinds


def test_a_stated_unit_that_is_no_unit_is_compared_as_words_and_divides_by_nothing():
    for unit in ("0cm", "0", "-cm", "00 m", "cm0"):
        assert grade("5", "5 cm", unit=unit).verdict == "wrong"
        assert grade("5", "5", unit=unit).verdict == "correct"


def test_an_answer_that_only_says_or_is_not_the_empty_set():
    for word in ("or", ", or", r"\text{or}", "或", "and", ";"):
        assert not grade(r"\emptyset", word).correct, word
        assert not grade(r"\{\}", word).correct, word


def test_what_is_no_number_is_no_percentage():
    for answer in ("x", "abc", "1/0", r"\frac{1}{0}", "10^{10^{10}}"):
        assert grade(r"5\%", answer).verdict == "wrong", answer
