r"""OlympiadBench (Hothan/OlympiadBench): open-ended olympiad problems; proofs cannot be scored by rule and are skipped.

Each item's own tolerance, unit and number of answers count. Which of its 18 subsets: the paper says only
"OlympiadBench", under multimodal reasoning, scored without a judge, which leaves proofs (TP) out. Every accuracy that
it measured itself is a multiple of 1/150 (Tables 1 and 2: 11.33, 18.67, 19.33 and 21.33 are 17, 28, 29 and 32 of 150),
and OE_MM_maths_en_COMP, open-ended multimodal mathematics from English competitions, has 150 items. The subset stands
in every result. For another one name its folder with --source.

The official rule (OpenBMB/OlympiadBench, eval/auto_scoring_judge.py) drops Chinese words and takes 1% for 100; its
symbolic step is left out, so that the official score here is a lower bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.answers.parse.extract import boxed_contents
from shared.benchmark import Benchmark, Drawings, Item, Mini, Published
from shared.benchmark_arithmetic import float_of, value_of

_SUBSET = re.compile(r"(OE|TP)_(MM|TO)_(maths|physics)_(en|zh)_(COMP|CEE)", re.IGNORECASE)
_EDGES = "\n $,.:;^_=+`!@#%&*~，。"
_APART = re.compile(r"(?<=\d)(?:\s|~|\\[;:! ])+(?=\d)")
"""What parts digits that sympy's `parse_latex`, which the published rule calls, reads as one number: 1 234 is 1234."""
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")


def subset(record: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The subset's name, as `OE_MM_maths_en_COMP`: from the path, the record, else the file's stem."""
    match = _SUBSET.search("/".join(file.parts[-3:]))
    if match:
        return {"subset": match[0]}
    fields = ("question_type", "modality", "subject", "language", "difficulty")
    parts = ["" if record.get(field) is None else str(record[field]) for field in fields]
    if not all(parts):
        return {"subset": file.stem}
    kind = "TP" if parts[0].lower().startswith(("theorem", "tp")) else "OE"
    modality = "MM" if parts[1].lower().startswith(("multi", "mm")) else "TO"
    subject = "physics" if "phys" in parts[2].lower() else "maths"
    language = "zh" if parts[3].lower().startswith(("chi", "zh")) else "en"
    return {"subset": f"{kind}_{modality}_{subject}_{language}_{'CEE' if 'CEE' in parts[4].upper() else 'COMP'}"}


def proof(answer: str, extra: Mapping[str, Any]) -> str | None:
    """`proof` for items that only a person can judge."""
    return "proof" if not answer or str(extra.get("subset", "")).upper().startswith("TP_") else None


def official(item: Item, output: str) -> bool:
    """The published rule: answers pair up by text or by value within the tolerance, also a hundredfold."""
    gold, given = _normal(item.answer), _normal(_stated(output))
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
        hit = next((answer for answer in answers if _equal(part, answer, tolerance)), None)
        if hit is None:
            return False
        answers.remove(hit)
    return True


def _stated(text: str) -> str:
    boxes = boxed_contents(text)
    if boxes:
        return ",".join(boxes)
    last = text.strip().rsplit("\n", 1)[-1]
    formulas = re.findall(r"\$(.*?)\$", last)
    return ",".join(formulas) if formulas else text


def _normal(text: str) -> str:
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


def _equal(gold: str, given: str, tolerance: float) -> bool:
    if gold and gold == given:
        return True
    left, right = (value_of(_APART.sub("", text.rpartition("=")[2])) for text in (gold, given))
    if left is None or right is None:
        return False
    scales = (1, 100, 0.01) if float_of(gold) is not None and float_of(given) is not None else (1,)
    return any(abs(left * scale - right) <= tolerance * 1.01 for scale in scales)


_TWO_ANSWERS_EVERY = 10
_SECOND_DRAWN = 100_000
"""Numbers of the second problems of drawn items with two answers, far from every item's own."""


def _problem(drawings: Drawings, number: int) -> Any:
    """The drawn problem; every tenth item asks two, and has two answers."""
    problem = drawings.problem(number)
    if number % _TWO_ANSWERS_EVERY != _TWO_ANSWERS_EVERY - 1 or problem.choices:
        return problem
    seconds = (drawings.problem(_SECOND_DRAWN + 50 * number + more) for more in range(50))
    other = next(second for second in seconds if not second.choices and second.answer != problem.answer)
    both = {"question": f"{problem.question} {other.question}", "answer": f"{problem.answer}, {other.answer}"}
    return replace(problem, **both)


def _record(problem: Any, number: int, _drawings: Drawings) -> dict[str, Any]:
    answers = problem.answer.split(", ") if not problem.choices else [problem.answer]
    # Word problems count things: "Find the number of apples left", which a solution would end with "92 apples".
    counted = re.search(r"number of (?P<thing>[a-z]+)(?: left|\.| in )", problem.question)
    return {
        "id": problem.key, "subfield": problem.kind, "context": None, "question": problem.question,
        "options": list(problem.choices), "final_answer": answers, "is_multiple_answer": len(answers) > 1,
        "unit": counted["thing"] if counted and not problem.choices and len(answers) == 1 else None,
        "answer_type": "Numerical", "error": "1e-2" if any("." in answer for answer in answers) else None,
        "question_type": "Open-ended", "subject": "Math", "language": "English", "modality": "Text-only",
        "difficulty": "Competition", "index": number,
    }  # fmt: skip


BENCHMARK = Benchmark(
    task={
        "title": "OlympiadBench",
        "version": 3,
        "subset": "subset",
        "groups": {"by_subset": "subset", "by_subject": "category", "by_type": "answer_type"},
        "protocol": "Open-ended items only, proofs skipped; tolerance, units and several answers as each item states.",
    },
    official=official,
    fields=subset,
    refused=proof,
    published=Published(
        description="OlympiadBench: open-ended competition mathematics in English, with pictures; proofs are rejected, "
        "they cannot be scored",
        location="Hothan/OlympiadBench",
        # as casys-kaist/ELDR, eldr/experiments/datasets/build_task.py, has it
        revision="91184b52131e7fc9455fef848035173aea8cc01a",
        files=("OE_MM_maths_en_COMP/*", "OlympiadBench/OE_MM_maths_en_COMP/*"),
        licence="Apache-2.0",
        splits=("OE_MM_maths_en_COMP",),
    ),
    mini=Mini(
        first_bucket=233,
        buckets=11,
        record=_record,
        problem=_problem,
        text_only=True,
        grades=("medium", "hard", "hard"),
    ),
)
