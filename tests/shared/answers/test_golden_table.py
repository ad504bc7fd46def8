"""The golden table: every pair is graded as the mathematics says, and nothing false is accepted."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from shared.answers import Verdict, grade, grade_many

GOLDEN = Path(__file__).parent / "golden"
PUBLIC = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "answer_pairs_public.jsonl"


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("split", ["open", "frozen", "hand"])
def test_at_least_99_percent_of_each_split_is_right_and_nothing_false_is_accepted(split):
    table = rows(GOLDEN / f"{split}.jsonl")
    grades = grade_many({"pred": r["pred"], "gold": r["gold"]} for r in table)
    wrong = [
        (r["gold"], r["pred"], g.verdict) for r, g in zip(table, grades, strict=True) if g.correct != r["expected"]
    ]
    accepted = [(r["gold"], r["pred"]) for r, g in zip(table, grades, strict=True) if g.correct and not r["expected"]]
    assert not accepted
    assert len(wrong) <= len(table) // 100, wrong[:20]


def test_every_kind_of_the_frozen_split_reaches_99_percent():
    by_kind = defaultdict(list)
    for r in rows(GOLDEN / "frozen.jsonl"):
        by_kind[r["kind"]].append(grade(r["gold"], r["pred"]).correct == r["expected"])
    weak = {kind: sum(right) / len(right) for kind, right in by_kind.items() if sum(right) < 0.99 * len(right)}
    assert not weak


def test_the_golden_table_names_a_source_for_every_pair_and_has_both_answers_for_most_kinds():
    table = [r for split in ("open", "frozen") for r in rows(GOLDEN / f"{split}.jsonl")]
    assert all(r["source"] for r in table)
    verdicts = defaultdict(set)
    for r in table:
        verdicts[r["kind"]].add(r["expected"])
    assert all(seen == {True, False} for kind, seen in verdicts.items() if kind not in {"hack", "mixed_number"})


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public answer pairs are not beside this checkout (../shared/data)")
def test_all_undisputed_public_pairs_are_graded_as_expected():
    table = [r for r in rows(PUBLIC) if not r["contested"]]
    wrong = [(r["gold"], r["pred"]) for r in table if grade(r["gold"], r["pred"]).correct != r["expected"]]
    assert len(wrong) <= len(table) // 100, wrong


@pytest.mark.parametrize(
    ("gold", "pred", "verdict"),
    [
        ("", "5", Verdict.UNPARSABLE_GOLD),
        (r"\frac{1}{2", r"\frac{1}{2", Verdict.UNPARSABLE_GOLD),
        ("...", "...", Verdict.UNPARSABLE_GOLD),
        ("5", "", Verdict.UNPARSABLE_ANSWER),
        ("5", "what a nice day", Verdict.UNPARSABLE_ANSWER),
        ("5", "6", Verdict.WRONG),
        ("5", "5", Verdict.CORRECT),
    ],
)
def test_endings_are_typed(gold, pred, verdict):
    assert grade(gold, pred).verdict is verdict


def test_a_given_tolerance_replaces_the_one_that_digits_imply():
    assert grade("18.8", "18.7", tolerance=0.2).correct
    assert not grade("18.8", "18.7", tolerance=0.05).correct
    assert grade("18.8, 3", "18.7, 3", tolerance=0.2).correct


def test_a_unit_given_beside_the_gold_refuses_another_unit_and_converts():
    assert grade("5", "5", unit="cm").correct
    assert grade("5", "0.05 m", unit="cm").correct
    assert not grade("5", "5 m", unit="cm").correct


def test_options_are_answered_by_letter_or_text_and_not_by_both_in_conflict():
    choices = ["5 cm", "12 cm", "12 m", "none of these"]
    assert grade("B", "B", choices=choices).correct
    assert grade("B", "12 cm", choices=choices).correct
    assert grade("B", "(B) 12 cm", choices=choices).correct
    assert grade("12 cm", "B", choices=choices).correct
    assert grade("D", "None of these", choices=choices).correct
    assert not grade("B", "12", choices=choices).correct
    assert not grade("B", "B. 5 cm", choices=choices).correct
    assert not grade("B", "12 m", choices=choices).correct
    assert not grade("B", "5 cm 12 cm 12 m", choices=choices).correct


def test_thousands_commas_and_lists_are_told_apart_by_the_other_side():
    assert grade("100,200", "100, 200").correct
    assert grade("100,200", "100200").correct
    assert not grade("222,222,222,223", "223,222,222,223").correct


def test_an_option_made_of_letters_is_that_option():
    segments = ["CA", "BC", "AB"]
    assert grade("C", "AB", choices=segments).correct
    assert grade("C", "C", choices=segments).correct
    assert not grade("C", "BC", choices=segments).correct
    assert not grade("A", "AB", choices=segments).correct
    assert grade("A, C", "AC", choices=["AC", "1", "2"]).correct  # several right options: letters


def test_the_share_of_symbolic_pairs_in_the_table_is_below_five_percent():
    table = [r for split in ("open", "frozen") for r in rows(GOLDEN / f"{split}.jsonl")]
    layers = [g.layer for g in grade_many({"pred": r["pred"], "gold": r["gold"]} for r in table)]
    assert layers.count("symbolic") < 0.05 * len(layers)
