# ruff: noqa: E501, PLC3002, PLR0915, F841, FURB116  a table of templates: one row, one line
r"""Writes the golden grading table: `open.jsonl` (for writing rules) and `frozen.jsonl` (set aside before any rule was written).

Each row: `gold`, `pred`, `expected`, `kind`, `source` (the identity or convention that decides it). Values are drawn with a
fixed seed and the expected verdict follows from exact arithmetic here, never from a grader. Only pairs on which nobody would
disagree are in the table. The split is by template, so a frozen row's *form* was not available when the rules were written.
Run: `python tests/shared/answers/golden/make_golden.py`.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import factorial, gcd
from pathlib import Path

Row = tuple[str, str, bool]
Template = Callable[[random.Random], Row]
TEMPLATES: list[tuple[str, str, int, Template]] = []


def add(kind: str, source: str, count: int, template: Template) -> None:
    """Register a template: `count` rows are drawn from it."""
    TEMPLATES.append((kind, source, count, template))


def fixed(kind: str, source: str, *rows: Row) -> None:
    """Register hand-written rows of one source."""
    for i, row in enumerate(rows):
        TEMPLATES.append((kind, f"{source} #{i + 1}", 1, lambda _r, row=row: row))


def frac(r: random.Random, improper: bool = False) -> tuple[int, int]:
    """A reduced fraction with a denominator that is no divisor of a power of ten unless by chance."""
    while True:
        q = r.randint(2, 40)
        p = r.randint(q + 1, 200) if improper else r.randint(1, q - 1)
        if gcd(p, q) == 1:
            return p, q


def terminating(r: random.Random) -> tuple[str, Fraction]:
    """A decimal numeral with 1 to 3 decimals, without a trailing zero, and its value."""
    d = r.randint(1, 3)
    n = r.randint(11, 9999) * 10 + r.choice([1, 2, 3, 4, 6, 7, 8, 9])
    v = Fraction(n, 10**d)
    return f"{n // 10**d}.{n % 10**d:0{d}d}", v


def numbers() -> None:
    """Integers, decimals, fractions, mixed numbers, scientific notation, thousands, percent."""
    n = lambda r: r.randint(2, 99999)  # noqa: E731
    add("number", "an integer equals itself", 40, lambda r: (str(x := n(r)), str(x), True))
    add(
        "number",
        "another integer is another number",
        40,
        lambda r: (str(x := n(r)), str(x + r.choice([1, -1, 10])), False),
    )
    add("number", "the sign is part of the number", 30, lambda r: (str(-(x := n(r))), str(x), False))
    add("number", "a trailing full stop is punctuation", 20, lambda r: (str(x := n(r)), f"{x}.", True))
    add("number", "a plus sign changes nothing", 20, lambda r: (str(x := n(r)), f"+{x}", True))
    add("number", "an integer equals its decimal with zeros", 20, lambda r: (str(x := n(r)), f"{x}.0", True))
    add("number", "digits swapped", 20, lambda r: (f"{(x := r.randint(1, 8))}{x + 1}", f"{x + 1}{x}", False))
    add("number", "spelling x = n names the unknown", 30, lambda r: (str(x := n(r)), f"x = {x}", True))
    add("number", "sentence around a number", 20, lambda r: (str(x := n(r)), f"The answer is {x}.", True))
    add(
        "number",
        "an integer gold is exact: a near decimal is wrong",
        30,
        lambda r: (str(x := n(r)), f"{x}.{r.randint(1, 9)}", False),
    )
    add("decimal", "trailing zeros do not change a value", 40, lambda r: ((t := terminating(r)[0]), t + "00", True))
    add(
        "decimal",
        "a decimal equals its fraction",
        40,
        lambda r: ((t := terminating(r))[0], f"\\frac{{{t[1].numerator}}}{{{t[1].denominator}}}", True),
    )
    add("decimal", "last digit differs", 40, lambda r: ((t := terminating(r)[0])[:-1] + "3", t[:-1] + "7", False))
    add("decimal", "decimal point moved", 30, lambda r: ((t := terminating(r))[0], str(float(t[1] * 10)), False))
    add("decimal", "leading zero may be left out", 30, lambda r: (f"0.{(x := r.randint(11, 99))}", f".{x}", True))
    add(
        "decimal",
        "an answer with fewer digits than the gold is less than the gold asks",
        30,
        lambda r: (f"{(x := r.randint(1, 99))}.{r.randint(1, 9)}{r.randint(1, 9)}", f"{x}", False),
    )
    add(
        "decimal",
        "rounded gold accepts the value that rounds to it (3 or more digits)",
        40,
        lambda r: (lambda p, q: (f"{p / q:.3f}", f"\\frac{{{p}}}{{{q}}}", True))(*frac(r, True)),
    )
    add("decimal", "sign differs", 20, lambda r: ("-" + (t := terminating(r)[0]), t, False))
    add(
        "fraction",
        "common factor",
        40,
        lambda r: (lambda p, q, k: (f"\\frac{{{p}}}{{{q}}}", f"\\frac{{{p * k}}}{{{q * k}}}", True))(
            *frac(r), r.randint(2, 9)
        ),
    )
    add(
        "fraction",
        "dfrac, tfrac and frac are one operation",
        30,
        lambda r: (lambda p, q: (f"\\frac{{{p}}}{{{q}}}", f"\\{r.choice('dt')}frac{{{p}}}{{{q}}}", True))(*frac(r)),
    )
    add(
        "fraction",
        "a slash is a fraction",
        40,
        lambda r: (lambda p, q: (f"\\frac{{{p}}}{{{q}}}", f"{p}/{q}", True))(*frac(r)),
    )
    add(
        "fraction",
        "sign before or inside",
        30,
        lambda r: (lambda p, q: (f"-\\frac{{{p}}}{{{q}}}", f"\\frac{{{p}}}{{-{q}}}", True))(*frac(r)),
    )
    add(
        "fraction",
        "reciprocal is another number",
        40,
        lambda r: (lambda p, q: (f"\\frac{{{p}}}{{{q}}}", f"\\frac{{{q}}}{{{p}}}", False))(*frac(r)),
    )
    add(
        "fraction",
        "numerator differs",
        40,
        lambda r: (lambda p, q: (f"\\frac{{{p}}}{{{q}}}", f"\\frac{{{p + q}}}{{{q}}}", False))(*frac(r)),
    )
    add(
        "fraction",
        "single digits need no braces",
        20,
        lambda r: (f"\\frac{{{(a := r.randint(1, 8))}}}{{{a + 1}}}", f"\\frac{a}{a + 1}", True),
    )
    add(
        "fraction",
        "a two-digit decimal is no third",
        20,
        lambda r: (lambda p: (f"\\frac{{{p}}}{{7}}", f"{p / 7:.1f}", False))(r.randint(1, 6)),
    )
    add(
        "fraction",
        "\\over is a fraction",
        20,
        lambda r: (lambda p, q: (f"\\frac{{{p}}}{{{q}}}", f"{{{p} \\over {q}}}", True))(*frac(r)),
    )
    add(
        "mixed_number",
        "w p/q = (wq+p)/q",
        60,
        lambda r: (lambda w, p, q: (f"{w}\\frac{{{p}}}{{{q}}}", f"\\frac{{{w * q + p}}}{{{q}}}", True))(
            r.randint(1, 30), *frac(r)
        ),
    )
    add(
        "mixed_number",
        "written with a space and a slash",
        60,
        lambda r: (lambda w, p, q: (f"\\frac{{{w * q + p}}}{{{q}}}", f"{w} {p}/{q}", True))(r.randint(1, 30), *frac(r)),
    )
    add(
        "mixed_number",
        "a mixed number is a sum, not a product",
        50,
        lambda r: (lambda w, p, q: (f"{w}\\frac{{{p}}}{{{q}}}", f"\\frac{{{w * p}}}{{{q}}}", False))(
            r.randint(2, 30), *frac(r)
        ),
    )
    add(
        "mixed_number",
        "negative mixed number: the sign covers both parts",
        40,
        lambda r: (lambda w, p, q: (f"-{w}\\frac{{{p}}}{{{q}}}", f"-\\frac{{{w * q + p}}}{{{q}}}", True))(
            r.randint(1, 30), *frac(r)
        ),
    )
    add(
        "mixed_number",
        "whole part differs",
        40,
        lambda r: (lambda w, p, q: (f"{w} {p}/{q}", f"{w + 1} {p}/{q}", False))(r.randint(1, 30), *frac(r)),
    )
    add(
        "sci",
        "a times ten to the k",
        50,
        lambda r: (
            f"{(a := r.randint(1, 9))}.{(b := r.randint(1, 9))}\\times10^{{{(k := r.randint(2, 8))}}}",
            str((10 * a + b) * 10 ** (k - 1)),
            True,
        ),
    )
    add("sci", "E notation", 50, lambda r: (f"{(a := r.randint(1, 9))}e{(k := r.randint(2, 8))}", str(a * 10**k), True))
    add(
        "sci",
        "negative powers",
        50,
        lambda r: (
            f"{(a := r.randint(1, 9))}\\times 10^{{-{(k := r.randint(2, 6))}}}",
            "0." + "0" * (k - 1) + str(a),
            True,
        ),
    )
    add(
        "sci",
        "the power differs by one",
        60,
        lambda r: (
            f"{(a := r.randint(1, 9))} \\times 10^{{{(k := r.randint(-9, 9))}}}",
            f"{a} \\times 10^{{{k + 1}}}",
            False,
        ),
    )
    add(
        "sci",
        "cdot or times",
        30,
        lambda r: (f"{(a := r.randint(1, 9))}\\cdot10^{{{(k := r.randint(2, 12))}}}", f"{a}×10^{k}", True),
    )
    add("thousands", "groups of three", 60, lambda r: (str(x := r.randint(1000, 99999999)), f"{x:,}", True))
    add(
        "thousands",
        "LaTeX group comma",
        40,
        lambda r: (f"{(x := r.randint(1000, 9999999)):,}".replace(",", "{,}"), str(x), True),
    )
    add(
        "thousands",
        "LaTeX thin space",
        40,
        lambda r: (f"{(x := r.randint(10000, 9999999)):,}".replace(",", "\\,"), str(x), True),
    )
    add(
        "thousands", "a thousandth of the number", 40, lambda r: (f"{(x := r.randint(2, 999)) * 1000:,}", str(x), False)
    )
    add("thousands", "other number", 40, lambda r: (f"{(x := r.randint(1000, 999999)):,}", f"{x + 1000:,}", False))
    add("thousands", "with decimals", 20, lambda r: (f"{(x := r.randint(1000, 99999)):,}.25", f"{x}.25", True))
    add("percent", "p% = p/100", 50, lambda r: (f"{(p := r.randint(1, 99))}\\%", str(Fraction(p, 100)), True))
    add("percent", "backslash or not", 40, lambda r: (f"{(p := r.randint(1, 99))}\\%", f"{p}%", True))
    add("percent", "other percentage", 50, lambda r: (f"{(p := r.randint(1, 99))}\\%", f"{p + 1}%", False))
    add("percent", "ten times as much", 40, lambda r: (f"{(p := r.randint(1, 9))}%", f"{p}0%", False))
    add("percent", "the word", 30, lambda r: (f"{(p := r.randint(1, 99))}%", f"{p} percent", True))
    add("percent", "decimal fraction gold", 40, lambda r: (f"0.{(p := r.randint(11, 99))}", f"{p}\\%", True))
    add(
        "percent",
        "a percentage is not the same number without its sign below one",
        30,
        lambda r: (f"0.{(p := r.randint(1, 9))}", f"0.{p}%", False),
    )


UNITS = [("cm", "centimeters", "m", "meters", 100), ("mm", "millimeters", "cm", "centimeters", 10), ("m", "metres", "km", "kilometers", 1000),
         ("g", "grams", "kg", "kilograms", 1000), ("mL", "milliliters", "L", "liters", 1000), ("min", "minutes", "h", "hours", 60),
         ("s", "seconds", "min", "minutes", 60), ("mg", "milligrams", "g", "grams", 1000), ("in", "inches", "ft", "feet", 12)]  # fmt: skip


def units() -> None:
    """Units, degrees, money, time, ratio."""
    u = lambda r: r.choice(UNITS)  # noqa: E731
    si = "SI brochure (BIPM), prefixes; 1 ft = 12 in, 1 h = 60 min"
    add(
        "unit",
        f"{si}: converted value",
        60,
        lambda r: (lambda t, k: (f"{k} {t[2]}", f"{k * t[4]} {t[0]}", True))(u(r), r.randint(1, 50)),
    )
    add(
        "unit",
        f"{si}: same number, other unit",
        60,
        lambda r: (lambda t, k: (f"{k} {t[0]}", f"{k} {t[2]}", False))(u(r), r.randint(1, 50)),
    )
    add(
        "unit",
        "symbol or word",
        50,
        lambda r: (lambda t, k: (f"{k} {t[0]}", f"{k} {t[1]}", True))(u(r), r.randint(2, 50)),
    )
    add(
        "unit",
        "LaTeX text around the unit",
        50,
        lambda r: (lambda t, k: (f"{k}\\,\\text{{{t[0]}}}", f"{k} {t[0]}", True))(u(r), r.randint(2, 50)),
    )
    add(
        "unit",
        "mathrm with tilde",
        30,
        lambda r: (lambda t, k: (f"{k} \\mathrm{{~{t[0]}}}", f"{k}{t[0]}", True))(u(r), r.randint(2, 50)),
    )
    add(
        "unit",
        "the gold carries the unit, the answer need not",
        50,
        lambda r: (lambda t, k: (f"{k} {t[0]}", f"{k}", True))(u(r), r.randint(2, 50)),
    )
    add(
        "unit",
        "unit of another dimension",
        50,
        lambda r: (lambda k: (f"{k} cm", f"{k} {r.choice(['kg', 's', 'hours', 'liters'])}", False))(r.randint(2, 50)),
    )
    add(
        "unit",
        "other number, same unit",
        40,
        lambda r: (lambda t, k: (f"{k} {t[0]}", f"{k + 1} {t[0]}", False))(u(r), r.randint(2, 50)),
    )
    add("unit", "powers of units", 40, lambda r: (f"{(k := r.randint(2, 50))} cm^2", f"{k} \\text{{ cm}}^{{2}}", True))
    add("unit", "square words", 30, lambda r: (f"{(k := r.randint(2, 50))} cm^2", f"{k} square centimeters", True))
    add("unit", "a length is no area", 40, lambda r: (f"{(k := r.randint(2, 50))} cm^2", f"{k} cm", False))
    add("unit", "an area is no volume", 30, lambda r: (f"{(k := r.randint(2, 50))} m^3", f"{k} m^2", False))
    add("unit", "speed", 40, lambda r: (f"{(k := r.randint(2, 50))} km/h", f"{k} \\text{{ km/h}}", True))
    add("unit", "speed in words", 20, lambda r: (f"{(k := r.randint(2, 50))} km/h", f"{k} kilometers per hour", True))
    add("unit", "km/h is not m/s", 30, lambda r: (f"{(k := r.randint(2, 50))} km/h", f"{k} m/s", False))
    add("unit", "1 m/s = 3.6 km/h", 20, lambda r: (f"{(k := r.randint(1, 20)) * 18} km/h", f"{k * 5} m/s", True))
    add(
        "unit",
        "square metres hold 10,000 square centimetres",
        20,
        lambda r: (f"{(k := r.randint(1, 20))} m^2", f"{k * 10000} cm^2", True),
    )
    add("unit", "noun as unit", 30, lambda r: (f"{(k := r.randint(2, 50))} apples", f"{k}", True))
    add(
        "unit",
        "answer names what it counts",
        30,
        lambda r: (f"{(k := r.randint(2, 50))}", f"{k} {r.choice(['apples', 'students', 'cm', 'ways'])}", True),
    )
    add("money", "dollar sign", 50, lambda r: (f"\\${(k := r.randint(2, 900))}", f"${k}", True))
    add("money", "cents shown", 40, lambda r: (f"${(k := r.randint(2, 900))}", f"{k}.00", True))
    add("money", "the word", 40, lambda r: (f"\\${(k := r.randint(2, 900))}", f"{k} dollars", True))
    add("money", "1 dollar = 100 cents", 40, lambda r: (f"\\$0.{(k := r.randint(11, 99))}", f"{k} cents", True))
    add("money", "other amount", 50, lambda r: (f"\\${(k := r.randint(2, 900))}", f"\\${k + 1}", False))
    add("money", "thousands", 30, lambda r: (f"\\${(k := r.randint(1000, 90000)):,}", f"{k}", True))
    add("money", "another currency", 30, lambda r: (f"${(k := r.randint(2, 900))}", f"€{k}", False))
    add("degree", "degree sign or circ", 50, lambda r: (f"{(k := r.randint(1, 359))}^\\circ", f"{k}°", True))
    add("degree", "the word", 40, lambda r: (f"{(k := r.randint(1, 359))}°", f"{k} degrees", True))
    add(
        "degree",
        "the sign may be missing on either side",
        40,
        lambda r: (f"{(k := r.randint(1, 359))}", f"{k}^{{\\circ}}", True),
    )
    add("degree", "other angle", 50, lambda r: (f"{(k := r.randint(1, 359))}^{{\\circ}}", f"{k + 5}^{{\\circ}}", False))
    add("degree", "complement or supplement", 40, lambda r: (f"{(k := r.randint(1, 44))}°", f"{90 - k}°", False))
    add("degree", "decimal degrees", 20, lambda r: (f"{(k := r.randint(1, 44))}.5°", f"{k}.50^\\circ", True))
    add("time", "the same time", 40, lambda r: ((t := f"{r.randint(1, 12)}:{r.randint(10, 59)}"), t, True))
    add(
        "time",
        "another minute",
        50,
        lambda r: (f"{(h := r.randint(1, 12))}:{(m := r.randint(10, 58))}", f"{h}:{m + 1}", False),
    )
    add(
        "time",
        "another hour",
        40,
        lambda r: (f"{(h := r.randint(1, 11))}:{(m := r.randint(10, 58))}", f"{h + 1}:{m}", False),
    )
    add(
        "time",
        "morning or afternoon",
        40,
        lambda r: (f"{(h := r.randint(1, 11))}:{(m := r.randint(10, 58))} AM", f"{h}:{m} PM", False),
    )
    add(
        "time",
        "case and dots of a.m.",
        40,
        lambda r: (f"{(h := r.randint(1, 11))}:{(m := r.randint(10, 58))} AM", f"{h}:{m} a.m.", True),
    )
    add("time", "a time is no ratio", 30, lambda r: ("3:30", f"{(k := r.choice([1, 2, 4]))}:{k * 10}", False))
    add(
        "time",
        "24-hour clock",
        30,
        lambda r: (f"{(h := r.randint(1, 11))}:{(m := r.randint(10, 58))} PM", f"{h + 12}:{m}", True),
    )
    add("ratio", "ratio sign", 40, lambda r: (f"{(a := r.randint(1, 9))}:{(b := r.randint(1, 9))}", f"{a}∶{b}", True))
    add("ratio", "order of a ratio", 50, lambda r: (f"{(a := r.randint(1, 9))}:{a + 1}", f"{a + 1}:{a}", False))
    add("ratio", "spaces", 30, lambda r: (f"{(a := r.randint(1, 9))}:{(b := r.randint(1, 9))}", f"{a} : {b}", True))
    add(
        "ratio",
        "the word to",
        40,
        lambda r: (f"{(a := r.randint(1, 9))}:{(b := r.randint(1, 9))}", f"{a} to {b}", True),
    )
    add(
        "ratio",
        "three terms",
        40,
        lambda r: (f"{(a := r.randint(1, 9))}:{(b := r.randint(1, 9))}:{(c := r.randint(1, 9))}", f"{a}:{b}:{c}", True),
    )
    add(
        "ratio",
        "three terms, one differs",
        40,
        lambda r: (
            f"{(a := r.randint(1, 9))}:{(b := r.randint(1, 9))}:{(c := r.randint(1, 9))}",
            f"{a}:{b}:{c + 1}",
            False,
        ),
    )


def symbols() -> None:
    """Unicode signs, radicals, expressions, equations, complex numbers, bases, infinity."""
    d = lambda r, a=2, b=9: r.randint(a, b)  # noqa: E731
    add(
        "unicode",
        "U+221A square root",
        50,
        lambda r: (f"{(a := d(r))}\\sqrt{{{(p := r.choice([2, 3, 5, 7, 11]))}}}", f"{a}√{p}", True),
    )
    add("unicode", "U+2212 minus", 40, lambda r: (f"-{(a := d(r, 2, 99))}", f"−{a}", True))
    add("unicode", "U+03C0 pi", 40, lambda r: (f"{(a := d(r, 2, 99))}\\pi", f"{a}π", True))
    add(
        "unicode",
        "superscripts",
        40,
        lambda r: (f"x^{{{(a := d(r, 2, 3))}}}+{(b := d(r))}", f"x{'²' if a == 2 else '³'}+{b}", True),
    )
    add(
        "unicode",
        "vulgar fractions",
        30,
        lambda r: (lambda t: (t[0], t[1], True))(
            r.choice(
                [
                    ("\\frac{1}{2}", "½"),
                    ("\\frac{3}{4}", "¾"),
                    ("\\frac{1}{3}", "⅓"),
                    ("0.25", "¼"),
                    ("1.5", "1½"),
                    ("2\\frac{3}{4}", "2¾"),
                ]
            )
        ),
    )
    add("unicode", "times and division signs", 30, lambda r: (f"{(a := d(r))}\\times {(b := d(r))}", f"{a}×{b}", True))
    add("unicode", "pi left out", 30, lambda r: (f"{(a := d(r, 2, 99))}π", f"{a}", False))
    add(
        "unicode",
        "full-width digits",
        30,
        lambda r: (str(a := d(r, 10, 9999)), "".join(chr(ord(c) + 0xFEE0) for c in str(a)), True),
    )
    add("unicode", "root of another number", 30, lambda r: (f"√{(a := r.choice([2, 3, 5, 7]))}", f"√{a + 6}", False))
    add(
        "radical",
        "sqrt(k^2 p) = k sqrt(p)",
        60,
        lambda r: (f"\\sqrt{{{(k := d(r)) ** 2 * (p := r.choice([2, 3, 5, 7]))}}}", f"{k}\\sqrt{{{p}}}", True),
    )
    add(
        "radical",
        "rationalised denominator",
        50,
        lambda r: (
            f"\\frac{{{(k := d(r))}}}{{\\sqrt{{{(p := r.choice([2, 3, 5, 7]))}}}}}",
            f"\\frac{{{k}\\sqrt{{{p}}}}}{{{p}}}",
            True,
        ),
    )
    add(
        "radical",
        "sqrt in plain text",
        40,
        lambda r: (f"{(k := d(r))}\\sqrt{{{(p := r.choice([2, 3, 5, 7, 13]))}}}", f"{k}*sqrt({p})", True),
    )
    add(
        "radical",
        "k inside is not k outside",
        50,
        lambda r: (f"{(k := d(r))}\\sqrt{{{(p := r.choice([2, 3, 5, 7]))}}}", f"\\sqrt{{{k * p}}}", False),
    )
    add(
        "radical",
        "the number under the root alone",
        40,
        lambda r: (f"\\sqrt{{{(p := r.choice([2, 3, 5, 7]))}}}", f"{p}", False),
    )
    add(
        "radical",
        "conjugate",
        40,
        lambda r: (f"{(a := d(r))}+\\sqrt{{{(p := r.choice([2, 3, 5, 7]))}}}", f"{a}-\\sqrt{{{p}}}", False),
    )
    add(
        "radical", "cube root", 30, lambda r: (f"\\sqrt[3]{{{(k := d(r, 2, 5)) ** 3 * 2}}}", f"{k}\\sqrt[3]{{2}}", True)
    )
    add(
        "radical",
        "1/(sqrt a - sqrt b) = (sqrt a + sqrt b)/(a-b)",
        20,
        lambda r: (
            f"\\frac{{1}}{{\\sqrt{{{(a := d(r, 2, 30)) + 1}}}-\\sqrt{{{a}}}}}",
            f"\\sqrt{{{a + 1}}}+\\sqrt{{{a}}}",
            True,
        ),
    )
    add("expr", "(x+a)^2 expanded", 40, lambda r: (f"(x+{(a := d(r))})^2", f"x^2+{2 * a}x+{a * a}", True))
    add("expr", "difference of squares", 40, lambda r: (f"(x-{(a := d(r))})(x+{a})", f"x^2-{a * a}", True))
    add("expr", "commuting products", 40, lambda r: (f"{(a := d(r))}ab", f"{a}ba", True))
    add("expr", "a sign differs", 40, lambda r: (f"{(a := d(r))}x+{(b := d(r))}", f"{a}x-{b}", False))
    add("expr", "a coefficient differs", 40, lambda r: (f"{(a := d(r))}x^2+{(b := d(r))}", f"{a + 1}x^2+{b}", False))
    add("expr", "a power differs", 40, lambda r: (f"x^{(a := d(r))}", f"x^{a + 1}", False))
    add(
        "expr",
        "factorials too large for floating point",
        20,
        lambda r: (f"\\frac{{1}}{{{(a := d(r, 500, 2000))}!}}", f"\\frac{{1}}{{{a + 2}!}}", False),
    )
    add("expr", "powers too small to see", 30, lambda r: (f"2^{{-{(a := d(r, 60, 999))}}}", f"2^{{-{a + 1}}}", False))
    add("expr", "n! as a number", 20, lambda r: (f"{(a := d(r, 3, 20))}!", str(factorial(a)), True))
    add(
        "expr",
        "known sines",
        30,
        lambda r: (lambda t: (t[0], t[1], True))(
            r.choice(
                [
                    ("\\sin 30^\\circ", "\\frac12"),
                    ("\\cos 60^{\\circ}", "0.5"),
                    ("\\tan 45^\\circ", "1"),
                    ("\\sin\\frac{\\pi}{3}", "\\frac{\\sqrt3}{2}"),
                    ("\\cos\\pi", "-1"),
                ]
            )
        ),
    )
    add("expr", "logarithm laws", 30, lambda r: (f"\\ln {(a := d(r)) * (b := d(r))}", f"\\ln {a} + \\ln {b}", True))
    add(
        "expr", "logarithm to a base", 20, lambda r: (f"\\log_{{{(a := d(r))}}} {a ** (k := d(r, 2, 4))}", f"{k}", True)
    )
    add(
        "expr",
        "binomial coefficient",
        20,
        lambda r: (f"\\binom{{{(n := d(r, 4, 12))}}}{{2}}", str(n * (n - 1) // 2), True),
    )
    add("expr", "another variable", 30, lambda r: (f"{(a := d(r))}x", f"{a}y", False))
    add("expr", "a number is not an expression", 30, lambda r: (f"{(a := d(r))}x", f"{a}", False))
    add(
        "expr",
        "a fraction of a product",
        30,
        lambda r: (f"\\frac{{{(a := d(r))}x}}{{{(b := d(r))}}}", f"\\frac{{{a}}}{{{b}}}x", True),
    )
    add("expr", "sin^2+cos^2 = 1", 10, lambda r: (f"{(a := d(r))}", f"{a}\\sin^2 x+{a}\\cos^2 x", True))
    add(
        "equation",
        "terms moved",
        50,
        lambda r: (f"{(a := d(r))}x+{(b := d(r))}y={(c := d(r))}", f"{a}x+{b}y-{c}=0", True),
    )
    add(
        "equation",
        "scaled",
        50,
        lambda r: (f"{(a := d(r))}x+{(b := d(r))}y={(c := d(r))}", f"{3 * a}x+{3 * b}y={3 * c}", True),
    )
    add("equation", "sides exchanged", 40, lambda r: (f"y={(a := d(r))}x+{(b := d(r))}", f"{a}x+{b}=y", True))
    add("equation", "slope differs", 50, lambda r: (f"y={(a := d(r))}x+{(b := d(r))}", f"y={a + 1}x+{b}", False))
    add("equation", "constant differs", 50, lambda r: (f"x^2+y^2={(b := d(r, 2, 90))}", f"x^2+y^2={b + 1}", False))
    add(
        "equation",
        "the gold names the function, the answer gives its value",
        40,
        lambda r: (f"y={(a := d(r))}x^2", f"{a}x^2", True),
    )
    add("equation", "variables exchanged", 40, lambda r: (f"y={(a := d(r))}x", f"x={a}y", False))
    add(
        "equation",
        "circle in standard and general form",
        30,
        lambda r: (f"(x-{(a := d(r))})^2+y^2={(b := d(r)) ** 2}", f"x^2-{2 * a}x+y^2={b * b - a * a}", True),
    )
    add("equation", "x = n is n", 40, lambda r: (f"x={(a := d(r, 2, 99))}", f"{a}", True))
    add("complex", "order of parts", 60, lambda r: (f"{(a := d(r))}+{(b := d(r))}i", f"{b}i+{a}", True))
    add("complex", "conjugate", 60, lambda r: (f"{(a := d(r))}+{(b := d(r))}i", f"{a}-{b}i", False))
    add("complex", "i^2 = -1", 40, lambda r: (f"(1+{(a := d(r))}i)^2", f"{1 - a * a}+{2 * a}i", True))
    add("complex", "upright i", 30, lambda r: (f"{(a := d(r))}-{(b := d(r))}i", f"{a}-{b}\\mathrm{{i}}", True))
    add("complex", "without the imaginary part", 40, lambda r: (f"{(a := d(r))}+{(b := d(r))}i", f"{a}", False))
    add(
        "base",
        "braces of the base",
        60,
        lambda r: (f"{(a := r.choice(['101', '1101', '1011', '11010', '10011']))}_2", f"{a}_{{2}}", True),
    )
    add(
        "base",
        "digits differ",
        60,
        lambda r: (lambda t: (f"{t}_{{7}}", f"{t + 1}_{{7}}", False))(int(oct(r.randint(70, 900))[2:-1] + "1")),
    )
    add("base", "base differs", 60, lambda r: (f"{(t := oct(r.randint(70, 900))[2:])}_8", f"{t}_9", False))
    fixed("infinity", "infinite values", ("\\infty", "+\\infty", True), ("\\infty", "∞", True), ("-\\infty", "−∞", True), ("\\infty", "0", False),
          ("-\\infty", "\\infty", False), ("\\infty", "infinity", True), ("\\infty", "10000000000", False), ("\\infty", "-∞", False))  # fmt: skip


def structures() -> None:
    """Sets, tuples, intervals, matrices, plus-minus, vectors, coordinates."""
    s = lambda r, n: [str(v) for v in r.sample(range(-30, 60), n)]  # noqa: E731
    shuffled = lambda r, v: r.sample(v, len(v))  # noqa: E731
    add(
        "set",
        "a set has no order",
        60,
        lambda r: ("\\{" + ",".join(v := s(r, 4)) + "\\}", "\\{" + ", ".join(shuffled(r, v)) + "\\}", True),
    )
    add(
        "set",
        "one element more",
        50,
        lambda r: ("\\{" + ",".join((v := s(r, 4))[:3]) + "\\}", "\\{" + ",".join(v) + "\\}", False),
    )
    add(
        "set",
        "one element less",
        50,
        lambda r: ("\\{" + ",".join(v := s(r, 4)) + "\\}", "\\{" + ",".join(v[:3]) + "\\}", False),
    )
    add(
        "set",
        "one element differs",
        40,
        lambda r: ("\\{" + ",".join((v := s(r, 4))[:3]) + "\\}", "\\{" + ",".join([v[0], v[1], v[3]]) + "\\}", False),
    )
    add(
        "set",
        "left and right",
        40,
        lambda r: ("\\{" + ",".join(v := s(r, 3)) + "\\}", "\\left\\{" + ", ".join(v) + "\\right\\}", True),
    )
    add("set", "solutions as a list", 40, lambda r: (", ".join(v := s(r, 2)), " and ".join(v), True))
    add("set", "solutions with or", 30, lambda r: (f"x={(v := s(r, 2))[0]} or x={v[1]}", ", ".join(v), True))
    add("set", "one of two solutions", 40, lambda r: (", ".join(v := s(r, 2)), v[0], False))
    add(
        "set",
        "equal elements in other forms",
        30,
        lambda r: (
            f"\\{{\\frac{{1}}{{{(a := r.choice([2, 4, 5, 8]))}}},{(b := r.randint(2, 9))}\\}}",
            f"\\{{{b},{1 / a}\\}}",
            True,
        ),
    )
    add("tuple", "a tuple has an order", 60, lambda r: (f"({','.join(v := s(r, 2))})", f"({','.join(v[::-1])})", False))
    add(
        "tuple",
        "spaces and left right",
        50,
        lambda r: (f"({','.join(v := s(r, 3))})", f"\\left({', '.join(v)}\\right)", True),
    )
    add(
        "tuple",
        "equal entries in other forms",
        50,
        lambda r: (f"({(a := r.randint(1, 9))}/2, {(b := r.randint(1, 9))})", f"({a / 2}, {b})", True),
    )
    add(
        "tuple",
        "a tuple is no set",
        40,
        lambda r: (f"({','.join(v := s(r, 3))})", "\\{" + ",".join(v[::-1]) + "\\}", False),
    )
    add("tuple", "entry differs", 50, lambda r: (f"({','.join((v := s(r, 3))[:2])})", f"({v[0]},{v[2]})", False))
    add("tuple", "length differs", 40, lambda r: (f"({','.join((v := s(r, 3))[:2])})", f"({','.join(v)})", False))
    iv = lambda r: ((a := r.randint(-9, 9)), a + r.randint(1, 9))  # noqa: E731
    add(
        "interval",
        "brackets decide the end points",
        60,
        lambda r: (lambda a, b: (f"[{a},{b}]", f"({a},{b})", False))(*iv(r)),
    )
    add("interval", "half-open the other way", 50, lambda r: (lambda a, b: (f"[{a},{b})", f"({a},{b}]", False))(*iv(r)))
    add("interval", "double inequality", 50, lambda r: (lambda a, b: (f"{a}<x<{b}", f"{b}>x>{a}", True))(*iv(r)))
    add("interval", "strict or not", 50, lambda r: (lambda a, b: (f"x\\ge{a}", f"x>{a}", False))(*iv(r)))
    add(
        "interval",
        "ge, geq, geqslant, ≥",
        40,
        lambda r: (
            lambda a, b: (f"x\\ge {a}", f"x {r.choice(['>=', '≥', chr(92) + 'geq ', chr(92) + 'geqslant '])}{a}", True)
        )(*iv(r)),
    )
    add("interval", "direction", 40, lambda r: (lambda a, b: (f"x<{a}", f"x>{a}", False))(*iv(r)))
    add("interval", "x in the interval", 40, lambda r: (lambda a, b: (f"[{a},{b})", f"x\\in[{a},{b})", True))(*iv(r)))
    add(
        "interval",
        "unions commute",
        40,
        lambda r: (lambda a, b: (f"(-\\infty,{a})\\cup({b},\\infty)", f"({b},+\\infty)\\cup(-\\infty,{a})", True))(
            *iv(r)
        ),
    )
    add(
        "interval",
        "half of a union",
        40,
        lambda r: (lambda a, b: (f"(-\\infty,{a})\\cup({b},\\infty)", f"({b},\\infty)", False))(*iv(r)),
    )
    add(
        "interval", "an end point differs", 40, lambda r: (lambda a, b: (f"[{a},{b}]", f"[{a},{b + 1}]", False))(*iv(r))
    )
    m = lambda v, env: f"\\begin{{{env}}}{v[0]}&{v[1]}\\\\{v[2]}&{v[3]}\\end{{{env}}}"  # noqa: E731
    add("matrix", "pmatrix or bmatrix", 60, lambda r: (m(v := s(r, 4), "pmatrix"), m(v, "bmatrix"), True))
    add(
        "matrix", "entry differs", 60, lambda r: (m((v := s(r, 5))[:4], "pmatrix"), m([*v[:3], v[4]], "pmatrix"), False)
    )
    add(
        "matrix", "transpose", 60, lambda r: (m(v := s(r, 4), "pmatrix"), m([v[0], v[2], v[1], v[3]], "pmatrix"), False)
    )
    add(
        "matrix",
        "spaces and row ends",
        40,
        lambda r: (m(v := s(r, 4), "pmatrix"), m(v, "pmatrix").replace("&", " & ").replace("\\\\", " \\\\ "), True),
    )
    add(
        "matrix",
        "equal entries in other forms",
        30,
        lambda r: (m(["1/2", *(v := s(r, 3))], "pmatrix"), m(["0.5", *v], "pmatrix"), True),
    )
    add("pm", "plus or minus names two numbers", 60, lambda r: (f"\\pm {(a := r.randint(1, 60))}", f"-{a}, {a}", True))
    add("pm", "unicode plus-minus", 40, lambda r: (f"\\pm {(a := r.randint(1, 60))}", f"±{a}", True))
    add("pm", "only one of the two", 60, lambda r: (f"\\pm {(a := r.randint(1, 60))}", f"{a}", False))
    add("pm", "other number", 40, lambda r: (f"\\pm {(a := r.randint(1, 60))}", f"\\pm {a + 1}", False))
    add(
        "pm",
        "with a middle",
        50,
        lambda r: (
            f"{(a := r.randint(1, 9))}\\pm\\sqrt{{{(b := r.choice([2, 3, 5]))}}}",
            f"{a}+\\sqrt{{{b}}}, {a}-\\sqrt{{{b}}}",
            True,
        ),
    )
    add(
        "vector",
        "entries differ",
        60,
        lambda r: (f"\\langle {(v := s(r, 3))[0]},{v[1]}\\rangle", f"\\langle {v[0]},{v[2]}\\rangle", False),
    )
    add(
        "vector",
        "spaces",
        60,
        lambda r: (f"\\langle {','.join(v := s(r, 3))}\\rangle", f"\\langle {', '.join(v)} \\rangle", True),
    )
    add("coord", "the point's name", 60, lambda r: (f"({(v := s(r, 2))[0]},{v[1]})", f"P({v[0]}, {v[1]})", True))
    add("coord", "entries exchanged", 60, lambda r: (f"A({(v := s(r, 2))[0]},{v[1]})", f"A({v[1]},{v[0]})", False))
    add(
        "nested",
        "delimiters",
        60,
        lambda r: (
            f"${(a := r.randint(2, 999))}$",
            r.choice(
                ["\\({}\\)", "\\[{}\\]", "\\text{{{}}}", "{{{}}}", "\\boxed{{{}}}", "\\mathbf{{{}}}", "$${}$$"]
            ).format(a),
            True,
        ),
    )
    add(
        "nested",
        "fraction of fractions",
        50,
        lambda r: (
            f"\\frac{{\\frac{{{(a := r.randint(1, 9))}}}{{{(b := r.randint(2, 9))}}}}}{{{(c := r.randint(2, 9))}}}",
            f"\\frac{{{a}}}{{{b * c}}}",
            True,
        ),
    )
    add(
        "nested",
        "set of tuples",
        40,
        lambda r: (f"({(v := s(r, 4))[0]},{v[1]}),({v[2]},{v[3]})", f"({v[2]},{v[3]}),({v[0]},{v[1]})", True),
    )
    add(
        "nested",
        "set of tuples, entries exchanged",
        40,
        lambda r: (f"({(v := s(r, 4))[0]},{v[1]}),({v[2]},{v[3]})", f"({v[1]},{v[0]}),({v[2]},{v[3]})", False),
    )
    add(
        "nested",
        "delimited value differs",
        30,
        lambda r: (f"$\\frac{{{(a := r.randint(1, 9))}}}{{7}}$", f"\\({a + 1}/7\\)", False),
    )
    add(
        "approx",
        "approximately sign",
        60,
        lambda r: (f"\\approx {(a := r.randint(1, 99))}.{(b := r.randint(10, 99))}", f"{a}.{b}", True),
    )
    add(
        "approx",
        "other value",
        60,
        lambda r: (f"\\approx {(a := r.randint(1, 99))}.{(b := r.randint(10, 90))}", f"{a}.{b + 5}", False),
    )


def words() -> None:
    """Choices, text, yes and no, Chinese, and answers that try to cheat."""
    c = lambda r: r.choice("ABCDE")  # noqa: E731
    other = lambda r, a: r.choice([x for x in "ABCDE" if x != a])  # noqa: E731
    for i, form in enumerate(["{}.", "({})", "Option {}", "{}) 12", "**{}**", "\\text{{{}}}", "\\text{{({})}}", "{}: 12 cm", "The answer is {}", "Answer: {}", "{}.  $\\frac12$",
                              "选{}", "答案：{}", "选项{}", "（{}）", "Choice {}", "\\mathrm{{{}}}", "{} ", "\\boxed{{{}}}", "The correct answer is ({}).", "option ({})", "{}、12"]):  # fmt: skip
        add("choice", f"the letter named in a usual form {i}", 12, lambda r, f=form: ((a := c(r)), f.format(a), True))
        add(
            "choice",
            f"another letter in a usual form {i}",
            8,
            lambda r, f=form: ((a := c(r)), f.format(other(r, a)), False),
        )
    add(
        "choice",
        "letters listed",
        40,
        lambda r: (
            (a := c(r)),
            r.choice(["A B C D E", "A, B, C, D, E", "ABCDE", "A/B/C/D/E", "A or B or C or D or E", "A;B;C;D;E"]),
            False,
        ),
    )
    add("choice", "gold in brackets", 30, lambda r: (f"({(a := c(r))})", a, True))
    add("choice", "two letters", 30, lambda r: ((a := c(r)), f"{a} or {other(r, a)}", False))
    add(
        "choice", "several right options", 30, lambda r: ("".join(v := sorted(r.sample("ABCD", 2))), ", ".join(v), True)
    )
    add(
        "choice",
        "several right options, one missing",
        30,
        lambda r: ("".join(v := sorted(r.sample("ABCD", 2))), v[0], False),
    )
    vocabulary = ["red", "blue", "isosceles triangle", "parallelogram", "decreases", "Mercury", "the mitochondria", "photosynthesis", "north", "Hello Kitty", "rhombus", "surplus",
                  "gravity", "no role", "medium", "sphere", "potential energy", "granite", "Tuesday", "increase"]  # fmt: skip
    add("text", "case does not matter", 60, lambda r: ((t := r.choice(vocabulary)), t.upper(), True))
    add(
        "text",
        "full stop and quotes",
        40,
        lambda r: ((t := r.choice(vocabulary)), r.choice(["{}.", '"{}"', "\\text{{{}}}", " {} "]).format(t), True),
    )
    add(
        "text",
        "another word",
        60,
        lambda r: ((t := r.choice(vocabulary)), r.choice([x for x in vocabulary if x != t]), False),
    )
    add("text", "negated", 40, lambda r: ((t := r.choice(vocabulary)), f"not {t}", False))
    add("text", "a number is no word", 30, lambda r: (r.choice(vocabulary), str(r.randint(1, 99)), False))
    add("text", "runs of spaces", 20, lambda r: ("Hello Kitty", "hello   kitty", True))
    add("boolean", "case", 40, lambda r: ((t := r.choice(["Yes", "No", "True", "False"])), t.lower(), True))
    add(
        "boolean",
        "opposite",
        60,
        lambda r: (lambda t: (t[0], t[1], False))(
            r.choice([("Yes", "No"), ("no", "yes"), ("True", "False"), ("False", "true")])
        ),
    )
    add(
        "boolean",
        "with a reason",
        40,
        lambda r: (lambda t: (t[0], t[1], True))(
            r.choice([("Yes", "Yes, it is"), ("No", "No."), ("yes", "Yes."), ("True", "\\text{True}")])
        ),
    )
    add(
        "boolean",
        "both",
        30,
        lambda r: (r.choice(["Yes", "No"]), r.choice(["Yes/No", "Yes or No", "yes and no", "Yes, No"]), False),
    )
    units = [
        ("厘米", "cm"),
        ("米", "m"),
        ("千克", "kg"),
        ("平方厘米", "cm^2"),
        ("小时", "h"),
        ("千米", "km"),
        ("分钟", "min"),
        ("克", "g"),
        ("升", "L"),
        ("平方米", "m^2"),
    ]
    add(
        "chinese",
        "unit in Chinese or in symbols",
        60,
        lambda r: (lambda u, k: (f"{k}{u[0]}", f"{k} {u[1]}", True))(r.choice(units), r.randint(2, 99)),
    )
    add(
        "chinese",
        "unit left out",
        50,
        lambda r: (lambda u, k: (f"{k}{u[0]}", f"{k}", True))(r.choice(units), r.randint(2, 99)),
    )
    add(
        "chinese",
        "other number",
        50,
        lambda r: (lambda u, k: (f"{k}{u[0]}", f"{k + 1}{u[0]}", False))(r.choice(units), r.randint(2, 99)),
    )
    add(
        "chinese",
        "other unit",
        50,
        lambda r: (f"{(k := r.randint(2, 99))}厘米", f"{k}{r.choice(['米', '千克', '小时', '平方厘米'])}", False),
    )
    add(
        "chinese",
        "counted things",
        40,
        lambda r: (f"{(k := r.randint(2, 99))}", f"{k}{r.choice(['个', '人', '只', '本', '元'])}", True),
    )
    add(
        "chinese",
        "words",
        40,
        lambda r: (
            (t := r.choice(["相等", "等腰三角形", "第一象限", "平行", "垂直", "无解"])),
            r.choice([t, t + "。", " " + t]),
            True,
        ),
    )
    add(
        "chinese",
        "other words",
        40,
        lambda r: (lambda v: (v[0], v[1], False))(
            r.sample(["相等", "等腰三角形", "第一象限", "平行", "垂直", "无解", "不相等"], 2)
        ),
    )
    add(
        "hack",
        "a list that contains the answer",
        60,
        lambda r: (str(a := r.randint(2, 30)), ", ".join(str(k) for k in range(a - 1, a + 4)), False),
    )
    add("hack", "two answers joined by or", 50, lambda r: (str(a := r.randint(2, 99)), f"{a} or {a + 1}", False))
    add("hack", "a variable instead of a number", 30, lambda r: (str(r.randint(2, 99)), r.choice("xyznk"), False))
    add("hack", "a range around the answer", 40, lambda r: (str(a := r.randint(5, 99)), f"{a - 3} to {a + 3}", False))
    add(
        "hack", "an interval around the answer", 40, lambda r: (str(a := r.randint(5, 99)), f"[{a - 3},{a + 3}]", False)
    )
    add(
        "hack",
        "empty or punctuation",
        40,
        lambda r: (str(r.randint(5, 99)), r.choice(["", " ", ".", "?", "...", "\\boxed{}", "{}", "$$"]), False),
    )
    add("hack", "plus or minus to be sure", 30, lambda r: (str(a := r.randint(5, 99)), f"\\pm {a}", False))
    add(
        "hack",
        "any real number",
        20,
        lambda r: (
            str(r.randint(5, 99)),
            r.choice(["\\mathbb{R}", "all real numbers", "(-\\infty, \\infty)", "\\infty"]),
            False,
        ),
    )


def rows() -> Iterator[dict[str, object]]:
    """All rows with the split they belong to, without duplicates."""
    seen: set[tuple[str, str]] = set()
    for kind, source, count, template in TEMPLATES:
        r = random.Random(zlib.crc32(f"{kind}|{source}".encode()))
        split = "frozen" if zlib.crc32(f"split|{kind}|{source}".encode()) % 2 else "open"
        for _ in range(count):
            gold, pred, expected = template(r)
            if (gold, pred) in seen:
                continue
            seen.add((gold, pred))
            yield {"gold": gold, "pred": pred, "expected": expected, "kind": kind, "source": source, "split": split}


def main() -> None:
    """Write both files beside this script."""
    for part in (numbers, units, symbols, structures, words):
        part()
    tables: dict[str, list[str]] = {"open": [], "frozen": []}
    for row in rows():
        tables[str(row.pop("split"))].append(json.dumps(row, ensure_ascii=False))
    for name, lines in tables.items():
        (Path(__file__).parent / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
