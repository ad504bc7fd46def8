r"""Mend the dirty golds of published benchmarks, with a record of every mend.

Input: a gold as the file has it, with its options and question kind. Output: the bare gold and one `Mend` per change.
A mend only restores what its author meant (a form feed that ate the `f` of `\frac`, a degree sign decoded in the
wrong charset, a label in front of a value, an option's letter in brackets): it never changes a value.
Not covered: wrong golds. They stay wrong, as in every published number.

Measured on MathVision test (3,040), MathVerse testmini (788), MathVista testmini (1,000), OlympiadBench (675).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypedDict

from shared.option_lists import LETTERS

EXTRA_FIELDS = (
    "level", "subject", "subfield", "question_type", "problem_version", "problem_index", "question_for_eval",
    "query_cot", "precision", "unit", "answer_type", "error", "is_multiple_answer", "context", "modality",
    "difficulty", "language", "source", "year", "metadata",
)  # fmt: skip
"""Columns of published files that a row keeps under their own names, beside its gold."""


class Mend(TypedDict):
    """One change to a gold: text before, text after, and the reason."""

    before: str
    after: str
    why: str


_BOXED = re.compile(r"^\$*\s*\\boxed\{(?P<body>.*)\}\s*\$*$", re.DOTALL)
_LABELLED = re.compile(r"^[A-Za-z][A-Za-z. ]*\$\s*=\s*(?P<value>[^=$]+)\$\s*(?P<tail>[A-Za-z ]*(?:\$\s*\^.*\$)?)$")
_VARIABLE = re.compile(
    r"^\$+\s*(?:\\mathrm\{)?[A-Za-z]{1,2}\}?\s*=\s*(?P<value>[-\d.]+)\s*(?P<unit>\\mathrm\{[^}]*\})?\s*\$+$"
)
_REVERSED = re.compile(r"^\$+\s*(?P<value>[-\d.]+)\s*=\s*[A-Za-z]\s*\$+$")
_NAMED_VALUE = re.compile(r"^[A-Za-z][A-Za-z ]*=\s*(?P<value>[-\d.]+)$")
_WORD_UNIT = re.compile(r"^(?P<value>.*?)\{(?P<word>[a-z]{4,})\}$")
_WORD_UNITS = {"degrees": r"^{\circ}", "squareinches": r"\text{ square inches}", "inches": r"\text{ inches}"}


def mend_gold(gold: str, choices: Sequence[str] = (), *, multiple_choice: bool = False) -> tuple[str, list[Mend]]:
    """Bare gold and the record of what was mended.

    `choices` are the options in order (letters A, B, ... stand for them). `multiple_choice` says that the file calls
    the item multiple choice: then a gold that is an option's text, or a letter in brackets, becomes the letter.
    """
    mends: list[Mend] = []

    def apply(why: str, change: Callable[[str], str]) -> None:
        nonlocal gold
        after = change(gold)
        if after != gold:
            mends.append({"before": gold, "after": after, "why": why})
            gold = after

    apply("control character where a backslash letter was", _restore_control_characters)  # first: strip() eats them
    apply("blank around the answer", str.strip)
    apply("degree sign decoded in another charset", lambda text: text.replace("掳", "°"))
    apply("box around the answer", _unbox)
    if multiple_choice:
        apply("letter in brackets", lambda text: re.sub(r"^\(([A-Z])\)$", r"\1", text))
        apply("option text instead of its letter", lambda text: _letter_of(text, choices))
        return gold, mends
    apply("same line twice", _single_line)
    apply("dollar sign missing", lambda text: f"${text}" if re.match(r"^\d[^$]*,\$[^$]+\$$", text) else text)
    apply("label in front of the value", _unlabel)
    apply("equals sign without a left side", lambda text: re.sub(r"^(\$?)\s*=\s*", r"\1", text))
    apply("fraction without its command", lambda text: re.sub(r"^\{(\d+)\}\{(\d+)\}", r"\\frac{\1}{\2}", text))
    apply("unit written as a group", _word_unit)
    if r"\left" not in gold:
        apply(r"\right without \left", lambda text: re.sub(r"\\right(?![a-z])", "", text))
    return gold, mends


def _restore_control_characters(text: str) -> str:
    r"""`\x0crac` was `\frac`, `\x09ext` was `\text`: a JSON or Python escape ate the backslash."""
    text = text.replace("\x0c", "\\f").replace("\x08", "\\b").replace("\x07", "\\a").replace("\x0b", "\\v")
    return re.sub(r"\t(?=ext|imes|heta|an\b)", r"\\t", text)


def _unbox(text: str) -> str:
    match = _BOXED.match(text)
    if match is None:
        return text
    body, depth = match["body"], 0
    for char in body:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:  # two boxes, not one around everything
            return text
    return body.strip()


def _letter_of(text: str, choices: Sequence[str]) -> str:
    """Letter of the option that `text` is; the text itself where it is a letter already or fits no option."""
    if len(text) == 1 and text in LETTERS[: max(len(choices), 1)]:
        return text

    def key(value: str) -> str:
        return re.sub(r"[\s$]", "", value).casefold()

    hits = [index for index, choice in enumerate(choices) if key(choice) == key(text)]
    return LETTERS[hits[0]] if hits else text


def _single_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if len(lines) > 1 and len(set(lines)) == 1 else text


def _unlabel(text: str) -> str:
    r"""`Area $=9 \mathrm{~cm}^{2}$` is `$9 \mathrm{~cm}^{2}$`; `$r=7.00$` is `$7.00$`; `slope =-4` is `-4`."""
    if match := _LABELLED.match(text):
        return f"${match['value'].strip()}$" + (f" {match['tail'].strip()}" if match["tail"].strip() else "")
    if match := _VARIABLE.match(text):
        return f"${match['value']}{match['unit'] or ''}$"
    if match := _REVERSED.match(text):
        return f"${match['value']}$"
    if match := _NAMED_VALUE.match(text):
        return match["value"]
    return text


def _word_unit(text: str) -> str:
    match = _WORD_UNIT.match(text)
    if match is None or match["word"] not in _WORD_UNITS:
        return text
    return match["value"] + _WORD_UNITS[match["word"]]
