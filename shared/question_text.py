"""How options stand in a question's words: written in, and taken out again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.benchmark_golds import LETTERS

_HEAD = re.compile(r"^\s*\(?([A-Ha-h])\s*[).:：、．]\s*(.+)$", re.DOTALL)


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
