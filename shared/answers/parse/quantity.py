"""Reads one value: a number or expression with its unit or currency, and what kind of numeral it is."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

from shared.answers.parse.expression import LETTER_NAMES, contains, holds, parse_expression, variables
from shared.answers.parse.intervals import both_signs
from shared.answers.parse.tokens import NotMathError, Token
from shared.answers.parse.units import AMBIGUOUS, parse_unit
from shared.answers.types import Node, Reading, Unit

_LITERAL = re.compile(
    r"^[-+]?(\d*)(?:\.(\d*))?(?:(?:\\times|\\cdot|\*)10\^(?:\{?(-?\+?\d{1,4})\}?)|[eE]([-+]?\d{1,4}))?$"
)
OPENING = frozenset(("(", "[", "{", r"\{", r"\langle", r"\lbrack"))
CLOSING = frozenset((")", "]", "}", r"\}", r"\rangle", r"\rbrack"))
_CURRENCY = {
    "$": "dollars", r"\$": "dollars", r"\euro": "euros", r"\pounds": "GBP", r"\yen": "¥", "USD": "dollars",
    "EUR": "euros", "RMB": "yuan",
}  # fmt: skip
_SKIPPED_PREFIX = frozenset(
    (r"\approx", "=", "~", r"\sim", r"\therefore", r"\Rightarrow", r"\implies", ":", r"\to", r"\rightarrow", r"\angle")
)
_UNIT_STARTS = frozenset((r"\degree", r"\%", "%", r"\AA", r"\Omega", r"\frac"))


def trim(tokens: list[Token]) -> list[Token]:
    """Without leading approximately or equals signs and without a closing full stop."""
    while tokens and tokens[0].value in _SKIPPED_PREFIX:
        tokens = tokens[1:]
    while tokens and (tokens[-1].value in (".", ",", ";", ":", "~")):
        tokens = tokens[:-1]
    return tokens


def read_value(tokens: list[Token]) -> Reading:
    """A number or expression with its unit or currency. Plus-minus becomes a list of two."""
    tokens = trim(tokens)
    money: Unit | None = None
    sign: list[Token] = []
    if len(tokens) > 1 and tokens[0].value in ("-", "+") and tokens[1].value in _CURRENCY:
        sign, tokens = tokens[:1], tokens[1:]
    if len(tokens) > 1 and tokens[0].value in ("US", "A", "C") and tokens[1].value in ("$", r"\$"):
        tokens = tokens[1:]
    if len(tokens) > 1 and tokens[0].value in _CURRENCY:
        money = parse_unit(_CURRENCY[tokens[0].value])
        tokens = tokens[1:]
    elif len(tokens) > 1 and tokens[-1].value in _CURRENCY:  # 5 €
        money = parse_unit(_CURRENCY[tokens[-1].value])
        tokens = tokens[:-1]
    tokens = sign + tokens
    value_tokens, unit, sure = _split_unit(tokens)
    if unit is not None:
        try:
            reading = _with_unit(value_tokens, money or unit)
        except NotMathError:
            return _with_unit(tokens, money)
        if not sure and money is None:
            try:
                bare = _plain(tokens)
            except NotMathError:
                return reading
            return replace(bare, alternative=reading) if not tokens[-1].spaced else replace(reading, alternative=bare)
        return reading
    return _with_unit(tokens, money)


def named_angle(tokens: list[Token]) -> Reading | None:
    """The angle ABC, which is CBA and not ACB: its vertex stands in the middle."""
    if len(tokens) != 2 or tokens[0].value != r"\angle" or not re.fullmatch("[A-Z]{3}", tokens[1].value):
        return None
    name = tokens[1].value
    return Reading("value", ("v", f"angle {min(name, name[::-1])}"), "expression")


def _with_unit(tokens: list[Token], unit: Unit | None) -> Reading:
    reading = _plain(tokens)
    if unit is None:
        return reading
    if reading.form == "list":
        return replace(reading, items=tuple(replace(item, unit=unit) for item in reading.items))
    return replace(reading, unit=unit)


def _plain(tokens: list[Token]) -> Reading:
    node = parse_expression(tokens)
    if contains(node, r"\pm", r"\mp"):
        both = tuple(_classify(signed, tokens, literal=False) for signed in reversed(both_signs(node)))
        return Reading("list", items=both)
    return _classify(node, tokens, literal=True)


def _classify(node: Node, tokens: list[Token], literal: bool) -> Reading:
    text = "".join(t.value for t in tokens) if literal and len(tokens) < 12 else ""
    match = _LITERAL.match(text)
    if match and (match.group(1) or match.group(2)):
        exponent = int(match.group(3) or match.group(4) or 0)
        decimals = len(match.group(2) or "")
        mantissa = ((match.group(1) or "") + (match.group(2) or "")).lstrip("0")
        style = "integer" if match.group(2) is None else "decimal"
        if match.group(3) or match.group(4):
            style = "scientific"
        return Reading("value", node, style, Fraction(10) ** (exponent - decimals), max(1, len(mantissa)))
    inner = node[1] if node[0] == "neg" else node
    style = "expression"
    if inner[0] == "mixed":
        style = "mixed"
    elif inner[0] == "/" and all(_is_number(side) for side in inner[1:]):
        style = "fraction"
    elif contains(node, "c") and not variables(node) and holds(node, ("c", "i")):
        style = "complex"
    return Reading("value", node, style)


def _is_number(node: Node) -> bool:
    return bool(node[0] == "n" or (node[0] == "neg" and node[1][0] == "n"))


def _split_unit(tokens: list[Token]) -> tuple[list[Token], Unit | None, bool]:
    """Value tokens, unit at the end if there is one, and whether it can be nothing else than a unit."""
    depth = sum(t.value in OPENING for t in tokens) - sum(t.value in CLOSING for t in tokens)
    if depth:
        return tokens, None, True
    for i in range(max(1, len(tokens) - 14), len(tokens)):
        token = tokens[i]
        if token.kind not in ("word", "text") and token.value not in _UNIT_STARTS:
            continue
        if not _balanced(tokens[i:]):
            continue
        if token.value == r"\degree" and _ends_in_function(tokens[:i]):
            continue  # the degrees belong to the sine's argument
        unit = parse_unit(_unit_text(tokens[i:]))
        if unit is None:
            continue
        if token.value == r"\frac" and (unit.is_noun or _value_has_letters(tokens[:i])):
            continue
        bare = token.kind == "word"
        if unit.is_noun and not (_is_count(tokens[:i]) and (not bare or len(token.value) > 2)):
            continue  # "2ab" names no thing, "m大于n" and "3 x 4 matrix" count nothing
        if bare and _value_has_letters(tokens[:i]) and not (token.spaced and len(token.value) > 3 and not unit.is_noun):
            continue  # "2x m" may be a product, "2x square units" is none
        sure = not (
            bare and token.value in AMBIGUOUS and all(t.kind in ("word", "num") or t.value == "^" for t in tokens[i:])
        )
        return tokens[:i], unit, sure
    return tokens, None, True


def _ends_in_function(tokens: list[Token]) -> bool:
    """Whether the value is `sin 30` or the like.

    A trigonometric function outside brackets whose argument comes last.
    """
    last = [t.value.lstrip("\\") for t in tokens[-6:]]
    return "-" not in last and any(value in ("sin", "cos", "tan", "cot", "sec", "csc") for value in last)


def _balanced(tokens: list[Token]) -> bool:
    """Whether every bracket closes, and none before it opens."""
    depths = [*accumulate((token.value in OPENING) - (token.value in CLOSING) for token in tokens)]
    return depths[-1] == 0 and min(depths) >= 0


def _unit_text(tokens: list[Token]) -> str:
    names = {r"\degree": "degrees", r"\%": "%", r"\cdot": "*", r"\times": "*", r"\AA": "angstrom", r"\Omega": "ohm"}
    parts: list[str] = []
    if len(tokens) > 5 and tokens[0].value == r"\frac" and tokens[1].value == "{":  # \frac{m}{s^2} is m/s^2
        middle = next((i for i, t in enumerate(tokens) if t.value == "}"), 0)
        tokens = [*tokens[2:middle], Token("op", "/", False), *tokens[middle + 1 :]]
    for token in tokens:
        if token.kind == "num" or token.value in ("^", "-", "/", "."):
            parts.append(token.value)
        elif token.value not in "{}":
            parts.append(" " + names.get(token.value, token.value.replace("\\", "")))
    return "".join(parts).strip()


def _is_count(tokens: list[Token]) -> bool:
    """Whether a value can say how many of a thing there are: digits and no letters, and no product."""
    is_product = any(t.value == r"\times" for t in tokens)
    return any(t.kind == "num" for t in tokens) and not is_product and not _value_has_letters(tokens)


def _value_has_letters(tokens: list[Token]) -> bool:
    """Whether the value before a bare unit word holds variables: then the word may be variables as well."""
    return any(
        (t.kind == "word" and t.value not in ("sqrt", "pi")) or (t.kind == "cmd" and t.value[1:] in LETTER_NAMES)
        for t in tokens
    )
