"""Near texts that are two problems, and near texts that are one."""

from __future__ import annotations

import pytest

from data_engine.text_hash.telling_symbols import telling_symbols

LONG = "A farmer has a rectangular field beside a river and wants to fence it on all the sides with the wire he has. "

TWO = [
    ("x^2 + 4x - 5 = 0", "x^2 - 4x - 5 = 0"),
    ("x < 5", "x > 5"),
    (r"x \leq 5", r"x \geq 5"),
    ("x ≤ 5", "x < 5"),
    ("n! / 3", "n / 3"),
    ("3 apples and 5 pears", "5 apples and 3 pears"),
    ("area x² wide", "area x³ wide"),
    ("a rod of 1.5 m", "a rod of 1,5 m"),
    ("a rod of 15 cm", "a rod of 15 m"),
    ("the interval [0, 1)", "the interval (0, 1]"),
    ("the sine of x", "the sine of y"),
    (r"\sin x", r"\cos x"),
    ("the greatest width", "the least width"),
    ("which is correct", "which is not correct"),
    ("f'(x)", "f(x)"),
    ("|x| - 1", "(x) - 1"),
    ("segment AB", "segment BC"),
    ("the ratio 3:4", "the ratio 3/4"),
    ("20% of it", "20 of it"),
    ("最大值是多少", "最小值是多少"),
    ("甲有三个", "甲有五个"),
    ("a ∪ b", "a ∩ b"),
    ("three of them", "four of them"),
    ("its radius", "its diameter"),
    ("increasing", "decreasing"),
]
ONE = [
    ("Find  THE width.", "find the width"),
    ("What's the width?", "What’s the width ?"),
    ("$x + 1$ wide", r"\(x+1\) wide"),
    (r"\frac{1}{2} wide", r"\frac 1 2 wide"),
    ("How wide is it!", "How wide is it"),
    ("a well-known wire", "a well–known wire"),
    ("x − 1", "x - 1"),
    ("the pyramid P-ABCD", "the pyramid P - ABCD"),
    (r"\left(x\right) \leq 1", r"(x) \le 1"),
    ("“wide”", '"wide"'),
]


@pytest.mark.parametrize(("one", "other"), TWO)
def test_one_symbol_makes_another_problem(one: str, other: str) -> None:
    """However long the text around it is."""
    assert telling_symbols(LONG + one) != telling_symbols(LONG + other)


@pytest.mark.parametrize(("one", "other"), ONE)
def test_typesetting_makes_none(one: str, other: str) -> None:
    """Case, blanks, dollars, braces, quotation marks, dashes."""
    assert telling_symbols(LONG + one) == telling_symbols(LONG + other)
