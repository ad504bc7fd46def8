"""MATH500 (HuggingFaceH4/MATH-500): 500 text problems, free answers; the last box against the gold."""

from trainer.evaluation.scorers import score_value
from trainer.evaluation.task import Task

TASK = Task(
    name="math500",
    title="MATH500",
    version=1,
    score=score_value,
    protocol="Last box, graded by rules; the paper names math-verify.",
)
