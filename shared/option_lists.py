"""How options stand in a question's words: written in, found, and taken out again."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from shared.answers.parse.words import letters_in
from shared.image_tags import IMAGE_TAG

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Letters of options in order."""
MAY_LIST = re.compile(r"(?<![A-Za-z0-9])[(（]?[Aa]\s*[).:：、．）]")
"""Where a question may list its options: whatever finds options finds this (and takes ten times as long)."""
_MARK = re.compile(r"(?<![A-Za-z0-9])\(?([A-H])\s*[).:：、．]")
_OPTION = re.compile(r"(?<![A-Za-z0-9])\(([A-Ha-h])\)\s*")
_DOTTED_OPTION = re.compile(r"(?:^|(?<=\s))([A-H])\s?[.．、:：]\s*", re.MULTILINE)
_NO_OPTION = (IMAGE_TAG, "\n\n", r"\]", r"\qquad")
"""What stands in a text between two letters that is no option: pictures, prose, formulas that hold several."""
_LONGEST_OPTION = 200
"""Characters; what is longer between two letters is prose."""
_CHOICES_BLOCK = re.compile(r"(?:\n|^)[ \t]*Choices?:[ \t]*\n?(?P<body>.*)\Z", re.DOTALL)
_CHOICE_LINE = re.compile(r"^\s*\(?(?P<letter>[A-H])\)?\s*[:.)、：]\s*(?P<text>.*)$")
_HEAD = re.compile(r"^\s*\(?([A-Ha-h])\s*[).:：、．]\s*(.+)$", re.DOTALL)

_BETWEEN = re.compile(r"(?:^|\s*[,;]\s+)(?=\(?[A-Ha-h]\s*[).:：、．])")


def list_options(choices: Sequence[str], between: str = " ") -> str:
    """Options in a row: `(A) 3 (B) 5`."""
    return between.join(f"({letter}) {value}" for letter, value in zip(LETTERS, choices, strict=False))


def format_choices(choices: Sequence[str]) -> str:
    """Options as they are written into a question: `Choices: (A) 3 (B) 5`. The bundled checkpoint knows this form."""
    return f"Choices: {list_options(choices)}"


def without_letters(choices: Sequence[str]) -> list[str]:
    """Options without the letters in front of them, where each has its own (We-Math writes `A. 3; B. 5`)."""
    heads = [_HEAD.match(choice) for choice in choices]
    if choices and all(head is not None and head[1].upper() == LETTERS[n] for n, head in enumerate(heads)):
        return [head[2].strip() for head in heads if head is not None]
    return list(choices)


def lettered_list(text: str) -> list[str]:
    """Options that a text consists of, with their letters: `a ) 38 , b ) 27` (MathQA); empty for other texts."""
    parts = _BETWEEN.split(text.strip())[1:]
    bare = without_letters(parts)
    return bare if len(bare) > 1 and bare != parts else []


def choices_in_question(question: str, answer: str = "") -> tuple[str, ...]:
    """Options that a question lists itself as `(A) ... (B) ...`, on lines or in a row; empty where it does not.

    Takes the last run of consecutive letters from A on, at least two; an option ends at the next letter, the last one
    at its line's end. Any other lettering (points of a figure, parts of a question) breaks the run.
    With dots (`A. ... B. ...`), which prose has as well, it takes three letters or more, short texts, and an `answer`
    that is one of the letters or texts.
    """
    found = _options(question, list(_OPTION.finditer(question)))
    if found or not answer:
        return found
    listed = _options(question, list(_DOTTED_OPTION.finditer(question)))
    dotted = tuple(text.removesuffix("##").strip() for text in listed)
    if len(dotted) < 3 or not all(text and len(text) <= _LONGEST_OPTION for text in dotted):
        return ()
    if any(text.count("$") % 2 or any(mark in text for mark in _NO_OPTION) for text in dotted):
        return ()
    letters, _ = letters_in(answer) or (frozenset(), "")
    named = len(letters) == 1 and letters <= {chr(65 + place) for place in range(len(dotted))}
    return dotted if named or answer in dotted else ()


def _options(question: str, marks: list[re.Match[str]]) -> tuple[str, ...]:
    """Texts behind the last run of consecutive letters, which must be the last letters there are."""
    start = max((index for index, mark in enumerate(marks) if mark[1] in "Aa"), default=None)
    if start is None:
        return ()
    lower = marks[start][1].islower()
    run = []
    for offset, mark in enumerate(marks[start:]):
        if mark[1] != chr((97 if lower else 65) + offset):
            break
        run.append(mark)
    if len(run) < 2 or start + len(run) != len(marks):
        return ()
    ends = [mark.start() for mark in run[1:]] + [len(question)]
    texts = [question[mark.end() : end].strip() for mark, end in zip(run, ends, strict=True)]
    texts[-1] = texts[-1].split("\n")[0].strip()
    return tuple(texts) if all(texts) else ()


def choices_in_text(text: str) -> list[str]:
    """Options of a question that lists them itself after `Choices:` (MathVerse), in order; empty where it does not."""
    block = _CHOICES_BLOCK.search(text)
    if block is None:
        return []
    choices: list[str] = []
    for line in block["body"].splitlines():
        match = _CHOICE_LINE.match(line)
        if match is not None and match["letter"] == LETTERS[len(choices)]:
            choices.append(match["text"].strip() or match["letter"])  # an option that is drawn in the picture
    return choices


def shows_options(question: str, count: int) -> bool:
    """Whether a question shows its `count` options itself."""
    return set(LETTERS[:count]) <= set(_MARK.findall(question)) or len(choices_in_question(question)) == count


def literal_list(text: str) -> list[Any] | str:
    """A list that a mirror wrote as text (JSON or Python's repr); the text itself where it is neither."""
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = parse(text)
            if isinstance(value, list):
                return value
    return text
