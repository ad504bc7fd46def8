r"""Grades answers to choice questions: letters in their usual forms, and the text of the options.

An answer that is exactly an option's text is that option (segments such as AB, options such as `(b)` that do not stand
at b); else the letter that it names counts, which the words beside it must not contradict; else the one option that
its value or words fit. Options with the very same text are equally right.
"""

from __future__ import annotations

import re

from shared.answers.compare.plain import decide, grade_plain
from shared.answers.parse.answer import Answer, squash
from shared.answers.parse.normalise import normalise
from shared.answers.parse.words import letter_behind
from shared.answers.types import Grade, Verdict

_NAMED = re.compile(r"^[^\x00-\x7f]{1,12}:|^[A-Za-z][A-Za-z ]{1,40}:")
_IS_ANSWER = re.compile("answer|result|option|choice|答案|结果|选", re.IGNORECASE)
_LONE_LETTER = re.compile(r"^[A-J]$")


def grade_choice(gold: Answer, pred: Answer, kind: str, choices: list[str] | None) -> Grade | None:
    """Letters, and the text of the options.

    None where the gold is no letter and no option: then the plain rules compare.
    """
    right = _gold_letters(gold, choices)
    if right is None:
        return None
    options = choices or []
    if len(right) == 1 and (texts := _spelled(pred, options)):
        return decide(bool(texts & _twins(right, options)), kind, "choice", type_match=True)
    named = pred.letters
    if named is not None and (not options or all(ord(c) - 65 < len(options) for c in named[0])):
        contradicted = bool(named[1]) and bool(options) and _contradicts(named[1], named[0], options)
        is_right = _is_right(named[0], right, gold.text, options) and not contradicted
        return decide(is_right, kind, "choice", type_match=True)
    given = _fitting(pred, options)
    if not given and (behind := letter_behind(pred.text)) and behind[0] in _fitting(Answer(behind[1]), options):
        given = frozenset(behind[0])
    if given:
        return decide(_is_right(given, right, gold.text, options), kind, "choice", type_match=True)
    readable = named is not None or pred.reading is not None or any(c.isalpha() for c in pred.text)
    verdict = Verdict.WRONG if readable and (options or named is not None) else Verdict.UNPARSABLE_ANSWER
    return Grade(verdict, kind, "choice", type_match=named is not None, exact=False)


def _is_right(given: frozenset[str], right: frozenset[str], gold: str, options: list[str]) -> bool:
    """Whether the letters are the gold's: all of them, or any where the gold lists options that are equally right."""
    if "\n" in gold.strip() or len(right) == 1:  # MathVerse writes two right options on two lines
        return bool(given) and given <= _twins(right, options)
    return given == right


def _twins(letters: frozenset[str], options: list[str]) -> frozenset[str]:
    """The letters and those of options with the very same text (MathVista 781 lists `18` twice)."""
    texts = {squash(text) for place, text in enumerate(options) if chr(65 + place) in letters}
    texts = {text for text in texts if not _LONE_LETTER.match(text)}
    return letters | {chr(65 + place) for place, text in enumerate(options[:26]) if squash(text) in texts}


def _gold_letters(gold: Answer, choices: list[str] | None) -> frozenset[str] | None:
    """The letters that the gold stands for: its own, or those of the option whose text it is."""
    if choices:
        wanted = gold.normal
        same = [i for i, text in enumerate(choices) if text == gold.text or normalise(text) == wanted]
        if same and not _LONE_LETTER.match(wanted):
            return frozenset(chr(65 + same[0]))
    named = gold.letters
    return named[0] if named is not None and (not named[1] or choices) else None


def _spelled(pred: Answer, options: list[str]) -> frozenset[str]:
    """The letters of the options whose text is exactly the answer, unless that is a lone letter."""
    wanted = pred.exact
    if _LONE_LETTER.match(wanted):
        return frozenset()
    return frozenset(chr(65 + place) for place, text in enumerate(options[:26]) if squash(text) == wanted)


def _fitting(pred: Answer, options: list[str]) -> frozenset[str]:
    """The letters of the options that the answer gives: all of one text; empty where none or several texts fit."""
    fitting = _spelled(pred, options) or frozenset(
        chr(65 + place) for place, text in enumerate(options[:26]) if _fits(text, pred)
    )
    return fitting if len({squash(options[ord(letter) - 65]) for letter in fitting}) == 1 else frozenset()


def _fits(option: str, pred: Answer) -> bool:
    """Whether the answer is the option's value or words; what it names before a colon may be another option."""
    if (named := _NAMED.match(pred.normal)) and not _IS_ANSWER.search(named.group()):
        return False
    settled = grade_plain(Answer(option), pred, "text", None, None)
    return isinstance(settled, Grade) and settled.correct


def _contradicts(content: str, letters: frozenset[str], options: list[str]) -> bool:
    """Whether the words after the letter are the text of another option."""
    given = _fitting(Answer(content), options)
    return bool(given) and not given & _twins(letters, options)
