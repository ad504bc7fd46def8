r"""Reads one answer as mathematics.

What form it has (number, equation, interval, set, tuple, matrix, ratio, time...) and its parts.

`read` takes any text and returns a `Reading`, or None where the text is no mathematics that this grader covers. A
reading says nothing about equality; `compare` does. Everything is bounded (`MAX_CHARACTERS`, `MAX_ITEMS`) and cached.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, chain

from shared.answers.parse.evaluate import TooHardError, inexact, same_value, value_of
from shared.answers.parse.expression import parse_expression, variables
from shared.answers.parse.intervals import complement, interval_of, is_infinite, left_out, letters_of, piece
from shared.answers.parse.normalise import normalise
from shared.answers.parse.quantity import CLOSING, OPENING, named_angle, read_value, trim
from shared.answers.parse.spellings import MAX_ITEMS, fixed_form, is_numbered, quantified, rewritten
from shared.answers.parse.tokens import TWO_LETTER_WORDS, NotMathError, Token, number_value, tokenise
from shared.answers.parse.words import denies, is_truth_word
from shared.answers.types import Node, Piece, Reading

MAX_CHARACTERS = 2_000

_THOUSANDS = re.compile(r"(?<![\d.,\w])\d{1,3}(?:,\d{3})+(?![\d,]|\.\d*,)")
_DATE = re.compile(r"^\d{1,4}([/-])\d{1,2}\1\d{1,4}$")
_CHINESE_NAME = re.compile(r"^([^\x00-\x7f不非无错]{1,8}?)(?:是|为|等于)$")
_AND = frozenset(("and", "和", "且", "并且"))
_JOINTS = _AND | {"or", "或", "或者"}
_TWO_SIGN = (("<=", r"\leq "), (">=", r"\geq "), ("!=", r"\neq "), ("==", "="), ("=<", r"\leq "), ("=>", r"\geq "))
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\lt": "<", r"\gt": ">", r"\leq": "<=", r"\le": "<=", r"\leqslant": "<=",
    r"\leqq": "<=",
    r"\geq": ">=", r"\ge": ">=", r"\geqslant": ">=", r"\geqq": ">=", r"\neq": "!=", r"\ne": "!=", r"\in": "in",
    r"\approx": "=", r"\equiv": "=",
}  # fmt: skip


def read(text: str, merge_thousands: bool = True) -> Reading | None:
    """The mathematical reading of an answer, or None. `merge_thousands=False` reads `1,200` as a list of two."""
    if len(text) > MAX_CHARACTERS or "\x00" in text:
        return None
    return _read(text, merge_thousands)


@lru_cache(maxsize=8192)
def _read(text: str, merge_thousands: bool) -> Reading | None:  # noqa: PLR0911
    s = normalise(text)
    if s.isdigit() and s.isascii():
        return Reading("value", ("n", Fraction(int(s))), "integer", Fraction(1), len(s.lstrip("0")) or 1)
    if not s or _DATE.match(s):
        return None
    for sign, replacement in _TWO_SIGN:
        if sign in s:
            s = s.replace(sign, replacement)
    core, name, domain = quantified(s)
    if name or domain:
        reading = _read(core, merge_thousands)
        if reading is None or (reading.form == "interval" and domain != "R" and name not in letters_of(reading)):
            return None  # 1 < x < 9 for whole x is no interval
        return replace(reading, parameter=name, domain=domain)
    s = rewritten(s)
    special = fixed_form(s, lambda part: _read(part, True))
    if special is not None or is_numbered(s):
        return special
    if "," in s and merge_thousands and s[0] not in "([" and not s.startswith((r"\{", r"\langle")):
        s = _THOUSANDS.sub(lambda m: m.group().replace(",", ""), s)
    try:
        return _read_tokens(tokenise(s))
    except (NotMathError, RecursionError, IndexError):
        return None


def _split(tokens: list[Token], is_separator: Callable[[Token], bool]) -> list[list[Token]]:
    """Parts between the separators that stand outside all brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.value in OPENING:
            depth += 1
        elif token.value in CLOSING:
            depth -= 1
        if depth == 0 and is_separator(token):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _encloses(tokens: list[Token]) -> bool:
    """Whether the first token opens a bracket that the last one closes (of whatever shape: [0,1))."""
    if len(tokens) < 2 or tokens[0].value not in OPENING or tokens[-1].value not in CLOSING:
        return False
    depths = accumulate((token.value in OPENING) - (token.value in CLOSING) for token in tokens)
    return next((i for i, depth in enumerate(depths) if depth == 0), 0) == len(tokens) - 1


