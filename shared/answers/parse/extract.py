r"""Finds the final answer in a model's output: the last balanced `\boxed{...}`, else the last `<answer>` block.

Input is any text of any length; every scan is one linear pass, so no output can make extraction slow. What stands
inside `<think>...</think>` never counts, nor does anything after a `<think>` that is never closed. This is the form
that the reward asks for; the other ways in which models state an answer are read in `final`.
"""

from __future__ import annotations

import re

from shared.answers.types import Extracted

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\boxed\s+[^\s{}\\]|\\[\\{}]|[{}]", re.ASCII)
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_ANSWER_TAG = re.compile(r"<(/?)answer>")


def answer_region(text: str) -> str:
    """The part of an output in which an answer may stand: what follows the last `</think>`.

    Without any tag that is the whole text. A `<think>` that is not closed afterwards leaves only what precedes it.
    """
    close = text.rfind(_THINK_CLOSE)
    region = text[close + len(_THINK_CLOSE) :] if close >= 0 else text
    reopened = region.find(_THINK_OPEN)
    return region if reopened < 0 else region[:reopened]


def split_thinking(text: str) -> tuple[str, str]:
    """The thinking and what follows it, for people; a `<think>` that is never closed leaves nothing to follow."""
    start = text.lstrip()
    if start.startswith(_THINK_OPEN):
        thinking, _, rest = start[len(_THINK_OPEN) :].partition(_THINK_CLOSE)
        return thinking, rest
    before, closed, rest = text.partition(_THINK_CLOSE)  # the chat template of some models opens it
    return (before, rest) if closed else ("", text)


def boxed_contents(text: str) -> list[str]:
    r"""Contents of the outermost balanced `\boxed{...}` in order. Boxes that are never closed are left out.

    One pass with a stack: linear in the text, whatever braces it holds.
    """
    start = min((at for at in (text.find("\\boxed"), text.find("\\fbox")) if at >= 0), default=-1)
    if start < 0:
        return []
    found: list[tuple[int, int]] = []
    stack: list[int] = []  # start of the content of each open box, -1 for an ordinary brace
    for token in _BOX_TOKEN.finditer(text, start):
        mark = token.group()
        if mark == "{":
            stack.append(-1)
        elif mark == "}":
            if stack and (begin := stack.pop()) >= 0:
                while found and found[-1][0] >= begin:  # the boxes inside this one are part of it
                    found.pop()
                found.append((begin, token.start()))
        elif mark.endswith("{") and "box" in mark:
            stack.append(token.end())
        elif "box" in mark:  # \boxed 5
            found.append((token.end() - 1, token.end()))
    return [text[begin:end].strip(" \r\n") for begin, end in found]  # a form feed may be the f of frac


def answer_blocks(text: str) -> list[str]:
    """Contents of the closed `<answer>...</answer>` blocks in order, in one linear pass."""
    blocks: list[str] = []
    begin = -1
    for tag in _ANSWER_TAG.finditer(text):
        if not tag.group(1):
            begin = tag.end()
        elif begin >= 0:
            blocks.append(text[begin : tag.start()].strip())
            begin = -1
    return blocks


def extract_answer(text: str) -> Extracted:
    r"""The final answer of a whole model output.

    The last balanced `\boxed{}` outside the thinking, else the last `<answer>` block there, else none.
    An empty box is no answer. Never raises on a string.
    """
    region = answer_region(text)
    boxes = boxed_contents(region)
    blocks = answer_blocks(region)
    for source, contents in (("boxed", boxes), ("answer_tag", blocks)):
        if contents and contents[-1]:
            different = tuple(dict.fromkeys(reversed([content for content in contents if content])))[::-1]
            return Extracted(contents[-1], source, len(boxes), len(blocks), different)  # type: ignore[arg-type]
    return Extracted(None, "none", len(boxes), len(blocks))
