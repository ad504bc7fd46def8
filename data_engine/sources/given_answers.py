r"""The final answer in what a set gives as answer: a bare value, a worked solution, an option's letter, text or number.

Input: the value of the answer column, the options, how numbers are meant. Output: the gold as text with the mends made,
or a typed reason. Known marks, strongest first: a box around everything, what follows `####` (GSM8K), `<answer>` tags,
the last `\boxed{}` of a solution, a closing sentence (`The answer is B.`, `Answer: 5`, 答案：5, 故选：B). What no model
could match (a paragraph, "see the figure") is refused, as `shared.answers.gold_answer` has it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

from data_engine.sources.base import plain_answer, unbox
from data_engine.sources.picture_values import picture_values
from shared.answers import gold_answer, grade
from shared.answers.parse.extract import answer_blocks, boxed_contents
from shared.benchmark_golds import mend_gold
from shared.option_lists import LETTERS

BEHIND_HASHES = "answer taken from behind ####"
CLOSING_SENTENCE = "answer taken from its closing sentence"
OPTION_PLACE = "place of an option instead of its letter"
Form = Literal["guess", "text", "index", "index1"]
"""How a number beside options is meant: as it stands, or as an option's place counted from 0 or from 1."""

_NEAR = 600
"""Characters within which several boxes belong to one closing sentence."""
_CLOSING = re.compile(
    r"(?:^|[.!?。\n]|\b(?:so|thus|hence|therefore),?\s)\s*\**\s*(?:the\s+)?(?:final\s+|correct\s+|right\s+)?"
    r"(?:answer|option|choice)\s*(?:is|:|：|=)\s*:?\**\s*(?P<en>[^\n]{1,200}?)\s*[.。]?\s*\Z"
    r"|(?:答案|结果)\s*(?:是|为|：|:)\s*(?P<zh>[^\n。]{1,100})[。.]?\s*\Z"
    r"|故?选(?:择)?\s*[:：]?\s*(?P<pick>[A-H])[。.]?\s*\Z",
    re.IGNORECASE,
)
_INTERVAL = re.compile(r"\s*\[\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*\]\s*")
_LETTER = re.compile(r"^(?:(?:[Oo]ption|[Cc]hoice)\s+)?\(?\s*([A-Za-z])\s*\)?\s*[.:：、．)]?\s*(.*)$", re.DOTALL)
_LETTERS = re.compile(r"^[A-J](?:\s*(?:,|，|、|and|&|;|\s)\s*[A-J])*$|^[A-J]{2,10}$")


@dataclass(frozen=True)
class Given:
    """The gold and how it was found, or why there is none (`reason` of `base.REASONS`, `detail` in words)."""

    answer: str = ""
    notes: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""


def given_answer(value: Any, choices: Sequence[str], form: Form) -> Given:  # noqa: PLR0911 - one per way to end
    """The gold that a value of the answer column stands for."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("value", "text", "answer", "ground_truth") if key in value), value)
        if isinstance(value, Mapping):
            return Given(reason="wrong_type", detail=f"the answer is an object with {', '.join(map(str, value))}")
    if isinstance(value, str) and value.lstrip().startswith("[") and (choices or not _is_interval(value)):
        value = picture_values(value)  # a list that a CSV holds as text
        value = value[0] if len(value) == 1 else value
    if isinstance(value, list | tuple):
        return _several(list(value), choices, form)
    if choices and form in {"index", "index1"}:
        return _by_index(value, choices, first=int(form == "index1"))
    if isinstance(value, bytes):
        return Given(reason="wrong_type", detail="the answer is bytes")
    text, notes, reason = final_answer_of(plain_answer(value))
    if reason:
        return Given(reason=reason, detail=_why(reason, value))
    if not choices:
        return Given(text, notes)
    picked, how = as_letter(text, choices)
    return Given(picked, (*notes, how) if how else notes)


def _is_interval(text: str) -> bool:
    """Whether a text is a closed interval of numbers; as a list `[-2,4]` would be two answers, a wrong gold."""
    found = _INTERVAL.fullmatch(text)
    return found is not None and float(found[1]) < float(found[2])


def _why(reason: str, value: object) -> str:
    if reason == "missing_answer":
        return f"answer is {value!r}"[:200]
    return f"a text of {len(str(value))} characters, in which no final answer stands"


@lru_cache(maxsize=1 << 16)
def final_answer_of(raw: str) -> tuple[str, tuple[str, ...], str]:
    """(answer, notes, reason) of one text; sets repeat their answers, so that many are remembered."""
    text = unbox(raw)
    notes: list[str] = []
    marked = _marked(text)
    if marked is not None:
        text, how = marked
        notes.append(how)
    answer, mends = mend_gold(unbox(text), ())
    notes += [f"{mend['why']}: {mend['before']!r}" for mend in mends if mend["before"].strip() != mend["after"]]
    held = gold_answer(answer)
    if held.answer is None:
        return "", (), "missing_answer" if held.reason == "missing" else "no_final_answer"
    if held.taken:
        notes.append(f"answer taken out of its text ({held.taken})")
    return held.answer, tuple(notes), ""


def _marked(text: str) -> tuple[str, str] | None:
    """What the strongest mark in a text points to, and its name."""
    if "####" in text:
        return text.rsplit("####", 1)[1].strip(), BEHIND_HASHES
    if "<answer>" in text:
        blocks = [block for block in answer_blocks(text) if block]
        if blocks:
            return blocks[-1], "answer taken out of its tags"
    if "boxed" in text:
        boxes = list(dict.fromkeys(box for box in boxed_contents(text) if box))
        tail = text.rfind("boxed", 0, text.rfind("boxed")) if len(boxes) > 1 else -1
        # Boxes of one closing sentence are several answers; earlier ones are steps on the way.
        near = len(boxes) > 1 and "\n" not in text[tail:].strip() and len(text) - tail < _NEAR
        if boxes:
            return (", ".join(boxes) if near and len(boxes) <= 8 else boxes[-1]), "answer taken out of its box"
    if any(word in text[-400:] for word in ("nswer", "ption", "hoice", "NSWER", "答案", "结果", "选")):
        found = _CLOSING.search(text[-400:])
        while found is not None:  # the last, where one says again what the one before says
            said = next(value for value in found.groups() if value).strip(" *")
            if (found := _CLOSING.search(said)) is None:
                return said, CLOSING_SENTENCE
    return None


def as_letter(text: str, choices: Sequence[str]) -> tuple[str, str]:
    """An option's letter for its letter in other spellings or for its text, and the mend; texts of no option stay."""
    letters = LETTERS[: len(choices)]
    if text in letters or (_LETTERS.fullmatch(text) and set(re.findall(r"[A-J]", text)) <= set(letters)):
        return text, ""
    by_text, mends = mend_gold(text, choices, multiple_choice=True)
    if mends and by_text in letters:
        return by_text, "option text instead of its letter"
    found = _LETTER.match(text)
    if found is not None and found[1].upper() in letters:
        letter, rest = found[1].upper(), found[2].strip()
        option = choices[letters.index(letter)]
        if not rest or "".join(rest.split()).casefold() == "".join(option.split()).casefold():
            return letter, "option letter in another spelling"
    return text, "answer is none of the options"


