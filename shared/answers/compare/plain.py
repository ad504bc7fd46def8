r"""Grades an answer that is no option: exact text, truth words, mathematics, plain text, in this order.

Only what these layers cannot settle is left as `Pending` for math-verify in `pool`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from shared.answers.compare.readings import compare
from shared.answers.parse.answer import Answer, reading_kind, squash
from shared.answers.parse.reading import MAX_CHARACTERS, read
from shared.answers.parse.spellings import numbered_parts
from shared.answers.parse.stated_unit import is_multiplier, with_stated_unit, without_stated_unit
from shared.answers.parse.words import denies, is_nothing, is_truth_word, same_text, truth_of, without_hedge
from shared.answers.types import Deferred, Grade, Pending, Reading, State, Verdict, kind_family

_SEVERAL_FORMULAS = re.compile(r"(?<!\\)\$|\n|[^\x00-\x7f]")


def decide(correct: bool, kind: str, layer: str, type_match: bool) -> Grade:
    """A grade that is right or wrong."""
    return Grade(Verdict.CORRECT if correct else Verdict.WRONG, kind, layer, type_match or correct, correct)


def grade_plain(gold: Answer, pred: Answer, kind: str, tolerance: float | None, unit: str | None) -> State:  # noqa: C901, PLR0911, PLR0912
    """Exact text, truth words, mathematics, plain text, in this order."""
    if pred.exact == gold.exact:
        return decide(True, kind, "exact", type_match=True)
    if is_truth_word(gold.text):
        answer = truth_of(pred.text)
        answer = truth_of(pred.without_prose.text) if answer is None else answer
        if answer is None:
            verdict = Verdict.WRONG if any(c.isalpha() for c in pred.text) else Verdict.UNPARSABLE_ANSWER
            return Grade(verdict, kind, "text", type_match=False, exact=False)
        return decide(answer == truth_of(gold.text), kind, "text", type_match=True)
    if (parts := numbered_parts(gold.normal)) and gold.reading is None:
        return _by_parts(parts, pred, kind, tolerance, unit)
    if is_nothing(gold.text) and is_nothing(pred.text):
        return decide(True, kind, "text", type_match=True)
    if unit and _is_said_as_stated(gold, pred, unit, tolerance):
        return decide(True, kind, "number", type_match=True)
    mine, theirs = _readings(gold, pred, unit)
    if mine is not None and theirs is not None:
        result = compare(mine, theirs, tolerance)
        if not result and gold.is_grouped != pred.is_grouped and gold.ungrouped and pred.ungrouped:
            result = compare(gold.ungrouped, pred.ungrouped, tolerance) or result
        kinds = (reading_kind(replace(one, unit=None)) for one in (mine, theirs))
        matches = len(set(map(kind_family, kinds))) == 1  # units do not count
        if result is not None:
            return decide(result, kind, _layer(mine, theirs), matches)
        return _symbolic(gold, pred, kind, matches)
    if same_text(gold.text, pred.text):
        return decide(True, kind, "text", type_match=True)
    if gold.words > 2:
        return decide(False, kind, "text", type_match=theirs is None)
    if theirs is None and "=" in pred.text and "=" not in gold.text and not _sides_may_name(gold, pred):
        return decide(False, kind, "structure", type_match=False)
    may_be_read = gold.is_symbolic and (theirs is not None or pred.is_symbolic)
    if may_be_read and len(gold.text) + len(pred.text) < MAX_CHARACTERS:
        return _symbolic(gold, pred, kind, type_match=False)
    if mine is None:
        return decide(False, kind, "text", type_match=theirs is None)
    if theirs is None and pred.is_symbolic and len(pred.text) < MAX_CHARACTERS and mine.unit is None:
        return _symbolic(gold, pred, kind, type_match=False)
    return Grade(Verdict.UNPARSABLE_ANSWER, kind, "none", type_match=False, exact=False)


_BETWEEN_PARTS = re.compile(r"\s*[;\n]\s*|\s*,\s*")


def _by_parts(
    golds: list[tuple[int, str]], pred: Answer, kind: str, tolerance: float | None, unit: str | None
) -> State:
    """Answers to the parts of a question, some of them words: each is compared on its own."""
    given = dict(numbered_parts(pred.normal))
    texts = [given.get(number, "") for number, _ in golds]
    if not given:
        split = [part for part in _BETWEEN_PARTS.split(pred.normal) if part]
        texts = split if len(split) == len(golds) else []
    if not all(texts) or len(texts) != len(golds) or len(given) not in (0, len(golds)):
        return decide(False, kind, "parts", type_match=False)
    states = tuple(
        grade_plain(Answer(gold), Answer(text), "text", tolerance, unit)
        for text, (_, gold) in zip(texts, golds, strict=True)
    )
    return Deferred(
        states, lambda grades: decide(all(grade.correct for grade in grades), kind, "parts", type_match=True)
    )


def _is_said_as_stated(gold: Answer, pred: Answer, unit: str, tolerance: float | None) -> bool:
    """Whether an answer is the gold with its stated unit spelled, or without a stated multiplier (14 of "million")."""
    mine, bare = gold.reading, read(without_stated_unit(pred.text, unit))
    if mine is None or bare is None or bare.unit is not None:
        return False
    return (bare != pred.reading or is_multiplier(unit)) and bool(compare(mine, bare, tolerance))


def _readings(gold: Answer, pred: Answer, unit: str | None) -> tuple[Reading | None, Reading | None]:
    """The gold and the answer as mathematics, numbers said in words included where the other side bears them out."""
    mine = gold.reading or read(without_hedge(gold.text))
    if mine is not None and unit:
        mine = with_stated_unit(mine, unit)
    theirs = pred.reading or pred.without_prose.reading
    if mine is not None and mine.form == "value":
        return mine, pred.said or theirs
    if mine is None and theirs is not None and theirs.unit is not None:
        return (gold.said if gold.said is not None and gold.said.unit == theirs.unit else None), theirs
    return mine, theirs


def _sides_may_name(gold: Answer, pred: Answer) -> bool:
    """Whether what stands before the first equals sign may name the answer: the gold itself, or letters only.

    math-verify takes the last side of a chain, so that `1 = 1/3` would be a third.
    """
    first = squash(pred.text.partition("=")[0])
    return first == gold.exact or not any(c.isdigit() for c in first)


def _symbolic(gold: Answer, pred: Answer, kind: str, type_match: bool) -> State:
    """The pair for math-verify, which takes one formula out of each text and leaves the rest unread.

    So several formulas, prose of another script and a denial are refused here.
    """
    mine, theirs = gold.normal, pred.normal
    whole = not (_SEVERAL_FORMULAS.search(mine) or _SEVERAL_FORMULAS.search(theirs))
    if not whole or denies(theirs) != denies(mine):
        return decide(False, kind, "structure", type_match)
    return Pending(mine, theirs, kind, type_match)


def _layer(gold: Reading, pred: Reading) -> str:
    """Which of the cheap layers a decision belongs to, for the published shares."""
    if gold.form != "value" or pred.form != "value":
        return "structure"
    return "number" if {gold.style, pred.style}.isdisjoint(("expression", "complex")) else "numeric"
