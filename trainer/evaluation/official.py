r"""The published scoring rules of three benchmarks, in our own words and without evaluating any text as code.

They stand beside the strict score so that results can be compared with other reports, false accepts included:
MathVision rounds to two decimals (mathllm/MATH-V, evaluation/utils.py), MathVista takes the nearest option and cuts
decimals off (lupantech/MathVista, evaluation/calculate_score.py), OlympiadBench drops Chinese words and takes 1% for
100 (OpenBMB/OlympiadBench, eval/auto_scoring_judge.py). What they ask a language model (MathVista's extraction,
all of MathVerse) is replaced by the stated answer; OlympiadBench's symbolic step is left out, so its official
score here is a lower bound.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from shared.benchmark_golds import LETTERS
from trainer.evaluation.arithmetic import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.evaluation.task import Item

_FLAGS = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
_EDGES = "\n $,.:;^_=+`!@#%&*~，。"
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")


def mathvision(item: Item, output: str) -> bool:
    """MathVision: the letter, the option's text, or a value that rounds to the same two decimals."""
    given = _mathvision_answer(output)
    gold = item.answer
    option = ""
    if item.choices and len(gold) == 1 and gold in LETTERS[: len(item.choices)]:
        option = item.choices[LETTERS.index(gold)]
    return _equal_to_two_decimals(gold, given) or _equal_to_two_decimals(option, given)


