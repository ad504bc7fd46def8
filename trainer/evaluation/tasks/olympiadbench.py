"""OlympiadBench (Hothan/OlympiadBench): open-ended olympiad problems; proofs cannot be scored by rule and are skipped.

Each item's own tolerance, unit and number of answers count. The subset is named in the result: the paper's accuracies
are multiples of 1/150, the size of OE_MM_maths_en_COMP, which is therefore what `full` evaluates.
"""

from trainer.evaluation import official
from trainer.evaluation.task import Task, by_subject

TASK = Task(
    name="olympiadbench",
    title="OlympiadBench",
    version=3,
    official=official.olympiadbench,
    subset=lambda item: item.extra.get("subset"),
    groups={
        "by_subset": lambda item: item.extra.get("subset"),
        "by_subject": by_subject,
        "by_type": lambda item: item.extra.get("answer_type"),
    },
    protocol="Open-ended items only, proofs skipped; tolerance, units and several answers as each item states.",
)
