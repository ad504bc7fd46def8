r"""Grades an answer that is no option: exact text, truth words, mathematics, plain text, in this order.

Only what these layers cannot settle is left as `Pending` for math-verify in `pool`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shared.answers.compare.readings import compare
from shared.answers.parse.expression import variables
from shared.answers.types import Reading
from shared.answers.parse.golds import gold_answer
from shared.answers.types import kind_family
from shared.answers.parse.normalise import matching_brace, normalise, strip_wrappers
from shared.answers.parse.numerals import NUMBER_WORDS
from shared.answers.types import Grade, Verdict
from shared.answers.parse.reading import MAX_CHARACTERS, read
from shared.answers.parse.spellings import is_numbered, numbered_parts
from shared.answers.parse.stated_unit import is_multiplier, with_stated_unit, without_stated_unit
from shared.answers.parse.words import (
    denies,
    is_nothing,
    is_truth_word,
    letters_in,
    same_text,
    truth_of,
    without_hedge,
    without_prose,
)

MAX_TEXT_CHARACTERS = 20_000
"""An answer beyond this length is unparsable; a gold too."""

_SYMBOLIC = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|begin|det|gcd|lcm|max|min|pmod|bmod|mod|partial|nabla|cdots|ldots|dots|vec|overline|hat|bar|dot|mathbb|setminus"
    r"|cap|mid|arg|Re|Im|ln|log|sin|cos|tan|exp|frac|sqrt|binom|prime|overrightarrow|perp|parallel|exists|forall|notin|subset|land|lor)(?![A-Za-z])"
)
HAS_CONTENT = re.compile(r"[^\W_]|\\[A-Za-z]{2,}|[^\x00-\x7f]|\\\{|\{\s*\}\Z")
_GROUPED = re.compile(r"\d,\d{3}(?!\d)")
_PLAIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_AND_FRACTION = re.compile(
    r"^(\d{1,9})\s*(?:and|\\text\s*\{\s*and\s*\})\s*(?:(\d{1,9})\s*/\s*(\d{1,9})|\\[dt]?frac\s*\{(\d{1,9})\}\s*\{(\d{1,9})\})$"
)
MAX_WORDS_CHARACTERS = 80
_SEVERAL_FORMULAS = re.compile(r"(?<!\\)\$|\n|[^\x00-\x7f]")
_DOTS = re.compile(r"\\(?:ldots|cdots|dotsc|dotsb|dotso|hdots)(?![A-Za-z])")
_SPACES = re.compile(r"\s+(?![A-Za-z0-9])|(?<![A-Za-z0-9])\s+")


@dataclass(frozen=True, slots=True)
class Pending:
    """A pair that only the symbolic layer can settle."""

    gold: str
    pred: str
    kind: str
    type_match: bool


@dataclass(frozen=True, slots=True)
class Deferred:
    """Several comparisons, and what follows from their grades (in order)."""

    states: tuple[State, ...]
    decide: Callable[[list[Grade]], Grade]


State = Grade | Pending | Deferred


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
            return (
                "percent"
                if unit.is_percent
                else "degree"
                if unit.is_degree
                else "money"
                if unit.is_money
                else "quantity"
            )
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
    if choices or (
        (letters is not None and not letters[1] and any(c in "ABCDEFGHIJ" for c in gold)) or _is_bracketed_letter(gold)
    ):
        return "choice"
    if is_truth_word(gold):
        return "boolean"
    reading = read(gold)
    if reading is not None:
        return reading_kind(reading)
    if is_numbered(normalise(gold)):
        return "text"
    symbols = len(gold) < MAX_CHARACTERS and _SYMBOLIC.search(gold) is not None and len(_PLAIN_WORD.findall(gold)) <= 2
    return "expression" if symbols else "text"


def _is_bracketed_letter(gold: str) -> bool:
    return bool(re.fullmatch(r"\s*\(\s*[A-Ja-j]\s*\)\s*", gold))


def decide(correct: bool, kind: str, layer: str, type_match: bool) -> Grade:
    """A grade that is right or wrong."""
    return Grade(Verdict.CORRECT if correct else Verdict.WRONG, kind, layer, type_match or correct, correct)


def grade_plain(pred: str, gold: str, kind: str, tolerance: float | None, unit: str | None) -> State:  # noqa: C901, PLR0911, PLR0912
    """Exact text, truth words, mathematics, plain text, in this order."""
    if squash(pred) == squash(gold):
        return decide(True, kind, "exact", type_match=True)
    if is_truth_word(gold):
        answer = truth_of(pred)
        answer = truth_of(without_prose(pred)) if answer is None else answer
        if answer is None:
            return Grade(
                Verdict.WRONG if any(c.isalpha() for c in pred) else Verdict.UNPARSABLE_ANSWER,
                kind,
                "text",
                False,
                False,
            )
        return decide(answer == truth_of(gold), kind, "text", type_match=True)
    if (parts := numbered_parts(normalise(gold))) and read(gold) is None:
        return _by_parts(pred, parts, kind, tolerance, unit)
    if is_nothing(gold) and is_nothing(pred):
        return decide(True, kind, "text", type_match=True)
    if unit and _is_said_as_stated(pred, gold, unit, tolerance):
        return decide(True, kind, "number", type_match=True)
    mine, theirs = _readings(pred, gold, unit)
    if mine is not None and theirs is not None:
        result = compare(mine, theirs, tolerance)
        if not result and bool(_GROUPED.search(gold)) != bool(_GROUPED.search(pred)):
            result = _compare_ungrouped(pred, gold, tolerance) or result
        matches = _same_type(mine, theirs)
        if result is not None:
            return decide(result, kind, _layer(mine, theirs), matches)
        return _symbolic(pred, gold, kind, matches)
    if same_text(gold, pred):
        return decide(True, kind, "text", type_match=True)
    if len(_PLAIN_WORD.findall(gold)) > 2:
        return decide(False, kind, "text", type_match=theirs is None)
    if theirs is None and "=" in pred and "=" not in gold and not _sides_may_name(pred, gold):
        return decide(False, kind, "structure", type_match=False)
    if (
        _SYMBOLIC.search(gold)
        and (theirs is not None or _SYMBOLIC.search(pred))
        and len(gold) + len(pred) < MAX_CHARACTERS
    ):
        return _symbolic(pred, gold, kind, type_match=False)
    if mine is None:
        return decide(False, kind, "text", type_match=theirs is None)
    if theirs is None and _SYMBOLIC.search(pred) and len(pred) < MAX_CHARACTERS and mine.unit is None:
        return _symbolic(pred, gold, kind, type_match=False)
    return Grade(Verdict.UNPARSABLE_ANSWER, kind, "none", type_match=False, exact=False)


_BETWEEN_PARTS = re.compile(r"\s*[;\n]\s*|\s*,\s*")


def _by_parts(pred: str, golds: list[tuple[int, str]], kind: str, tolerance: float | None, unit: str | None) -> State:
    """Answers to the parts of a question, some of them words: each is compared on its own."""
    given = dict(numbered_parts(normalise(pred)))
    texts = [given.get(number, "") for number, _ in golds]
    if not given:
        split = [part for part in _BETWEEN_PARTS.split(normalise(pred)) if part]
        texts = split if len(split) == len(golds) else []
    if not all(texts) or len(texts) != len(golds) or len(given) not in (0, len(golds)):
        return decide(False, kind, "parts", type_match=False)
    states = tuple(
        grade_plain(text, gold, "text", tolerance, unit) for text, (_, gold) in zip(texts, golds, strict=True)
    )
    return Deferred(
        states, lambda grades: decide(all(grade.correct for grade in grades), kind, "parts", type_match=True)
    )


def _is_said_as_stated(pred: str, gold: str, unit: str, tolerance: float | None) -> bool:
    """Whether an answer is the gold with its stated unit spelled, or without a stated multiplier (14 of "million")."""
    mine, bare = read(gold), read(without_stated_unit(pred, unit))
    if mine is None or bare is None or bare.unit is not None:
        return False
    return (bare != read(pred) or is_multiplier(unit)) and bool(compare(mine, bare, tolerance))


def _readings(pred: str, gold: str, unit: str | None) -> tuple[Reading | None, Reading | None]:
    """The gold and the answer as mathematics, numbers said in words included where the other side bears them out."""
    mine = _read_gold(gold, unit)
    theirs = read(pred) or read(without_prose(pred))
    if mine is not None and mine.form == "value":
        return mine, _said_in_words(pred) or theirs
    if mine is None and theirs is not None and theirs.unit is not None:
        said = _said_in_words(gold)
        return (said if said is not None and said.unit == theirs.unit else None), theirs
    return mine, theirs


def _said_in_words(text: str) -> Reading | None:
    """`five apples` and `2 and 1/2` as a value; None for anything else.

    Only beside a value: "seven seas" is a name, and "2 and 1/2" beside a list is two answers.
    """
    if len(text) > MAX_WORDS_CHARACTERS:
        return None
    s = normalise(text)
    if match := _AND_FRACTION.match(s):
        whole, top, bottom = match.group(1), match.group(2) or match.group(4), match.group(3) or match.group(5)
        return read(f"{whole} {top}/{bottom}") if int(top) < int(bottom) else None
    word, _, thing = s.partition(" ")
    digits = NUMBER_WORDS.get(word.lower(), "")
    reading = read(f"{digits} {thing}") if digits.isdigit() and thing[:1].isalpha() else None
    return reading if reading is not None and reading.form == "value" and reading.unit is not None else None


def _compare_ungrouped(pred: str, gold: str, tolerance: float | None) -> bool | None:
    """The other reading of `100,200`: a list instead of one number with thousands."""
    mine, theirs = read(gold, merge_thousands=False), read(pred, merge_thousands=False)
    return compare(mine, theirs, tolerance) if mine is not None and theirs is not None else None


def _sides_may_name(pred: str, gold: str) -> bool:
    """Whether what stands before the first equals sign may name the answer: the gold itself, or letters only.

    math-verify takes the last side of a chain, so that `1 = 1/3` would be a third.
    """
    first = squash(pred.partition("=")[0])
    return first == squash(gold) or not any(c.isdigit() for c in first)


def _read_gold(gold: str, unit: str | None) -> Reading | None:
    reading = read(gold) or read(without_hedge(gold))
    return with_stated_unit(reading, unit) if reading is not None and unit else reading


def _symbolic(pred: str, gold: str, kind: str, type_match: bool) -> State:
    """The pair for math-verify, which takes one formula out of each text and leaves the rest unread.

    So several formulas, prose of another script and a denial are refused here.
    """
    mine, theirs = normalise(gold), normalise(pred)
    whole = not (_SEVERAL_FORMULAS.search(mine) or _SEVERAL_FORMULAS.search(theirs))
    if not whole or denies(theirs) != denies(mine):
        return decide(False, kind, "structure", type_match)
    return Pending(mine, theirs, kind, type_match)


def _layer(gold: Reading, pred: Reading) -> str:
    """Which of the cheap layers a decision belongs to, for the published shares."""
    if gold.form == pred.form == "value":
        return (
            "number"
            if gold.style not in ("expression", "complex") and pred.style not in ("expression", "complex")
            else "numeric"
        )
    return "structure"


def _same_type(gold: Reading, pred: Reading) -> bool:
    """Whether the answer is of the gold's family; units do not count, a fraction is a decimal's family (facts)."""
    return kind_family(reading_kind(replace(gold, unit=None))) == kind_family(reading_kind(replace(pred, unit=None)))