def _is_comma(token: Token) -> bool:
    return token.kind == "op" and token.value in ",;"


def _is_joint(token: Token) -> bool:
    return _is_comma(token) or (token.kind in ("word", "text") and token.value.strip(" ,").lower() in _JOINTS)


def _read_tokens(tokens: list[Token]) -> Reading:  # noqa: C901, PLR0911
    if (angle := named_angle(tokens)) is not None:
        return angle
    tokens = trim(tokens)
    if not tokens:
        raise NotMathError("empty")
    if _encloses(tokens):
        return _bracketed(tokens)
    if tokens[0].kind == "word" and len(tokens[0].value) == 1 and tokens[0].value.isupper() and _encloses(tokens[1:]):
        inner = _bracketed(tokens[1:])
        if inner.form == "tuple":
            return replace(inner, label=tokens[0].value)
    if any(t.value in (r"\cup", r"\bigcup") for t in tokens):
        return _union([_read_tokens(part) for part in _split(tokens, lambda t: t.value in (r"\cup", r"\bigcup"))])
    parts = _split(tokens, _is_joint)
    if len(parts) > 1:
        return _list(parts, [t for t in tokens if t.kind in ("word", "text")])
    if any(t.value in _RELATIONS for t in tokens):
        return _relation(tokens)
    ratio = _split(tokens, lambda t: t.value == ":" or (t.kind == "word" and t.value.lower() == "to"))
    if len(ratio) == 2 and (name := _name_in_words(ratio[0])):
        return replace(_read_tokens(ratio[1]), label=name)
    if tokens[0].kind == "text" and len(tokens) > 1 and (verb := _CHINESE_NAME.match(tokens[0].value)):
        return replace(_read_tokens(tokens[1:]), label=verb.group(1))
    if _is_range(tokens):
        low, high = read_value(tokens[:1]), read_value(tokens[2:])
        return Reading("range", items=(replace(low, unit=high.unit), high))
    if len(ratio) > 1:
        return Reading("ratio", items=tuple(read_value(part) for part in ratio))
    return read_value(tokens)


def _is_range(tokens: list[Token]) -> bool:
    """`160-165 cm`, `2007-08`: two plain numbers of which the second is greater, or goes on with the first's year."""
    if [t.kind for t in tokens[:3]] != ["num", "op", "num"] or tokens[1].value != "-":
        return False
    if not all(t.kind == "text" or (t.kind == "word" and len(t.value) > 1) for t in tokens[3:]):
        return False  # 2-5i
    low, high = tokens[0].value, tokens[2].value
    return number_value(low) < number_value(high) or (low.isdigit() and len(low) == 4 and len(high) == 2)


def _name_in_words(tokens: list[Token]) -> str:
    """What stands before a colon where it is the name of a value ("Alice: 5", 甲：5); empty for a term of a ratio."""
    words = [token.value for token in tokens]
    named = 0 < len(words) <= 4 and all(
        t.kind in ("word", "text") and (len(t.value) > 1 or not t.value.isascii()) for t in tokens
    )
    name = " ".join(words)
    return name if named and not denies(name) and not is_truth_word(name) else ""


def _bracketed(tokens: list[Token]) -> Reading:  # noqa: PLR0911
    opening, closing = tokens[0].value, tokens[-1].value
    inner = tokens[1:-1]
    if opening == r"\{" or (opening == "{" and closing == "}"):
        if not inner and opening == r"\{":
            return Reading("set")
        condition = _split(inner, lambda t: t.value in ("|", r"\mid", ":"))
        if len(condition) == 2 and len(condition[0]) in (1, 3):
            return _read_tokens(condition[1])
        parts = _split(inner, _is_comma)
        if opening == "{" and len(parts) == 1:
            return _read_tokens(inner)
        return Reading("set", items=_items(parts))
    parts = _split(inner, _is_comma)
    if len(parts) == 1:
        if opening == "(" and closing == ")":
            return _read_tokens(inner)
        if opening in ("[", r"\langle"):
            return Reading("tuple", items=_items(parts), brackets="[]")
        raise NotMathError("unbalanced brackets")
    square = {r"\lbrack": "[", r"\rbrack": "]"}
    brackets = "()" if opening == r"\langle" else square.get(opening, opening) + square.get(closing, closing)
    items = _items(parts)
    if len(items) == 2 and (brackets in ("(]", "[)") or any(is_infinite(item.node) for item in items)):
        return Reading("interval", pieces=(piece(items, brackets),))
    if brackets not in ("()", "[]"):
        raise NotMathError("unbalanced brackets")
    return Reading("tuple", items=items, brackets=brackets)


