r"""The unit that an item states beside its gold (MathVista's and OlympiadBench's `unit`), in whatever notation.

`$`, `°`, `$^{\circ}$`, `$\Omega$`, `$\mathrm{~m} / \mathrm{s}^{2}$`, `million`. A unit that is not known still is one:
an answer may leave it out or spell it, and no other unit stands for it.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from shared.answers.parse.evaluate import TooHardError, value_of
from shared.answers.parse.normalise import normalise, normalise_text
from shared.answers.parse.reading import read
from shared.answers.parse.units import parse_unit
from shared.answers.types import Reading, Unit

_WITH_ITEMS = frozenset(("list", "set", "tuple"))


@lru_cache(maxsize=1024)
def stated_unit(text: str) -> Unit | None:
    """The unit that a stated unit names; None where the text is empty. A multiplier (million) is a unit, too."""
    text = text.replace("{}", "").replace("~", " ").strip()
    if not normalise_text(text) and not text.strip("$ "):
        text = "$" if text == "$" else ""
    if not text:
        return None
    for written in (f"1 {text}", f"{text}1", f"1 \\times {text}"):
        reading = read(written)
        if reading is None or reading.form != "value" or reading.node is None:
            continue
        try:
            value = value_of(reading.node, {})
        except (TooHardError, KeyError):  # too large, or with letters
            continue
        known = reading.unit or (Unit(Fraction(1), ()) if value != 1 else None)
        if known is not None and not known.is_noun and isinstance(value, Fraction) and value > 0:
            return replace(known, factor=known.factor * value)
    return parse_unit(normalise(text)) or Unit(Fraction(1), ((f"noun:{normalise_text(text)}", 1),))


def with_stated_unit(reading: Reading, text: str) -> Reading:
    """A gold's reading with the stated unit on every value that is written without one."""
    texts = text.split(",") if "," in text and len(text.split(",")) == len(reading.items) else [text]
    units = [stated_unit(one) for one in texts]
    if reading.form in _WITH_ITEMS:
        units = units if len(units) == len(reading.items) else units * len(reading.items)
        items = [_measured(item, unit) for item, unit in zip(reading.items, units, strict=True)]
        return replace(reading, items=tuple(items))
    return _measured(reading, units[0])


def _measured(reading: Reading, unit: Unit | None) -> Reading:
    return replace(reading, unit=unit) if reading.form == "value" and reading.unit is None else reading


def is_multiplier(text: str) -> bool:
    """Whether a stated unit only multiplies: an answer of 14 to "how many million?" is 14 million."""
    unit = stated_unit(text)
    return unit is not None and unit.is_generic and unit.factor != 1


def without_stated_unit(pred: str, text: str) -> str:
    """The answer without the stated unit behind or before its value, where it spells the unit as it is stated."""
    answer, unit = normalise_text(pred), normalise_text(text)
    if unit and answer != unit:
        if answer.endswith(f" {unit}"):
            return answer[: -len(unit)].strip()
        if answer.startswith(f"{unit} "):
            return answer[len(unit) :].strip()
    return pred
