"""Formulas and picture tags as a person reads them on a page."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from data_engine.sharing.readable_text import readable, readable_answer


def words(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"Find $\frac{1}{2} + \sqrt{3}$.", "Find 12 + √3."),
        (r"$x^2 \leq y_{10}$", "x2 ≤ y10"),
        (r"\(90^{\circ}\) and \[\pi\]", "90° and π"),
        (r"$\angle ABC = 60^\circ$", "∠ ABC = 60°"),
        (r"$\text{cm}$ in $\mathbb{R}$", "cm in ℝ"),
        ("It costs $5 and then $7.", "It costs $5 and then $7."),
        (r"$\frac{1}{2$", r"$\frac{1}{2$"),
        ("<image>Compare with <image>", "image 1Compare with image 2"),
        ("a < b & c", "a &lt; b &amp; c"),
        (r"$\left( 1, 2 \right)$", "( 1, 2 )"),
        (r"$\begin{cases} x \\ y \end{cases}$", " x \n y "),
        ("", ""),
    ],
)
def test_a_text_reads_as_a_person_would_read_it(text: str, shown: str) -> None:
    """Without the tags that set it."""
    assert words(readable(text)) == shown


def test_an_answer_without_dollars_is_one_formula() -> None:
    """Golds are written so."""
    assert words(readable_answer(r"\frac{3}{4}\pi")) == "34π"
    assert 'class="frac"' in readable_answer(r"\frac34")
    assert words(readable_answer("plain words")) == "plain words"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "$<img src=x onerror=alert(1)>$",
        r"$\text{<b onclick=x>}$",
        r"$\sqrt[<i onload=x>]{2}$",
        r"\(\unknown<svg>\)",
        "$" + "{" * 5000 + "$",
        r"$" + r"\frac{" * 200 + "$",
        "$\\$",
        "$^$",
    ],
)
def test_no_text_becomes_markup_and_none_is_too_odd(text: str) -> None:
    """Whatever it holds, only the page's own tags come out."""
    for shown in (readable(text), readable_answer(text)):
        tags = re.findall(r"<(/?\w+)([^>]*)>", shown)
        assert all(name.lstrip("/") in {"span", "i", "sup", "sub"} for name, _ in tags)
        assert all(
            rest in {"", ' class="math"', ' class="chip"', ' class="frac"', ' class="over"', ' class="root"'}
            for _, rest in tags
        )


def test_every_real_question_is_readable(real_data: Path) -> None:
    """None ends the page, and few formulas stay as they are written."""
    questions = pl.read_parquet(real_data / "virl_like" / "virl_like.parquet")["question"].to_list()
    shown = [readable(question) for question in questions]
    left = sum("\\frac" in text or "\\angle" in text for text in shown)
    assert left < 0.02 * len(shown)
