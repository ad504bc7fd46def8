"""Formulas as pictures: linear equations and calculations."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import INKS, Canvas, sheet
from shared.laptop.problems.kinds import Content, Form, Kind, near_numbers
from shared.laptop.problems.problem import Asked


@dataclass(frozen=True, slots=True)
class Formula:
    """`factor`x + `shift` = `result` (factor > 0), or `shift` `sign` `result` = ? (factor 0)."""

    factor: int
    shift: int
    sign: str
    result: int
    solution: int

    def text(self) -> str:
        """The formula as written, without blanks."""
        if self.factor:
            factor = "" if self.factor == 1 else str(self.factor)
            return f"{factor}x{self.sign}{self.shift}={self.result}"
        return f"{self.shift}{self.sign}{self.result}=?"


def _sample(rng: random.Random) -> Formula:
    sign = rng.choice("+-")
    if rng.random() < 0.6:
        factor, solution = rng.randint(1, 9), rng.randint(1, 12)
        product = factor * solution
        shift = rng.randint(1, 20) if sign == "+" or product < 2 else rng.randint(1, product - 1)
        sign = "+" if product < 2 else sign
        return Formula(factor, shift, sign, product + shift if sign == "+" else product - shift, solution)
    first, second = rng.randint(10, 99), rng.randint(2, 60)
    if sign == "-" and second > first:
        first, second = second, first
    return Formula(0, first, sign, second, first + second if sign == "+" else first - second)


def _facts(content: Content) -> tuple[str, ...]:
    return (f"formula {content.text()}.",)


def _paint(content: Content, rng: random.Random) -> Canvas:
    canvas, ink = sheet(rng), rng.choice(INKS)
    text = content.text()
    half = 6 * len(text)
    canvas.text(rng.randint(half + 1, 111 - half), rng.randint(20, 92), text, ink)
    return canvas


def _solve(content: Content, rng: random.Random) -> Asked | None:
    if content.factor == 0:
        value = content.solution
        way = f"{content.shift}{content.sign}{content.result}={value}."
        return Asked({}, str(value), way, near_numbers(value, rng))
    product, value = content.factor * content.solution, content.solution
    back = "-" if content.sign == "+" else "+"
    way = f"{content.result}{back}{content.shift}={product}."
    if content.factor > 1:
        way += f" {product}/{content.factor}={value}."
    return Asked({}, str(value), way, near_numbers(value, rng))


def _right_side(content: Content, _: random.Random) -> Asked | None:
    if content.factor == 0:
        return None
    return Asked({}, str(content.result), f"After = there is {content.result}.", (str(content.shift), "0", "1"))


def _has_x(content: Content, _: random.Random) -> Asked:
    answer = "yes" if content.factor else "no"
    return Asked({}, answer, f"The formula is {content.text()}.")


_WORDINGS = {
    "has-x": (
        "Is there an x in the formula?",
        "Does the formula have an x?",
        "Say yes or no: the formula shows an x.",
        "Is x part of the formula shown?",
    ),
    "right-side": (
        "What is the right side of the formula?",
        "What is after the sign = in the formula?",
        "Read the right side of the formula.",
        "Which value stands on the right of the formula?",
    ),
    "solve": (
        "What is the solution of the formula?",
        "What is the missing value?",
        "Find the solution of the formula shown.",
        "Solve the formula.",
    ),
}
_FORMS = (
    Form("has-x", "easy", _WORDINGS["has-x"], _has_x),
    Form("right-side", "easy", _WORDINGS["right-side"], _right_side),
    Form("solve", "hard", _WORDINGS["solve"], _solve),
)
EQUATION = Kind("equation", "equation", _sample, _facts, _paint, _FORMS)
