r"""Brings an answer's many spellings into one: ASCII and LaTeX commands, no decoration, no surrounding delimiters.

Input is an answer of at most a few thousand characters; output is a string that `tokens` can read. Nothing here decides
about equality, and every pattern is linear: no nested quantifiers over the same characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋]+")

_COMMANDS = """
×✕✖ times  ·⋅∙•・ cdot  ÷ div  ≤≦⩽ leq  ≥≧⩾ geq  ≠ neq  ≈≅ approx  ± pm  ∓ mp  ∞ infty  √ surd  ∈ in  ∪ cup  ∩ cap
∅ emptyset  ⟨〈 langle  ⟩〉 rangle  °º˚掳 degree  € euro  £ pounds  ¥￥ yen  ∠ angle  △ triangle  ∥ parallel  ⊥ perp
α alpha  β beta  γ gamma  δ delta  ε epsilon  ζ zeta  η eta  θ theta  ι iota  κ kappa  λ lambda  μ mu  ν nu  ξ xi
π𝜋 pi  ρ rho  σ sigma  τ tau  φϕ phi  χ chi  ψ psi  ω omega
Γ Gamma  Δ Delta  Θ Theta  Λ Lambda  Σ Sigma  Φ Phi  Ω Omega
"""
"""Signs that are LaTeX commands; 掳 is a degree sign decoded in another charset."""
_PLAIN = """
−–—﹣‐‑‒― -  “”„«» "  ‘’′ '  ∶： :  ⁄∕ /  ，、 ,  ； ;  。 .  【 [  】 ]  µ u  ℯ e  ⅈ i  ∛ \\sqrt[3]
ℝ \\mathbb{R}  ℤ \\mathbb{Z}  ℕ \\mathbb{N}  ℚ \\mathbb{Q}  ℃ \\text{degC}  ℉ \\text{degF}
㎝ cm  ㎜ mm  ㎞ km  ㎏ kg  ㎠ cm^2  ㎡ m^2  ㎤ cm^3  ㎥ m^3
"""


def _pairs(table: str) -> Iterator[tuple[str, str]]:
    """Each sign of a table with what stands for it; the signs of one entry mean the same."""
    words = table.split()
    return ((sign, meant) for signs, meant in zip(words[::2], words[1::2], strict=True) for sign in signs)


_SIGNS: dict[str, str] = dict.fromkeys("\xa0\u2002\u2003\u2009\u200a\u202f\u3000\ufeff\u200b\u2061\u2062", " ")
_SIGNS |= {sign: f"\\{command} " for sign, command in _pairs(_COMMANDS)} | dict(_pairs(_PLAIN))
for _glyph in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒":
    _top, _bottom = unicodedata.normalize("NFKC", _glyph).split("⁄")
    _SIGNS[_glyph] = f"\\frac{{{_top}}}{{{_bottom}}}"
_SIGNS |= {chr(0xFF01 + i): chr(0x21 + i) for i in range(94) if chr(0xFF01 + i) not in _SIGNS}
_TABLE = str.maketrans(_SIGNS)

# A JSON or Python string that was decoded once too often: "\frac" became a form feed and "rac" (seen in MathVision).
_EATEN = re.compile(r"\x0c(?=rac)|\x08(?=oxed|egin|inom|eta)|\t(?=ext|imes|heta|frac|an\b)|\r(?=ight)")
_EATEN_LETTER = {"\x0c": r"\f", "\x08": r"\b", "\t": r"\t", "\r": r"\r"}

_DROP = re.compile(
    r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|displaystyle|textstyle|limits|nolimits|hline|number|rm|bf|it)"
    r"(?![A-Za-z])\.?"
)
_THIN_GROUP = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\}|,\\!|\{\\,\}|~)+(?=\d{3}(?!\d))")
_BRACE_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_SPACE = re.compile(
    r"(?<!\\)\\[,;:!> ]|\\q?quad(?![A-Za-z])|\\(?:thin|med|thick|neg)space(?![A-Za-z])|~|\\(?:h|v)space\*?\{[^{}]*\}"
)
_CIRC = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\textdegree(?![A-Za-z])")
_CELSIUS = re.compile(
    r"\\degree\s*(?:\\(?:text|mathrm|rm)\s*\{\s*([CF])\s*\}|([CF])(?![A-Za-z])|(Celsius|Fahrenheit|celsius|fahrenheit)\b)"
)
_MICRO = re.compile(
    r"(?<=[\d} ])\\mu\s*(?:\\(?:mathrm|text|rm)\s*\{\s*([A-Za-z]{1,2})\s*\}"
    r"|(?<=\d\\mu )([mgsLAFVCW])$|(?<=\d \\mu )([mgsLAFVCW])$)"
)
_SPACE_GROUP = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?![\d/])")
_TYPED_TIMES = re.compile(r"(?<![\w^}.])(\d{1,20}(?:\.\d{1,20})?) ?[xX] ?(?=10 ?\^)")
"""3 x 10^5, where no x can be meant: the number stands alone before it, a power of ten behind."""
_RECURRING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s*\{(\d{1,20})\}")
_DOTTED = re.compile(r"(?<![\d.])(\d{1,20})\.(\d{2,30})(?:\.\.\.|…|\\[lc]?dots(?![A-Za-z]))")
_AND_SO_ON = re.compile(r"(?<=,)\s*(?:\.\.\.+|…+)")
"""Dots behind a comma go on with a list; they are no full stop."""
_MULTIPLIER = {
    "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8, "百万": 6, "千万": 7,
}  # fmt: skip
_MULTIPLIED = re.compile(
    r"(?<=\d)\s*(?:\\text\s*\{\s*)?(hundred|thousand|million|billion|trillion|百万|千万|万|亿)s?(?![A-Za-z])\}?",
    re.IGNORECASE,
)
_DOLLAR = re.compile(r"(?<!\\)\$")
_BARE_FRACTION = re.compile(r"^\{(\d{1,9})\}\{(\d{1,9})\}")
_COLOUR = re.compile(r"\\(?:color|textcolor)\s*\{[A-Za-z]{1,20}\}")
_STEPS = 12  # how many layers of decoration are taken off


def _recurring(match: re.Match[str]) -> str:
    """0.1(6) as an exact fraction: (166... - 1) / 90."""
    whole, fixed, cycle = match.group(1) or "0", match.group(2), match.group(3)
    top = int(whole + fixed + cycle) - int(whole + fixed)
    return f"\\frac{{{top}}}{{{'9' * len(cycle) + '0' * len(fixed)}}}"


def _dotted(match: re.Match[str]) -> str:
    """0.333... and 0.1666... as recurring decimals: the shortest cycle that ends the digits at least twice."""
    whole, digits = match.group(1), match.group(2)
    for size in range(1, len(digits) // 2 + 1):
        cycle = digits[-size:]
        if digits.endswith(cycle * 2):
            fixed = digits
            while fixed.endswith(cycle):
                fixed = fixed[: len(fixed) - size]
            return f"{whole}.{fixed}\\overline{{{cycle}}}"
    return match.group()


def matching_brace(text: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1. One pass."""
    depth = 0
    i = start
    while i < len(text):
        c = text[i]
        if c == "\\":
            i += 1
        elif c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return -1