def _items(parts: list[list[Token]]) -> tuple[Reading, ...]:
    """Readings of the parts, plus-minus written out. An empty part is an error."""
    if len(parts) > MAX_ITEMS:
        raise NotMathError("too many items")
    items: list[Reading] = []
    for part in parts:
        reading = _read_tokens(part)
        items.extend(reading.items if reading.form == "list" else (reading,))
    return tuple(items)


def as_interval(reading: Reading) -> Reading | None:
    """The reading as an interval, if it is one or may be one ((1,2) may)."""
    if reading.form == "interval":
        return reading
    is_pair = reading.form == "tuple" and len(reading.items) == 2 and not reading.label
    if is_pair and all(i.form == "value" for i in reading.items):
        return Reading("interval", pieces=(piece(reading.items, reading.brackets),))
    return None


def _union(readings: list[Reading]) -> Reading:
    pieces: list[Piece] = []
    label = ""
    items: list[Reading] = []
    for reading in readings:
        if reading.form == "set":
            items.extend(reading.items)
            continue
        interval = as_interval(reading)
        if interval is None:
            raise NotMathError("a union of something else than intervals")
        pieces.extend(interval.pieces)
        label = label or reading.label
    if items and pieces:
        pieces.extend((item.node, True, item.node, True) for item in items)
    return Reading("interval", pieces=tuple(pieces), label=label) if pieces else Reading("set", items=tuple(items))


def _list(parts: list[list[Token]], words: list[Token]) -> Reading:
    parts = [part for part in parts if part]
    if len(parts) == 1:
        return _read_tokens(parts[0])
    if not parts:
        raise NotMathError("nothing but separators")
    if len(parts) > MAX_ITEMS:
        raise NotMathError("too many items")
    items = _items(parts)
    intervals = [item for item in items if item.form == "interval"]
    if (holes := [left_out(item) for item in intervals]) and all(holes) and len({i.label for i in intervals}) == 1:
        rest = [item for item in items if item.form != "interval"]  # "x \\ne 2, 3"
        if all(item.form == "value" and item.node and not item.label for item in rest) and items[0] == intervals[0]:
            points = [*chain.from_iterable(holes), *(item.node for item in rest if item.node)]
            return complement(points, intervals[0].label)
    one_name = len({item.label for item in items} - {""}) < 2
    if len(intervals) == len(items) and one_name and not any(w.value.strip().lower() in _AND for w in words):
        return _union(list(items))
    if len(intervals) == len(items) == 2 and one_name:
        return _intersection(*items)
    last = items[-1]
    if last.unit is not None and all(i.unit is None for i in items[:-1]) and all(i.form == "value" for i in items):
        items = tuple(replace(item, unit=last.unit) for item in items)  # "3 and 5 cm": the unit belongs to both
    if len({item.label for item in items}) == 2 and items[0].label and not any(item.label for item in items[1:]):
        items = (replace(items[0], label="", relation=None), *items[1:])  # "x = 3, 5" names x for both
    return Reading("list", items=items)


def _intersection(a: Reading, b: Reading) -> Reading:
    """`x > 1 and x < 3`: two rays that meet."""
    if len(a.pieces) == len(b.pieces) == 1 and a.label == b.label:
        (low, low_in, high, high_in), other = a.pieces[0], b.pieces[0]
        if high is None and other[0] is None:
            return replace(a, pieces=((low, low_in, other[2], other[3]),))
        if low is None and other[2] is None:
            return replace(a, pieces=((other[0], other[1], high, high_in),))
    raise NotMathError("an intersection that is not covered")


_LETTER = r"[A-Za-z](?:_(?:\{[^{}_]{1,8}\}|\d{1,3}|[A-Za-z]))?"
_NAME = re.compile(
    rf"{_LETTER}(?:\^\{{-1\}})?(?:'|\(\w(?:,\w)*\))?"  # x, x_1, f(x), f^{-1}(x), f'
    r"|[A-Za-z]{1,2}(?::[A-Za-z]{1,2})+"  # x:y
    r"|(?:\\angle)?[A-Z]{1,3}"  # AB
    r"|[A-Za-z]*(?:[A-Z]\.){1,4}[A-Za-z]*"  # S.A.
    r"|\(\w(?:_\d)?(?:,\w(?:_\d)?){1,5}\)"  # (x,y)
)
_UNKNOWN = re.compile(_LETTER)


