"""Printed text on paper: a price list of three or four short lines (image type `ocr`)."""

from __future__ import annotations

import random

from shared.laptop.problems.canvas import INKS, SIZE, Canvas
from shared.laptop.problems.kinds import Content, Kind
from shared.laptop.problems.labelled_values import LabelledValues, forms

WORDS = ("milk", "tea", "rice", "corn", "egg", "fish", "salt", "ham", "plum", "bread")


def _sample(rng: random.Random) -> LabelledValues:
    count = rng.choice((2, 3, 3, 4))
    return LabelledValues(tuple(rng.sample(WORDS, count)), tuple(rng.sample(range(1, 41), count)))


def _facts(content: Content) -> tuple[str, ...]:
    return (f"text with {len(content.names)} lines.", *(f"{name}={value}." for name, value in content.pairs()))


def _paint(content: Content, rng: random.Random) -> Canvas:
    canvas = Canvas((250, 246, 232))
    grain = tuple((base, base - 3, base - 12) for base in (255, 251, 247, 243))
    canvas.noise((0, 0, SIZE, SIZE), grain, rng)
    text = rng.choice(INKS)
    pitch = min(26, 104 // len(content.names))
    top = (SIZE - pitch * len(content.names)) / 2 + rng.randint(-3, 3)
    for number, (name, value) in enumerate(content.pairs()):
        y = top + pitch * (number + 0.5)
        canvas.text(6 + 6 * len(name), y, name.upper(), text)
        canvas.text(SIZE - 5 - 6 * len(str(value)), y, str(value), text)
    return canvas


_FORMS = forms(
    {
        "read": (
            "What is the price of {a}?",
            "How much is {a}?",
            "Which price is printed for {a}?",
            "Read the price of {a} on the paper.",
        ),
        "most": (
            "What has the largest price?",
            "What costs the most?",
            "Name the thing with the highest price.",
            "Find what is printed with the largest price.",
        ),
        "add": (
            "What is the price of {a} and {b} together?",
            "How much are {a} and {b} together?",
            "Add the prices of {a} and {b}.",
            "Find the total price of {a} and {b}.",
        ),
        "difference": (
            "How much more is {a} than {b}?",
            "What is the difference of the prices of {a} and {b}?",
            "By how much does the price of {a} exceed {b}?",
            "Subtract the price of {b} from the price of {a}.",
        ),
        "greater": (
            "Is the price of {a} larger than the price of {b}?",
            "Is {a} more than {b}?",
            "Does {a} cost more than {b}?",
            "Say yes or no: the price of {a} exceeds the price of {b}.",
        ),
        "total": (
            "What is the sum of all prices?",
            "How much is all together?",
            "Add all prices on the paper.",
            "Find the total of every printed price.",
        ),
    }
)

RECEIPT = Kind("receipt", "ocr", _sample, _facts, _paint, _FORMS)
