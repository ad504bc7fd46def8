r"""Value of a short arithmetic expression in LaTeX or plain text, by a parser of our own: no text is run as code.

Input: such as `\frac{3}{4}\pi`, `2\sqrt{3}-1`, `45^2`. Output: a float, or None for anything with other symbols, for
powers beyond 1e300 and for what does not parse. As latex2sympy2, which MathVision's rule calls, it takes 1,234 for one
number and multiplies neighbours: 1 234 is 234. Only the re-implemented official scorers need it; the project's own
grader compares exactly.
"""

from __future__ import annotations

import math
import re

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)|(?P<word>\\[a-zA-Z]+|pi|sqrt|e(?![a-zA-Z]))|(?P<sign>\*\*|[-+*/^(){}\[\]!]))"
)
_SIGNS = {r"\cdot": "*", r"\times": "*", r"\div": "/", "**": "^", r"\left": "", r"\right": "", r"\,": ""}
_FUNCTIONS = {r"\sin": math.sin, r"\cos": math.cos, r"\tan": math.tan, r"\ln": math.log, r"\log": math.log10}
_OPEN, _CLOSE = "({[", ")}]"
LONGEST = 400
DEEPEST = 40


def value_of(text: str) -> float | None:
    """The expression's value, or None where it has none that is finite and certain."""
    if len(text) > LONGEST:
        return None
    found = [match.group() for match in _TOKEN.finditer(text)]
    if "".join(found) != text.rstrip():
        return None
    tokens = (_SIGNS.get(token, token) for token in map(str.strip, found))
    parser = _Parser([token for token in tokens if token])
    try:
        value = parser.sum(0)
    except (ValueError, ZeroDivisionError, OverflowError, IndexError):
        return None
    return value if parser.done and math.isfinite(value) else None


class _Parser:
    """Recursive descent over the tokens: sums of products of powers of atoms; neighbours multiply."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place = tokens, 0

    @property
    def done(self) -> bool:
        return self.place >= len(self.tokens)

    def _peek(self) -> str:
        return "" if self.done else self.tokens[self.place]

    def _take(self, *wanted: str) -> str:
        token = self._peek()
        if not token or (wanted and token not in wanted):
            raise ValueError("unexpected token")
        self.place += 1
        return token

    def sum(self, depth: int) -> float:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        total = self._product(depth)
        while self._peek() in ("+", "-"):
            sign = self._take()
            part = self._product(depth)
            total = total + part if sign == "+" else total - part
        return total

    def _product(self, depth: int) -> float:
        if self._peek() in ("+", "-"):
            return self._signed(depth)
        value = self._power(depth)
        while self._peek() not in ("", "+", "-", *_CLOSE):
            if self._peek() == "/":
                self._take()
                value /= self._power(depth)
                continue
            if self._peek() == "*":
                self._take()
            value *= self._signed(depth) if self._peek() == "-" else self._power(depth)
        return value

    def _signed(self, depth: int) -> float:
        sign = -1.0 if self._take("+", "-") == "-" else 1.0
        return sign * self._product(depth + 1)

    def _power(self, depth: int) -> float:
        base = self._atom(depth)
        while self._peek() == "!":
            self._take()
            base = float(math.factorial(int(base))) if 0 <= base <= 20 and base == int(base) else math.inf
        if self._peek() == "^":
            self._take()
            if self._peek() == "-":
                self._take()
                return _raised(base, -self._atom(depth))
            return _raised(base, self._atom(depth))
        return base

    def _group(self, depth: int) -> float:
        opening = self._take(*_OPEN)
        value = self.sum(depth + 1)
        self._take(_CLOSE[_OPEN.index(opening)])
        return value

    def _atom(self, depth: int) -> float:  # noqa: PLR0911 - one return per kind of atom
        token = self._peek()
        if token and token in _OPEN:
            return self._group(depth)
        token = self._take()
        if token[0].isdigit() or token[0] == ".":
            return float(token.replace(",", ""))
        if token in (r"\pi", "pi"):
            return math.pi
        if token == "e":  # noqa: S105 - a token of the parser
            return math.e
        if token in (r"\frac", r"\dfrac", r"\tfrac"):
            return self._argument(depth) / self._argument(depth)
        if token in (r"\sqrt", "sqrt"):
            root = self._group(depth) if self._peek() == "[" else 2.0
            return _raised(self._argument(depth), 1 / root)
        if token in _FUNCTIONS:
            return float(_FUNCTIONS[token](self._atom(depth)))
        raise ValueError("unknown symbol")

    def _argument(self, depth: int) -> float:
        """`{...}` or a single digit, as TeX takes it."""
        if self._peek() == "{":
            return self._group(depth)
        token = self._peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.place] = token[1:]
            return float(token[0])
        return self._atom(depth)


def _raised(base: float, exponent: float) -> float:
    if base < 0 and exponent != int(exponent):
        raise ValueError("not a real number")
    return float(base**exponent)  # floats: overflow raises, it never grows


def float_of(text: str) -> float | None:
    """What Python's own `float` reads, None for other text: the published rules read numbers so."""
    try:
        return float(text)
    except ValueError:
        return None
