r"""Several answers in one: splitting a list of answers, and matching the parts of two lists one to one."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_ANSWERS = 24
"""Lists with more answers than this are compared as a whole only: matching each with each would cost too much."""


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
