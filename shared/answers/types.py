"""The values of grading: how it ends, what an answer is read as, which kinds there are.

Endings are typed, never a bare boolean: unparsable is not wrong; a timeout is neither. A kind is what the *gold* looks
like (`answer_kind`); it is stored in the dataset's `answer_kind` column and decides which rule compares the answers. A
family is coarser: a fraction given for a decimal is of the right type (paper, section 5.1: weight 0.2 for type
matching), a sentence is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from fractions import Fraction
from typing import Any, Literal

ANSWER_KINDS: tuple[str, ...] = (
    "choice",  # one or several option letters A to J
    "integer",
    "decimal",
    "fraction",
    "mixed",  # 1 1/2
    "percent",
    "scientific",  # 1.2\times10^{-3}, 3e5
    "quantity",  # a number with a unit
    "degree",  # an angle in degrees
    "money",
    "time",  # 3:30 on a clock
    "ratio",  # 2:3
    "base",  # 101_2
    "complex",
    "expression",
    "equation",
    "inequality",
    "interval",
    "set",  # order is free: {1,2}, "1, 2", \pm 3
    "tuple",  # order matters: (1,2), \langle 1,2\rangle
    "matrix",
    "boolean",  # yes, no, true, false
    "text",
)

_FAMILIES: dict[str, str] = {
    "decimal": "rational",
    "fraction": "rational",
    "mixed": "rational",
    "percent": "rational",
    "scientific": "rational",
    "inequality": "interval",
    "complex": "expression",
    "ratio": "rational",
}


def kind_family(kind: str) -> str:
    """The family of a kind, as far as "the right type of answer" goes (facts: decimal or fraction are one type)."""
    return _FAMILIES.get(kind, kind)


class Verdict(StrEnum):
    """How the comparison of one answer with its gold ended."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE_ANSWER = "unparsable_answer"
    UNPARSABLE_GOLD = "unparsable_gold"
    TIMEOUT = "timeout"
    UNDECIDED = "undecided"  # the symbolic library failed (out of memory, not implemented): neither right nor wrong


@dataclass(frozen=True, slots=True)
class Extracted:
    """The final answer found in a model's output.

    `answer` is None where there is none; `source` says which form held it; `boxes` counts the balanced boxes and
    `answer_tags` the `<answer>` blocks outside the thinking, so that a reward can refuse several. `contents` are the
    different contents of that form, the answer last; `others` what the output says to be its answer in other forms.
    """

    answer: str | None
    source: Literal["boxed", "answer_tag", "marked", "stated", "bare", "none"]
    boxes: int = 0
    answer_tags: int = 0
    contents: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded pair.

    `kind` is the gold's kind, `layer` the rule that settled the pair (`exact`, `number`, `choice`, `text`,
    `structure`, `numeric`, `symbolic`, `none`), `type_match` whether the answer is of the gold's family,
    `exact` whether it is the gold answer (the same truth as `correct`).
    """

    verdict: Verdict
    kind: str
    layer: str
    type_match: bool
    exact: bool

    @property
    def correct(self) -> bool:
        """True only for the verdict `correct`."""
        return self.verdict is Verdict.CORRECT


@dataclass(frozen=True, slots=True)
class GoldCheck:
    """Whether a gold answer can serve as a verifiable reward.

    `verified`: the grader accepts the gold against itself and refuses it against a wrong neighbour.
    `reason` is empty for verified golds, else a short machine-readable word.
    """

    status: Literal["verified", "unverifiable"]
    reason: str
    kind: str
    parsed: str
    self_accepts: bool
    refuses_neighbour: bool


@dataclass(frozen=True, slots=True)
class GoldAnswer:
    r"""What a gold holds.

    `answer` is what a model's answer is compared with, None where there is none; `taken` says how it was taken out:
    empty where the gold is the answer as it stands, else `marked` (`#### 72`), `boxed` (`\boxed{72}` inside a text),
    `analysis` (what stood behind it was left away) or `stated` (故答案为: 290). `reason` is empty where there is an
    answer, else `missing`, `elsewhere` (the answer is said to stand somewhere else), `several_boxes` or `paragraph`.
    """

    answer: str | None
    taken: Literal["", "marked", "boxed", "analysis", "stated"] = ""
    reason: Literal["", "missing", "elsewhere", "several_boxes", "paragraph"] = ""


Dimensions = tuple[tuple[str, int], ...]
Node = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as `factor` times the coherent unit of its `dimensions` (pairs of base dimension and power)."""

    factor: Fraction
    dimensions: Dimensions

    @property
    def is_percent(self) -> bool:
        """Whether this is the percent sign."""
        return self.dimensions == (("percent", 1),)

    @property
    def is_degree(self) -> bool:
        """Whether this is an angle."""
        return self.dimensions == (("angle", 1),)

    @property
    def is_money(self) -> bool:
        """Whether this is one currency."""
        return len(self.dimensions) == 1 and self.dimensions[0][0].startswith("money")

    @property
    def is_generic(self) -> bool:
        """Whether it says nothing about the dimension ("units", "square units", 个)."""
        return all(name == "generic" for name, _ in self.dimensions)

    @property
    def is_noun(self) -> bool:
        """Whether it only names what is counted."""
        return len(self.dimensions) == 1 and self.dimensions[0][0].startswith("noun:")


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


class Settlement(Enum):
    """What the symbolic layer says about one pair."""

    SAME = "same"
    DIFFERENT = "different"
    UNREAD_GOLD = "unread_gold"
    UNREAD_ANSWER = "unread_answer"
    FAILED = "failed"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Pending:
    """A pair that only the symbolic layer can settle."""

    gold: str
    pred: str
    kind: str
    type_match: bool


@dataclass(frozen=True, slots=True)
class Deferred:
    """Several comparisons, and what follows from their grades (in order)."""

    states: tuple[State, ...]
    decide: Callable[[list[Grade]], Grade]


State = Grade | Pending | Deferred
