r"""Whole answers whose form is told by their spelling, before any token is read.

`rewritten` gives unusual spellings their usual one (三分之一, 5 o'clock, "all real numbers except 3", a system of
equations in an environment); `fixed_form` reads times, numerals in a base, matrices and numbered parts; `quantified`
takes "for all x" and `k \in \mathbb{Z}` off an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from shared.answers.parse.normalise import strip_wrappers
from shared.answers.parse.numerals import NUMBER_WORDS, number_said
from shared.answers.parse.units import parse_unit
from shared.answers.types import Reading

Reader = Callable[[str], Reading | None]

MAX_ITEMS = 256

_TIME = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:\\text\s*\{\s*)?([aApP])?\.?\s*(?:[mM]\.?)?\s*\}?$")
_PERCENT_WORD = re.compile(r"^百分之(\d{1,9}(?:\.\d{1,9})?)$")
_OCLOCK = re.compile(r"^(\d{1,2})\s*(?:o'?\s*clock|([ap]\.?m\.?))$", re.IGNORECASE)
_MEASURE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]+|\\degree|'|[^\x00-\x7f\d]+)\s*(?:and\s+)?")
_FRENCH = re.compile(r"^[\[\]]([^\[\]]{3,200})[\[\]]$")
_BASE = re.compile(r"^\(?([0-9A-Fa-f]{1,200})\)?_\{?\(?(\d{1,2})\)?\}?$")
_BASE_WORD = re.compile(
    r"_\{?\s*\\text\s*\{\s*(two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)\s*\}\s*\}?$"
    r"|\s+(?:in )?base\s*(\d{1,2})$",
    re.IGNORECASE,
)
_MATRIX = re.compile(r"^\\begin\{([pbBvV]?matrix|smallmatrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}$", re.DOTALL)
_PART = re.compile(r"(?:^|(?<=[\s;,.}]))(?:\((\d)\)|([①-⑨]))\s*")
_PICKS = re.compile(r"^(?:(?:\(\d\)|[①-⑨])\s*(?:[,;]|and|和)?\s*){2,9}$")
_REALS = re.compile(
    r"^(?:\w\s*\\in\s*)?\\mathbb\s*\{?\s*R\s*\}?$|^(?:all )?real(?: number)?s$|^全体实数$", re.IGNORECASE
)
_REAL_SET = r"(?:\\mathbb\s*\{?\s*R\s*\}?|(?:all\s+)?(?:the\s+)?real(?:s|\s+numbers|\s+values)|all\s+numbers|全体实数)"
_EXCEPT = re.compile(
    rf"^(?:([a-z])\s*\\in\s*)?{_REAL_SET}(?:\s+(?:of\s+)?[a-z])?\s*,?\s*"
    r"(?:(?:\\setminus|\\backslash|\\smallsetminus|-)\s*\\\{\s*(?P<set>.+?)\s*\\\}"
    r"|(?:except|except for|excluding|other than|but|除了|除)\s+(?:[a-z]\s*=\s*)?"
    r"(?P<words>[^a-zA-Z]*(?:\\(?:pm|frac|sqrt|pi)[^a-zA-Z]*|\b(?:and|or)\b[^a-zA-Z]*){0,6}))$",
    re.IGNORECASE,
)
_REAL_BEFORE = re.compile(
    r"^([A-Za-z])\s*\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*(?:,|;|\\text\s*\{\s*(?:and|but|with|where|,)?\s*\}|and|且)\s*(?=\1)"
)
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_ENVIRONMENT = re.compile(
    r"(?:\\\{\s*)?(?:\{\s*)?\\begin\{(d?cases|rcases|aligned|align\*?|equation\*?|gathered|split|array|eqnarray\*?|matrix)\}"
    r"(?:\{[lcr| ]*\})?(.*?)\\end\{\1\}(?:\s*\})?(?:\s*\\\})?",
    re.DOTALL,
)
_VECTORS = re.compile(r"^\\begin\{([pb]?matrix)\}(.*?)\\end\{\1\}\s*=\s*\\begin\{\1\}(.*?)\\end\{\1\}$", re.DOTALL)
_ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?|\\cr(?![A-Za-z])")
_RELATION = re.compile(r"[=<>]|\\(?:leq?|geq?|leqslant|geqslant|neq?|lt|gt)(?![A-Za-z])")
_CONDITION = re.compile(r"\\text|\b(?:if|when|for|otherwise|else)\b|[,;](?=.*[=<>\\])|[^\x00-\x7f]")
_ASSIGNED = re.compile(r"^([A-Za-z](?:_\d)?)\s*=\s*([^=<>]+)$")

_SETS = (
    r"(?P<name>[A-Za-z])\s*\\in\s*(?:\\math(?:bb|bf|rm)\s*)?\{?\s*(?P<set>[ZNRQC])\s*\}?"
    r"(?:\s*[\^_]\s*\{?\s*[+*]\s*\}?)*"
)
_MEMBER = re.compile(
    rf"^(?P<core>.+?)\s*(?:[,;(]|\\forall|\bfor (?:all|any|every|each)\b|\bwhere\b|\bwith\b|其中)"
    rf"[\s,;(]*(?:\\forall|where|for (?:all|any|every|each)|其中)?\s*{_SETS}\s*\)?$",
    re.DOTALL,
)
_FOR_ALL = re.compile(
    r"^(?P<core>.+?)[\s,;(]*(?:\bfor (?:all|any|every|each)\b|\\forall)\s*"
    r"(?P<adjective>(?:(?:positive|non-?negative|nonzero|real|rational|natural|whole|integer)\s+)*)"
    r"(?P<noun>integers?|numbers?|reals?|values?(?: of)?)?\s*(?P<name>[A-Za-z])?\s*\)?$",
    re.DOTALL,
)
_IS_INTEGER = re.compile(
    r"^(?P<core>.+?)\s*[,;(]\s*(?:(?:where|with)\s+)?(?P<name>[A-Za-z])\s*(?:is (?:an |any )?(?:arbitrary )?integer"
    r"|(?:为|是)(?:任意)?整数)\s*\)?$",
    re.DOTALL,
)


def quantified(s: str) -> tuple[str, str, str]:
    r"""An answer without its closing quantifier, the quantified name, and the set: Z, N, R, Q, C, or empty.

    `2k\pi, k\in\mathbb{Z}` is `2k\pi`, k, Z; "x+1 for all x" is `x+1`, x, empty. Name and set are empty where there is
    no quantifier.
    """
    if not any(sign in s for sign in (r"\in", r"\forall", "for ", "integer", "整数")):
        return s, "", ""
    plain = _TEXT.sub(r" \1 ", s).strip()
    for pattern in (_MEMBER, _IS_INTEGER, _FOR_ALL):
        if match := pattern.match(plain):
            found = match.groupdict()
            core = _MEMBER_LEFT.sub("", found["core"]).strip().rstrip(" ,;(")
            if not core or (not found.get("name") and not found.get("noun")):
                continue
            words = f"{found.get('adjective') or ''} {found.get('noun') or ''}"
            kind = "Z" if pattern is _IS_INTEGER or "integer" in words else "R" if "real" in words else ""
            return core, found.get("name") or "", found.get("set") or kind
    return s, "", ""


_MEMBER_LEFT = re.compile(r"\\forall\s*$|\b(?:where|for all|for every|for any)\s*$")


def rewritten(s: str) -> str:  # noqa: PLR0911
    """The usual spelling of an unusual one; the text itself for others."""
    if (said := number_said(s)) != s:
        return said
    if match := _PERCENT_WORD.match(s):
        return f"{match.group(1)}%"
    if match := _OCLOCK.match(s):
        return f"{match.group(1)}:00" + (match.group(2) or "")
    if s.startswith("12:00 ") and s[6:].lower() in ("noon", "midnight"):
        return "12:00 PM" if s[6:].lower() == "noon" else "12:00 AM"
    if s[0].isdigit() and (one := _one_measure(s)):
        return one
    if (match := _FRENCH.match(s)) and (s[0] == "]" or s[-1] == "["):
        return ("(" if s[0] == "]" else "[") + match.group(1) + (")" if s[-1] == "[" else "]")
    if vectors := _VECTORS.match(s):
        names, values = ([row.strip() for row in _ROW_END.split(body)] for body in vectors.group(2, 3))
        if len(names) == len(values) and all(re.fullmatch(r"[A-Za-z](?:_\d)?", name) for name in names):
            return f"({','.join(names)})=({','.join(values)})"
    if r"\begin" in s:
        return _ENVIRONMENT.sub(_system, s)
    return _REAL_BEFORE.sub("", _without_points(s))


def _one_measure(s: str) -> str:
    """`1 hr 30 min`, `5 feet 6 inches`, `30° 30'`, 2小时30分钟 in the smallest unit; empty for anything else."""
    found = list(_MEASURE.finditer(s))
    if not 2 <= len(found) <= 4 or sum(len(match.group()) for match in found) != len(s):
        return ""
    total, last = Fraction(0), None
    for match in found:
        spelled = match.group(2).lstrip("\\")
        unit = parse_unit("degrees" if spelled == "degree" else spelled)
        if spelled == "'" and last is not None and last.is_degree:
            return f"{total + Fraction(match.group(1)) / 60}\\degree"
        fits = unit is not None and not unit.is_noun and unit.dimensions
        if unit is None or not fits or (last and (last.dimensions != unit.dimensions or last.factor <= unit.factor)):
            return ""
        total, last = total + Fraction(match.group(1)) * unit.factor, unit
    if last is None or last.is_degree:
        return ""
    return f"{total / last.factor} {found[-1].group(2)}"


def _without_points(s: str) -> str:
    r"""`\mathbb{R}\setminus\{3\}` and "all real numbers except 3" as `x \neq 3`."""
    match = _EXCEPT.match(_TEXT.sub(r" \1 ", s).strip())
    if match is None:
        return s
    name = match.group(1) or "x"
    inner = re.sub(r"\b(?:and|or)\b", ",", match.group("set") or match.group("words") or "")
    return ", ".join(rf"{name} \neq {point.strip()}" for point in inner.split(",") if point.strip()) or s


def _system(match: re.Match[str]) -> str:
    """The rows of a system of relations: `(x,y)=(1,2)` where each gives a letter its value, else joined by "and".

    Matrices and functions by cases stay.
    """
    rows = [strip_wrappers(row.replace("&", " ").strip(" ,;.")) for row in _ROW_END.split(match.group(2))]
    rows = [row for row in rows if row]
    if not rows or any(not _RELATION.search(row) or _CONDITION.search(row) for row in rows):
        return match.group()
    values = {found.group(1): found.group(2) for row in rows if (found := _ASSIGNED.match(row))}
    if len(values) == len(rows) > 1:
        names = sorted(values)
        return f"({','.join(names)})=({','.join(values[name].strip() for name in names)})"
    return r" \text{ and } ".join(rows)


def fixed_form(s: str, read: Reader) -> Reading | None:
    """Clock times, numerals in a base, matrices, the real line, numbered parts; None for anything else."""
    time = _TIME.match(s)
    if time and int(time.group(2)) < 60 and int(time.group(1)) < 25:
        digits = f"{int(time.group(1))}:{time.group(2)}:{time.group(3) or '00'}"
        return Reading("time", digits=digits, label=(time.group(4) or "").lower())
    if "_" in s or "base" in s.lower():
        word = _BASE_WORD.search(s)
        if word:
            s = s[: word.start()] + "_" + (word.group(2) or NUMBER_WORDS.get((word.group(1) or "").lower(), "16"))
        base = _BASE.match(s.replace(" ", ""))
        if base and (any(c.isdigit() for c in base.group(1)) or int(base.group(2)) > 10):
            return Reading("base", digits=base.group(1).lower().lstrip("0") or "0", label=base.group(2))
    matrix = _MATRIX.match(s)
    if matrix:
        return _matrix(matrix.group(1), matrix.group(2), read)
    if s in (r"\emptyset", r"\varnothing"):
        return Reading("set")
    if _REALS.match(s):
        return Reading("interval", pieces=((None, False, None, False),))
    return _numbered(s, read)


def numbered_parts(s: str) -> list[tuple[int, str]]:
    """Number and text of each part of `(1) 5; (2) 7`; empty for anything else."""
    marks = list(_PART.finditer(s))
    numbers = [_number(mark) for mark in marks]
    if len(marks) < 2 or sorted(numbers) != list(range(1, len(marks) + 1)) or marks[0].start():
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(s)]
    texts = [s[mark.end() : end].strip(" ,;.\n") for mark, end in zip(marks, ends, strict=True)]
    return list(zip(numbers, texts, strict=True)) if all(texts) else []


def is_numbered(s: str) -> bool:
    """Whether an answer begins like parts or picks, (1) ... (2), which are no factors even where they are not read."""
    return len(list(_PART.finditer(s))) > 1 and _PART.match(s) is not None


def _number(mark: re.Match[str]) -> int:
    return int(mark.group(1) or ord(mark.group(2)) - ord("①") + 1)


def _numbered(s: str, read: Reader) -> Reading | None:
    """Answers to the parts of a question, each under its number; statements picked by their numbers (②④)."""
    if s[0] not in "(①②③④⑤⑥⑦⑧⑨":
        return None
    if _PICKS.match(s):
        picked = sorted({_number(mark) for mark in re.finditer(r"\((\d)\)|([①-⑨])", s)})
        return Reading(
            "set", items=tuple(Reading("value", ("n", Fraction(n)), "integer", Fraction(1), 1) for n in picked)
        )
    parts = numbered_parts(s)
    items = [read(text) for _, text in parts]
    if not parts or any(item is None for item in items):
        return None
    named = [
        replace(item, label=f"({number})|{item.label}") for item, (number, _) in zip(items, parts, strict=True) if item
    ]
    return Reading("list", items=tuple(named))


def _matrix(environment: str, body: str, read: Reader) -> Reading | None:
    rows = [row for row in (r.strip() for r in _ROW_END.split(body)) if row]
    cells = [[read(cell.strip()) for cell in row.split("&")] for row in rows]
    flat = [cell for row in cells for cell in row]
    if not rows or len(flat) > MAX_ITEMS or any(cell is None for cell in flat) or len({len(row) for row in cells}) != 1:
        return None
    shape = f"{len(rows)}x{len(cells[0])}" + ("det" if environment in ("vmatrix", "Vmatrix") else "")
    return Reading("matrix", items=tuple(cell for cell in flat if cell is not None), brackets=shape)
