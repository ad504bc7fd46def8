"""Text problems: calculations and word problems in three grades, with every step of the way written out."""

from __future__ import annotations

import operator
import random
from dataclasses import dataclass

from shared.laptop.problems.kinds import Ask, Content, Form, Kind, Sample, near_numbers
from shared.laptop.problems.problem import Asked, Grade

NAMES = ("Tom", "Ann", "Ben", "Eva", "Max", "Lea", "Sam", "Mia")
THINGS = ("apples", "books", "coins", "cards", "eggs", "pens", "stones", "cups")


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of a text problem, with the words it is told in."""

    values: tuple[int, ...]
    name: str = ""
    thing: str = ""


def _facts(content: Content) -> tuple[str, ...]:
    return (" ".join((*map(str, content.values), content.name, content.thing)),)


def _story(rng: random.Random, *values: int) -> Numbers:
    return Numbers(values, rng.choice(NAMES), rng.choice(THINGS))


def _between(*bounds: tuple[int, int]) -> Sample:
    """Numbers between bounds, told of somebody's things."""
    return lambda rng: _story(rng, *(rng.randint(low, high) for low, high in bounds))


def _sample_difference(rng: random.Random) -> Numbers:
    first = rng.randint(10, 99)
    return _story(rng, first, rng.randint(2, first - 1))


def _sample_fraction(rng: random.Random) -> Numbers:
    below = rng.choice((5, 7, 11, 13, 17, 19, 23))
    first = rng.randint(1, below - 2)
    return _story(rng, first, rng.randint(1, below - 1 - first), below)


def _sample_long_product(rng: random.Random) -> Numbers:
    return _story(rng, rng.randint(11, 99), rng.choice([n for n in range(12, 49) if n % 10]))


def _fields(content: Numbers) -> dict[str, str]:
    fields = {letter: str(value) for letter, value in zip("abcd", content.values, strict=False)}
    return {**fields, "n": content.name, "t": content.thing}


def _asked(content: Numbers, answer: int, thinking: str, rng: random.Random) -> Asked:
    return Asked(_fields(content), str(answer), thinking, near_numbers(answer, rng))


_SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _steps(*steps: str) -> Ask:
    """Asks for what the last of some steps gives: `a+b` of the content's numbers, `x-c` of the first step's result."""

    def ask(content: Content, rng: random.Random) -> Asked:
        known = {"1": 1, **dict(zip("abcd", content.values, strict=False))}
        way, result = [], 0
        for name, step in zip("xyz", steps, strict=False):
            first, sign, second = tuple(step)
            result = known[name] = _SIGNS[sign](known[first], known[second])
            way.append(f"{known[first]}{sign}{known[second]}={result}.")
        return _asked(content, result, " ".join(way), rng)

    return ask


def _larger(content: Content, _: random.Random) -> Asked:
    a, b = content.values
    sign = "more" if a > b else "less"
    return Asked(_fields(content), "yes" if a > b else "no", f"{a} is {sign} than {b}.")


def _even(content: Content, _: random.Random) -> Asked:
    (a,) = content.values
    word = "even" if a % 2 == 0 else "odd"
    return Asked(_fields(content), "yes" if a % 2 == 0 else "no", f"The last digit of {a} is {a % 10}. It is {word}.")


