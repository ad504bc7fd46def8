"""Numbers in words: English up to a hundred, common fractions, and Chinese numerals (二十五, 负三, 百分之五十)."""

from __future__ import annotations

import re

from shared.answers.parse.units import parse_unit

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)
_TENS_WORDS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90
}  # fmt: skip
NUMBER_WORDS = {w: str(i) for i, w in enumerate(_WORDS.split())} | {
    **{w: str(tens) for w, tens in _TENS_WORDS.items()},
    **{f"{w}{joint}{one}": str(tens + i) for w, tens in _TENS_WORDS.items()
       for i, one in enumerate(_WORDS.split()[1:10], 1) for joint in "- "},
    "hundred": "100", "one hundred": "100", "a hundred": "100", "one half": "1/2", "half": "1/2",
    "one third": "1/3", "一半": "1/2",
    "two thirds": "2/3", "one quarter": "1/4", "three quarters": "3/4", "one fourth": "1/4",
}  # fmt: skip

_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_NUMERAL = "[零〇一二三四五六七八九十百千万亿两]"
_CHINESE = re.compile(rf"^(负)?({_NUMERAL}{{1,24}}(?:点[零〇一二三四五六七八九]{{1,12}})?)([^\x00-\x7f]{{0,4}})$")
_FRACTION = re.compile(
    rf"^(负)?(?:({_NUMERAL}{{1,12}})又)?({_NUMERAL}{{1,12}}|\d{{1,9}})分之"
    rf"({_NUMERAL}{{1,12}}(?:点[零〇一二三四五六七八九]{{1,12}})?|\d{{1,9}}(?:\.\d{{1,9}})?)$"
)
_NO_UNITS = frozenset("角月日")
"""三角 is a triangle rather than three dimes, 三月 is March rather than three months."""


def number_said(text: str) -> str:
    """Digits for a number that a whole text says in words, with the unit behind it; the text itself otherwise."""
    if (known := NUMBER_WORDS.get(text.lower())) is not None:
        return known
    if text.isascii() or len(text) > 40:
        return text
    if match := _FRACTION.match(text):
        sign, whole, bottom, top = match.groups()
        below = "100" if bottom == "百" else chinese_number(bottom)
        above, units = chinese_number(top), chinese_number(whole) if whole else ""
        if below in (None, "0") or above is None or units is None:
            return text
        fraction = f"{above}%" if bottom == "百" and not whole else f"{units} {above}/{below}".strip()
        return f"-{fraction}" if sign else fraction
    if (match := _CHINESE.match(text)) and (digits := chinese_number(match.group(2))) is not None:
        rest = match.group(3)
        unit = parse_unit(rest) if rest and rest not in _NO_UNITS else None
        if not rest or (unit is not None and not unit.is_noun):
            return f"{'-' if match.group(1) else ''}{digits}{rest}"
    return text


def chinese_number(text: str) -> str | None:
    """Digits of a Chinese numeral (一千零五, 三点一四, 二〇二五), or of digits; None where it is none."""
    if text.isascii():
        return text
    whole, point, decimals = text.partition("点")
    value = _whole(whole)
    if value is None:
        return None
    return f"{value}.{''.join(str(_DIGITS[c]) for c in decimals)}" if point else str(value)


def _whole(text: str) -> int | None:
    if all(c in _DIGITS for c in text):
        if len(text) == 1 or "〇" in text:
            return int("".join(str(_DIGITS[c]) for c in text))
        return None
    total = section = digit = 0
    last = 10**9
    for i, c in enumerate(text):
        if c in _DIGITS:
            if digit:
                return None
            digit = _DIGITS[c]
        elif c in _TENS:
            if _TENS[c] >= last or (not digit and (c != "十" or i)):
                return None
            last = _TENS[c]
            section, digit = section + (digit or 1) * last, 0
        else:
            if not section + digit:
                return None
            total, section, digit, last = (total + section + digit) * _MYRIADS[c], 0, 0, 10**9
    return total + section + digit
