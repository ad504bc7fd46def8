"""MathVista testmini (AI4Math/MathVista): 540 choice items (gold = option text), 418 integers, 40 floats, 2 lists.

Floats count to their item's precision (a gold of 1.2 at precision 1 takes what rounds to it). An answer that is no
option is wrong: the official rule's nearest option by edit distance is not repeated.
"""

from trainer.evaluation import official
from trainer.evaluation.task import Task, by_level, by_subject

TASK = Task(
    name="mathvista",
    title="MathVista",
    version=2,
    official=official.mathvista,
    groups={
        "by_subject": by_subject,
        "by_level": by_level,
        "by_type": lambda item: str(item.extra.get("answer_type") or item.extra.get("question_type") or item.kind),
    },
    protocol="Rules instead of the official language-model extraction; no nearest option.",
)