def _label_text(tokens: list[Token]) -> str:
    """The name on the left of `x =`, `f(x) =`, `x_1 =`, `area =`; empty when it is an expression or a denial."""
    text = "".join(t.value for t in tokens)
    if len(text) > 2 and denies(" ".join(t.value for t in tokens)):
        return ""
    if len(tokens) == 1 and tokens[0].kind in ("word", "text"):
        return text
    if len(tokens) == 1 and tokens[0].kind == "cmd" and len(text) > 2 and text != r"\pi":
        return text
    if _NAME.fullmatch(text):
        return text
    if len(tokens) <= 8 and all(
        t.kind == "text" or (t.kind == "word" and (len(t.value) > 2 or t.value in TWO_LETTER_WORDS)) for t in tokens
    ):
        return text
    return ""


def _relation(tokens: list[Token]) -> Reading:
    sides = _split(tokens, lambda t: t.value in _RELATIONS)
    operators = [_RELATIONS[t.value] for t in tokens if t.value in _RELATIONS]
    if len(sides) != len(operators) + 1 or any(not side for side in sides):
        raise NotMathError("a relation inside brackets, or without a side")
    if set(operators) <= {"="}:
        return _equation(sides)
    label = _label_text(sides[0])
    if operators == ["in"] and label:
        members = _read_tokens(sides[1])
        return replace(as_interval(members) or members, label=label)
    nodes = [parse_expression(side) for side in sides]
    interval = interval_of(nodes, operators)
    if interval is not None:
        return interval
    if len(nodes) == 2 and operators[0] in ("<", ">", "<=", ">="):
        left, right = nodes if operators[0] in ("<", "<=") else (nodes[1], nodes[0])
        return Reading("relation", relation=("<=" if "=" in operators[0] else "<", left, right))
    if len(nodes) == 2 and operators[0] == "!=":
        return Reading("relation", relation=("!=", nodes[0], nodes[1]))
    raise NotMathError("a chain that is not covered")


def _equation(sides: list[list[Token]]) -> Reading:  # noqa: C901
    label = _label_text(sides[0])
    right = sides[-1]
    if not label and len(sides) == 2 and (reverse := _label_text(sides[1])):
        label, right = reverse, sides[0]
    if len(sides) > 2 or not label:
        if label and (several := _one_value(sides)):
            return several
        links = [parse_expression(side) for side in (sides[1:] if label else sides)]
        if not any(variables(node) for node in links):
            last = _read_tokens(sides[-1])
            if not all(_rounds_to(node, last) for node in links[:-1]):
                raise NotMathError("an equation between different numbers")
            return replace(last, label=label)
        if len(sides) > 2:
            raise NotMathError("a chain of equations")
    if label:
        value = _read_tokens(right)
        if value.label or (value.form == "ratio" and ":" not in label):
            raise NotMathError("an equation in an equation")
        try:
            left = parse_expression([t for side in sides if side is not right for t in side][: len(sides[0])])
        except NotMathError:
            left = None
        if value.form == "list":
            return replace(value, items=tuple(replace(item, label="") for item in value.items))
        relation = ("=", left, value.node) if left and value.node and value.form == "value" else None
        return replace(value, label=label, relation=relation)
    if len(sides) != 2:
        raise NotMathError("a chain of equations")
    return Reading("relation", relation=("=", parse_expression(sides[0]), parse_expression(sides[1])))


def _one_value(sides: list[list[Token]]) -> Reading | None:
    """`x_1=x_2=2` is x = 2, `x=y=2` is x = 2 and y = 2; None where more than names stands before the value."""
    names = [_label_text(side) for side in sides[:-1]]
    if len(names) < 2 or not all(_UNKNOWN.fullmatch(name) for name in names):
        return None
    value = _read_tokens(sides[-1])
    if value.form != "value" or value.label or len(set(names)) < len(names):
        return None
    if len({name.split("_")[0] for name in names}) == 1:
        return replace(value, label=names[0].split("_")[0])
    return Reading("list", items=tuple(replace(value, label=name) for name in names))


def _rounds_to(node: Node, last: Reading) -> bool:
    """Whether a number equals the last side, or rounds to it.

    `cos(-2.01) = -0.425` is a rounded value, `3 = 12` is nonsense.
    """
    if last.node is None:
        return False
    try:
        x, y = value_of(node, {}), value_of(last.node, {})
    except TooHardError:
        return False
    if same_value(x, y):
        return True
    return last.style == "decimal" and last.ulp is not None and bool(abs(inexact(x) - inexact(y)) <= inexact(last.ulp))
