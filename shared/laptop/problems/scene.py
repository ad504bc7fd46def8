"""Drawn scenes of coloured shapes (image type `aigc`) and natural-looking landscapes (image type `natural`)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import COLOURS, SIZE, Canvas
from shared.laptop.problems.kinds import Content, Form, Kind
from shared.laptop.problems.problem import Asked

SHAPES = ("circle", "square", "triangle", "star")
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
_GROUNDS = ((20, 24, 60), (35, 15, 50), (15, 50, 55), (60, 60, 70))
_STAR = ((0, -14), (4, -5), (14, -4), (6, 3), (9, 13), (0, 7), (-9, 13), (-6, 3), (-14, -4), (-4, -5))


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes in reading order: (place 0..8, colour, shape)."""

    things: tuple[tuple[int, str, str], ...]


def _sample(rng: random.Random) -> Scene:
    places = sorted(rng.sample(range(9), rng.randint(2, 5)))
    colours = rng.sample(tuple(COLOURS), 4)
    return Scene(tuple((place, rng.choice(colours), rng.choice(SHAPES)) for place in places))


def _facts(content: Content) -> tuple[str, ...]:
    head = f"scene with {len(content.things)} shapes."
    return (head, *(f"{PLACES[place]}: {colour} {shape}." for place, colour, shape in content.things))


def _paint(content: Content, rng: random.Random) -> Canvas:
    ground = rng.choice(_GROUNDS)
    canvas = Canvas(ground)
    if rng.random() < 0.6:  # a gradient, as generated pictures like them
        for y in range(0, SIZE, 4):
            shade = tuple(min(255, part + y // 3) for part in ground)
            canvas.pen.rectangle((0, y, SIZE, y + 3), fill=canvas.ink((shade[0], shade[1], shade[2])))
    for place, colour, shape in content.things:
        x = 19 + 37 * (place % 3) + rng.randint(-2, 2)
        y = 19 + 37 * (place // 3) + rng.randint(-2, 2)
        fill = canvas.ink(COLOURS[colour])
        size = rng.choice((11, 12, 13))
        if shape == "circle":
            canvas.pen.ellipse((x - size, y - size, x + size, y + size), fill=fill)
        elif shape == "square":
            canvas.pen.rectangle((x - size, y - size, x + size, y + size), fill=fill)
        elif shape == "triangle":
            canvas.pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=fill)
        else:
            canvas.pen.polygon([(x + dx, y + dy) for dx, dy in _STAR], fill=fill)
        canvas.mark(colour, x, y)
        canvas.mark(shape, x, y)
    return canvas


def _count(content: Content, rng: random.Random, column: int) -> Asked:
    pool = [thing[column] for thing in content.things]
    word = rng.choice([*pool, rng.choice(tuple(COLOURS) if column == 1 else SHAPES)])
    found = [thing for thing in content.things if thing[column] == word]
    said = " ".join(f"{PLACES[place]}: {colour} {shape}." for place, colour, shape in found)
    others = tuple(str(number) for number in range(5) if number != len(found))
    return Asked({"w": word}, str(len(found)), f"{said} That is {len(found)}.".strip(), tuple(rng.sample(others, 3)))


def _unique(content: Scene, column: int) -> list[tuple[int, str, str]]:
    words = [thing[column] for thing in content.things]
    return [thing for thing in content.things if words.count(thing[column]) == 1]


def _colour_of(content: Content, rng: random.Random) -> Asked | None:
    if not (single := _unique(content, 2)):
        return None
    place, colour, shape = rng.choice(single)
    others = tuple(rng.sample([other for other in COLOURS if other != colour], 3))
    return Asked({"s": shape}, colour, f"{PLACES[place]}: {colour} {shape}.", others)


def _shape_at(content: Content, rng: random.Random) -> Asked:
    place, colour, shape = rng.choice(content.things)
    others = tuple(other for other in SHAPES if other != shape)
    return Asked({"p": PLACES[place]}, shape, f"{PLACES[place]}: {colour} {shape}.", others)


def _is_there(content: Content, rng: random.Random) -> Asked:
    _, colour, shape = rng.choice(content.things)
    if rng.random() < 0.5:
        shape = rng.choice(SHAPES)
        colour = rng.choice(tuple(COLOURS))
    found = [thing for thing in content.things if thing[1:] == (colour, shape)]
    said = " ".join(f"{PLACES[place]}: {colour} {shape}." for place, _, _ in found)
    thinking = f"{said} That is {len(found)}.".strip()
    return Asked({"t": f"{colour} {shape}"}, "yes" if found else "no", thinking)


_WORDINGS = {
    "shape-at": (
        "What shape is at the place: {p}?",
        "Which shape is {p}?",
        "Name the shape seen {p}.",
        "Find the shape that is shown {p}.",
    ),
    "colour-of": (
        "What is the colour of the {s}?",
        "Which colour has the {s}?",
        "Name the colour of the {s}.",
        "Find the colour of the {s} shown.",
    ),
    "is-there": (
        "Is there a {t}?",
        "Does the scene have a {t}?",
        "Say yes or no: the scene shows a {t}.",
        "Is a {t} part of the scene?",
    ),
    "count-shape": (
        "How many shapes are a {w}?",
        "What is the number of shapes that are a {w}?",
        "Count the shapes that are a {w}.",
        "Find the number of times a {w} is shown.",
    ),
    "count-colour": (
        "How many shapes are {w}?",
        "What is the number of {w} shapes?",
        "Count the {w} shapes.",
        "Find the number of shapes shown in {w}.",
    ),
}
_FORMS = (
    Form("shape-at", "easy", _WORDINGS["shape-at"], _shape_at),
    Form("colour-of", "easy", _WORDINGS["colour-of"], _colour_of),
    Form("is-there", "medium", _WORDINGS["is-there"], _is_there),
    Form("count-shape", "medium", _WORDINGS["count-shape"], lambda content, rng: _count(content, rng, 2)),
    Form("count-colour", "hard", _WORDINGS["count-colour"], lambda content, rng: _count(content, rng, 1)),
)
SCENE = Kind("scene", "aigc", _sample, _facts, _paint, _FORMS)
