"""One side of a comparison: its text, and what it says, each read once however many rules ask; and a gold's kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from shared.answers.parse.expression import variables
from shared.answers.parse.golds import gold_answer
from shared.answers.parse.normalise import matching_brace, normalise, strip_wrappers
from shared.answers.parse.numerals import NUMBER_WORDS
from shared.answers.parse.reading import MAX_CHARACTERS, read
from shared.answers.parse.spellings import is_numbered
from shared.answers.parse.words import is_truth_word, letters_in, without_prose
from shared.answers.types import Reading

MAX_TEXT_CHARACTERS = 20_000
"""An answer beyond this length is unparsable; a gold too."""

SYMBOLIC = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|begin|det|gcd|lcm|max|min|pmod|bmod|mod|partial|nabla|cdots|ldots|dots|vec|overline|hat|bar|dot|mathbb|setminus"
    r"|cap|mid|arg|Re|Im|ln|log|sin|cos|tan|exp|frac|sqrt|binom|prime|overrightarrow|perp|parallel|exists|forall|notin|subset|land|lor)(?![A-Za-z])"
)
HAS_CONTENT = re.compile(r"[^\W_]|\\[A-Za-z]{2,}|[^\x00-\x7f]|\\\{|\{\s*\}\Z")
PLAIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_DOTS = re.compile(r"\\(?:ldots|cdots|dotsc|dotsb|dotso|hdots)(?![A-Za-z])")
_SPACES = re.compile(r"\s+(?![A-Za-z0-9])|(?<![A-Za-z0-9])\s+")

_GROUPED = re.compile(r"\d,\d{3}(?!\d)")
_AND_FRACTION = re.compile(
    r"^(\d{1,9})\s*(?:and|\\text\s*\{\s*and\s*\})\s*(?:(\d{1,9})\s*/\s*(\d{1,9})|\\[dt]?frac\s*\{(\d{1,9})\}\s*\{(\d{1,9})\})$"
)
_BRACKETED_LETTER = re.compile(r"\s*\(\s*[A-Ja-j]\s*\)\s*")
MAX_WORDS_CHARACTERS = 80


class Answer:
    """A gold, or a prediction."""

    def __init__(self, text: str) -> None:
        """Take the text; it is read when a rule first asks."""
        self.text = text

    @cached_property
    def normal(self) -> str:
        """The text in one spelling."""
        return normalise(self.text)

    @cached_property
    def exact(self) -> str:
        """What "exact" compares (`squash`)."""
        return squash(self.text)

    @cached_property
    def reading(self) -> Reading | None:
        """The text as mathematics."""
        return read(self.text)

    @cached_property
    def without_prose(self) -> Answer:
        """What is left without the sentence around it."""
        return Answer(without_prose(self.text))

    @cached_property
    def said(self) -> Reading | None:
        """`five apples` and `2 and 1/2` as a value; None for anything else.

        Only beside a value: "seven seas" is a name, and "2 and 1/2" beside a list is two answers.
        """
        if len(self.text) > MAX_WORDS_CHARACTERS:
            return None
        s = self.normal
        if match := _AND_FRACTION.match(s):
            whole, top, bottom = match.group(1), match.group(2) or match.group(4), match.group(3) or match.group(5)
            return read(f"{whole} {top}/{bottom}") if int(top) < int(bottom) else None
        if s.lower() in NUMBER_WORDS:  # "twenty one" is no twenty of a thing
            return None
        word, _, thing = s.partition(" ")
        digits = NUMBER_WORDS.get(word.lower(), "")
        reading = read(f"{digits} {thing}") if digits.isdigit() and thing[:1].isalpha() else None
        return reading if reading is not None and reading.form == "value" and reading.unit is not None else None

    @cached_property
    def ungrouped(self) -> Reading | None:
        """The other reading of `100,200`: a list instead of one number with thousands."""
        return read(self.text, merge_thousands=False)

    @cached_property
    def is_grouped(self) -> bool:
        """Whether it has digits grouped in threes."""
        return _GROUPED.search(self.text) is not None

    @cached_property
    def letters(self) -> tuple[frozenset[str], str] | None:
        """The option letters that it names, and the words beside them."""
        return letters_in(self.text)

    @cached_property
    def is_symbolic(self) -> bool:
        """Whether it holds a command that only computer algebra reads."""
        return SYMBOLIC.search(self.text) is not None

    @cached_property
    def words(self) -> int:
        """Words of plain text."""
        return len(PLAIN_WORD.findall(self.text))


def squash(text: str) -> str:
    """The normalised answer with white space only between letters or digits (1 1/2 is not 11/2).

    What "exact" compares.
    """
    return _SPACES.sub("", _DOTS.sub(r"\\dots", normalise(text)))


def well_formed(gold: str) -> bool:
    """Whether a gold can be compared at all: some content, balanced braces, a bounded length."""
    if len(gold) > MAX_TEXT_CHARACTERS or not HAS_CONTENT.search(strip_wrappers(gold)):
        return False
    if "{" in gold or "}" in gold:
        wrapped = "{" + gold + "}"
        return matching_brace(wrapped, 0) == len(wrapped) - 1
    return True


def reading_kind(reading: Reading) -> str:
    """The kind of an answer that was read as mathematics."""
    if reading.form == "value":
        unit = reading.unit
        if unit is not None and not unit.is_generic:
            fits = {"percent": unit.is_percent, "degree": unit.is_degree, "money": unit.is_money}
            return next((kind for kind, fit in fits.items() if fit), "quantity")
        if reading.relation and reading.node is not None and variables(reading.node):
            return "equation"
        return reading.style
    if reading.form == "relation":
        return "equation" if reading.relation and reading.relation[0] == "=" else "inequality"
    if reading.form == "interval":
        return "inequality" if reading.label else "interval"
    return {"list": "set", "range": "interval"}.get(reading.form, reading.form)


def answer_kind(gold: str, choices: Sequence[str] | None = None) -> str:
    """The kind of a gold answer, one of ANSWER_KINDS.

    With choices every gold is a choice; without, one or several capital letters A to J are. Never raises.
    """
    gold = gold_answer(gold, choices).answer or gold
    letters = letters_in(gold) if len(gold) <= 40 else None
    is_letter = letters is not None and not letters[1] and any(c in "ABCDEFGHIJ" for c in gold)
    if choices or is_letter or _BRACKETED_LETTER.fullmatch(gold):
        return "choice"
    if is_truth_word(gold):
        return "boolean"
    reading = read(gold)
    if reading is not None:
        return reading_kind(reading)
    if is_numbered(normalise(gold)):
        return "text"
    symbols = len(gold) < MAX_CHARACTERS and SYMBOLIC.search(gold) is not None and len(PLAIN_WORD.findall(gold)) <= 2
    return "expression" if symbols else "text"
