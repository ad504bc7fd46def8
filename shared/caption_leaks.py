r"""Does a caption give the answer away: does it hold the gold where the question does not.

Input: a problem (question, options, gold) and its caption. Output: a `Leak` with the words that hold the gold, or None.
A policy that reads such a caption needs neither the picture nor a thought.

What counts: the gold's number in any spelling (`0.75`, `3/4`, `75%`, `three`, `三个`), an expression (`2√3`,
`$2\sqrt{3}$`), the right option's text while no other option's stands in the caption, a gold in words outside of lists
and table rows, and a sentence that states the answer ("so the answer is B", `故选A`). What does not: anything that the
question (without its options) says itself; digits of names and formulas (`A1`, `x^2`, `Figure 1`, `3rd`); `yes` and
`no` unless stated as the answer; a label among its fellows, as in a chart's legend.
Not covered: a caption from which the answer follows by a short calculation, and other languages than English and
Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

CONTEXT_CHARACTERS = 40
"""Characters of the caption kept on either side of what was found."""


@dataclass(frozen=True)
class Leak:
    """What gives the answer away.

    Attributes:
        rule: `number`, `expression`, `option`, `text` or `stated`.
        gold: What was looked for: the gold, or the right option's text.
        found: The caption's own words that hold it.
        span: These words with their surroundings.
    """

    rule: str
    gold: str
    found: str
    span: str


def caption_leak(question: str, choices: Sequence[str], gold: str, caption: str) -> Leak | None:
    """How `caption` gives `gold` away, or None.

    Args:
        question: The problem's text; options that stand in it do not count as its words.
        choices: The options' texts in order; empty where there are none.
        gold: The gold answer; with options their letters, or one option's text.
        caption: The caption of one picture.
    """
    said, asked = _plain(caption), _plain(_stem(question, choices))
    right = _right_options(choices, gold)
    if right:
        letters = "".join(chr(ord("A") + index) for index in right)
        golds = [_plain(choices[index]) for index in right]
        return _stated(said, [letters, *golds]) or _option(said, asked, [_plain(text) for text in choices], right)
    looked_for = _plain(gold)
    if not looked_for or re.fullmatch(r"[A-Za-z]", looked_for):
        return _stated(said, [looked_for]) if looked_for else None
    numbers = _numbers_of_gold(looked_for)
    if numbers:
        return _number(said, asked, looked_for, numbers)
    if _is_words(looked_for):
        return _words(said, asked, looked_for)
    return _expression(said, asked, looked_for)


# --- reading the problem


def _plain(text: str) -> str:
    """One spelling: full-width to ASCII, LaTeX marks that say nothing taken off, π and √ as commands."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-")
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\(?:left|right|mathrm|displaystyle|,|;|!)|\\?\$", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", text)
    text = text.replace("\\%", "%").replace("\\cdot", "·").replace("\\times", "×")
    text = re.sub(r"\\(sin|cos|tan|cot|log|ln|lg)(?![A-Za-z])", r"\1", text).replace("π", r"\pi")
    return re.sub(r"√\s*\(?(\d+(?:\.\d+)?)\)?", r"\\sqrt{\1}", text)


def _stem(question: str, choices: Sequence[str]) -> str:
    """The question without its options."""
    if not choices:
        return question
    first = re.escape(choices[0].strip()[:30])
    for label in (r"[(（]\s*A\s*[)）]", r"\bA\s*[.．、:：)）]", r"\b(?:Choices|Options)\s*:|选项\s*[:：]"):
        found = re.search(label + r"\s*" + first, question) or re.search(label, question)
        if found:
            return question[: found.start()]
    return question


def _right_options(choices: Sequence[str], gold: str) -> list[int]:
    """Positions of the right options; empty where the gold names none."""
    if not choices:
        return []
    letters = re.sub(r"[\s,;、()（）.]|and|\\text|[{}]", "", gold)
    if re.fullmatch(r"[A-H]+", letters) and all(ord(c) - ord("A") < len(choices) for c in letters):
        return sorted({ord(letter) - ord("A") for letter in letters})
    return [index for index, text in enumerate(choices) if _squeezed(text) == _squeezed(gold)][:1]


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", _plain(text)).casefold().strip(".")


# --- numbers