def _half(content: Content, _: random.Random) -> Asked:
    (a,) = content.values
    answer = f"{a // 2}" if a % 2 == 0 else f"{a // 2}.5"
    return Asked(_fields(content), answer, f"{a}/2={answer}.", (str(a), str(a * 2), str(a // 2 + 1)))


def _fraction_sum(content: Content, _: random.Random) -> Asked:
    a, b, c = content.values
    answer = f"{a + b}/{c}"
    return Asked(_fields(content), answer, f"{a}+{b}={a + b}. The sum is {answer}.")


def _long_product(content: Content, rng: random.Random) -> Asked:
    a, b = content.values
    tens, ones = b // 10 * 10, b % 10
    thinking = f"{a}*{tens}={a * tens}. {a}*{ones}={a * ones}. {a * tens}+{a * ones}={a * b}."
    return _asked(content, a * b, thinking, rng)


def _remainder(content: Content, rng: random.Random) -> Asked:
    a, b = content.values
    whole = a // b
    return _asked(content, a % b, f"{whole}*{b}={whole * b}. {a}-{whole * b}={a % b}.", rng)


_WORDINGS = {
    "sum": (
        "{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?",
        "What is {a} + {b}?",
        "Calculate the sum {a} + {b}.",
        "There are {a} {t}. {n} brings {b} more. Find the number of {t}.",
    ),
    "difference": (
        "{n} has {a} {t} and gives {b} away. How many {t} does {n} have now?",
        "What is {a} - {b}?",
        "Calculate the difference {a} - {b}.",
        "There are {a} {t}. {n} takes {b} of them. Find the number of {t} left.",
    ),
    "product": (
        "{n} buys {a} boxes with {b} {t} each. How many {t} does {n} buy?",
        "{n} sells {b} {t} on each of {a} days. How many {t} are sold?",
        "There are {a} boxes. Each has {b} {t} of {n}. Find the number of {t}.",
        "For {a} days {n} brings {b} {t} a day. Calculate how many {t}.",
    ),
    "larger": (
        "Is {a} larger than {b}?",
        "Is the number {a} more than {b}?",
        "Say yes or no: {a} exceeds {b}.",
        "Does {a} exceed {b}?",
    ),
    "even": (
        "Is {a} even?",
        "Is the number {a} even?",
        "Say yes or no: {a} is even.",
        "Does 2 divide {a}?",
    ),
    "three-terms": (
        "{n} has {a} {t}, buys {b} more and gives {c} away. How many {t} does {n} have now?",
        "What is {a} + {b} - {c}?",
        "Calculate {a} + {b} - {c}.",
        "There are {a} {t}. {n} brings {b} more and takes {c}. Find the number of {t} left.",
    ),
    "times-and-add": (
        "{n} buys {a} boxes with {b} {t} each and has {c} {t} more. How many {t} are there?",
        "What is {a} * {b} + {c}?",
        "Calculate {a} * {b} + {c}.",
        "There are {a} boxes with {b} {t} each. {n} brings {c} more. Find the number of {t}.",
    ),
    "half": (
        "What is half of {a}?",
        "How much is {a} / 2?",
        "Calculate half of {a}.",
        "Find the half of the number {a}.",
    ),
    "fraction-sum": (
        "What is {a}/{c} + {b}/{c}?",
        "How much are {a}/{c} and {b}/{c} together?",
        "Calculate the sum {a}/{c} + {b}/{c}.",
        "Add the fractions {a}/{c} and {b}/{c}.",
    ),
    "bracket": (
        "What is ({a} + {b}) * {c} - {d}?",
        "How much is {c} * ({a} + {b}) - {d}?",
        "Calculate ({a} + {b}) * {c} - {d}.",
        "Add {a} and {b}, take {c} times the sum, and subtract {d}.",
    ),
    "long-product": (
        "What is {a} * {b}?",
        "{n} buys {a} boxes with {b} {t} each. How many {t} does {n} buy?",
        "Calculate the product {a} * {b}.",
        "Find the number of {t} in {a} boxes of {n} with {b} each.",
    ),
    "shop": (
        "{n} buys {a} {t} at {b} each and {c} more at {d} each. How much is all together?",
        "What is {a} * {b} + {c} * {d}?",
        "Calculate {a} * {b} + {c} * {d}.",
        "Find the total price that {n} has for {a} {t} at {b} and {c} at {d}.",
    ),
    "sequence": (
        "A sequence begins with {a} and grows by {b} each time. What is term {c}?",
        "{n} has {a} {t} on day 1 and {b} more each day. How many {t} are there on day {c}?",
        "Find term {c} of the sequence that begins with {a} and has the difference {b}.",
        "The first row has {a} {t}, each next row {b} more. Calculate the {t} of row {c}.",
    ),
    "remainder": (
        "What is the remainder of {a} / {b}?",
        "{n} puts {a} {t} into boxes of {b}. How many {t} are left?",
        "Calculate the remainder of {a} divided by {b}.",
        "Find how many of {a} {t} are left after rows of {b}.",
    ),
}


def _kind(name: str, grade: Grade, sample: Sample, ask: Ask) -> Kind:
    return Kind(name, None, sample, _facts, None, (Form("solve", grade, _WORDINGS[name], ask),))


TEXT_KINDS: tuple[Kind, ...] = (
    _kind("sum", "easy", _between((10, 99), (2, 99)), _steps("a+b")),
    _kind("difference", "easy", _sample_difference, _steps("a-b")),
    _kind("product", "easy", _between((2, 12), (2, 9)), _steps("a*b")),
    _kind("larger", "easy", lambda rng: _story(rng, *rng.sample(range(10, 1000), 2)), _larger),
    _kind("even", "easy", _between((10, 9999)), _even),
    _kind("three-terms", "medium", _between((10, 80), (10, 60), (2, 19)), _steps("a+b", "x-c")),
    _kind("times-and-add", "medium", _between((2, 12), (2, 9), (2, 40)), _steps("a*b", "x+c")),
    _kind("half", "medium", _between((5, 399)), _half),
    _kind("fraction-sum", "medium", _sample_fraction, _fraction_sum),
    _kind("bracket", "hard", _between((5, 40), (5, 40), (3, 9), (2, 14)), _steps("a+b", "x*c", "y-d")),
    _kind("long-product", "hard", _sample_long_product, _long_product),
    _kind("shop", "hard", _between((2, 19), (2, 9), (2, 19), (2, 9)), _steps("a*b", "c*d", "x+y")),
    _kind("sequence", "hard", _between((1, 40), (2, 12), (5, 15)), _steps("c-1", "x*b", "a+y")),
    _kind("remainder", "hard", _between((30, 199), (3, 12)), _remainder),
)
