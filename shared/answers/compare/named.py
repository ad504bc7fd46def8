r"""Answers that carry names: `x=3, y=4`, `(x,y)=(3,4)`, `A(1,2)`, `(1) 5; (2) 7`.

A value belongs to its name, wherever it stands. Beside an answer without names the names stand in the order in which
people list them: single letters by the alphabet (a point is (x, y, z)), other names as they are written.
"""

from __future__ import annotations

import re
from dataclasses import replace

from shared.answers.types import Reading

_GENERIC = frozenset(("answer", "result", "value", "total", "solution", "答案", "结果"))
"""Names that every value may have."""
_TUPLE_OF_NAMES = re.compile(r"^\((.+,.+)\)$")


def names_of(reading: Reading) -> tuple[str, ...]:
    """The different names of all items in written order; empty where an item has none or two share one."""
    listed = _TUPLE_OF_NAMES.match(reading.label)
    if listed and reading.form == "tuple":
        found = tuple(listed.group(1).split(","))
    elif reading.form in ("list", "set", "tuple") and not reading.label:
        found = tuple(item.label.partition("|")[0] for item in reading.items)
    else:
        return ()
    return found if all(found) and len(set(found)) == len(found) == len(reading.items) > 1 else ()


def plain(item: Reading) -> Reading:
    """An item without its name; a part's answer keeps the name of its own that stands behind the part's number."""
    inner = item.label.partition("|")[2]
    return replace(item, label=inner, relation=None if item.form == "value" and not inner else item.relation)


def by_name(gold: Reading, pred: Reading) -> list[tuple[Reading, Reading]] | None:
    """Pairs of a gold's and an answer's item under one name; an empty list where the names do not fit.

    None where names decide nothing: neither side has any, or the other side is no list.
    """
    mine, theirs = names_of(gold), names_of(pred)
    if (not mine and not theirs) or _are_roots(mine or theirs):
        return None
    if mine and theirs:
        order = _matched(mine, theirs) or []
        return [(plain(item), plain(pred.items[place])) for item, place in zip(gold.items, order, strict=False)]
    named, bare = (gold, pred) if mine else (pred, gold)
    if bare.form not in ("list", "tuple", "set"):
        return None
    if any(item.label for item in bare.items):
        return None if len(bare.items) == len(named.items) else []
    if bare.brackets == "[]" or len(bare.items) != len(named.items):
        return []
    # Who is asked for (y, x) answers in this order; who names y first need not mean it to be the first coordinate.
    order = list(range(len(mine))) if mine and gold.label else _usual_order(mine or theirs)
    pairs = [(plain(named.items[place]), item) for place, item in zip(order, bare.items, strict=True)]
    return pairs if mine else [(item, name) for name, item in pairs]


def _are_roots(names: tuple[str, ...]) -> bool:
    """Whether the names are x with indices: x_1 and x_2 are the roots of one equation, a_1 and a_2 are not."""
    return len({name.split("_")[0] for name in names} | {"x"}) == 1 and all("_" in name for name in names)


def _matched(mine: tuple[str, ...], theirs: tuple[str, ...]) -> list[int] | None:
    """For each of our names the place of theirs: the same name, else the only one with its initial (`l` is length)."""
    if len(mine) != len(theirs):
        return None
    keys, others = [_key(name) for name in mine], [_key(name) for name in theirs]
    if set(keys) != set(others):
        keys, others = [key[:1] for key in keys], [key[:1] for key in others]
        abbreviated = all(len(_key(name)) == 1 for name in mine) or all(len(_key(name)) == 1 for name in theirs)
        if not abbreviated or set(keys) != set(others) or len(set(keys)) != len(keys):
            return None
    return [others.index(key) for key in keys] if len(set(others)) == len(others) else None


def other_name(mine: str, theirs: str) -> bool:
    """Whether two values carry different names: other letters, or other words (not `area` and `total area`)."""
    first, second = _key(mine), _key(theirs)
    if len(mine) == len(theirs) == 1:
        return mine != theirs
    if min(len(first), len(second)) < 3 and first.isascii():
        return False
    return first not in second and second not in first and not {first, second} & _GENERIC


def _key(name: str) -> str:
    plain_name = re.sub(r"[\s{}\\]|angle|text|mathrm", "", name)
    return plain_name if len(plain_name) <= 3 else plain_name.casefold()


def _usual_order(names: tuple[str, ...]) -> list[int]:
    places = list(range(len(names)))
    return sorted(places, key=lambda place: names[place]) if all(len(name) == 1 for name in names) else places