_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'))
_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|textrm|textnormal|textsf|texttt|mbox|hbox|mathbf|mathrm|mathit|mathsf|bm|boldsymbol|emph"
    r"|underline|ensuremath|operatorname)\s*\{"
)


@lru_cache(maxsize=8192)
def strip_wrappers(text: str) -> str:
    r"""Take off what surrounds the whole answer.

    `$...$`, `\(...\)`, `\boxed{...}`, `\text{...}`, `**...**`, quotes, `{...}`.
    """
    for _ in range(_STEPS):
        before = text
        text = text.strip().strip("\u0000")
        if len(text) >= 2:
            for opening, closing in _DELIMITERS:
                size = len(opening) + len(closing)
                if len(text) >= size and text.startswith(opening) and text.endswith(closing):
                    inner = text[len(opening) : len(text) - len(closing)]
                    if opening not in inner and not inner.endswith("\\"):
                        text = inner.strip()
            wrapped = _WRAPPER.match(text)
            grouped = text.startswith("{") and not any(c in text for c in ",|")  # "{1,2}" is a set
            begin = wrapped.end() - 1 if wrapped else 0 if grouped else -1
            if begin >= 0 and text.endswith("}") and matching_brace(text, begin) == len(text) - 1:
                text = text[begin + 1 : -1].strip()
        text = text.rstrip(" .;,:") if not text.endswith(("\\,", "\\;", "\\:", "\\.")) else text[:-2]
        if text == before:
            break
    return text


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """One spelling for one answer: see the module's docstring. Pure; never raises."""
    if text.isalnum() and text.isascii():
        return text
    if any(c in text for c in "\x0c\x08\t\r"):
        text = _EATEN.sub(lambda m: _EATEN_LETTER[m.group()], text)
    if not text.isascii():
        text = _SUPERSCRIPT_RUN.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPT) + "}", text)
        text = _SUBSCRIPT_RUN.sub(lambda m: "_{" + m.group().translate(_SUBSCRIPT) + "}", text)
        text = text.translate(_TABLE)
    if "..." in text or "…" in text or "dots" in text:
        text = _AND_SO_ON.sub(r"\\dots ", _DOTTED.sub(_dotted, text))
    if "\n" in text and len(lines := {line.strip() for line in text.splitlines() if line.strip()}) == 1:
        text = lines.pop()  # the same answer on every line
    text = strip_wrappers(text)
    if "$" in text and len(_DOLLAR.findall(text)) % 2 == 0:  # "$1$, $2$": delimiters inside a list
        text = _DOLLAR.sub(" ", text)
    if "\\" in text or "{" in text or "~" in text:
        text = text.replace(r"\colon", ":")
        text = _DROP.sub(" ", text)
        text = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", text)
        text = _COLOUR.sub("", text)
        text = _THIN_GROUP.sub("", text)
        text = _BRACE_COMMA.sub(".", text)
        text = _SPACE.sub(" ", text)
        text = _CIRC.sub(r"\\degree ", text)
        text = _CELSIUS.sub(lambda m: r"\text{deg" + (m.group(1) or m.group(2) or m.group(3)[0].upper()) + "}", text)
        text = _MICRO.sub(lambda m: rf"\text{{u{m.group(1) or m.group(2) or m.group(3)}}}", text)
        text = _RECURRING.sub(_recurring, text)
    text = _SPACE_GROUP.sub(lambda m: m.group().replace(" ", ""), text)
    if "10" in text and ("x" in text or "X" in text):
        text = _TYPED_TIMES.sub(r"\1\\times ", text)
    text = _MULTIPLIED.sub(lambda m: f"\\times 10^{{{_MULTIPLIER[m.group(1).lower()]}}}", text)
    return strip_wrappers(text)


_TEXT_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|rm|bf)\s*\{([^{}]*)\}|\\(?:text|mathrm)\b"
)
_TEXT_NOISE = re.compile(r"[\s\"`*$]+")
_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")
_TEXT_END = re.compile(r"^[\s.,;:!?]+|[\s.,;:!?]+$")


@lru_cache(maxsize=8192)
def normalise_text(text: str) -> str:
    """Text for comparison as text.

    Lower case, single spaces, no LaTeX text commands, quotes or closing punctuation (paper, 3.2).
    """
    text = _TEXT_COMMAND.sub(lambda m: f" {m.group(1) or ''} ", normalise(text))
    if text.strip().startswith("'"):
        text = text.replace("'", " ")
    text = _TEXT_NOISE.sub(" ", text).casefold().replace("_", " ")  # an apostrophe inside stays: x' is not x
    text = _HYPHEN.sub(" ", text)
    return " ".join(_TEXT_END.sub("", text).split())
