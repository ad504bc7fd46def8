"""MathVista testmini (AI4Math/MathVista): 540 choice items (gold = option text), 418 integers, 40 floats, 2 lists.

Floats count to their item's precision (a gold of 1.2 at precision 1 takes what rounds to it). An answer that is no
option is wrong: the official rule's nearest option by edit distance is not repeated.
"""

from dataclasses import replace
from decimal import Decimal

from shared.benchmark_golds import LETTERS
from trainer.evaluation import official
from trainer.evaluation.scorers import same_text, score_choice, score_number, score_value
from trainer.evaluation.task import Item, Outcome, Plan, Task, by_level, by_subject


def _score(item: Item, answer: str) -> Outcome | Plan:
    if item.choices:
        hits = [LETTERS[place] for place, choice in enumerate(item.choices) if same_text(choice, item.answer)]
        return score_choice(replace(item, answer=",".join(hits)) if hits else item, answer)
    form = item.extra.get("answer_type")
    unit = item.extra.get("unit")
    options = {"unit": str(unit)} if unit else {}
    if form == "float":
        precision = int(float(item.extra.get("precision") or 0))
        return score_number(item, answer, Decimal(5) / Decimal(10) ** (precision + 1), **options)
    if form == "integer":
        return score_number(item, answer, None, **options)
    return score_value(item, answer, **options)


TASK = Task(
    name="mathvista",
    title="MathVista",
    version=1,
    score=_score,
    official=official.mathvista,
    groups={
        "by_subject": by_subject,
        "by_level": by_level,
        "by_type": lambda item: str(item.extra.get("answer_type") or item.extra.get("question_type") or item.kind),
    },
    protocol="Rules instead of the official language-model extraction; no nearest option.",
)
