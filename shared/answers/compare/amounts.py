"""Whether two quantities are the same number: units, percent, angles, and the tolerance that digits imply.

Gold first: its digits set the tolerance, its unit may be left out by the answer.
Tolerance (no parameter given): a gold that is an exact number accepts only that number; an exact gold that is no
integer also accepts a decimal of six or more significant digits, rounded or cut off at its last place; a decimal gold
of at least three significant digits (or two decimals) may be rounded, so it accepts the values that round to it.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from shared.answers.parse.evaluate import TooHardError, inexact, is_real, same_expression, value_of
from shared.answers.parse.expression import holds, variables
from shared.answers.parse.intervals import infinity_sign
from shared.answers.parse.units import POUND_KILOGRAMS, same_noun
from shared.answers.types import Node, Reading, Unit

MIN_DIGITS_FOR_EXACT_GOLD = 6
"""Significant digits that a decimal needs to stand for an exact gold: 0.333333 for 1/3, but not 0.33."""

_HUNDRED = Fraction(100)


def same_quantity(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:  # noqa: PLR0911
    """Values with units: see the module's docstring of `units` for what converts."""
    if gold.unit and pred.unit and not _same_power(gold.unit, pred.unit):
        return False
    gold, pred = _counted(gold), _counted(pred)
    mine, theirs = gold.unit, pred.unit
    if (mine and mine.is_percent) or (theirs and theirs.is_percent):
        return _same_percentage(gold, pred, mine, theirs, tolerance)
    if mine is None or theirs is None:
        if (angle := mine or theirs) is not None and angle.is_degree:
            return _same_angle(gold, pred, tolerance)
        return same_number(gold, pred, tolerance)
    if mine.is_noun and theirs.is_noun:
        return same_number(gold, pred, tolerance) if same_noun(mine, theirs) else False
    if mine.dimensions != theirs.dimensions:
        radian = (("radian", 1),)
        if {mine.dimensions, theirs.dimensions} == {(("angle", 1),), radian}:
            return _same_angle(gold, pred, tolerance)
        return same_number(gold, pred, tolerance) if _same_currency(mine, theirs) else False
    if mine.factor == theirs.factor:
        return same_number(gold, pred, tolerance)
    return same_number(gold, scaled(pred, theirs.factor / mine.factor), tolerance)


def _same_power(mine: Unit, theirs: Unit) -> bool:
    """Whether "square units" stand beside an area: generic units name a power of length and nothing else."""
    for generic, other in ((mine, theirs), (theirs, mine)):
        if generic.is_generic and generic.dimensions:
            power = generic.dimensions[0][1]
            if other.dimensions and other.dimensions not in ((("L", power),), generic.dimensions):
                return False
    return True


def _same_currency(mine: Unit, theirs: Unit) -> bool:
    """Whether two names may be one currency: the sign ¥ is both yuan and yen, "pounds" are money beside £."""
    names = {mine.dimensions, theirs.dimensions}
    if (sign := (("money_yen_sign", 1),)) in names:
        return names <= {sign, (("money_yuan", 1),), (("money_yen", 1),)}
    pound = next((u for u in (mine, theirs) if u.dimensions == (("M", 1),)), None)
    return (("money_gbp", 1),) in names and pound is not None and pound.factor == POUND_KILOGRAMS


def _counted(reading: Reading) -> Reading:
    """Without a unit that says nothing about the dimension: "16 square units" is 16, "2 dozen" is 24."""
    if reading.unit is None or not reading.unit.is_generic:
        return reading
    factor = reading.unit.factor
    return replace(reading if factor == 1 else scaled(reading, factor), unit=None)


def scaled(reading: Reading, factor: Fraction) -> Reading:
    """The reading's value times a factor, with its last place moved along."""
    return replace(
        reading,
        node=("*", ("n", factor), reading.node),
        ulp=reading.ulp * factor if reading.ulp is not None else None,
        style="decimal" if reading.ulp is not None else reading.style,
    )


