"""What an answer looks like once it is read: the `Reading` that `reading` makes and `compare` compares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from shared.answers.parse.expression import Node, variables
from shared.answers.parse.units import Unit

Piece = tuple[Node | None, bool, Node | None, bool]
"""One interval.

Lower end (None = minus infinity), whether it belongs, upper end (None = infinity), whether it belongs.
"""


@dataclass(frozen=True, slots=True)
class Reading:
    r"""One answer read as mathematics. Only the fields of its form are filled.

    `form`: value, relation, interval, tuple, set, list, matrix, ratio, range, time, base. `style` refines a value
    (integer, decimal, fraction, mixed, scientific, complex, expression). `ulp` is one unit in the last place of a
    decimal numeral, `significant` its number of significant digits. `label` is the name in `x = 5` or `A(1,2)`.
    `alternative` is the other reading of `10m`. `parameter` and `domain` are what a closing quantifier says: `k` and
    `Z` of `2k\pi, k \in \mathbb{Z}`.
    """

    form: str
    node: Node | None = None
    style: str = ""
    ulp: Fraction | None = None
    significant: int = 0
    unit: Unit | None = None
    items: tuple[Reading, ...] = ()
    brackets: str = ""
    label: str = ""
    relation: tuple[str, Node, Node] | None = None
    pieces: tuple[Piece, ...] = ()
    digits: str = ""
    alternative: Reading | None = None
    parameter: str = ""
    domain: str = ""


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
