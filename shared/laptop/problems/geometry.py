"""Labelled plane figures: triangles with sides, rectangles, triangles with angles."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import COLOURS, INKS, Canvas, sheet
from shared.laptop.problems.kinds import Content, Form, Kind, near_numbers, total_of
from shared.laptop.problems.problem import Asked

VERTEX_NAMES = ("ABC", "DEF", "KLM", "PQR", "STU", "XYZ")


@dataclass(frozen=True, slots=True)
class Figure:
    """Names of the corners (or of nothing) and the labelled numbers, in canonical order."""

    names: str
    numbers: tuple[int, ...]

    def sides(self) -> list[tuple[str, int]]:
        """Side names AB, BC, CA with their lengths."""
        a, b, c = tuple(self.names)
        return list(zip((a + b, b + c, c + a), self.numbers, strict=True))


def _corners(rng: random.Random) -> list[tuple[int, int]]:
    """A triangle with room for labels: one corner up, two down."""
    return [
        (rng.randint(44, 68), rng.randint(20, 26)),
        (rng.randint(18, 24), rng.randint(78, 84)),
        (rng.randint(88, 94), rng.randint(78, 84)),
    ]


def _outline(canvas: Canvas, points: list[tuple[int, int]], rng: random.Random) -> None:
    colour = canvas.ink(rng.choice((*INKS, *COLOURS.values())))
    canvas.pen.line([*points, points[0]], fill=colour, width=rng.choice((1, 2)))


def _name_corners(canvas: Canvas, names: str, points: list[tuple[int, int]], ink: tuple[int, int, int]) -> None:
    for name, (x, y), (dx, dy) in zip(names, points, ((0, -11), (-11, 10), (11, 10)), strict=True):
        canvas.text(x + dx, y + dy, name, ink)


# Triangles with sides


def _sample_triangle(rng: random.Random) -> Figure:
    first, second = rng.randint(3, 20), rng.randint(3, 20)
    third = rng.randint(max(2, abs(first - second) + 1), min(25, first + second - 1))
    return Figure(rng.choice(VERTEX_NAMES), (first, second, third))


def _triangle_facts(content: Content) -> tuple[str, ...]:
    return (f"triangle {content.names}.", *(f"{side}={length}." for side, length in content.sides()))


def _paint_triangle(content: Content, rng: random.Random) -> Canvas:
    canvas, ink, points = sheet(rng), rng.choice(INKS), _corners(rng)
    _outline(canvas, points, rng)
    _name_corners(canvas, content.names, points, ink)
    (ax, ay), (bx, by), (cx, cy) = points
    first, second, third = content.numbers
    canvas.text((ax + bx) / 2 - 15, (ay + by) / 2 - 2, str(first), ink)
    canvas.text((bx + cx) / 2, (by + cy) / 2 + 11, str(second), ink)
    canvas.text((cx + ax) / 2 + 15, (cy + ay) / 2 - 2, str(third), ink)
    return canvas


def _side(content: Content, rng: random.Random) -> Asked:
    side, length = rng.choice(content.sides())
    others = sorted({str(other) for _, other in content.sides()} - {str(length)})
    return Asked({"s": side}, str(length), f"{side}={length}.", (*others, str(sum(content.numbers))))


def _perimeter(content: Content, rng: random.Random) -> Asked:
    total, way = total_of(list(content.numbers))
    said = " ".join(f"{side}={length}." for side, length in content.sides())
    return Asked({"n": content.names}, str(total), f"{said} {way}", near_numbers(total, rng))


def _longest(content: Content, _: random.Random) -> Asked | None:
    if content.numbers.count(max(content.numbers)) > 1:
        return None
    side, length = max(content.sides(), key=lambda pair: pair[1])
    others = tuple(other for other, _ in content.sides() if other != side)
    said = ", ".join(map(str, content.numbers))
    return Asked({}, side, f"The values are {said}. The largest is {length}. It is {side}.", others)


_TRIANGLE_WORDINGS = {
    "side": (
        "What is the length of {s}?",
        "How long is side {s}?",
        "Read the length of side {s}.",
        "Which length does side {s} have?",
    ),
    "longest": (
        "Which side is the longest?",
        "Which side of the triangle has the largest length?",
        "Name the longest side of the triangle.",
        "Find the side with the largest length.",
    ),
    "perimeter": (
        "What is the perimeter of triangle {n}?",
        "How long are all sides of triangle {n} together?",
        "Find the perimeter of the triangle {n}.",
        "Add the lengths of the sides of {n}.",
    ),
}
_TRIANGLE_FORMS = (
    Form("side", "easy", _TRIANGLE_WORDINGS["side"], _side),
    Form("longest", "medium", _TRIANGLE_WORDINGS["longest"], _longest),
    Form("perimeter", "hard", _TRIANGLE_WORDINGS["perimeter"], _perimeter),
)
TRIANGLE = Kind("triangle", "mathgeo", _sample_triangle, _triangle_facts, _paint_triangle, _TRIANGLE_FORMS)

# Rectangles


def _sample_rectangle(rng: random.Random) -> Figure:
    return Figure(rng.choice("ABCDEFGHK"), tuple(rng.sample(range(2, 31), 2)))


def _rectangle_facts(content: Content) -> tuple[str, ...]:
    width, height = content.numbers
    return (f"rectangle {content.names}.", f"width={width}.", f"height={height}.")


def _paint_rectangle(content: Content, rng: random.Random) -> Canvas:
    canvas, ink = sheet(rng), rng.choice(INKS)
    left, top = rng.randint(8, 16), rng.randint(10, 20)
    right, bottom = rng.randint(74, 82), rng.randint(70, 84)
    fill = canvas.ink(rng.choice(((255, 240, 200), (220, 235, 255), (225, 245, 225)))) if rng.random() < 0.5 else None
    canvas.pen.rectangle((left, top, right, bottom), outline=canvas.ink(ink), width=rng.choice((1, 2)), fill=fill)
    canvas.text((left + right) / 2, (top + bottom) / 2, content.names, ink)
    canvas.text((left + right) / 2, bottom + 12, str(content.numbers[0]), ink)
    canvas.text(right + 15, (top + bottom) / 2, str(content.numbers[1]), ink)
    return canvas


def _width(content: Content, rng: random.Random) -> Asked:
    side, value = rng.choice(list(zip(("width", "height"), content.numbers, strict=True)))
    other = content.numbers[0] if side == "height" else content.numbers[1]
    return Asked({"s": side}, str(value), f"{side}={value}.", (str(other), str(sum(content.numbers))))


def _area(content: Content, rng: random.Random) -> Asked | None:
    width, height = content.numbers
    if min(width, height) > 9:
        return None
    area = width * height
    thinking = f"width={width}. height={height}. {width}*{height}={area}."
    return Asked({"n": content.names}, str(area), thinking, near_numbers(area, rng))


def _around(content: Content, rng: random.Random) -> Asked:
    width, height = content.numbers
    half = width + height
    thinking = f"width={width}. height={height}. {width}+{height}={half}. {half}*2={2 * half}."
    return Asked({"n": content.names}, str(2 * half), thinking, near_numbers(2 * half, rng))


def _square(content: Content, _: random.Random) -> Asked:
    width, height = content.numbers
    sign = "more" if width > height else "less"
    thinking = f"width={width}. height={height}. {width} is {sign} than {height}."
    return Asked({"n": content.names}, "yes" if width > height else "no", thinking)


_RECTANGLE_WORDINGS = {
    "read": (
        "What is the {s} of the rectangle?",
        "How much is the {s} of the rectangle?",
        "Read the {s} of the rectangle.",
        "Which {s} does the rectangle have?",
    ),
    "wider": (
        "Is rectangle {n} wider than high?",
        "Is the width of rectangle {n} larger than its height?",
        "Say yes or no: the width of {n} exceeds its height.",
        "Does the width of {n} exceed its height?",
    ),
    "area": (
        "What is the area of rectangle {n}?",
        "How large is the area of rectangle {n}?",
        "Find the area of the rectangle {n}.",
        "Which area does {n} have?",
    ),
    "perimeter": (
        "What is the perimeter of rectangle {n}?",
        "How long are all sides of rectangle {n} together?",
        "Find the perimeter of the rectangle {n}.",
        "Which perimeter does {n} have?",
    ),
}
_RECTANGLE_FORMS = (
    Form("read", "easy", _RECTANGLE_WORDINGS["read"], _width),
    Form("wider", "medium", _RECTANGLE_WORDINGS["wider"], _square),
    Form("area", "medium", _RECTANGLE_WORDINGS["area"], _area),
    Form("perimeter", "hard", _RECTANGLE_WORDINGS["perimeter"], _around),
)
RECTANGLE = Kind("rectangle", "mathgeo", _sample_rectangle, _rectangle_facts, _paint_rectangle, _RECTANGLE_FORMS)

# Triangles with angles


def _sample_angles(rng: random.Random) -> Figure:
    first = rng.randint(20, 90)
    return Figure(rng.choice(VERTEX_NAMES), (first, rng.randint(20, 150 - first)))


def _angle_facts(content: Content) -> tuple[str, ...]:
    first, second = content.numbers
    names = content.names
    return (f"triangle {names} with angles.", f"{names[1]}={first}.", f"{names[2]}={second}.")


def _paint_angles(content: Content, rng: random.Random) -> Canvas:
    canvas, ink = sheet(rng), rng.choice(INKS)
    points = [
        (rng.randint(40, 72), rng.randint(18, 24)),
        (rng.randint(8, 12), rng.randint(84, 88)),
        (rng.randint(100, 104), rng.randint(84, 88)),
    ]
    _outline(canvas, points, rng)
    for name, (x, y), (dx, dy) in zip(content.names, points, ((0, -10), (0, 11), (0, 11)), strict=True):
        canvas.text(x + dx, y + dy, name, ink)
    arc = canvas.ink(rng.choice(tuple(COLOURS.values())))
    for (x, y), span in ((points[1], (300, 360)), (points[2], (180, 240))):
        canvas.pen.arc((x - 10, y - 10, x + 10, y + 10), *span, fill=arc)
    first, second = content.numbers
    canvas.text(points[1][0] + 29, points[1][1] - 11, str(first), ink)
    canvas.text(points[2][0] - 29, points[2][1] - 11, str(second), ink)
    return canvas


def _angle(content: Content, rng: random.Random) -> Asked:
    name, value = rng.choice(list(zip(content.names[1:], content.numbers, strict=True)))
    others = {str(other) for other in (*content.numbers, 180 - sum(content.numbers))} - {str(value)}
    return Asked({"a": name}, str(value), f"{name}={value}.", tuple(sorted(others)))


def _third_angle(content: Content, rng: random.Random) -> Asked:
    first, second = content.numbers
    both = first + second
    said = f"{content.names[1]}={first}. {content.names[2]}={second}."
    thinking = f"{said} {first}+{second}={both}. 180-{both}={180 - both}."
    return Asked({"a": content.names[0]}, str(180 - both), thinking, near_numbers(180 - both, rng))


def _right_angle(content: Content, _: random.Random) -> Asked:
    first, second = content.numbers
    sign = "more" if first > second else "less"
    thinking = f"{content.names[1]}={first}. {content.names[2]}={second}. {first} is {sign} than {second}."
    fields = {"a": content.names[1], "b": content.names[2]}
    return Asked(fields, "yes" if first > second else "no", thinking)


_ANGLES_WORDINGS = {
    "read": (
        "What is angle {a}?",
        "How large is angle {a}?",
        "Read angle {a} in the figure.",
        "Which size does angle {a} have?",
    ),
    "larger": (
        "Is angle {a} larger than angle {b}?",
        "Is angle {a} more than angle {b}?",
        "Say yes or no: angle {a} exceeds angle {b}.",
        "Does angle {a} exceed angle {b}?",
    ),
    "third": (
        "What is the third angle {a} of the triangle?",
        "How large is the third angle {a}?",
        "Find the third angle {a} of the triangle.",
        "Which size does the third angle {a} have?",
    ),
}
_ANGLES_FORMS = (
    Form("read", "easy", _ANGLES_WORDINGS["read"], _angle),
    Form("larger", "medium", _ANGLES_WORDINGS["larger"], _right_angle),
    Form("third", "hard", _ANGLES_WORDINGS["third"], _third_angle),
)
ANGLES = Kind("angles", "mathgeo", _sample_angles, _angle_facts, _paint_angles, _ANGLES_FORMS)
