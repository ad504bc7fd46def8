"""Intervals: end points, infinity, and the inequalities in one variable that are intervals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from shared.answers.parse.evaluate import TooHardError, inexact, value_of
from shared.answers.parse.expression import contains, variables
from shared.answers.parse.tokens import NotMathError
from shared.answers.types import Node, Piece, Reading


def is_infinite(node: Node | None) -> bool:
    """Whether a tree is plus or minus infinity."""
    return node is not None and contains(node, "c") and _infinity_sign(node) != 0


def _infinity_sign(node: Node) -> int:
    """+1 or -1 for plus or minus infinity, 0 for anything else."""
    if node == ("c", "inf"):
        return 1
    return -_infinity_sign(node[1]) if node[0] == "neg" else 0


def infinity_sign(reading: Reading) -> int:
    """+1 or -1 for a reading that is infinite, else 0."""
    return _infinity_sign(reading.node) if reading.node is not None else 0


def piece(items: tuple[Reading, ...], brackets: str) -> Piece:
    """The interval between two readings. Raises NotMathError where an end is no number."""
    low, high = items[0].node, items[1].node
    if low is None or high is None:
        raise NotMathError("end points of an interval are numbers")
    return (
        None if _infinity_sign(low) < 0 else low,
        brackets[0] == "[" and _infinity_sign(low) == 0,
        None if _infinity_sign(high) > 0 else high,
        brackets[1] == "]" and _infinity_sign(high) == 0,
    )


def _absolute(nodes: list[Node], operator: str) -> Reading | None:
    """`|x| < 1`, `|x - 3| >= 2`: all numbers within a positive distance of a centre, or all beyond it."""
    if nodes[1][0] == "abs":
        nodes, operator = nodes[::-1], operator.translate(str.maketrans("<>", "><"))
    if nodes[0][0] != "abs" or variables(nodes[1]) or operator[0] not in "<>":
        return None
    inside, distance = nodes[0][1], nodes[1]
    centre: Node = ("n", Fraction(0))
    if inside[0] == "+" and inside[1][0] == "v" and not variables(inside[2]):
        inside, centre = inside[1], ("neg", inside[2])
    try:
        positive = inexact(value_of(distance, {})) > 0
    except (TooHardError, TypeError):
        return None
    if inside[0] != "v" or not positive:
        return None
    low, high, closed = ("+", centre, ("neg", distance)), ("+", centre, distance), "=" in operator
    within: tuple[Piece, ...] = ((low, closed, high, closed),)
    beyond: tuple[Piece, ...] = ((None, False, low, closed), (high, closed, None, False))
    return Reading("interval", pieces=within if operator[0] == "<" else beyond, label=inside[1])


def both_signs(node: Node) -> list[Node]:
    """The two nodes that a node with plus-minus stands for, or the node alone."""
    if not contains(node, r"\pm", r"\mp"):
        return [node]
    return [_signed(node, plus) for plus in (False, True)]


def _signed(node: Node, plus: bool) -> Node:
    children = tuple(_signed(c, plus) if isinstance(c, tuple) else c for c in node[1:])
    if node[0] not in (r"\pm", r"\mp"):
        return (node[0], *children)
    left, right = children
    signed = right if (node[0] == r"\pm") == plus else ("neg", right)
    return signed if left is None else ("+", left, signed)


def complement(points: list[Node], name: str) -> Reading:
    """All real numbers but these points. Raises NotMathError where several cannot be put in order."""
    if len(points) > 1:
        try:
            valued = {inexact(value_of(point, {})): point for point in points}
            points = [valued[value] for value in sorted(valued)]
        except (TooHardError, TypeError, KeyError) as error:
            raise NotMathError("points without an order") from error
    ends = [None, *points, None]
    pieces = tuple((low, False, high, False) for low, high in pairwise(ends))
    return Reading("interval", pieces=pieces, label=name)


def left_out(reading: Reading) -> list[Node]:
    """The points that all real numbers but them leave out; empty for any other interval."""
    highs, lows = [piece[2] for piece in reading.pieces[:-1]], [piece[0] for piece in reading.pieces[1:]]
    whole = bool(lows) and reading.pieces[0][0] is None and reading.pieces[-1][2] is None
    opened = not any(piece[1] or piece[3] for piece in reading.pieces)
    return [low for low in lows if low is not None] if whole and opened and highs == lows else []


def interval_of(nodes: list[Node], operators: list[str]) -> Reading | None:
    """`x > 2`, `1 < x <= 3`, `x != 2` for one lone variable and numbers."""
    if len(nodes) == 2 and (around := _absolute(nodes, operators[0])) is not None:
        return around
    lone = [i for i, node in enumerate(nodes) if node[0] == "v"]
    if len(lone) != 1 or any(variables(node) for i, node in enumerate(nodes) if i != lone[0]):
        return None
    name, at = nodes[lone[0]][1], lone[0]
    if operators == ["!="]:
        return complement(both_signs(nodes[1 - at]), name)
    if len(nodes) == 2:
        below = (operators[0] in ("<", "<=")) == (at == 1)  # the number stands below the variable
        end, closed = nodes[1 - at], "=" in operators[0]
        ray = (end, closed, None, False) if below else (None, False, end, closed)
        return Reading("interval", pieces=(ray,), label=name)
    if len(nodes) == 3 and at == 1 and len({op[0] for op in operators}) == 1 and operators[0][0] in "<>":
        ends = [
            (None if _infinity_sign(node) else node, "=" in operator)
            for node, operator in zip((nodes[0], nodes[2]), operators, strict=True)
        ]
        low, high = ends if operators[0][0] == "<" else ends[::-1]
        return Reading("interval", pieces=((*low, *high),), label=name)
    return None


def letters_of(reading: Reading) -> frozenset[str]:
    """Names of the free variables in a reading's values and ends, not in its label."""
    nodes = [
        reading.node,
        *(end for low, _, high, _ in reading.pieces for end in (low, high)),
        *(reading.relation or ())[1:],
    ]
    return frozenset().union(*(variables(node) for node in nodes), *(letters_of(item) for item in reading.items))


def renamed(reading: Reading, old: str, new: str) -> Reading:
    """The reading with another name for one of its variables, labels left as they are."""

    def node(tree: Node) -> Node:
        if tree == ("v", old):
            return ("v", new)
        return tuple(node(child) if isinstance(child, tuple) else child for child in tree)

    def end(tree: Node | None) -> Node | None:
        return None if tree is None else node(tree)

    return replace(
        reading,
        node=end(reading.node),
        items=tuple(renamed(item, old, new) for item in reading.items),
        relation=reading.relation and (reading.relation[0], node(reading.relation[1]), node(reading.relation[2])),
        pieces=tuple((end(low), low_in, end(high), high_in) for low, low_in, high, high_in in reading.pieces),
    )
