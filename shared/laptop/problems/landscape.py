"""Natural-looking landscapes: sky and ground of grains, trees, birds, the sun, a house."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import COLOURS, SIZE, Canvas
from shared.laptop.problems.kinds import Content, Form, Kind
from shared.laptop.problems.problem import Asked

SKIES = {
    "blue": ((120, 180, 240), (135, 195, 250), (150, 205, 250), (110, 170, 235)),
    "orange": ((250, 170, 110), (255, 190, 130), (240, 150, 100), (250, 200, 150)),
    "grey": ((150, 155, 160), (165, 170, 175), (140, 145, 150), (175, 180, 185)),
}
_GROUND = ((80, 130, 60), (70, 120, 50), (95, 140, 65), (60, 105, 45), (110, 120, 60))
_SAND = ((200, 170, 110), (190, 160, 100), (210, 180, 120), (180, 150, 95))
SIDES = ("left", "center", "right")
HOUSES = ("red", "yellow", "purple", "blue")


@dataclass(frozen=True, slots=True)
class Landscape:
    """What is seen: sky word, place of the sun, number of trees and birds, colour of the house ("no" = none)."""

    sky: str
    sun: str
    trees: int
    birds: int
    house: str
    ground: str


def _sample(rng: random.Random) -> Landscape:
    return Landscape(
        rng.choice(tuple(SKIES)),
        rng.choice((*SIDES, "no")),
        rng.randint(1, 5),
        rng.randint(0, 4),
        rng.choice((*HOUSES, "no")),
        rng.choice(("grass", "sand")),
    )


def _facts(content: Content) -> tuple[str, ...]:
    return (
        f"landscape of {content.ground}.",
        f"sky={content.sky}.",
        f"sun={content.sun}.",
        f"trees={content.trees}.",
        f"birds={content.birds}.",
        f"house={content.house}.",
    )


def _paint(content: Content, rng: random.Random) -> Canvas:
    canvas = Canvas(SKIES[content.sky][0])
    horizon = rng.randint(60, 66)
    canvas.noise((0, 0, SIZE, horizon), SKIES[content.sky], rng)
    canvas.noise((0, horizon, SIZE, SIZE), _GROUND if content.ground == "grass" else _SAND, rng)
    hill = canvas.ink((90, 110, 120))
    for _ in range(2):
        x, half = rng.randint(0, SIZE), rng.randint(15, 30)
        canvas.pen.polygon([(x - half, horizon), (x, horizon - rng.randint(4, 8)), (x + half, horizon)], fill=hill)
    if content.sun != "no":
        x, y = (18, 56, 94)[SIDES.index(content.sun)] + rng.randint(-3, 3), rng.randint(12, 16)
        canvas.pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=canvas.ink((255, 235, 90)))
        canvas.mark("sun", x, y)
    bird = canvas.ink((25, 25, 30))
    for place in sorted(rng.sample(range(5), content.birds)):
        x, y = 13 + 21 * place + rng.randint(-2, 2), rng.randint(32, 44)
        canvas.pen.line((x - 7, y - 4, x, y + 1, x + 7, y - 4), fill=bird, width=2)
        canvas.mark("bird", x, y)
    slots = rng.sample(range(6), content.trees + (content.house != "no"))
    if content.house != "no":
        _house(canvas, 9 + 18 * slots.pop(), horizon + rng.randint(8, 16), content.house)
    for place in sorted(slots):
        _tree(canvas, 9 + 18 * place + rng.randint(-1, 1), horizon + rng.randint(8, 40), rng)
    return canvas


def _tree(canvas: Canvas, x: int, y: int, rng: random.Random) -> None:
    canvas.pen.rectangle((x - 1, y - 6, x + 1, y), fill=canvas.ink((95, 60, 30)))
    crown = canvas.ink(rng.choice(((20, 80, 30), (30, 95, 35), (15, 70, 40))))
    canvas.pen.polygon([(x, y - 24), (x - 7, y - 6), (x + 7, y - 6)], fill=crown)
    canvas.mark("tree", x, y - 13)


def _house(canvas: Canvas, x: int, y: int, colour: str) -> None:
    canvas.pen.rectangle((x - 7, y - 10, x + 7, y), fill=canvas.ink(COLOURS[colour]))
    canvas.pen.polygon([(x - 8, y - 10), (x, y - 18), (x + 8, y - 10)], fill=canvas.ink((110, 60, 40)))
    canvas.mark("house", x, y - 7)
    canvas.mark(colour, x, y - 7)


def _sky(content: Content, _: random.Random) -> Asked:
    others = tuple(word for word in ("blue", "orange", "grey", "green") if word != content.sky)
    return Asked({}, content.sky, f"sky={content.sky}.", others)


def _has(content: Content, rng: random.Random) -> Asked:
    thing, value = rng.choice((("sun", content.sun), ("house", content.house)))
    said = f"{thing}={value}."
    return Asked({"t": thing}, "no" if value == "no" else "yes", said)


def _count(content: Content, rng: random.Random) -> Asked:
    thing, count = rng.choice((("trees", content.trees), ("birds", content.birds)))
    others = tuple(rng.sample([str(number) for number in range(6) if number != count], 3))
    return Asked({"t": thing}, str(count), f"{thing}={count}.", others)


def _together(content: Content, _: random.Random) -> Asked:
    trees, birds = content.trees, content.birds
    thinking = f"trees={trees}. birds={birds}. {trees}+{birds}={trees + birds}."
    others = tuple(str(trees + birds + offset) for offset in (1, 2, 3))
    return Asked({}, str(trees + birds), thinking, others)


_WORDINGS = {
    "sky": (
        "What is the colour of the sky?",
        "Which colour has the sky?",
        "Name the colour of the sky.",
        "Find the colour of the sky shown.",
    ),
    "has": (
        "Is there a {t} in the landscape?",
        "Does the landscape have a {t}?",
        "Say yes or no: the landscape shows a {t}.",
        "Is a {t} part of the landscape?",
    ),
    "count": (
        "How many {t} are there?",
        "What is the number of {t}?",
        "Count the {t} in the landscape.",
        "Find the number of {t} shown.",
    ),
    "together": (
        "How many trees and birds are there together?",
        "What is the number of trees and birds together?",
        "Add the number of trees and the number of birds.",
        "Find the total of trees and birds shown.",
    ),
}
_FORMS = (
    Form("sky", "easy", _WORDINGS["sky"], _sky),
    Form("has", "easy", _WORDINGS["has"], _has),
    Form("count", "medium", _WORDINGS["count"], _count),
    Form("together", "hard", _WORDINGS["together"], _together),
)
LANDSCAPE = Kind("landscape", "natural", _sample, _facts, _paint, _FORMS)