def _by_index(value: Any, choices: Sequence[str], *, first: int) -> Given:
    try:
        place = int(str(value).strip()) - first
    except ValueError:
        place = -1
    if not 0 <= place < len(choices):
        return Given(reason="missing_answer", detail=f"{value!r} is no place among {len(choices)} options from {first}")
    return Given(LETTERS[place], (OPTION_PLACE,))


def _several(values: list[Any], choices: Sequence[str], form: Form) -> Given:
    """Several answers: letters of one question, repeats of annotators, spellings of one value, else all of them."""
    found = [given_answer(value, choices, form) for value in values if value not in (None, "")]
    good = [one for one in found if not one.reason]
    if not good:
        return found[0] if found else Given(reason="missing_answer", detail=f"answer is {values!r}"[:200])
    notes = tuple(dict.fromkeys(note for one in good for note in one.notes))
    answers = [one.answer for one in good]
    unique = list(dict.fromkeys(answers))
    if len(unique) == 1:
        return Given(unique[0], notes)
    if choices and all(answer in LETTERS for answer in unique):
        return Given(", ".join(sorted(unique)), notes)
    if len(unique) < len(answers):
        most = Counter(answers).most_common(1)[0][0]
        return Given(most, (*notes, "of several given answers the most frequent"))
    if _one_value(unique):
        return Given(unique[0], (*notes, "of several spellings the first"))
    return Given(", ".join(unique), (*notes, "several answers joined"))


def _one_value(answers: Sequence[str]) -> bool:
    from shared.answers import grade

    return all(grade(answers[0], other).correct for other in answers[1:])


def _place_in(value: Any) -> int | None:
    """A whole number, or the digits of one."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 3 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def guess_form(pairs: Sequence[tuple[Any, Sequence[str]]]) -> tuple[Form, str]:
    """How numbers beside options are meant, from answers and options of a sample; and what to tell about it.

    Digits in a text are such a number unless most are the text of one of their options (AI2D, whatever a CSV holds).
    """
    given = [(value, options) for value, options in pairs if options and value not in (None, "")]
    numbers = [(place, len(options)) for value, options in given if (place := _place_in(value)) is not None]
    if not numbers or len(numbers) < len(given):
        return "text", ""
    texts = [as_letter(value, options)[0] for value, options in given if isinstance(value, str)]
    if 2 * sum(text in LETTERS for text in texts) > len(texts):
        return "text", ""
    if all(0 <= value < size for value, size in numbers):
        return "index", "answers are places of options, counted from 0 (answers = ... overrides)"
    if all(1 <= value <= size for value, size in numbers):
        return "index1", "answers are places of options, counted from 1 (answers = ... overrides)"
    return "text", ""


def told_apart(answers: Iterable[str], choices: Sequence[str] = ()) -> bool:
    """Whether the grader tells any two answers of one problem apart, whichever of the two it is given as the gold.

    The grader may take b for a and not a for b: which of them a source names first decides nothing.
    """

    def equal(one: str, other: str) -> bool:
        return grade(one, other, choices=choices or None).correct

    ordered = sorted(set(answers), key=lambda text: (len(text), text))
    return not all(equal(one, other) or equal(other, one) for one, other in combinations(ordered, 2))
