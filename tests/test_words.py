"""What people read: an error's next step is a sentence that begins with a capital letter."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = {"InfiMmrError", "UsageError", "NotInStoreError", "EngineDiedError", "EngineOutOfMemoryError", "AskRefusedError"}


def beginnings(node):
    """Literal beginnings of an argument, of both branches where it has two."""
    if isinstance(node, ast.IfExp):
        yield from beginnings(node.body)
        yield from beginnings(node.orelse)
    elif isinstance(node, ast.JoinedStr) and node.values:
        yield from beginnings(node.values[0])
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def test_the_next_step_of_every_error_begins_with_a_capital_letter():
    found, seen = [], 0
    for file in (file for name in ("data_engine", "trainer", "shared") for file in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in OWN and len(node.args) > 1:
                steps = list(beginnings(node.args[1]))
                seen += len(steps)
                found += [f"{file.relative_to(ROOT)}:{node.lineno}: {step}" for step in steps if step[:1].islower()]
    assert seen > 200
    assert not found