def _same_percentage(
    gold: Reading, pred: Reading, mine: Unit | None, theirs: Unit | None, tolerance: float | None
) -> bool | None:
    """50% = 0.5 = 1/2; a percent sign may be missing on the side that is written as a number of at least one."""
    if mine and theirs:
        return same_number(gold, pred, tolerance) if mine == theirs else False
    if (mine or theirs) is None or not (mine or theirs).is_percent:  # type: ignore[union-attr]
        return False
    as_fraction = scaled(pred, 1 / _HUNDRED) if theirs else scaled(pred, _HUNDRED)
    if same_number(gold, as_fraction, tolerance):
        return True
    bare = pred if mine else gold
    try:
        size = value_of(bare.node or ("n", Fraction(0)), {})
    except (TooHardError, KeyError):
        return False
    return same_number(gold, pred, tolerance) if is_real(size) and abs(size) >= 1 else False


def _same_angle(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """Degrees may be left out; what is called radians, or a bare multiple of pi, is in radians (180 degrees are pi)."""
    radians = [
        r
        for r in (gold, pred)
        if (r.unit is not None and not r.unit.is_degree) or (r.unit is None and r.node and holds(r.node, ("c", "pi")))
    ]
    if not radians:
        return same_number(gold, pred, tolerance)
    to_degrees: Node = ("/", ("n", Fraction(180)), ("c", "pi"))

    def in_degrees(r: Reading) -> Reading:
        return replace(r, node=("*", r.node, to_degrees), ulp=None) if r in radians else r

    return same_number(in_degrees(gold), in_degrees(pred), tolerance)


def same_number(gold: Reading, pred: Reading, tolerance: float | None = None) -> bool | None:  # noqa: PLR0911
    """Values without units: exact equality, then the tolerance that the digits imply (or the one that is given)."""
    a, b = gold.node, pred.node
    if a is None or b is None:
        return False
    signs = infinity_sign(gold), infinity_sign(pred)
    if any(signs):
        return signs[0] == signs[1]
    same = True if a == b else same_expression(a, b)
    if same is not False or variables(a) or variables(b):
        return same
    try:
        x = value_of(a, {})
    except TooHardError:
        return None
    try:
        y = value_of(b, {})
    except TooHardError:  # the gold has a value and the answer has none
        return False
    if not (is_real(x) and is_real(y)):
        return False
    allowed = _allowed_error(gold, pred, x) if tolerance is None else Fraction(tolerance)
    if allowed <= 0:
        return False
    if not (isinstance(x, Fraction) and isinstance(y, Fraction)):
        x, y, allowed = inexact(x), inexact(y), inexact(allowed)
    if abs(x - y) <= allowed:
        return True
    exact_gold = tolerance is None and (gold.ulp is None or gold.style == "integer")
    return exact_gold and abs(y) < abs(x) and abs(x - y) < 2 * allowed  # 0.666666: cut off instead of rounded


def _allowed_error(gold: Reading, pred: Reading, gold_value: object) -> Fraction:
    """The error that the digits imply; zero when only the exact value will do."""
    is_whole = isinstance(gold_value, Fraction) and gold_value.denominator == 1
    if gold.style in ("decimal", "scientific") and gold.ulp is not None:
        if is_whole and gold.style == "decimal":  # 142.0 is an integer that went through a float
            return Fraction(0)
        half = gold.ulp / 2
        if pred.ulp is None:
            return half if gold.significant >= 2 else Fraction(0)
        hundredths = gold.significant == 2 and gold.ulp <= Fraction(1, 100) and gold.style == "decimal"
        return half if (gold.significant >= 3 or hundredths) and pred.ulp < gold.ulp else Fraction(0)
    is_exact = gold.style not in ("integer", "decimal", "scientific") and not is_whole
    is_long = pred.style in ("decimal", "scientific") and pred.significant >= MIN_DIGITS_FOR_EXACT_GOLD
    return pred.ulp / 2 if is_exact and is_long and pred.ulp is not None else Fraction(0)