_UP_TO_TWENTY = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
_WORDS = {word: number for number, word in enumerate(_UP_TO_TWENTY.split())}
_HAN = {"零": 0, "两": 2, **{character: number for number, character in enumerate("一二三四五六七八九十", start=1)}}
_COUNTED = "个条只张根名位辆朵本块颗件种边面层行列组份道枚片人次步岁度倍"
_NUMBER = re.compile(
    r"""
    \\frac\s*(?:\{\s*(?P<over>\d+)\s*\}\s*\{\s*(?P<under>\d+)\s*\}|(?P<over1>\d)\s*(?P<under1>\d))
    | (?P<top>\d+)\s*/\s*(?P<bottom>\d+)(?![\d/])
    | (?P<mantissa>\d+(?:\.\d+)?)\s*×\s*10\s*\^\s*\{?\s*(?P<power>-?\d+)\s*\}?
    | (?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|\.\d+)
    """,
    re.VERBOSE,
)
_NAMED_BEFORE = re.compile(
    r"(?:\b(?:fig(?:ure)?|table|problem|question|example|exercise|step|part|section|page|no|chapter|panel)s?\.?\s*\(?"
    r"|[图表题例第]\s*|[A-Za-z]|[_^]\s*\{?\s*-?|\\sqrt\s*\{?\s*)$",
    re.IGNORECASE,
)
_NAMED_AFTER = re.compile(
    r"-?D\b|(?:st|nd|rd|th)\b|\s*\\(?:sqrt|pi)|(?!(?:m|g|s|h|L|l|N|J|W|V|A|K|C)\b)[A-Za-z](?![A-Za-z])"
)


@dataclass(frozen=True)
class _Mention:
    values: frozenset[Fraction]
    start: int
    end: int
    fraction: str = ""

    def says(self, other: _Mention) -> bool:
        """Equal values; of two fractions also equal parts: 8/12 does not give its simplest form away."""
        if self.fraction and other.fraction and self.fraction != other.fraction:
            return False
        return bool(self.values & other.values)


def _mentions(text: str, *, every: bool = False) -> Iterator[_Mention]:
    """Numbers that a text says; with `every` also those that only name something (`A1`, `x^2`, `Figure 1`)."""
    for found in _NUMBER.finditer(text):
        before, after = text[: found.start()], text[found.end() :]
        if not every and _only_names(before, after):
            continue
        value = _value(found)
        if value is None:
            continue
        start = found.start()
        if re.search(r"(?:^|[^A-Za-z0-9_)\]}.])-$|[=(\[,:]\s*-\s*$", before[-4:]):
            value, start = -value, start - 1
        percent = re.match(r"\s*(?:%|percent|per cent)", after)
        values = {value, value / 100} if percent else {value}
        parts = [part for part in found.groups()[:6] if part]
        yield _Mention(frozenset(values), start, found.end(), "/".join(parts) if len(parts) == 2 else "")
    yield from _spelled(text, every=every)


def _only_names(before: str, after: str) -> bool:
    if _NAMED_BEFORE.search(before[-24:]) or _NAMED_AFTER.match(after):
        return True
    # "1." or "(1)" where a line or a sentence begins: numbers of a list
    return bool(re.search(r"(?:^|\n|[.;。；]\s)\(?$", before) and re.match(r"[.)、]\s", after))


def _value(found: re.Match[str]) -> Fraction | None:
    parts = found.groupdict()
    top = parts["over"] or parts["over1"] or parts["top"]
    bottom = parts["under"] or parts["under1"] or parts["bottom"]
    if top is not None and bottom is not None:
        return Fraction(int(top), int(bottom)) if int(bottom) else None
    if parts["mantissa"] is not None:
        return Fraction(parts["mantissa"]) * Fraction(10) ** int(parts["power"]) if len(parts["power"]) < 4 else None
    digits = parts["digits"].replace(",", "")
    return Fraction(digits) if len(digits) < 40 else None


def _spelled(text: str, *, every: bool) -> Iterator[_Mention]:
    """Numbers in words; `one` and `一` only where they count, unless `every`."""
    for found in re.finditer(r"\b(" + "|".join(_WORDS) + r")\b(?!-)", text, re.IGNORECASE):
        word, before = found[1].lower(), text[: found.start()]
        if every or word != "one" or re.search(r"\b(?:exactly|only|just|there is)\s*$", before):
            yield _Mention(frozenset({Fraction(_WORDS[word])}), found.start(), found.end())
    for found in re.finditer(r"\b(?:an?|one)?\s*\b(half|quarter)\b", text, re.IGNORECASE):
        share = Fraction(1, 2) if found[1].lower() == "half" else Fraction(1, 4)
        yield _Mention(frozenset({share}), found.start(), found.end())
    for found in re.finditer(rf"(?<!第)([{''.join(_HAN)}])(?=[{_COUNTED}])(?!边形|面体)", text):
        if found[1] != "一" or every:
            yield _Mention(frozenset({Fraction(_HAN[found[1]])}), found.start(), found.end())


