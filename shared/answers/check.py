r"""Whether a gold answer can serve as a verifiable reward: it must equal itself and differ from a wrong neighbour.

Used by the data engine's `verify_answers`: a row whose gold fails either test is rejected with the reason given here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from shared.answers.grade import grade
from shared.answers.parse.answer import answer_kind
from shared.answers.parse.golds import gold_answer
from shared.answers.parse.normalise import normalise
from shared.answers.parse.reading import read
from shared.answers.parse.words import is_truth_word, letters_in
from shared.answers.types import GoldCheck, Verdict

_NUMBER = re.compile(r"(?<![\d.,_])(?<!_\{)\d+(?:\.\d+)?")
_TRUTHS = (("Yes", "No"), ("True", "False"), ("是", "否"), ("对", "错"), ("正确", "错误"))
_OPPOSITES = {one.lower(): other for pair in _TRUTHS for one, other in (pair, pair[::-1])}


def perturb(gold: str, kind: str, choices: Sequence[str] | None = None) -> str:
    """A wrong neighbour of a gold: another letter, the opposite truth, another number, a changed expression or text."""
    options = neighbours(gold, kind, choices)
    return next(iter(options.values()))


def neighbours(gold: str, kind: str, choices: Sequence[str] | None = None) -> dict[str, str]:  # noqa: C901
    """Wrong neighbours by what was changed: `letter`, `truth`, `number`, `sign`, `unit`, `term`, `text`.

    Never empty.
    """
    letters = letters_in(gold)
    if choices and kind == "choice" and (letters is None or letters[1]):
        other = [c for c in choices if normalise(c) != normalise(gold)]
        return {"letter": other[0]} if other else {"text": f"not {gold}"}
    if kind == "choice" and letters is not None:
        size = max(len(choices or ()), 2, *(ord(c) - 64 for c in letters[0]))
        shifted = {chr(65 + (ord(c) - 64) % size) for c in letters[0]}
        if shifted == set(letters[0]):
            shifted = {chr(65 + size)}
        return {"letter": "".join(sorted(shifted))}
    if is_truth_word(gold):
        return {"truth": _OPPOSITES.get(normalise(gold).lower(), "No")}
    reading = read(gold)
    if reading is None:
        return {"text": f"not {gold}"}
    found: dict[str, str] = {}
    text = normalise(gold).removeprefix("\\approx").strip()
    match = _NUMBER.search(text)
    if match:
        digits = match.group()
        bumped = (
            digits[:-1] + str((int(digits[-1]) + 5) % 10)
            if "." in digits
            else str(int(digits) + (-1 if digits.endswith("9") else 1))
        )
        found["number"] = text[: match.start()] + bumped + text[match.end() :]
    if reading.form == "value" and not reading.label:
        if not (reading.node and reading.node[0] == "n" and reading.node[1] == 0):
            found["sign"] = text[1:] if text.startswith("-") else f"-{text}"
        if reading.unit is not None and not (reading.unit.is_noun or reading.unit.is_generic):
            found["unit"] = _other_unit(text)
    if not found:
        closing = re.search(r"(?:[)\]}|]|\\\}|\\rangle|\\end\{\w+\})+$", text)
        at = closing.start() if closing and reading.form not in ("value", "relation") else len(text)
        found["term"] = f"{text[:at]}+1{text[at:]}"
    return found


def _other_unit(text: str) -> str:
    """The same number with a unit of another dimension."""
    match = re.match(r"[-+]?[\d.,/ ]*", text)
    number = match.group().strip(" ,.") if match else ""
    return f"{number or '1'} \\text{{candela}}"


PROCESSOR_SECONDS = 10.0
"""Limit of one comparison: what a gold is called must not depend on how busy the machine is, so that the time spent
computing counts."""
PATIENCE_SECONDS = 600.0
"""Wall time after which a comparison ends all the same: it only keeps a build from waiting for ever."""


def check_gold(gold: str, choices: Sequence[str] | None = None) -> GoldCheck:
    """Grade a gold against itself and a wrong neighbour.

    What is checked is the answer that the gold holds (`gold_answer`). Reasons: empty_or_malformed, not_read,
    refuses_itself, accepts_neighbour, timeout, undecided; and, where it holds none, missing, elsewhere, several_boxes
    and paragraph.
    """
    held = gold_answer(gold, choices)
    if held.reason and gold.strip():
        return GoldCheck("unverifiable", held.reason, "text", "", self_accepts=False, refuses_neighbour=False)
    gold = held.answer or gold
    known = answer_kind(gold, choices)
    judged = partial(
        grade,
        kind=known,
        choices=choices,
        timeout_seconds=PATIENCE_SECONDS,
        processor_seconds=PROCESSOR_SECONDS,
    )
    itself = judged(gold, gold)
    if itself.verdict is Verdict.UNPARSABLE_GOLD:
        return GoldCheck("unverifiable", "empty_or_malformed", known, "", self_accepts=False, refuses_neighbour=False)
    neighbour = judged(gold, perturb(gold, known, choices))
    reading = read(gold)
    parsed = normalise(gold) if reading is None else f"{reading.form}:{normalise(gold)}"
    reason = ""
    if Verdict.TIMEOUT in (itself.verdict, neighbour.verdict):
        reason = "timeout"
    elif Verdict.UNDECIDED in (itself.verdict, neighbour.verdict):
        reason = "undecided"
    elif neighbour.verdict is Verdict.UNPARSABLE_GOLD:
        reason = "not_read"
    elif not itself.correct:
        reason = "refuses_itself"
    elif neighbour.correct:
        reason = "accepts_neighbour"
    status = "unverifiable" if reason else "verified"
    return GoldCheck(status, reason, known, parsed, itself.correct, not neighbour.correct)  # type: ignore[arg-type]