def _mathvision_answer(output: str) -> str:
    text = output.strip()
    for letter in "ABCDE":
        ends, starts = (f" {letter}.", f" ({letter})."), (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if text.endswith(ends) or text.startswith(starts):
            text = letter
    tail = text.rsplit("is ", 1)[-1].rstrip(".")
    if _float(tail) is not None:
        text = tail
    if "oxed{" in text:
        text = r"\boxed{" + text.rsplit("oxed{", 1)[-1]
    else:
        for flag in _FLAGS:
            for spelling in (flag, flag.replace("the", "The")):
                if spelling in text:
                    text = text.rsplit(spelling, 1)[-1].strip().split("\n")[0].split(". ")[0]
    text = _mathvision_normal(text)
    for letter in "abcde":
        text = text.replace(f"({letter})", letter).replace(f"{{{letter}}}", letter)
    return text.rstrip(".").lstrip(":").strip()


def _mathvision_normal(text: str) -> str:
    text = text.lower().replace("{}", "")
    boxes = re.findall(r"oxed\{(.*)\}", text, flags=re.DOTALL)
    text = boxes[-1] if boxes else text
    close, opening = text.find("}"), text.find("{")
    if close >= 0 and (opening < 0 or close < opening):
        text = text[:close]
    text = text.rsplit("=", 1)[-1].rsplit(r"\approx", 1)[-1]
    gone = (" ", r"\,", "\n", r"\text", r"\mbox", r"\left", r"\right", r"^{\circ}", r"^\circ", "{m}^3", "m^3",
            "{units}", "units", "{km}", "km", r"\!", r"\$", "$", r"\%")  # fmt: skip
    for piece in gone:
        text = text.replace(piece, "")
    text = text.replace("∞", r"\infty").replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
    return "0" + text if text.startswith(".") else text


def _equal_to_two_decimals(gold: str, given: str) -> bool:
    gold, given = gold.lower(), given.lower()
    if not gold.strip() or not given.strip():
        return False
    if gold.strip() == given.strip():
        return True
    pieces = [_pieces(gold), _pieces(given)]
    if pieces[0] is not None and pieces[0] == pieces[1]:
        return True
    left, right = value_of(gold.strip("$ ")), value_of(given.strip("$ "))
    return left is not None and right is not None and round(left, 2) == round(right, 2)


def _pieces(text: str) -> tuple[str, ...] | None:
    """Members of a bracketed list with every number rounded to two decimals; None for other text."""
    if len(text) < 5 or text[0] + text[-1] not in ("()", "[]") or "," not in text:
        return None
    members = text[1:-1].split(",")
    values = [value_of(member) for member in members]
    return (text[0], *(str(round(v, 2)) if v is not None else m for v, m in zip(values, members, strict=True)))


def mathvista(item: Item, output: str) -> bool:
    """MathVista: the option's text (else the nearest by edit distance), int() of the number, or its rounding."""
    from shared.answers import final_answer

    given = (final_answer(output).answer or "").strip()
    gold = item.answer
    if item.choices:
        bracketed = re.findall(r"\(([a-zA-Z])\)", given)
        given = bracketed[0].upper() if bracketed else given
        letters = LETTERS[: len(item.choices)]
        if gold not in item.choices and gold and gold in letters:  # drawn tasks give the letter, not the text
            gold = item.choices[letters.index(gold)]
        named = bool(given) and given in letters
        return (item.choices[letters.index(given)] if named else nearest_option(given, item.choices)) == gold
    form = item.extra.get("answer_type")
    value = _float(given)
    if form in ("integer", "float") and (value is None or not math.isfinite(value)):
        return False
    if form == "integer" and value is not None:
        return str(int(value)) == gold
    if form == "float" and value is not None:
        return str(round(value, int(float(item.extra.get("precision") or 0)))) == gold
    return given == gold


def nearest_option(text: str, choices: Sequence[str]) -> str:
    """The option with the least edit distance: what the official MathVista rule does with any answer at all."""
    return min(choices, key=lambda choice: edit_distance(text, choice))


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def olympiadbench(item: Item, output: str) -> bool:
    """OlympiadBench: answers pair up by text or by value within the tolerance, also a hundred times more or less."""
    gold, given = _olympiad_normal(item.answer), _olympiad_normal(_olympiad_boxes(output))
    if gold == given:
        return True
    try:
        tolerance = float(str(item.extra.get("error", "")).split(",")[0])
    except ValueError:
        tolerance = 1e-8
    golds, answers = (_signed_parts(_CHINESE.sub("", text)) for text in (gold, given))
    if len(golds) != len(answers):
        return False
    for part in golds:
        hit = next((answer for answer in answers if _olympiad_equal(part, answer, tolerance)), None)
        if hit is None:
            return False
        answers.remove(hit)
    return True


def _olympiad_boxes(text: str) -> str:
    from shared.answers.parse.extract import boxed_contents

    boxes = boxed_contents(text)
    if boxes:
        return ",".join(boxes)
    last = text.strip().rsplit("\n", 1)[-1]
    formulas = re.findall(r"\$(.*?)\$", last)
    return ",".join(formulas) if formulas else text


def _olympiad_normal(text: str) -> str:
    if r"\in " in text:
        text = text.split(r"\in ")[1]
    for old, new in ((r"\left", ""), (r"\right", ""), ("∶", ":"), ("，", ","), ("$", ""), (r"\approx", "="),
                     (r"\simeq", "="), (r"\sim", "="), (r"^\circ", ""), ("%", "")):  # fmt: skip
        text = text.replace(old, new)
    text = text.strip(_EDGES)
    return re.sub(r"\\(?:mathrm|mathbf)\{~?([^}]*)\}", r"\1", text)


def _signed_parts(text: str) -> list[str]:
    parts: list[str] = []
    depth, start = 0, 0
    for index, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    if start < len(text):
        parts.append(text[start:].strip())
    return [
        signed
        for part in parts
        for signed in ((part.replace(r"\pm", "+"), part.replace(r"\pm", "-")) if r"\pm" in part else (part,))
    ]


def _olympiad_equal(gold: str, given: str, tolerance: float) -> bool:
    if gold and gold == given:
        return True
    left, right = value_of(gold.rpartition("=")[2]), value_of(given.rpartition("=")[2])
    if left is None or right is None:
        return False
    scales = (1, 100, 0.01) if _float(gold) is not None and _float(given) is not None else (1,)
    return any(abs(left * scale - right) <= tolerance * 1.01 for scale in scales)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