_UNIT_TAIL = re.compile(r"[\s°%$¥€£]*(?:[A-Za-zµΩ\u4e00-\u9fff]{1,14}(?:[\s/·]|\^?-?[\d²³])*){0,3}[°.\s]*")


def _numbers_of_gold(gold: str) -> list[_Mention]:
    """The numbers that a gold consists of; empty where it is something else (an expression, words, a point)."""
    if re.search(r"[=\[\]<>≤≥+]|\\(?:sqrt|pi|le|ge|infty|cup|circ)|\d\s*:\s*\d|^\s*\(", gold):
        return []
    pieces = [piece for piece in re.split(r"[,;、]\s+|\s+and\s+|,(?!\d{3})", gold) if piece.strip()]
    found: list[_Mention] = []
    for piece in pieces:
        number = min(_mentions(piece.strip()), key=lambda mention: mention.start, default=None)
        if number is None:
            return []
        head, tail = piece.strip()[: number.start], piece.strip()[number.end :]
        if re.sub(r"[\s$¥€£]", "", head) or not _UNIT_TAIL.fullmatch(tail):
            return []
        found.append(number)
    return found


def _number(said: str, asked: str, gold: str, numbers: list[_Mention]) -> Leak | None:
    places = [_place(said, number) for number in numbers]
    if not all(places) or all(_says_one(asked, [number]) for number in numbers):
        return None
    start, end = places[0] or (0, 0)
    return _leak("number", gold, said, start, end)


def _place(text: str, number: _Mention) -> tuple[int, int] | None:
    """Where a text says a number."""
    return next(((mention.start, mention.end) for mention in _mentions(text) if mention.says(number)), None)


def _says_one(asked: str, numbers: Sequence[_Mention]) -> bool:
    """Whether a question shares one of these numbers, whatever sign or unit it has there: it is not given away."""
    sizes = {abs(value) for number in numbers for value in number.values}
    return any(abs(value) in sizes for mention in _mentions(asked, every=True) for value in mention.values)


# --- expressions, options, words, statements


def _is_words(text: str) -> bool:
    return not re.search(r"[\d\\=^_+*<>\[\]{}|]", text)


def _squeeze_with_places(text: str) -> tuple[str, list[int]]:
    """Text without white space and case, and where each character stood."""
    kept = [(character.casefold(), place) for place, character in enumerate(text) if not character.isspace()]
    kept = [pair for pair in kept if len(pair[0]) == 1]
    return "".join(character for character, _ in kept), [place for _, place in kept]


def _find_squeezed(text: str, wanted: str) -> tuple[int, int] | None:
    """Where `wanted` stands in `text`, white space and case aside, not as a part of a longer number or name."""
    squeezed, places = _squeeze_with_places(text)
    key = _squeeze_with_places(wanted)[0].strip(".")
    if not key:
        return None
    start = r"(?<![0-9A-Za-z^_.\\])" if re.match(r"[0-9A-Za-z]", key) else ""
    # white space is gone, so that a following word is no part of what was found unless it was joined to it
    for found in re.finditer(start + re.escape(key), squeezed):
        last = places[found.end() - 1]
        if not (re.match(r"[0-9A-Za-z]", key[-1]) and re.match(r"[0-9A-Za-z^_]|\.\d", text[last + 1 :])):
            return places[found.start()], last + 1
    # the letter before may belong to another word
    for found in re.finditer(re.escape(key), squeezed):
        first, last = places[found.start()], places[found.end() - 1]
        if not re.search(r"[0-9A-Za-z^_.\\-]$", text[:first]) and not re.match(r"[0-9A-Za-z^_]|\.\d", text[last + 1 :]):
            return first, last + 1
    return None


def _expression(said: str, asked: str, gold: str) -> Leak | None:
    if _find_squeezed(asked, gold):
        return None
    place = _find_squeezed(said, gold)
    return _leak("expression", gold, said, *place) if place else None


