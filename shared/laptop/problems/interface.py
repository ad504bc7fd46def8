"""Screens: a window with tick boxes and a button."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.laptop.problems.canvas import COLOURS, SIZE, Canvas
from shared.laptop.problems.kinds import Content, Form, Kind
from shared.laptop.problems.problem import Asked

LABELS = ("wifi", "sound", "mail", "map", "photo", "clock", "game", "news")
BUTTONS = ("ok", "save", "stop", "next")


@dataclass(frozen=True, slots=True)
class Screen:
    """Labels from top to bottom, whether each is ticked, and the button's word."""

    labels: tuple[str, ...]
    ticked: tuple[bool, ...]
    button: str

    def pairs(self) -> list[tuple[str, bool]]:
        """Labels with their state."""
        return list(zip(self.labels, self.ticked, strict=True))


def _sample(rng: random.Random) -> Screen:
    count = rng.choice((2, 3, 3))
    ticked = tuple(rng.random() < 0.5 for _ in range(count))
    return Screen(tuple(rng.sample(LABELS, count)), ticked, rng.choice(BUTTONS))


def _state(ticked: bool) -> str:
    return "on" if ticked else "off"


def _facts(content: Content) -> tuple[str, ...]:
    head = f"window with {len(content.labels)} boxes."
    return (head, *(f"{label}={_state(ticked)}." for label, ticked in content.pairs()), f"button={content.button}.")


def _paint(content: Content, rng: random.Random) -> Canvas:
    canvas = Canvas(rng.choice(((236, 236, 240), (225, 230, 240), (245, 245, 245))))
    bar = canvas.ink(rng.choice(((50, 90, 160), (70, 70, 80), (40, 120, 110))))
    white, black = canvas.ink((255, 255, 255)), canvas.ink((20, 20, 20))
    canvas.pen.rectangle((1, 1, SIZE - 2, SIZE - 2), outline=black)
    canvas.pen.rectangle((2, 2, SIZE - 3, 13), fill=bar)
    for x in (84, 93, 102):
        canvas.pen.rectangle((x, 5, x + 5, 10), fill=white)
    tick = canvas.ink(rng.choice(((20, 20, 20), (30, 110, 50), (30, 60, 180))))
    for number, (label, ticked) in enumerate(content.pairs()):
        y = 27 + 22 * number + rng.randint(-1, 1)
        canvas.pen.rectangle((8, y - 7, 22, y + 7), outline=black, fill=white)
        if ticked:
            canvas.pen.line((11, y, 14, y + 4, 20, y - 5), fill=tick, width=2)
        canvas.mark(_state(ticked), 15, y)
        canvas.text(32 + 6 * len(label), y, label.upper(), (20, 20, 20))
    colour = rng.choice(tuple(COLOURS.values()))
    half = 6 * len(content.button) + 4
    centre = rng.randint(half + 4, SIZE - half - 5)
    canvas.pen.rectangle((centre - half, 89, centre + half, 107), outline=black, fill=canvas.ink(colour))
    canvas.text(centre, 98, content.button.upper(), (20, 20, 20))
    return canvas


def _is_on(content: Content, rng: random.Random) -> Asked:
    label, ticked = rng.choice(content.pairs())
    return Asked({"a": label}, "yes" if ticked else "no", f"{label}={_state(ticked)}.")


def _button(content: Content, _: random.Random) -> Asked:
    others = tuple(button for button in BUTTONS if button != content.button)
    return Asked({}, content.button, f"button={content.button}.", others)


def _count(content: Content, rng: random.Random) -> Asked:
    state = rng.random() < 0.5
    count = content.ticked.count(state)
    said = " ".join(f"{label}={_state(ticked)}." for label, ticked in content.pairs())
    others = tuple(str(number) for number in range(4) if number != count)
    return Asked({"s": _state(state)}, str(count), f"{said} That is {count}.", others)


def _position(content: Content, rng: random.Random) -> Asked:
    place = rng.randrange(len(content.labels))
    label = content.labels[place]
    others = tuple(other for other in content.labels if other != label)
    word = ("first", "second", "third")[place]
    return Asked({"n": word}, label, f"The {word} box is {label}.", others)


_WORDINGS = {
    "is-on": (
        "Is {a} on?",
        "Is the box of {a} on?",
        "Say yes or no: {a} is on.",
        "Does the window show {a} on?",
    ),
    "button": (
        "What does the button say?",
        "What is the word on the button?",
        "Read the word on the button.",
        "Which word does the button show?",
    ),
    "position": (
        "What is the {n} box?",
        "What does the {n} box say?",
        "Read the word of the {n} box.",
        "Which word does the {n} box show?",
    ),
    "count": (
        "How many boxes are {s}?",
        "What is the number of boxes that are {s}?",
        "Count the boxes that are {s}.",
        "Find the number of boxes shown {s}.",
    ),
}
_FORMS = (
    Form("is-on", "easy", _WORDINGS["is-on"], _is_on),
    Form("button", "easy", _WORDINGS["button"], _button),
    Form("position", "medium", _WORDINGS["position"], _position),
    Form("count", "medium", _WORDINGS["count"], _count),
)
INTERFACE = Kind("screen", "gui", _sample, _facts, _paint, _FORMS)
