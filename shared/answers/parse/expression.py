r"""Syntax trees of one mathematical expression in LaTeX or plain notation.

`parse_expression` builds a tree of tuples, e.g. `("+", ("n", Fraction(1)), ("v", "x"))`. Covered: numbers, mixed
numbers, letters, Greek letters, + - * / ^, implicit products, roots, fractions, factorials, absolute values, floor and
ceiling, binomials, elementary functions, logarithms to a base, degrees, plus-minus. Anything else (integrals, sums,
limits, matrices inside expressions) raises `NotMathError` and is left to the symbolic layer. Length, depth and size are
bounded.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from shared.answers.parse.tokens import FUNCTIONS, TWO_LETTER_WORDS, NotMathError, Token, number_value
from shared.answers.types import Node

MAX_DEPTH = 40

_LETTERS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma
tau phi varphi chi psi omega Delta Sigma Omega Phi Theta Gamma Lambda Psi Xi ell
"""
LETTER_NAMES = frozenset(_LETTERS.split())
_PLAIN_NAMES = frozenset(["alpha", "beta", "gamma", "theta", "lambda", "sigma", "omega", "phi"])
_OPENING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}


class Parser:
    """Recursive descent over tokens. Precedence: sum, product (explicit and implicit), sign, power, postfix."""

    def __init__(self, tokens: list[Token]) -> None:
        """Parse from the first token."""
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        """Value of the current token, with text and word kinds marked; empty at the end."""
        return self.tokens[self.at].value if self.at < len(self.tokens) else ""

    def take(self) -> Token:
        """The current token; moves on."""
        if self.at >= len(self.tokens):
            raise NotMathError("expression ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, value: str) -> None:
        """Take exactly this token."""
        if self.take().value != value:
            raise NotMathError(f"{value} expected")

    def sum(self) -> Node:
        """Term (+ term | - term | pm term)*."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMathError("nested too deeply")
        node = self.product()
        while (sign := self.peek()) in ("+", "-", r"\pm", r"\mp"):
            self.at += 1
            right = self.product()
            if sign == "-":
                sign, right = "+", ("neg", right)
            node = (sign, node, right)
        self.depth -= 1
        return node

    def product(self) -> Node:
        """Factor ((* | / | nothing) factor)*."""
        node = self.signed()
        while True:
            value = self.peek()
            if value in ("*", r"\cdot", r"\times", r"\ast"):
                self.at += 1
                node = ("*", node, self.signed())
            elif value in ("/", r"\div"):
                self.at += 1
                node = ("/", node, self.signed())
            elif value and self.starts_atom():
                if self.tokens[self.at].kind == "num" and self.tokens[self.at - 1].kind == "num":
                    raise NotMathError("two numbers side by side")
                node = ("*", node, self.power())
            else:
                return node

    def signed(self) -> Node:
        """A factor with its signs."""
        sign = self.peek()
        if sign in ("+", "-", r"\pm", r"\mp"):
            self.at += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotMathError("nested too deeply")
            # the sign covers the whole product of implicit factors: -2x = -(2x)
            inner = self.signed()
            self.depth -= 1
            if sign == "+":
                return inner
            return ("neg", inner) if sign == "-" else (sign, None, inner)
        return self.power()

    def starts_atom(self) -> bool:
        """Whether the current token can begin a factor that multiplies what stands before it."""
        token = self.tokens[self.at]
        if token.kind in ("num", "word"):
            return True
        if token.kind == "cmd":
            return token.value[1:] in _STARTING_COMMANDS
        return token.kind == "op" and token.value in "([{"

    def power(self) -> Node:
        """atom, then postfix signs and exponents."""
        node = self.atom()
        while True:
            value = self.peek()
            if value == "^" or (
                value == "*" and self.at + 1 < len(self.tokens) and self.tokens[self.at + 1].value == "*"
            ):
                self.at += 1 if value == "^" else 2
                node = ("^", node, self.exponent())
            elif value == "!":
                self.at += 1
                node = ("!", node)
            elif value == r"\degree":
                self.at += 1
                node = ("deg", node)
            elif value in ("%", r"\%"):
                self.at += 1
                node = ("/", node, ("n", Fraction(100)))
            else:
                return node

    def exponent(self) -> Node:
        """What stands after ^: a group, or a signed number, letter or command."""
        if self.peek() in ("-", "+"):
            sign = self.take().value
            inner = self.exponent()
            return ("neg", inner) if sign == "-" else inner
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        is_run = token is not None and token.kind == "word" and len(token.value) > 1
        if is_run and self.peek() not in ("pi", "inf", "infty"):
            self.split_word()  # x^nx is x^n x, as LaTeX sets it
        base = self.atom()
        if self.peek() == "^":  # towers associate to the right
            self.at += 1
            return ("^", base, self.exponent())
        return base

    def group(self, closing: str) -> Node:
        r"""A sum or `a \over b`, then the closing token."""
        node = self.over()
        self.expect(closing)
        return node

    def argument(self) -> Node:
        r"""One argument of a command: a group, or one digit or letter (`\frac12`)."""
        token = self.take()
        if token.value == "{":
            return self.group("}")
        if token.kind == "num" and len(token.value) > 1 and "." not in token.value and "e" not in token.value.lower():
            self.at -= 1
            self.tokens = [
                *self.tokens[: self.at],
                *(Token("num", digit, False) for digit in token.value),
                *self.tokens[self.at + 1 :],
            ]
            return ("n", Fraction(int(self.take().value)))
        self.at -= 1
        if token.kind == "word" and len(token.value) > 1:
            self.split_word()
            return self.letters(self.take().value)
        return self.atom()

    def split_word(self) -> None:
        """Make the first letter of the current word a token of its own."""
        word = self.tokens[self.at].value
        parts = (Token("word", word[0], False), Token("word", word[1:], False))
        self.tokens = [*self.tokens[: self.at], *parts, *self.tokens[self.at + 1 :]]

    def atom(self) -> Node:
        """A number, letter, group, root, fraction, function or absolute value."""
        token = self.take()
        value = token.value
        if token.kind == "num":
            return self.number(value)
        if token.kind == "word":
            return self.function(value) if value in FUNCTIONS else self.letters(value)
        if token.kind == "text":
            raise NotMathError("text inside an expression")
        if value in _OPENING and value != r"\{":
            return self.group(_OPENING[value])
        if value == "|":
            return ("abs", self.group("|"))
        if token.kind != "cmd":
            raise NotMathError(f"unexpected {value!r}")
        return self.command(value[1:])

    def over(self) -> Node:
        r"""A sum, or `a \over b`."""
        top = self.sum()
        if self.peek() != r"\over":
            return top
        self.at += 1
        return ("/", top, self.sum())

    def number(self, literal: str) -> Node:
        r"""A numeral, or a mixed number: an integer followed by a proper fraction (`2\frac13`, `1 1/2`)."""
        node: Node = ("n", number_value(literal))
        if not literal.isdigit() or self.at >= len(self.tokens):
            return node
        start, kept = self.at, self.tokens
        follower = self.tokens[self.at]
        part: Node | None = None
        if follower.value == r"\frac":
            self.at += 1
            top, bottom = self.argument(), self.argument()
            part = ("/", top, bottom)
        elif (
            follower.kind == "num"
            and follower.spaced
            and [t.value for t in self.tokens[self.at + 1 : self.at + 2]] == ["/"]
        ):
            denominators = self.tokens[self.at + 2 : self.at + 3]
            if denominators and denominators[0].kind == "num":
                self.at += 3
                part = ("/", ("n", number_value(follower.value)), ("n", number_value(denominators[0].value)))
        if part is not None and part[1][0] == "n" == part[2][0]:
            top_value, bottom_value = part[1][1], part[2][1]
            if 0 < top_value < bottom_value and top_value.denominator == bottom_value.denominator == 1:
                return ("mixed", node, part)
        self.at, self.tokens = start, kept
        return node

    def letters(self, word: str) -> Node:
        """A run of letters: one variable, a Greek name, or a short product of variables."""
        if word in ("pi", "Pi"):
            return ("c", "pi")
        if word in ("infty", "inf", "infinity", "oo", "Infinity"):
            return ("c", "inf")
        if word in _PLAIN_NAMES:
            return ("v", word)
        if len(word) > 1 and not _is_letter_product(word):
            raise NotMathError(f"{word!r} is a word")
        node: Node | None = None
        for i, letter in enumerate(word):
            is_last, is_constant = i == len(word) - 1, letter in ("e", "i")
            name = self.subscripted(letter) if is_last and not is_constant else letter
            factor: Node = ("c" if is_constant else "v", name)
            if is_last and len(word) > 1 and self.peek() in ("^", "!"):  # ab^2 = a b^2
                factor = ("!", factor) if self.take().value == "!" else ("^", factor, self.exponent())
            node = factor if node is None else ("*", node, factor)
        if node is None:
            raise NotMathError("no letters")
        return node

    def subscripted(self, name: str) -> str:
        """The variable's name with its index, if one follows."""
        if self.peek() != "_":
            return name
        self.at += 1
        token = self.take()
        if token.value != "{":
            return f"{name}_{token.value}"
        parts = []
        while self.peek() != "}":
            parts.append(self.take().value)
        self.at += 1
        return f"{name}_{''.join(parts)}"

    def command(self, name: str) -> Node:  # noqa: PLR0911
        """A LaTeX command that begins a factor."""
        if name == "frac":
            top = self.argument()
            return ("/", top, self.argument())
        if name in ("sqrt", "surd"):
            return self.root()
        if name in FUNCTIONS:
            return self.function(name)
        if name == "pi":
            return ("c", "pi")
        if name == "infty":
            return ("c", "inf")
        if name in LETTER_NAMES:
            return ("v", self.subscripted(name))
        if name in ("binom", "dbinom", "tbinom"):
            top = self.argument()
            return ("binom", top, self.argument())
        if name in ("lfloor", "lceil", "lvert", "vert"):
            closing = {"lfloor": r"\rfloor", "lceil": r"\rceil", "lvert": r"\rvert", "vert": r"\vert"}[name]
            return (name if name in ("lfloor", "lceil") else "abs", self.group(closing))
        raise NotMathError(f"\\{name} is not covered")

    def root(self) -> Node:
        r"""`\sqrt[n]{a}`, `\sqrt2`, `\sqrt13` and `√13` (people mean the whole number)."""
        index: Node = ("n", Fraction(2))
        if self.peek() == "[":
            self.at += 1
            index = self.group("]")
        if self.peek() == "{":
            self.at += 1
            return ("root", index, self.group("}"))
        if self.peek() == "(" or (self.at < len(self.tokens) and self.tokens[self.at].kind == "num"):
            token = self.take()
            return ("root", index, self.group(")") if token.value == "(" else ("n", number_value(token.value)))
        return ("root", index, self.argument())

    def function(self, name: str) -> Node:
        r"""`\sin x`, `\sin^2 x`, `\sin^{-1} x`, `\log_2 8`, `sqrt(3)`, `f(x)^2`."""
        if name == "sqrt":
            return self.root()
        power: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.peek() == "_" and base is None:
                self.at += 1
                base = self.argument()
            elif self.peek() == "^" and power is None:
                self.at += 1
                power = self.exponent()
        grouped = self.peek() in ("(", "{")
        inner = self.group(_OPENING[self.take().value]) if grouped else self.bare_argument()
        if power == ("neg", ("n", Fraction(1))):
            name, power = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}.get(name, "?"), None
        if name == "?":
            raise NotMathError("inverse of an unusual function")
        node: Node = ("log", base, inner) if base is not None else ("f", name, inner)
        return node if power is None else ("^", node, power)

    def bare_argument(self) -> Node:
        r"""Argument without brackets: the factors that follow, up to a sign, an operator or the next function."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotMathError("nested too deeply")
        node = self.power()
        while self.at < len(self.tokens) and self.starts_atom():
            name = self.peek().lstrip("\\")
            if name in FUNCTIONS and name != "sqrt":
                break
            if self.peek() in ("(", "["):
                break
            node = ("*", node, self.power())
        self.depth -= 1
        return node


_STARTING_COMMANDS = (
    FUNCTIONS | LETTER_NAMES | {"frac", "surd", "pi", "infty", "binom", "dbinom", "tbinom", "lfloor", "lceil", "lvert"}
)


def _is_letter_product(word: str) -> bool:
    """`ab`, `xyz`, `abc` are products of variables; `red`, `no` are words."""
    if len(word) == 2:
        return word.lower() not in TWO_LETTER_WORDS
    codes = sorted(ord(c) for c in word)
    return len(word) <= 4 and codes == list(range(codes[0], codes[0] + len(word)))


def parse_expression(tokens: list[Token]) -> Node:
    """Tree of the whole token list. Raises NotMathError for anything left over or not covered."""
    if not tokens:
        raise NotMathError("empty")
    parser = Parser(tokens)
    node = parser.over()
    if parser.at != len(parser.tokens):
        raise NotMathError(f"{parser.peek()!r} is left over")
    return node


def variables(node: Any) -> frozenset[str]:
    """Names of the free variables of a tree."""
    if not isinstance(node, tuple):
        return frozenset()
    if node[0] == "v":
        return frozenset((node[1],))
    return frozenset().union(*(variables(child) for child in node[1:]))


def holds(node: Any, part: Node) -> bool:
    """Whether a tree is another, or has it inside."""
    return isinstance(node, tuple) and (node == part or any(holds(child, part) for child in node[1:]))


def contains(node: Any, *heads: str) -> bool:
    """Whether a tree holds a node with one of these heads."""
    return isinstance(node, tuple) and (node[0] in heads or any(contains(child, *heads) for child in node[1:]))
