r"""Decides whether two readings are the same answer.

Gold first: its digits set the tolerance, its unit may be left out by the answer.

True and False are decisions; None means that these layers cannot settle it and the symbolic layer must.
Numbers, units and tolerances: `amounts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TypeVar

from shared.answers.compare.amounts import same_quantity
from shared.answers.compare.named import by_name, other_name, plain
from shared.answers.parse.evaluate import TooHardError, inexact, points, same_expression, same_value, value_of
from shared.answers.parse.expression import variables
from shared.answers.parse.intervals import letters_of, renamed
from shared.answers.parse.reading import as_interval
from shared.answers.types import Node, Piece, Reading

MAX_UNORDERED = 40

T = TypeVar("T")


def compare(gold: Reading, pred: Reading, tolerance: float | None = None) -> bool | None:
    """Whether `pred` is the answer `gold`: True, False, or None when undecided here."""
    if gold.domain or pred.domain or gold.parameter or pred.parameter:
        if gold.domain and pred.domain and gold.domain != pred.domain:
            return False
        pred = _same_parameter(gold, pred)
    gold, pred = _choose_alternatives(gold, pred)
    if gold.form == pred.form == "value":
        return _same_labelled_value(gold, pred, tolerance)
    if (paired := by_name(gold, pred)) is not None:
        return bool(paired) and _all([compare(a, b, tolerance) for a, b in paired])
    by_form = _BY_FORM.get(gold.form)
    return by_form(gold, pred, tolerance) if by_form else False


def _same_parameter(gold: Reading, pred: Reading) -> Reading:
    """The answer with the gold's name for what its quantifier runs over: 2n for whole n is 2k for whole k."""
    old, new = pred.parameter, gold.parameter
    if old and new and old != new and new not in letters_of(pred):
        pred = renamed(pred, old, new)
    return replace(pred, parameter="", domain="")


def _choose_alternatives(gold: Reading, pred: Reading) -> tuple[Reading, Reading]:
    """`10m` is a length beside `10 meters`, and a product beside an expression without a unit."""
    if gold.alternative and _prefers(gold, pred):
        gold = gold.alternative
    if pred.alternative and _prefers(pred, gold):
        pred = pred.alternative
    return gold, pred


def _prefers(ambiguous: Reading, other: Reading) -> bool:
    """Whether the alternative of an ambiguous reading has a unit exactly where the other reading has one."""
    alternative = ambiguous.alternative
    if alternative is None:
        return False
    other_unit = other.unit is not None
    fits = (alternative.unit is not None) == other_unit and (ambiguous.unit is not None) != other_unit
    return fits and bool(other_unit or (other.node is not None and variables(other.node)))