def _phrase(text: str, words: str) -> list[re.Match[str]]:
    """Where a phrase stands as whole words, case aside."""
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    bounds = (r"\b" if re.match(r"[A-Za-z0-9]", words) else "", r"\b" if re.search(r"[A-Za-z0-9]$", words) else "")
    return list(re.finditer(bounds[0] + pattern + bounds[1], text, re.IGNORECASE))


_SAY_NOTHING = {"yes", "no", "true", "false", "none", "是", "否", "对", "错", "正确", "错误", "不是", "有", "没有"}


def _words(said: str, asked: str, gold: str) -> Leak | None:
    gold = gold.strip(" .。")
    if gold.casefold() in _SAY_NOTHING:
        return _stated(said, [gold])
    if len(gold) < 2 or _phrase(asked, gold):
        return None
    for found in _phrase(said, gold):
        if not _among_fellows(said, found.start(), found.end()):
            return _leak("text", gold, said, found.start(), found.end())
    return _stated(said, [gold])


def _among_fellows(text: str, start: int, end: int) -> bool:
    """A label beside others: a cell of a table, a label with its value, an item of a list."""
    line = text[text.rfind("\n", 0, start) + 1 :].split("\n", 1)[0].lstrip()
    before, after = text[:start], text[end:]
    if line.startswith("|"):
        return True
    if re.match(r"\s*[:=(]?\s*[$¥€£]?-?\d", after):
        return True
    listed_after = re.match(r"\s*(?:、|,\s|(?:,\s*)?(?:and|or|和|与|或)\s?\S+)", after)
    listed_before = re.search(r"(?:、|,\s|\b(?:and|or)\s|[和与或])$", before)
    return bool(
        (listed_before and listed_after)
        or (listed_before and re.match(r"\s*[.;。;)]|$", after))
        or (listed_after and re.match(r"\s*(?:、|,)\s*\w+\s*(?:、|,|and|or|和)", after))
    )


def _holds(text: str, wanted: str) -> tuple[int, int] | None:
    """Where an option's text stands in a caption: its number, its words, or its formula."""
    numbers = _numbers_of_gold(wanted)
    if len(numbers) == 1:
        return _place(text, numbers[0])
    if _is_words(wanted):
        found = _phrase(text, wanted.strip(" .。"))
        return (found[0].start(), found[0].end()) if found else None
    return _find_squeezed(text, wanted)


def _option(said: str, asked: str, choices: Sequence[str], right: Sequence[int]) -> Leak | None:
    if any(choices[index].strip(" .。").casefold() in _SAY_NOTHING for index in right):
        return None
    if any(_holds(said, text) for index, text in enumerate(choices) if index not in right):
        return None
    places = [_holds(said, choices[index]) for index in right]
    if not all(places) or all(_shared(asked, choices[index]) for index in right):
        return None
    start, end = places[0] or (0, 0)
    return _leak("option", choices[right[0]], said, start, end)


def _shared(asked: str, text: str) -> bool:
    numbers = _numbers_of_gold(text)
    return _says_one(asked, numbers) if numbers else _holds(asked, text) is not None


_STATES = re.compile(
    r"(?:\b(?:answer|solution|right\s+(?:option|choice|answer)|correct\s+(?:option|choice|answer)|option)"
    r"(?:\s+(?:is|must\s+be|would\s+be)|\s*:)|\\boxed|答案\s*[是为:]?|故选|应选|选择?(?=[A-H]))\s*[:{(*\"']*\s*",
    re.IGNORECASE,
)


def _stated(said: str, golds: Sequence[str]) -> Leak | None:
    """A sentence that states the answer: "the answer is B", `故选A`."""
    for found in _STATES.finditer(said):
        rest = said[found.end() :]
        for gold in golds:
            pattern = r"\s*".join(re.escape(character) for character in gold.strip(" .。") if not character.isspace())
            if gold and (hit := re.match(pattern + r"(?![A-Za-z0-9])", rest, re.IGNORECASE)):
                return _leak("stated", gold, said, found.start(), found.end() + hit.end())
    return None


def _leak(rule: str, gold: str, said: str, start: int, end: int) -> Leak:
    start, before = max(start, 0), max(0, start - CONTEXT_CHARACTERS)
    span = " ".join(said[before : end + CONTEXT_CHARACTERS].split())
    return Leak(rule, gold.strip(), said[start:end].strip(), span)
