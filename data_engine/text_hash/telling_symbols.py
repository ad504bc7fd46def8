r"""What makes two texts of nearly the same words two problems: one sign, one number, one name, one telling word.

Input: a text. Output: the sequence of its symbols that tell problems apart; near texts with other sequences are other
problems. A sequence, not a set: "3 apples and 5 pears" is not "5 apples and 3 pears".

Counted are: operators and relations (`+`, `<`, `\leq`, `≥`, `|`, `!` behind a value, `%`, primes), decimal marks, the
brackets of intervals, numbers in any script (`²`, `三`), short names and units (`x`, `AB`, `cm`), and words that turn a
question round (`not`, `least`, `increasing`, `sin`, 小). Left out is what typesetting and style change: letter case,
blanks, dollars, braces, full stops, quotation marks, function words.

A difference that this sees and that means nothing keeps a duplicate; one that it does not see loses a problem. So it
sees rather much.
"""

from __future__ import annotations

import re

from data_engine.text_hash.reference import words

_SIGN = re.compile(
    r"[+*/=<>^±×÷·≤≥≠|%°√∪∩∈∉⊂⊃⊆⊇∠⊥∥→⇒∞∑∏∫¬∧∨≈≡∝~]"
    r"|[-−–](?![A-Za-z])|(?<![A-Za-z])[-−–]"  # a hyphen between letters is none
    r"|(?<=[\d\w)\]}])!(?![\s\"'”’)]*(?:$|[A-Z\u4e00-\u9fff]))"  # factorial, not the end of a sentence
    r"|(?<=[A-Za-z])['′’]+(?=[(\s^=+\-*/,.)}$]|$)(?!s\b)"  # f'(x)
    r"|(?<=\d)\s*[:：]\s*(?=\d)|(?<=\d)[.,](?=\d)"
)
_SAME_SIGN = str.maketrans({"−": "-", "–": "-", "′": "'", "’": "'", "：": ":"})
_INTERVAL = re.compile(r"([\[(（])[^\[\]()（）\n]{1,30},[^\[\]()（）\n]{1,30}([\])）])")
_SHORT_FUNCTION_WORDS = "a i an as at be by do he if in is it me my of on or so to us we am go"
_TELLING_WORDS = """
no not never none only except without
max min maximum minimum most least greatest largest biggest highest smallest lowest fewest
more less fewer greater larger bigger smaller longer shorter higher lower older younger faster slower heavier lighter
cheaper increase increases increased increasing decrease decreases decreased decreasing rises falls
even odd prime composite positive negative true false correct incorrect always inside outside above below
before after first last second third north south east west left right up down
sum difference product quotient ratio radius diameter area perimeter circumference volume surface
mean median mode range convex concave union intersection
le ge lt gt ne nleq ngeq times div pm mp cdot sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh
log ln lg exp sqrt cup cap subset supset subseteq supseteq notin setminus forall exists perp parallel infty int prod lim
alpha beta gamma delta theta lambda mu pi sigma phi omega
one two three four five six seven eight nine ten eleven twelve hundred thousand million half twice double triple
"""
_FUNCTION_WORDS = frozenset(_SHORT_FUNCTION_WORDS.split())
_TELLING = frozenset(_TELLING_WORDS.split())
_SPELLED = {"leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne"}
_SIZING = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?![A-Za-z])")
"""Commands that make a bracket larger."""
_SOLID = re.compile(r"(?<=[A-Z])\s+[-−–]\s+(?=[A-Z])")
"""The dash of a solid's name, P-ABCD, however it is spaced."""
_TELLING_CHINESE = frozenset(
    "不非无最大小多少高低长短增减加减乘除正负奇偶内外上下左右前后东南西北对错真假零一二三四五六七八九十百千万两半倍"
)


def signs(text: str) -> list[str]:
    """Operators, relations and marks of `text` in order, without what stands inside a number."""
    return [sign for sign in _signs(_SOLID.sub("-", text)) if sign not in {".", ","}]


def _signs(text: str) -> list[str]:
    return [re.sub(r"\s", "", found.group()).translate(_SAME_SIGN) for found in _SIGN.finditer(text)]


def telling_symbols(text: str) -> list[str]:
    """The symbols of `text` that tell problems apart, in order, kind by kind."""
    text = _SIZING.sub("", _SOLID.sub("-", text))
    brackets = ["".join(pair) for pair in _INTERVAL.findall(text)]
    plain = [_SPELLED.get(word, word) for word in words(text, "unicode_words")]
    named = [word for word in plain if _tells(word)]
    # On end: `2x` and `2 x`, `AB` and `A B` are spelled alike.
    return [*_signs(text), *brackets, "".join(named)]


def _tells(word: str) -> bool:
    if word in _TELLING or word in _TELLING_CHINESE or any(character.isnumeric() for character in word):
        return True
    return len(word) <= 2 and word.isascii() and word not in _FUNCTION_WORDS
