"""Units of measure: parsing a unit and converting between units by exact rational factors.

Sources: SI brochure (BIPM, 9th edition) for prefixes and derived units; international yard and pound agreement (1959)
for inch = 2.54 cm and pound = 0.45359237 kg. Temperatures are never converted (different zero points): degC, degF and K
are three dimensions. A word that is no unit ("apples") is a *noun* unit: it equals only itself.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from shared.answers.types import Unit

F = Fraction
POUND_KILOGRAMS = F(45359237, 10**8)
_BASE: dict[str, tuple[Fraction, dict[str, int]]] = {}


def _define(names: str, factor: Fraction | int, **dimensions: int) -> None:
    for name in names.split("|"):
        _BASE[name] = (Fraction(factor), dimensions)


_define("m|meter|meters|metre|metres|米", 1, L=1)
_define("in|inch|inches|英寸", F(254, 10000), L=1)
_define("ft|foot|feet|英尺", F(3048, 10000), L=1)
_define("yd|yds|yard|yards", F(9144, 10000), L=1)
_define("mi|mile|miles|英里", F(1609344, 1000), L=1)
_define("nautical miles|nautical mile|海里", 1852, L=1)
_define("Å|angstrom|angstroms", F(1, 10**10), L=1)
_define("light years|light-years|ly", F(9460730472580800), L=1)
_define("里", 500, L=1)
_define("分米", F(1, 10), L=1)
_define("厘米|公分", F(1, 100), L=1)
_define("毫米", F(1, 1000), L=1)
_define("微米", F(1, 10**6), L=1)
_define("千米|公里", 1000, L=1)
_define("g|gram|grams|gm|克", F(1, 1000), M=1)
_define("千克|公斤|kilo|kilos", 1, M=1)
_define("毫克", F(1, 10**6), M=1)
_define("斤", F(1, 2), M=1)
_define("t|ton|tons|tonne|tonnes|metric tons|吨", 1000, M=1)
_define("lb|lbs|pound|pounds", POUND_KILOGRAMS, M=1)
_define("oz|ounce|ounces", F(45359237, 16 * 10**8), M=1)
_define("s|sec|secs|second|seconds|秒|秒钟", 1, T=1)
_define("min|mins|minute|minutes|分钟|分", 60, T=1)
_define("h|hr|hrs|hour|hours|小时|时", 3600, T=1)
_define("d|day|days|天|日", 86400, T=1)
_define("week|weeks|wk|wks|周|星期", 604800, T=1)
_define("month|months|月|个月", 1, months=1)
_define("year|years|yr|yrs|years old|year old|年", 12, months=1)
_define("L|l|liter|liters|litre|litres|升", F(1, 1000), L=3)
_define("毫升|cc", F(1, 10**6), L=3)
_define("gal|gallon|gallons", F(3785411784, 10**12), L=3)
_define("quart|quarts|qt", F(3785411784, 4 * 10**12), L=3)
_define("pint|pints|pt", F(3785411784, 8 * 10**12), L=3)
_define("cup|cups", F(3785411784, 16 * 10**12), L=3)
_define("ha|hectare|hectares|公顷", 10000, L=2)
_define("acre|acres", F(40468564224, 10**7), L=2)
_define("亩", F(2000, 3), L=2)
_define("平方米", 1, L=2)
_define("平方厘米", F(1, 10**4), L=2)
_define("平方分米", F(1, 100), L=2)
_define("平方毫米", F(1, 10**6), L=2)
_define("平方千米|平方公里", 10**6, L=2)
_define("立方米", 1, L=3)
_define("立方厘米", F(1, 10**6), L=3)
_define("立方分米", F(1, 1000), L=3)
_define("N|newton|newtons|牛|牛顿", 1, M=1, L=1, T=-2)
_define("J|joule|joules|焦|焦耳", 1, M=1, L=2, T=-2)
_define("W|watt|watts|瓦|瓦特", 1, M=1, L=2, T=-3)
_define("Pa|pascal|pascals|帕|帕斯卡", 1, M=1, L=-1, T=-2)
_define("atm|atmospheres", 101325, M=1, L=-1, T=-2)
_define("bar", 10**5, M=1, L=-1, T=-2)
_define("Hz|hertz|赫兹", 1, T=-1)
_define("A|amp|amps|ampere|amperes|安|安培", 1, I=1)
_define("C|coulomb|coulombs|库仑", 1, I=1, T=1)
_define("V|volt|volts|伏|伏特", 1, M=1, L=2, T=-3, I=-1)
_define("Ω|ohm|ohms|Omega|欧|欧姆", 1, M=1, L=2, T=-3, I=-2)
_define("F|farad|farads", 1, M=-1, L=-2, T=4, I=2)
_define("H|henry|henries", 1, M=1, L=2, T=-2, I=-2)
_define("T|tesla|teslas", 1, M=1, T=-2, I=-1)
_define("eV", F(1602176634, 10**28), M=1, L=2, T=-2)
_define("cal|calorie|calories", F(4184, 1000), M=1, L=2, T=-2)
_define("K|kelvin|kelvins", 1, K=1)
_define("mol|mole|moles|摩尔", 1, N=1)
_define("M|molar", 1000, N=1, L=-3)
_define("cd|candela", 1, J=1)
_define("degC|celsius|degrees celsius|degree celsius|摄氏度", 1, celsius=1)
_define("degF|fahrenheit|degrees fahrenheit|degree fahrenheit|华氏度", 1, fahrenheit=1)
_define("degree|degrees|deg|度", 1, angle=1)
_define("rad|radian|radians|弧度", 1, radian=1)
_define("%|percent|percents|per cent|pct|percentage", 1, percent=1)
_define("percentage points|percentage point", 1, percentage_point=1)
_define("dollar|dollars|usd|USD|US dollars|bucks|美元", 1, money_usd=1)
_define("cent|cents|¢", F(1, 100), money_usd=1)
_define("euro|euros|eur|EUR|欧元", 1, money_eur=1)
_define("GBP|gbp|英镑", 1, money_gbp=1)
_define("yuan|RMB|rmb|CNY|元|块|元钱|人民币", 1, money_yuan=1)
_define("yen|JPY|日元", 1, money_yen=1)
_define("¥", 1, money_yen_sign=1)
_define("角", F(1, 10), money_yuan=1)
_define("rupee|rupees|Rs|Rs.|INR", 1, money_inr=1)
_define("bit|bits", 1, info=1)
_define("byte|bytes|B|字节", 8, info=1)
_define("dozen", 12)
_define("unit|units", 1)
_define("sq units|square units|square unit|units squared|sq. units", 1, generic=2)
_define("cubic units|cubic unit|units cubed", 1, generic=3)
_define("mph", F(1609344, 3600 * 1000), L=1, T=-1)
_define("kmh|kph|kmph|千米时|公里时", F(10, 36), L=1, T=-1)
_define("rpm", F(1, 60), revolution=1, T=-1)
for _classifier in "个只人本棵名条张支台辆件种次位块朵头枚页盒组倍岁题票":
    if _classifier not in _BASE:
        _define(_classifier, 1)

_PREFIXES = {"k": 3, "c": -2, "m": -3, "u": -6, "μ": -6, "n": -9, "p": -12, "d": -1, "M": 6, "G": 9, "h": 2, "T": 12}
_PREFIX_WORDS = {
    "kilo": 3, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "deci": -1, "mega": 6, "giga": 9, "hecto": 2,
    "pico": -12,
}  # fmt: skip
_PREFIXED = ["m", "g", "s", "L", "l", "N", "J", "W", "V", "A", "Pa", "Hz", "eV", "cal", "mol", "C", "F", "T"]
_PREFIXED_NAMES = """
meter meters metre metres gram grams second seconds liter liters litre litres newton newtons joule joules watt watts
volt volts amp amps pascal pascals hertz calorie calories
"""
_PREFIXED_WORDS = _PREFIXED_NAMES.split()
for _prefixes, _names in ((_PREFIXES, _PREFIXED), (_PREFIX_WORDS, _PREFIXED_WORDS)):
    for _prefix, _power in _prefixes.items():
        for _name in _names:
            _factor, _dims = _BASE[_name]
            _BASE.setdefault(_prefix + _name, (_factor * Fraction(10) ** _power, _dims))
for _prefix in "kMGmn":
    _define(f"{_prefix}Ω|{_prefix}ohm|{_prefix} ohm", F(10) ** _PREFIXES[_prefix], M=1, L=2, T=-3, I=-2)
_define("kWh|kilowatt hours|kilowatt-hours", 3600000, M=1, L=2, T=-2)
_define("KB|kB", 8000, info=1)
_define("MB", 8 * 10**6, info=1)
_define("GB", 8 * 10**9, info=1)

AMBIGUOUS = frozenset(name for name in _BASE if len(name) == 1 and name.isascii() and name.isalpha())
"""Bare letters that may be a unit or a variable: `10m`."""

_PARTS = "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth twentieth hundredth thousandth millionth".split()  # noqa: SIM905, E501

_NOT_NOUNS_WORDS = """
and or not no to by times plus minus over divided squared cubed root square cubic pi sum than less more least most
between except is are if then when where for all any each every of in the infinity undefined none either both
approximately about million billion thousand hundred half quarter third sqrt sin cos tan log ln exp wrong incorrect
false negative positive half-life remainder equals exceeds above below under beyond outside inside greater smaller
fewer lower higher nor neither isn't unless without equal solution solutions mod choice option answer plusminus
percentagepoints real imaginary factorial doubled tripled halved dozens permille mille basis halves quarters
"""
NOT_NOUNS = frozenset([*_NOT_NOUNS_WORDS.split(), *(f"{part}{s}" for part in _PARTS for s in ("", "s"))])
_NOUN_FILLERS = frozenset(["the", "a", "an", "of", "in", "per", "total", "more", "different", "such", "possible"])

_SPLIT = re.compile(r"\s*(?:\*|·|\\cdot|\\times)\s*|\s+")
_FACTOR = re.compile(r"^(.+?)(?:\^\{?\(?(-?\d{1,2})\)?\}?|(?<=[a-zA-Z])([23]))?$")
_WORD_POWER = re.compile(r"\b(?:(square|sq\.?|cubic|cu\.?)\s*)([A-Za-z]+)|\b([A-Za-z]+)\s+(squared|cubed)\b")
_NOUN = re.compile(r"^[^\W\d_][^\W\d_' -]*(?:[ -][^\W\d_' -]+){0,6}$")


def _word_power(match: re.Match[str]) -> str:
    name, power = match.group(2) or match.group(3), match.group(1) or match.group(4)
    return f"{name}^{2 if power.startswith('s') else 3}"


def _lookup(name: str) -> tuple[Fraction, dict[str, int]] | None:
    return _BASE.get(name) or _BASE.get(name.lower()) or (_BASE.get(name.rstrip(".")) if name.endswith(".") else None)


_NEVER_COUNTED = re.compile(r"[以不非无没错于等是在变增减比倍半或且]")
_NOT_COUNTED = re.compile(r"[的大小多少高低长短有为升降超过约近和与若则当第式轴]")
_CLASSIFIERS = frozenset("个只人本棵名条张支台辆件种次位块朵头枚页盒组题票")


def _says_something(text: str) -> bool:
    """Whether Chinese words behind a number state something (2不是质数, 3的倍数) instead of naming what is counted."""
    if _NEVER_COUNTED.search(text):
        return True
    return text[0] not in _CLASSIFIERS and _NOT_COUNTED.search(text) is not None


def _noun(text: str) -> Unit | None:
    """A counted thing by its words, singular and without fillers."""
    if not _NOUN.match(text):
        return None
    if not text.isascii() and _says_something(text):
        return None
    words = text.lower().replace("-", " ").split()
    if any(w in NOT_NOUNS and w not in _NOUN_FILLERS for w in words):
        return None
    named = [_singular(w) for w in (words[:1] if "per" in words else words) if w not in _NOUN_FILLERS] or words[-1:]
    return Unit(Fraction(1), ((f"noun:{' '.join(named)}", 1),))


def _singular(word: str) -> str:
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            return word[: -len(ending)] + singular
    return word


def same_noun(mine: Unit, theirs: Unit) -> bool:
    """Whether two names of counted things may mean the same: balls and red balls, not red balls and blue balls."""
    first, second = (set(unit.dimensions[0][0].removeprefix("noun:").split()) for unit in (mine, theirs))
    return first <= second or second <= first


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """The unit that a short text names ("km/h", "square centimeters", 平方米, "apples"), or None.

    A text of only unknown words is a noun unit unless one of them is a word of mathematics or logic.
    """
    text = " ".join(text.split()).strip(" .,")
    if not text or len(text) > 60:
        return None
    whole = _lookup(text)
    if whole is None:
        spelled = re.sub(r"\s+per\s+|每", "/", _WORD_POWER.sub(_word_power, text)).replace("//", "/")
        whole = _product(spelled)
    if whole is None:
        return _noun(text)
    factor, dims = whole
    return Unit(factor, tuple(sorted((k, v) for k, v in dims.items() if v)))


def _product(text: str) -> tuple[Fraction, dict[str, int]] | None:
    factor = Fraction(1)
    dims: dict[str, int] = {}
    for i, written in enumerate(text.split("/")):
        sign = 1 if i == 0 else -1
        part = written.strip().removeprefix("(").removesuffix(")") if i else written.strip()
        names = [part] if _lookup(part) else _SPLIT.split(part)
        for name in names:
            match = _FACTOR.match(name)
            known = _lookup(match.group(1)) if match else None
            if match is None or known is None:
                return None
            power = sign * int(match.group(2) or match.group(3) or 1)
            if not -9 <= power <= 9:
                return None
            factor *= known[0] ** power
            for dimension, p in known[1].items():
                dims[dimension] = dims.get(dimension, 0) + p * power
    return factor, dims
