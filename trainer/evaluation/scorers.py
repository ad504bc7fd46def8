r"""Scorers that the tasks are composed of: option letters, values, values with a precision, several answers.

Input: an `Item` and the answer taken from an output. Output: `Outcome`, or `Plan` with pairs for the one grader of this
project (`shared.answers`). No scorer evaluates text as code, rounds a gold away, or takes the nearest option.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.answers import Grade
from shared.benchmark_golds import LETTERS, mend_gold
from trainer.evaluation.task import Item, Outcome, Pair, Plan, Status, outcome_of

MOST_ANSWERS = 24
"""Items with more answers than this are compared as one set only: matching each with each would cost too much."""

_LETTER = re.compile(
    r"^\W*(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)?\s*(?:is)?\s*[:：]?\s*"
    r"(?:\\(?:text|mathrm|mathbf|textbf)\s*\{)?\s*[(\[（]?\s*(?P<letter>[A-J])\s*[)\]）}]*\s*(?P<rest>(?:[.:)、：,].*|\}?\s*)?)$",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = re.compile(r"^[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?$")


def score_choice(item: Item, answer: str) -> Outcome | Plan:
    r"""Multiple choice: the letter, or the text of exactly that option.

    The gold is a letter, or several where options are equally right (`C\nD`). An answer that is no letter is graded
    as a value against the gold option's text, and must not fit another option's text better: texts of other options
    that the grader holds equal to the gold's are equally right.
    """
    letters = list(re.findall(r"[A-Z]", item.answer.upper())) if _is_letters(item.answer) else []
    if not letters:
        return score_value(item, answer)
    twins = _twins(letters, item.choices)
    named = [LETTERS[place] for place, choice in enumerate(item.choices) if same_text(answer, choice)]
    if named:  # first of all: MathVista has options like `(b)` that do not stand at b
        return Outcome(Status.CORRECT if twins & set(named) else Status.WRONG, "choice", "option_text")
    several = re.fullmatch(r"\W*([A-J])(?:\W|and|or)+([A-J])\W*", answer.strip(), re.IGNORECASE)
    if several:  # both of two right options, or hedging between a right and a wrong one
        both = {several[1].upper(), several[2].upper()}
        return Outcome(Status.CORRECT if both <= twins else Status.WRONG, "choice", "letters")
    given = letter_of(answer, len(item.choices))
    if given is not None:
        return Outcome(Status.CORRECT if given in twins else Status.WRONG, "choice", "letter")
    texts = [item.choices[LETTERS.index(letter)] for letter in letters if LETTERS.index(letter) < len(item.choices)]
    texts = [text for text in texts if text not in LETTERS]
    if not texts:
        return Outcome(Status.WRONG, "choice", "letter")
    pairs: list[Pair] = [{"pred": answer, "gold": text} for text in texts]
    return Plan(pairs, lambda grades: _best(grades, "choice"))


def _is_letters(gold: str) -> bool:
    return re.fullmatch(r"\s*[A-Ja-j](?:[\s,;]+[A-Ja-j])*\s*", gold) is not None


def letter_of(answer: str, options: int) -> str | None:
    r"""The option letter that an answer names: `B`, `(b)`, `B.`, `\text{B}`, `Option B`, `B: 12`; None otherwise.

    With `options` known, letters beyond them name nothing.
    """
    text = answer.strip().strip("$*").strip()
    match = _LETTER.match(text)
    if match is None:
        return None
    letter = match["letter"].upper()
    if match["letter"].islower() and len(text) > 3:
        return None  # `a: ...` is prose or algebra
    return letter if not options or LETTERS.index(letter) < options else None


def _twins(letters: Sequence[str], choices: Sequence[str]) -> set[str]:
    """The gold letters and those of options with the very same text (MathVista 781 lists `18` twice)."""
    texts = {choices[LETTERS.index(letter)] for letter in letters if LETTERS.index(letter) < len(choices)}
    twins = {LETTERS[place] for place, choice in enumerate(choices) if choice in texts and choice not in LETTERS}
    return twins | set(letters)


def same_text(first: str, second: str) -> bool:
    """Equality but for letter case, dollar signs, blanks and a final full stop."""

    def key(text: str) -> str:
        text = re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", text)
        return re.sub(r"[\s$~]|\\[ ,;!]", "", text).rstrip(".").casefold()

    return bool(key(first)) and key(first) == key(second)


def score_value(item: Item, answer: str, **options: Any) -> Plan:
    """A free answer against the gold, as the grader compares values; `options` go to the grader.

    The answer is also tried with what the reader takes off golds (a label in front, a word for a unit), so that the
    gold as the file writes it is right.
    """
    candidates = list(dict.fromkeys((answer, mend_gold(answer)[0])))
    raw = item.extra.get("answer_raw")
    if isinstance(raw, str) and same_text(answer, raw):
        return Plan([], lambda _grades: Outcome(Status.CORRECT, item.kind, "text"))
    pairs: list[Pair] = [{"pred": candidate, "gold": item.answer, **options} for candidate in candidates]
    return Plan(pairs, lambda grades: _best(grades, item.kind))


def score_answer(item: Item, answer: str, **options: Any) -> Outcome | Plan:
    """An item of a benchmark of free answers: as `score_choice` where it has options after all, else `score_value`."""
    return score_choice(item, answer) if item.choices else score_value(item, answer, **options)


def score_number(item: Item, answer: str, tolerance: Decimal | None = None, **options: Any) -> Outcome | Plan:
    """A number: equal, or within `tolerance` where the benchmark states a precision; other answers as `score_value`."""
    given, gold = plain_number(answer), plain_number(item.answer)
    if given is None or gold is None:
        return score_value(item, answer, **({"tolerance": float(tolerance)} if tolerance else {}), **options)
    near = abs(given - gold) <= (tolerance or Decimal(0))
    return Outcome(Status.CORRECT if near else Status.WRONG, item.kind, "tolerance" if tolerance else "number")


def plain_number(text: str) -> Decimal | None:
    """A number written with digits only (thousands commas, sign, exponent allowed), exactly; None for anything else."""
    text = text.strip().strip("$").replace("−", "-").replace("{,}", ",").strip()
    if not re.search(r"\d", text) or len(text) > 100 or not _NUMBER.match(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def score_several(item: Item, answer: str, tolerance: float | None = None) -> Plan:
    """Several answers in any order: compared as one set, then part by part with a one-to-one match.

    The match is perfect or the answer is wrong: a missing answer and a surplus one both make it so.
    """
    options: Pair = {"tolerance": tolerance} if tolerance else {}
    parts, golds = split_answers(answer), split_answers(item.answer)
    whole: list[Pair] = [{"pred": answer, "gold": item.answer, **options}]

    def after_whole(grades: Sequence[Grade]) -> Outcome | Plan:
        outcome = outcome_of(grades[0])
        if outcome.status is Status.CORRECT or len(parts) != len(golds) or not 1 < len(golds) <= MOST_ANSWERS:
            return outcome
        pairs: list[Pair] = [{"pred": part, "gold": gold, **options} for part, gold in itertools.product(parts, golds)]
        return Plan(pairs, lambda each: _matched(each, len(golds), outcome.kind))

    return Plan(whole, after_whole)


def _matched(grades: Sequence[Grade], count: int, kind: str) -> Outcome:
    fits = [[grades[row * count + column].correct for column in range(count)] for row in range(count)]
    right = perfect_match(fits)
    return Outcome(Status.CORRECT if right else Status.WRONG, kind, "matched_parts")


def perfect_match(fits: Sequence[Sequence[bool]]) -> bool:
    """Whether every row can take a column of its own (augmenting paths)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(fits)))


def split_answers(text: str) -> list[str]:
    r"""Parts of a list of answers: split at commas, semicolons and `and` outside brackets; `\pm` becomes two parts.

    A comma between three digits stays (`1,000`) where no dollar sign ends a formula there.
    """
    text = re.sub(r"\$\s*,\s*\$", "; ", text.strip()).replace("$", " ")
    text = re.sub(r"\\text\s*\{\s*(?:and|or|,)\s*\}|\s(?:and|or)\s", "; ", text)
    parts: list[str] = []
    depth, start = 0, 0
    for index, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and (char == ";" or (char in ",，、" and text[max(index - 1, 0)] != "\\")):
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    parts = [part.strip().strip(".").strip() for part in parts]
    signed = (
        [part.replace(r"\pm", "", 1), part.replace(r"\pm", "-", 1)] if r"\pm" in part else [part] for part in parts
    )
    return [part.strip() for group in signed for part in group if part.strip()]


def _best(grades: Sequence[Grade], kind: str) -> Outcome:
    """The first correct grade, else the first grade: candidates are spellings of one answer."""
    chosen = next((grade for grade in grades if grade.correct), grades[0])
    return replace(outcome_of(chosen), kind=kind)
