"""Bar charts and line charts with three or four labelled values."""

from __future__ import annotations

import random

from shared.laptop.problems.canvas import COLOURS, INKS, SIZE, Canvas, sheet
from shared.laptop.problems.kinds import Content, Kind
from shared.laptop.problems.labelled_values import LabelledValues, forms

LETTERS = "ABCDEFGHKLMN"
_BASE_Y = 94
_TOP_Y = 24


def _sample(rng: random.Random) -> LabelledValues:
    count = rng.choice((3, 4, 4))
    return LabelledValues(tuple(rng.sample(LETTERS, count)), tuple(rng.sample(range(1, 41), count)))


def _facts(what: str, content: LabelledValues) -> tuple[str, ...]:
    return (f"{what} with {len(content.names)} values.", *(f"{name}={value}." for name, value in content.pairs()))


def _columns(content: LabelledValues) -> list[tuple[float, int, str, int]]:
    """Centre x, y of the value's height, name and value of every column."""
    pitch = SIZE / len(content.names)
    top = max(content.values)
    span = _BASE_Y - _TOP_Y
    return [
        (pitch * (number + 0.5), round(_BASE_Y - span * value / top), name, value)
        for number, (name, value) in enumerate(content.pairs())
    ]


def _paint_bars(content: Content, rng: random.Random) -> Canvas:
    canvas = sheet(rng)
    text = rng.choice(INKS)
    same = rng.choice(tuple(COLOURS.values())) if rng.random() < 0.5 else None
    half = rng.choice((7, 8, 9, 10))
    for x, y, name, value in _columns(content):
        colour = same or rng.choice(tuple(COLOURS.values()))
        canvas.pen.rectangle((round(x) - half, y, round(x) + half, _BASE_Y), fill=canvas.ink(colour))
        canvas.text(x, y - 9, str(value), text)
        canvas.text(x, 103, name, text)
    canvas.pen.line((2, _BASE_Y, SIZE - 3, _BASE_Y), fill=canvas.ink(text))
    return canvas


def _paint_line(content: Content, rng: random.Random) -> Canvas:
    canvas = sheet(rng)
    text, colour = rng.choice(INKS), canvas.ink(rng.choice(tuple(COLOURS.values())))
    grid = canvas.ink((205, 205, 205))
    for y in range(_TOP_Y, _BASE_Y, 14):
        canvas.pen.line((2, y, SIZE - 3, y), fill=grid)
    columns = _columns(content)
    canvas.pen.line([(round(x), y) for x, y, _, _ in columns], fill=colour, width=rng.choice((1, 2)))
    for x, y, name, value in columns:
        canvas.pen.ellipse((round(x) - 3, y - 3, round(x) + 3, y + 3), fill=colour)
        half = 6 * len(str(value))
        left = min(max(round(x) - half, 0), SIZE - 2 * half)
        canvas.clear((left, y - 17, left + 2 * half - 1, y - 4))
        canvas.text(x, y - 11, str(value), text)
        canvas.text(x, 103, name, text)
    canvas.pen.line((2, _BASE_Y, SIZE - 3, _BASE_Y), fill=canvas.ink(text))
    return canvas


_BAR = forms(
    {
        "read": (
            "What is the value of bar {a}?",
            "How high is bar {a}?",
            "Which value does bar {a} show?",
            "Read the value of bar {a} in the chart.",
        ),
        "most": (
            "Which bar is the highest?",
            "Which bar has the largest value?",
            "Name the highest bar of the chart.",
            "Find the bar with the largest value.",
        ),
        "add": (
            "What is the sum of bars {a} and {b}?",
            "How much are bars {a} and {b} together?",
            "Add the values of bars {a} and {b}.",
            "Find the total of bar {a} and bar {b}.",
        ),
        "difference": (
            "How much higher is bar {a} than bar {b}?",
            "What is the difference of bars {a} and {b}?",
            "By how much does bar {a} exceed bar {b}?",
            "Subtract the value of bar {b} from bar {a}.",
        ),
        "greater": (
            "Is bar {a} higher than bar {b}?",
            "Is the value of bar {a} larger than the value of bar {b}?",
            "Does bar {a} show more than bar {b}?",
            "Say yes or no: bar {a} exceeds bar {b}.",
        ),
        "total": (
            "What is the sum of all bars?",
            "How much are all bars together?",
            "Add the values of all bars of the chart.",
            "Find the total of every bar shown.",
        ),
    }
)

_LINE = forms(
    {
        "read": (
            "What is the value of the line at {a}?",
            "How high is the line at {a}?",
            "Which value does the line show at {a}?",
            "Read the value of the point over {a}.",
        ),
        "most": (
            "Where is the line the highest?",
            "At which point has the line the largest value?",
            "Name the highest point of the line.",
            "Find the point with the largest value.",
        ),
        "add": (
            "What is the sum of the values at {a} and {b}?",
            "How much are the values at {a} and {b} together?",
            "Add the points over {a} and {b}.",
            "Find the total of the points {a} and {b}.",
        ),
        "difference": (
            "How much higher is the line at {a} than at {b}?",
            "What is the difference of the values at {a} and {b}?",
            "By how much does point {a} exceed point {b}?",
            "Subtract the value over {b} from the value over {a}.",
        ),
        "greater": (
            "Is the line higher at {a} than at {b}?",
            "Is the value at {a} larger than the value at {b}?",
            "Does point {a} show more than point {b}?",
            "Say yes or no: point {a} exceeds point {b}.",
        ),
        "total": (
            "What is the sum of all values of the line?",
            "How much are all points of the line together?",
            "Add the values of all points shown.",
            "Find the total of every point of the line.",
        ),
    }
)

BAR = Kind("bar", "chart", _sample, lambda content: _facts("bar chart", content), _paint_bars, _BAR)
LINE = Kind("line", "chart", _sample, lambda content: _facts("line chart", content), _paint_line, _LINE)
