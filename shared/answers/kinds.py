"""The kinds of answer that the grader tells apart, and the families that count as "the right type" of answer.

A kind is what the *gold* looks like (`answer_kind`); it is stored in the dataset's `answer_kind` column and decides
which rule compares the answers. A family is coarser: a fraction given for a decimal is of the right type (paper,
section 5.1: weight 0.2 for type matching), a sentence is not.
"""

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
