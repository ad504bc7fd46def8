"""Questions shared by all kinds that show names with whole numbers: bar charts, line charts, receipts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from shared.laptop.problems.kinds import Content, Form, near_numbers, total_of
from shared.laptop.problems.problem import Asked


@dataclass(frozen=True, slots=True)
class LabelledValues:
    """Names in the order they are shown, with their values (all different)."""

    names: tuple[str, ...]
    values: tuple[int, ...]

    def pairs(self) -> list[tuple[str, int]]:
        """Names with values, in order."""
        return list(zip(self.names, self.values, strict=True))


def _read(content: Content, rng: random.Random) -> Asked:
    name, value = rng.choice(content.pairs())
    others = [str(other) for other in content.values if other != value]
    options = tuple(rng.sample(others, min(3, len(others))))
    return Asked({"a": name}, str(value), f"{name}={value}.", options)


def _most(content: Content, rng: random.Random) -> Asked:
    name, value = max(content.pairs(), key=lambda pair: pair[1])
    shown = ", ".join(str(value) for value in content.values)
    others = tuple(rng.sample([other for other in content.names if other != name], min(3, len(content.names) - 1)))
    return Asked({}, name, f"The values are {shown}. The largest is {value}. It is {name}.", others)


def _two(content: Content, rng: random.Random) -> tuple[tuple[str, int], tuple[str, int]]:
    first, second = rng.sample(content.pairs(), 2)
    return first, second


def _add(content: Content, rng: random.Random) -> Asked:
    (a, first), (b, second) = _two(content, rng)
    thinking = f"{a}={first}. {b}={second}. {first}+{second}={first + second}."
    return Asked({"a": a, "b": b}, str(first + second), thinking, near_numbers(first + second, rng))


def _difference(content: Content, rng: random.Random) -> Asked:
    (a, first), (b, second) = sorted(_two(content, rng), key=lambda pair: -pair[1])
    thinking = f"{a}={first}. {b}={second}. {first}-{second}={first - second}."
    return Asked({"a": a, "b": b}, str(first - second), thinking, near_numbers(first - second, rng))


def _greater(content: Content, rng: random.Random) -> Asked:
    (a, first), (b, second) = _two(content, rng)
    answer = "yes" if first > second else "no"
    sign = "more" if first > second else "less"
    return Asked({"a": a, "b": b}, answer, f"{a}={first}. {b}={second}. {first} is {sign} than {second}.")


def _total(content: Content, rng: random.Random) -> Asked:
    total, way = total_of(list(content.values))
    said = " ".join(f"{name}={value}." for name, value in content.pairs())
    return Asked({}, str(total), f"{said} {way}", near_numbers(total, rng))


def forms(words: Mapping[str, tuple[str, str, str, str]]) -> tuple[Form, ...]:
    """The six forms with a kind's own wordings (keys read, most, add, difference, greater, total)."""
    return (
        Form("read", "easy", words["read"], _read),
        Form("most", "medium", words["most"], _most),
        Form("add", "medium", words["add"], _add),
        Form("difference", "medium", words["difference"], _difference),
        Form("greater", "medium", words["greater"], _greater),
        Form("total", "hard", words["total"], _total),
    )
