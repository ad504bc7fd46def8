# ruff: noqa: E501, SIM905  lists of hostile texts read best on one line
"""Properties that hold for all texts: grading never raises, is symmetric where it should be, and accepts equal values however written."""

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.answers import answer_kind, check_gold, extract_answer, final_answer, gold_answer, grade, grade_output
from shared.answers.check import neighbours
from shared.answers.grade import _settle
from shared.answers.types import ANSWER_KINDS
from trainer.rewards import reward

GOLDEN = Path(__file__).parent / "golden"
FRAGMENTS = [
    *r"\frac { } ( ) [ ] \{ \} ^ _ \sqrt 12 3.5 x y \pi e i ! | , ; = < > \le \in \cup + - * / \pm cm \text{ ° % $ \ ∞ ½ ² 选 B (A) or and".split(),
    *r"\begin{pmatrix} \end{pmatrix} & \\ \left \right \log_ \sin 0 10^ e9 \binom \over 1e400 \infty no yes : ' ` ** \boxed{ m \lfloor \int".split(),
    *r"\begin{cases} \end{cases} 大于 (1) (2) ① 二十 百分之 \forall \in\mathbb{Z} \neq 答案是 x_1 小时 分钟 ： 2007-2008 million \setminus √ ×".split(),
    "for all x",
    "#### ",
    "Answer: ",
    "[Analysis] ",
    "<answer>",
    "</answer>",
    "\n",
    " ",
    "\x00",
    "\ud800",
    "٣",
    "Ⅷ",
]
messy = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join) | st.text(max_size=60)
rational = st.fractions(min_value=-1000, max_value=1000, max_denominator=500)


@settings(max_examples=400, deadline=None)
@given(pred=messy, gold=messy)
def test_the_layers_of_this_process_never_raise_on_any_pair(pred, gold):
    _settle(gold, pred, None, None)
    _settle(gold, pred, None, [gold, pred, "1"])
    _settle(gold, pred, None, None, unit=pred[:8], several=True)
    gold_answer(gold)
    assert answer_kind(gold) in ANSWER_KINDS
    assert neighbours(gold, answer_kind(gold))


@settings(max_examples=200, deadline=None)
@given(output=messy, gold=messy)
def test_extraction_and_reward_never_raise_and_stay_between_zero_and_one(output, gold):
    extract_answer(output)
    final_answer(output)
    for text in (output, f"<think>{output}</think>{output}"):
        parts = reward(text, {"gold": gold})
        assert 0 <= parts.total <= 1
        assert parts.score in (0, 1)


@given(value=rational)
def test_a_rational_equals_itself_however_it_is_written(value: Fraction):
    p, q = value.numerator, value.denominator
    spellings = [
        f"{p}/{q}",
        rf"\frac{{{p}}}{{{q}}}",
        rf"\dfrac{{{2 * p}}}{{{2 * q}}}",
        rf"$\frac{{{-p}}}{{{-q}}}$",
        f"x = {p}/{q}",
    ]
    for pred in spellings:
        assert grade(spellings[1], pred).correct
        assert grade(pred, spellings[1]).correct


@given(a=rational, b=rational)
def test_different_rationals_are_never_equal_and_the_order_of_arguments_does_not_matter(a, b):
    first, second = str(a), rf"\frac{{{b.numerator}}}{{{b.denominator}}}"
    assert grade(second, first).correct == grade(first, second).correct == (a == b)


@given(items=st.lists(st.integers(-99, 99), min_size=2, max_size=6, unique=True), seed=st.integers(0, 99))
def test_sets_forget_their_order_and_tuples_keep_it(items, seed):
    shuffled = random.Random(seed).sample(items, len(items))
    text, other = ",".join(map(str, items)), ", ".join(map(str, shuffled))
    assert grade(rf"\{{{text}\}}", rf"\{{{other}\}}").correct
    assert grade(f"({text})", f"({other})").correct == (items == shuffled)


@given(coefficients=st.lists(st.integers(-9, 9), min_size=2, max_size=4), at=st.integers(0, 3), scale=st.integers(2, 7))
def test_polynomials_equal_their_reversed_sum_and_differ_from_a_changed_one(coefficients, at, scale):
    terms = [f"({c})x^{{{k}}}" for k, c in enumerate(coefficients)]
    changed = [c + (i == at % len(coefficients)) for i, c in enumerate(coefficients)]
    gold = "+".join(terms)
    assert grade(gold, "+".join(reversed(terms))).correct
    assert not grade(gold, "+".join(f"({c})x^{{{k}}}" for k, c in enumerate(changed))).correct
    assert grade(f"y={gold}", f"({scale})y=({scale})({gold})").correct


@pytest.mark.slow
def test_a_hundred_thousand_random_strings_never_raise_in_the_layers_of_this_process_or_in_extraction():
    draw = random.Random(20261121)
    golds = [json.loads(line)["gold"] for line in (GOLDEN / "open.jsonl").read_text(encoding="utf-8").splitlines()]
    for _ in range(100_000):
        text = "".join(draw.choice(FRAGMENTS) for _ in range(draw.randint(1, 14)))
        gold = (
            draw.choice(golds)
            if draw.random() < 0.5
            else "".join(draw.choice(FRAGMENTS) for _ in range(draw.randint(1, 14)))
        )
        _settle(gold, text, None, None)
        extract_answer(text)


@given(gold=messy)
@settings(max_examples=200, deadline=None)
def test_checking_a_gold_never_calls_an_unusable_gold_verified(gold):
    settled = _settle(gold, gold, None, None)
    if type(settled).__name__ == "Grade":
        checked = check_gold(gold) if type(_settle(gold, "7", None, None)).__name__ == "Grade" else None
        if checked is not None and checked.status == "verified":
            assert checked.self_accepts
            assert checked.refuses_neighbour


def test_grading_a_whole_output_without_an_answer_is_unparsable_not_wrong():
    assert grade_output("5", "I think so").verdict == "unparsable_answer"
