"""The product's prompt files, read by name: one place, so that what a model is asked is versioned text.

Input: a file `NAME.md` in this folder. Output: its text without the final newline. The bundled checkpoint was
trained on exactly these texts: changing one means training it again.
Not covered: chat templates (those belong to a checkpoint).
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


def prompt_names() -> tuple[str, ...]:
    """Names of all prompt files, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.md")))


@cache
def prompt(name: str) -> str:
    """Text of the prompt `name` (file `shared/prompts/NAME.md`).

    Raises:
        KeyError: no such prompt; the message names the nearest one.

    """
    path = _FOLDER / f"{name}.md"
    if not path.is_file():
        near = difflib.get_close_matches(name, prompt_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(prompt_names())}"
        message = f"no prompt named {name!r}{hint}"
        raise KeyError(message)
    return path.read_text(encoding="utf-8").rstrip("\n")


def render(name: str, **fields: str) -> str:
    """Prompt `name` with each `{field}` replaced by its value, in one pass: braces inside values stay as they are.

    Raises:
        KeyError: the prompt has no such field, or there is no such prompt.

    """
    text = prompt(name)
    pieces: list[str] = []
    position = 0
    found: set[str] = set()
    while position < len(text):
        hits = [(text.find("{" + field + "}", position), field) for field in fields]
        hits = [hit for hit in hits if hit[0] >= 0]
        if not hits:
            break
        start, field = min(hits)
        pieces += [text[position:start], fields[field]]
        position = start + len(field) + 2
        found.add(field)
    missing = sorted(set(fields) - found)
    if missing:
        message = f"prompt {name!r} has no field {missing[0]!r}"
        raise KeyError(message)
    return "".join(pieces) + text[position:]