def _same_labelled_value(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """Values, with what is written before an equals sign: `x=5`, `y=2x+1`, `f(x)=x^2`."""
    if gold.relation and pred.relation and gold.label != pred.label:
        same = same_relation(gold.relation, pred.relation)
        if same or ("(" in gold.label) == ("(" in pred.label):  # f(x)= may be answered by y=, not by g(x)=
            return same
    elif gold.label and pred.label and other_name(gold.label, pred.label):
        return False
    return same_quantity(gold, pred, tolerance)


def _relation(gold: Reading, pred: Reading, _tolerance: float | None) -> bool | None:
    if gold.relation is None or pred.relation is None:
        return False
    return same_relation(gold.relation, pred.relation)


def same_relation(a: tuple[str, Node, Node], b: tuple[str, Node, Node]) -> bool | None:
    """Equations equal up to moving terms, a constant factor and clearing denominators.

    Inequalities up to a positive factor.
    """
    if a[0] != b[0]:
        return False
    f, g = ("+", a[1], ("neg", a[2])), ("+", b[1], ("neg", b[2]))
    if variables(f) != variables(g) or not variables(f):
        return False if variables(f) != variables(g) else None
    ratio = _constant_ratio(f, g, positive=a[0] in ("<", "<="))
    if ratio or a[0] != "=":
        return ratio
    cleared_f, cleared_g = _cleared(f), _cleared(g)
    if cleared_f == f and cleared_g == g:
        return ratio
    return _constant_ratio(cleared_f, cleared_g, positive=False)


def _cleared(f: Node) -> Node:
    """The expression times its different denominators that hold variables: 1/x + y becomes (1/x + y) x."""
    found: list[Node] = []

    def collect(node: Node) -> None:
        if node[0] == "/" and variables(node[2]) and node[2] not in found:
            found.append(node[2])
        for child in node[1:]:
            if isinstance(child, tuple):
                collect(child)

    collect(f)
    for denominator in found[:8]:
        f = ("*", f, denominator)
    return f


def _constant_ratio(f: Node, g: Node, positive: bool) -> bool | None:
    """Whether f = c g with one constant c (positive, if asked) at all generic points."""
    values = []
    for env in points(variables(f)):
        try:
            values.append((value_of(f, env), value_of(g, env)))
        except TooHardError:
            continue
    values = [(x, y) for x, y in values if x != 0 or y != 0]
    if len(values) < 2:
        return None
    x0, y0 = values[0]
    if x0 == 0 or y0 == 0:
        return False
    for x, y in values[1:]:
        left = x * y0 if isinstance(x, Fraction) and isinstance(y0, Fraction) else inexact(x) * inexact(y0)
        right = y * x0 if isinstance(y, Fraction) and isinstance(x0, Fraction) else inexact(y) * inexact(x0)
        if not same_value(left, right):
            return False
    return bool(inexact(x0) * inexact(y0) > 0) if positive else True


def _same_piece(a: Piece, b: Piece) -> bool | None:
    if a[1] != b[1] or a[3] != b[3]:
        return False
    results: list[bool | None] = []
    for end, other in ((a[0], b[0]), (a[2], b[2])):
        if end is None or other is None:
            results.append(end is None and other is None)
        else:
            results.append(True if end == other else same_expression(end, other))
    return _all(results)


def _all(results: list[bool | None]) -> bool | None:
    """False beats undecided, undecided beats True."""
    return False if False in results else None if None in results else True


def _in_order(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """Whether both have the same items, each at its place."""
    if len(gold.items) != len(pred.items):
        return False
    return _all([compare(a, b, tolerance) for a, b in zip(gold.items, pred.items, strict=True)])


def _interval(gold: Reading, pred: Reading, _tolerance: float | None) -> bool | None:
    mine, theirs = as_interval(gold), as_interval(pred)
    if mine is None or theirs is None or (gold.label and pred.label and gold.label != pred.label):
        return False
    return _unordered(list(mine.pieces), list(theirs.pieces), _same_piece)


def _unordered(gold: list[T], pred: list[T], same: Callable[[T, T], bool | None]) -> bool | None:
    """Same elements in any order. Equal positions are tried first, so equal lists cost one pass."""
    if len(gold) != len(pred):
        return False
    aligned = [same(a, b) for a, b in zip(gold, pred, strict=True)]
    if all(aligned):
        return True
    if len(gold) > MAX_UNORDERED:
        return _all(aligned)
    rest = list(pred)
    undecided = False
    for a in gold:
        for i, b in enumerate(rest):
            verdict = same(a, b)
            undecided = undecided or verdict is None
            if verdict:
                del rest[i]
                break
        else:
            return None if undecided else False
    return True


def _distinct(items: tuple[Reading, ...]) -> list[Reading]:
    kept: list[Reading] = []
    for item in items[:MAX_UNORDERED]:
        if not any(item == other or compare(item, other) for other in kept):
            kept.append(item)
    return kept + list(items[MAX_UNORDERED:])


def _names(items: tuple[Reading, ...]) -> set[str]:
    """Letters that name the items, indices left out: x_1 and x_2 are both x."""
    return {item.label.split("_")[0] for item in items}


def _one_unknown(reading: Reading) -> bool:
    """Whether all items are values of one unknown: x and x, x_1 and x_2, or no name at all."""
    labels = {item.label for item in reading.items}
    return len(_names(reading.items)) == 1 and (len(labels) == 1 or all("_" in label for label in labels))


def _unnamed(reading: Reading) -> Reading:
    return replace(reading, items=tuple(plain(item) for item in reading.items))


def _set(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """Sets and lists of solutions: order-free; a bare list equals a set or, in order, a tuple."""
    if pred.form not in ("set", "list", "tuple"):
        return _single(gold, pred, tolerance)
    if pred.form == "tuple" and (gold.form == "set" or pred.brackets != "()"):
        return False
    ordered = pred.form == "tuple" or (
        gold.form == "list" and len(_names(gold.items) - {""}) > 1 and _names(pred.items) == {""}
    )

    if _one_unknown(gold) and _one_unknown(pred) and len((_names(gold.items) | _names(pred.items)) - {""}) == 1:
        gold, pred = _unnamed(gold), _unnamed(pred)  # x_1 and x_2 are the roots in either order, and so are x and x

    def same(a: Reading, b: Reading) -> bool | None:
        return compare(a, b, tolerance)

    if ordered:
        return _in_order(gold, pred, tolerance)
    return _unordered(_distinct(gold.items), _distinct(pred.items), same)


def _single(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """A set or list of one element beside that element: {2}, or `x_1=2, x_2=2` beside `x=2`."""
    if gold.form == "list" and _one_unknown(gold) and pred.form == "value":
        name = gold.items[0].label.split("_")[0]
        one = _distinct(_unnamed(gold).items)
        return len(one) == 1 and name == pred.label != "" and compare(one[0], plain(pred), tolerance)
    return compare(gold.items[0], pred, tolerance) if gold.form == "set" and len(gold.items) == 1 else False


def _value(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """A gold value beside an answer of another form."""
    if pred.form == "ratio":
        return _ratio(pred, gold, tolerance)
    if pred.form == "set" and len(pred.items) == 1 and gold.label == "":
        return compare(gold, pred.items[0], tolerance)
    if pred.form == "list":
        return _single(pred, gold, tolerance)
    return _relation(gold, pred, tolerance) if pred.form == "relation" else False


def _tuple(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    if gold.label and pred.label and gold.label != pred.label:
        return False
    if pred.form == "interval" and len(gold.items) == 2 and not gold.label:
        return _interval(gold, pred, tolerance)
    if not (pred.form in ("tuple", "list") or (pred.form == "matrix" and _is_vector(pred))):
        return False
    if pred.form == "tuple" and gold.brackets != pred.brackets and len(gold.items) == 2:
        return False
    return _in_order(gold, pred, tolerance)


def _is_vector(matrix: Reading) -> bool:
    return matrix.brackets.endswith("x1") or matrix.brackets.startswith("1x")


def _matrix(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    if _is_vector(gold) and pred.form == "tuple" and pred.brackets == "()":
        return _in_order(gold, pred, tolerance)
    rows = pred.items if pred.form == "tuple" else ()
    if rows and all(row.form == "tuple" and row.brackets == "[]" for row in rows):  # [[1,2],[3,4]]
        widths = {len(row.items) for row in pred.items}
        if gold.brackets != f"{len(pred.items)}x{max(widths)}" or len(widths) > 1:
            return False
        pred = replace(pred, form="matrix", items=tuple(cell for row in pred.items for cell in row.items))
    elif pred.form != "matrix" or gold.brackets != pred.brackets:
        return False
    return _in_order(gold, pred, tolerance)


def _ratio(gold: Reading, pred: Reading, _tolerance: float | None) -> bool | None:  # noqa: PLR0911
    """2:3 = 4:6 (proportional terms), and 2:3 beside 2/3."""
    if pred.form == "time" and not pred.label and len(gold.items) == 2 and len(_digits(gold.items[1])) == 1:
        pred = _time_as_ratio(pred)  # 3:5 is no time of day, so neither is 6:10
    if pred.form == "time":
        return _time(pred, gold, None)
    if pred.form == "value" and len(gold.items) == 2 and pred.node is not None and pred.unit is None:
        first, second = gold.items
        if pred.style not in ("fraction", "expression", "decimal") or first.node is None or second.node is None:
            return False
        return same_expression(("/", first.node, second.node), pred.node)
    if pred.form != "ratio" or len(gold.items) != len(pred.items):
        return False
    if gold.label and pred.label and gold.label != pred.label:
        return False
    results: list[bool | None] = []
    for a, b in zip(gold.items[1:], pred.items[1:], strict=True):
        nodes = (gold.items[0].node, b.node, pred.items[0].node, a.node)
        if any(n is None for n in nodes):
            return False
        results.append(same_expression(("*", nodes[0], nodes[1]), ("*", nodes[2], nodes[3])))
    zero = [same_expression(i.node or ("n", Fraction(0)), ("n", Fraction(0))) for i in (*gold.items, *pred.items)]
    return False if True in zero and gold.items != pred.items else _all(results)


def _time_as_ratio(time: Reading) -> Reading:
    """What looks like a time of day, read as the ratio of its numbers; with seconds it stays a time."""
    hours, minutes, seconds = time.digits.split(":")
    if seconds != "00":
        return time
    terms = (int(hours), int(minutes))
    return Reading("ratio", items=tuple(Reading("value", ("n", Fraction(n)), "integer") for n in terms))


def _time(gold: Reading, pred: Reading, _tolerance: float | None) -> bool | None:
    """Clock times; a.m. or p.m. may be missing on one side, 15:30 is 3:30 p.m.

    A ratio such as 3:30 matches only its own digits.
    """
    if pred.form == "ratio" and len(pred.items) == 2:
        return f"{_digits(pred.items[0])}:{_digits(pred.items[1])}" == gold.digits.removesuffix(":00")
    if pred.form == "value" and pred.style == "fraction" and pred.node is not None and not gold.label:
        hours, minutes, seconds = gold.digits.split(":")
        written = ("/", ("n", Fraction(int(hours))), ("n", Fraction(int(minutes))))
        return seconds == "00" and pred.node == written
    if pred.form != "time":
        return False
    if gold.label == pred.label or (bool(gold.label) != bool(pred.label) and gold.digits == pred.digits):
        return gold.digits == pred.digits
    if gold.label and pred.label:
        return False
    marked, plain = (gold, pred) if gold.label else (pred, gold)
    hour, rest = marked.digits.split(":", 1)
    day_hour = int(hour) % 12 + (12 if marked.label == "p" else 0)
    return plain.digits == f"{day_hour}:{rest}" and int(plain.digits.split(":")[0]) not in range(1, 13)


def _digits(reading: Reading) -> str:
    return str(reading.node[1]) if reading.node and reading.node[0] == "n" else "?"


def _base(gold: Reading, pred: Reading, _tolerance: float | None) -> bool | None:
    """Digits in a base: the base may be left out, the digits must be the same."""
    if pred.form == "base":
        return gold.digits == pred.digits and gold.label == pred.label
    is_whole = pred.form == "value" and pred.style == "integer" and pred.unit is None
    return is_whole and _digits(pred) == gold.digits


def _range(gold: Reading, pred: Reading, tolerance: float | None) -> bool | None:
    """`160-165 cm`: both ends, as they stand; "160 to 165" is read as a ratio and may mean them, too."""
    return _in_order(gold, pred, tolerance) if pred.form in ("range", "ratio") else False


_BY_FORM: dict[str, Callable[[Reading, Reading, float | None], bool | None]] = {
    "value": _value,
    "relation": _relation,
    "interval": _interval,
    "set": _set,
    "list": _set,
    "tuple": _tuple,
    "matrix": _matrix,
    "ratio": _ratio,
    "range": _range,
    "time": _time,
    "base": _base,
}
