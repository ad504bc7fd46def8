"""Graphs of straight lines and parabolas on a grid, with one named point."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import COLOURS, INKS, SIZE, Canvas
from shared.laptop.problems.kinds import Content, Form, Kind, near_numbers
from shared.laptop.problems.problem import Asked

_UNIT = 11  # pixels of one grid unit
_MIDDLE = SIZE // 2


@dataclass(frozen=True, slots=True)
class Graph:
    """y = slope * x + intercept (power 1) or y = slope * x^2 + intercept (power 2), and a point on it."""

    power: int
    slope: int
    intercept: int
    name: str
    x: int

    def at(self, x: int) -> int:
        """Value of the function."""
        return int(self.slope * x**self.power + self.intercept)

    def formula(self) -> str:
        """The function as it is written: `y=2x+1`."""
        variable = "x" if self.power == 1 else "x^2"
        factor = {1: "", -1: "-"}.get(self.slope, str(self.slope))
        shift = "" if self.intercept == 0 else f"{self.intercept:+d}"
        return f"y={factor}{variable}{shift}"


def _sample(rng: random.Random) -> Graph:
    while True:
        power = rng.choice((1, 1, 2))
        slope = rng.choice((-2, -1, 1, 2) if power == 1 else (-1, 1))
        graph = Graph(power, slope, rng.randint(-3, 3), rng.choice("ABCDEFGHKL"), rng.choice((-3, -2, -1, 1, 2, 3)))
        if abs(graph.at(graph.x)) <= 4:
            return graph


def _facts(content: Content) -> tuple[str, ...]:
    return (f"graph of {content.formula()}.", f"point {content.name} at ({content.x}, {content.at(content.x)}).")


def _paint(content: Content, rng: random.Random) -> Canvas:
    canvas = Canvas((255, 255, 255))
    grid, axis = canvas.ink((215, 215, 215)), canvas.ink((60, 60, 60))
    for step in range(-5, 6):
        place = _MIDDLE + step * _UNIT
        canvas.pen.line((place, 1, place, SIZE - 2), fill=grid)
        canvas.pen.line((1, place, SIZE - 2, place), fill=grid)
    canvas.pen.line((_MIDDLE, 0, _MIDDLE, SIZE), fill=axis)
    canvas.pen.line((0, _MIDDLE, SIZE, _MIDDLE), fill=axis)
    curve = []
    for pixel in range(SIZE):
        # Integer arithmetic: y in pixels times the square of the unit, so that no machine rounds differently.
        x = pixel - _MIDDLE
        rise = content.slope * x * _UNIT if content.power == 1 else content.slope * x * x
        y = _MIDDLE - content.intercept * _UNIT - rise // _UNIT
        if -20 <= y <= SIZE + 20:
            curve.append((pixel, y))
    canvas.pen.line(curve, fill=canvas.ink(rng.choice(tuple(COLOURS.values()))), width=2)
    x, y = _MIDDLE + content.x * _UNIT, _MIDDLE - content.at(content.x) * _UNIT
    canvas.pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=axis)
    aside = 12 if content.x > 0 else -12
    canvas.clear((x + aside - 6, y - 8, x + aside + 6, y + 8))
    canvas.text(x + aside, y, content.name, rng.choice(INKS))
    canvas.mark("dot", x, y)
    canvas.mark("crossing", _MIDDLE, _MIDDLE - content.intercept * _UNIT)
    return canvas


def _intercept(content: Content, _: random.Random) -> Asked:
    value = content.intercept
    others = tuple(str(value + offset) for offset in (1, -1, 2))
    return Asked({}, str(value), f"The graph is {content.formula()}. x=0. y={value}.", others)


def _rises(content: Content, _: random.Random) -> Asked | None:
    if content.power == 2:
        return None
    return Asked(
        {}, "yes" if content.slope > 0 else "no", f"The graph is {content.formula()}. The slope is {content.slope}."
    )


def _slope(content: Content, _: random.Random) -> Asked | None:
    if content.power == 2:
        return None
    others = tuple(str(slope) for slope in (-2, -1, 1, 2) if slope != content.slope)
    return Asked({}, str(content.slope), f"The graph is {content.formula()}. The slope is {content.slope}.", others)


def _point(content: Content, _: random.Random) -> Asked:
    x, y = content.x, content.at(content.x)
    others = tuple(f"({a}, {b})" for a, b in ((-x, y), (x, y + 1), (x + 1, y)))
    return Asked({"p": content.name}, f"({x}, {y})", f"Point {content.name} is at ({x}, {y}).", others)


def _value(content: Content, rng: random.Random) -> Asked:
    x = rng.choice((4, 5, 6))
    product = content.slope * x**content.power
    value = product + content.intercept
    first = f"{x}*{x}={x * x}. {x * x}*{content.slope}={product}." if content.power == 2 else ""
    first = first or f"{x}*{content.slope}={product}."
    sign = "+" if content.intercept >= 0 else "-"
    thinking = f"The graph is {content.formula()}. {first} {product}{sign}{abs(content.intercept)}={value}."
    return Asked({"x": str(x)}, str(value), thinking, near_numbers(value, rng))


_WORDINGS = {
    "intercept": (
        "Where does the graph cross the y axis?",
        "What is y at x = 0?",
        "Read the value of y where x is 0.",
        "Find the crossing of the graph and the y axis.",
    ),
    "rises": (
        "Does the line rise?",
        "Is the slope of the line more than 0?",
        "Say yes or no: the line rises.",
        "Does the slope of the line exceed 0?",
    ),
    "slope": (
        "What is the slope of the line?",
        "How large is the slope of the line?",
        "Find the slope of the line shown.",
        "Which slope does the line have?",
    ),
    "point": (
        "Where is point {p}?",
        "What is the place of point {p}?",
        "Give the place of the point {p} as (x, y).",
        "Find x and y of point {p}.",
    ),
    "value": (
        "What is y at x = {x}?",
        "What is the value of the function for x = {x}?",
        "Find y where x is {x}.",
        "Which value has the function at x = {x}?",
    ),
}
_FORMS = (
    Form("intercept", "easy", _WORDINGS["intercept"], _intercept),
    Form("rises", "easy", _WORDINGS["rises"], _rises),
    Form("slope", "medium", _WORDINGS["slope"], _slope),
    Form("point", "medium", _WORDINGS["point"], _point),
    Form("value", "hard", _WORDINGS["value"], _value),
)
GRAPH = Kind("graph", "mathgeo", _sample, _facts, _paint, _FORMS)
