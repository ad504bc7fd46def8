"""OlympiadBench (Hothan/OlympiadBench): open-ended olympiad problems; proofs cannot be scored by rule and are skipped.

Each item's own tolerance, unit and number of answers count. The subset is named in the result: the paper's accuracies
are multiples of 1/150, the size of OE_MM_maths_en_COMP, which is therefore what `full` evaluates.
"""

from shared.benchmark_files import stated_tolerance
from trainer.evaluation import official
from trainer.evaluation.scorers import score_answer, score_several
from trainer.evaluation.task import Item, Outcome, Plan, Task, by_subject, every_answer, final_answer


def _score(item: Item, answer: str) -> Outcome | Plan:
    tolerance = stated_tolerance(item.extra)
    if item.extra.get("is_multiple_answer"):
        return score_several(item, answer, tolerance)
    unit = item.extra.get("unit")
    options = {"unit": str(unit)} if unit else {}
    return score_answer(item, answer, **({"tolerance": tolerance} if tolerance else {}), **options)


def _answer_of(item: Item, output: str) -> str | None:
    return every_answer(output) if item.extra.get("is_multiple_answer") else final_answer(output)


TASK = Task(
    name="olympiadbench",
    title="OlympiadBench",
    version=2,
    score=_score,
    official=official.olympiadbench,
    answer_of=_answer_of,
    subset=lambda item: item.extra.get("subset"),
    groups={
        "by_subset": lambda item: item.extra.get("subset"),
        "by_subject": by_subject,
        "by_type": lambda item: item.extra.get("answer_type"),
    },
    protocol="Open-ended items only, proofs skipped; tolerance, units and several answers as each item states.",
)
