r"""Tokens of one mathematical answer in LaTeX or plain notation: numbers, commands, words, text and signs.

`tokenise` reads a normalised string. `\\text{cm}`, `\\mathrm{kg}` and non-ASCII runs become `text` tokens;
`\\mathrm{i}` is the letter i.
Length is bounded; what cannot be a token list raises NotMathError.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from shared.answers.parse.units import parse_unit

MAX_TOKENS = 600
MAX_DIGITS = 2000


class NotMathError(ValueError):
    """The text is not an expression that this parser covers."""


class Token(NamedTuple):
    """`kind` is one of num, cmd, word, text, op; `spaced` tells whether white space stood before it."""

    kind: str
    value: str
    spaced: bool


_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<num>\d+(?:\.\d+)?(?:[eE][+-]?\d{1,4}(?![\w.^]))?|\.\d+)|(?P<cmd>\\(?:[A-Za-z]+|.))"
    r"|(?P<word>[A-Za-z]+)|(?P<text>[^\x00-\x7f]+)|(?P<op>.)",
    re.DOTALL,
)
_TEXT_COMMANDS_WORDS = """
text mbox textrm textnormal textit textbf textsf mathrm mathit mathbf mathsf mathcal operatorname hbox bm boldsymbol
"""
_TEXT_COMMANDS = frozenset(_TEXT_COMMANDS_WORDS.split())
_LETTER_COMMANDS = frozenset(("boldsymbol", "bm", "mathbf", "mathit", "mathcal", "mathsf"))
"""Commands that set a letter in another face: a vector, never a unit."""
_FUNCTIONS_WORDS = """
sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh arsinh arcosh artanh ln log lg exp sqrt
arccot
"""
FUNCTIONS = frozenset(_FUNCTIONS_WORDS.split())
_TWO_LETTER_WORDS_WORDS = """
no is in or an at to if we it of on by as so us be do go he me my up am ok hi ie eg vs
"""
TWO_LETTER_WORDS = frozenset(_TWO_LETTER_WORDS_WORDS.split())
_BRACED_WORD = re.compile(r"^[A-Za-z][A-Za-z ]{2,40}$")


def tokenise(text: str) -> list[Token]:
    r"""Tokens of a normalised answer; `\text{cm}` and non-ASCII runs become `text` tokens.

    Raises NotMathError when too long.
    """
    tokens: list[Token] = []
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:  # cannot happen: the last alternative takes any character
            raise NotMathError("unreadable character")
        position = match.end()
        kind = match.lastgroup or "op"
        value = match.group()
        if kind == "space":
            spaced = True
            continue
        if kind == "cmd" and value[1:] in _TEXT_COMMANDS:
            content, position = _group_text(text, position)
            letter = value[1:] in _LETTER_COMMANDS and len(content.strip()) == 1 and content.strip().isalpha()
            tokens.extend([Token("word", content.strip(), spaced)] if letter else _text_tokens(content, spaced))
        elif kind == "cmd" and value in (r"\dfrac", r"\tfrac", r"\cfrac"):
            tokens.append(Token("cmd", r"\frac", spaced))
        elif value == "{" and (word := _braced_word(text, match.start())):
            tokens.append(Token("text", word, spaced))
            position = match.start() + len(word) + 2
        elif kind == "num" and len(value) > MAX_DIGITS:
            raise NotMathError("number too long")
        else:
            tokens.append(Token(kind, value, spaced))
        spaced = False
        if len(tokens) > MAX_TOKENS:
            raise NotMathError("too many tokens")
    return tokens


def _braced_word(text: str, start: int) -> str:
    """`69{degrees}`: the name of a unit in braces after a value; empty for any other group."""
    before = text[start - 1] if start else ""
    if not (before.isdigit() or before in ("}", " ") or text.endswith("\\pi", 0, start)):
        return ""
    end = text.find("}", start, start + 44)
    inner = text[start + 1 : end] if end > 0 else ""
    unit = parse_unit(inner) if _BRACED_WORD.match(inner) else None
    return inner if unit is not None and not unit.is_noun else ""


def _group_text(text: str, position: int) -> tuple[str, int]:
    r"""Content of the group that follows a command such as `\text`, and where it ends."""
    while position < len(text) and text[position].isspace():
        position += 1
    if position >= len(text):
        raise NotMathError("a text command without text")
    if text[position] != "{":
        return text[position], position + 1
    depth = 0
    for i in range(position, len(text)):
        if text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return text[position + 1 : i], i + 1
    raise NotMathError("unbalanced braces")


def _text_tokens(content: str, spaced: bool) -> list[Token]:
    r"""`\mathrm{i}` is the letter i, `\text{13}` the number 13, `\mathrm{sin}` the function; the rest stays text."""
    inner = content.strip()
    if not inner:
        return []
    is_letter = len(inner) == 1 and inner in "ieπxyzabn"
    if is_letter or "\\" in inner or not any(c.isalpha() for c in inner) or _is_product_text(inner):
        return [t._replace(spaced=spaced or t.spaced) if i == 0 else t for i, t in enumerate(tokenise(inner))]
    if inner in FUNCTIONS:
        return [Token("cmd", "\\" + inner, spaced)]
    return [Token("text", inner, spaced or content[:1].isspace())]


def _is_product_text(inner: str) -> bool:
    r"""`\mathrm{gb}` is a product of two letters that a text recogniser set upright, `\mathrm{cm}` is a unit."""
    letters = len(inner) == 2 and inner.isascii() and inner.isalpha() and inner.islower()
    return letters and inner not in TWO_LETTER_WORDS and parse_unit(inner) is None


def number_value(literal: str) -> Fraction:
    """Exact value of a numeral; exponents beyond 1,000 are refused."""
    mantissa, _, exponent = literal.lower().partition("e")
    if exponent and abs(int(exponent)) > 1000:
        raise NotMathError("exponent too large")
    value = Fraction(mantissa if not mantissa.startswith(".") else "0" + mantissa)
    return value * Fraction(10) ** int(exponent) if exponent else value
