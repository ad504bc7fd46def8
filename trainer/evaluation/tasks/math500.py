"""MATH500 (HuggingFaceH4/MATH-500): 500 text problems, free answers; the last box against the gold."""

from trainer.evaluation.scorers import score_answer
from trainer.evaluation.task import Task

TASK = Task(
    name="math500",
    title="MATH500",
    version=2,
    score=score_answer,
    protocol="Last box, graded by rules; the paper names math-verify.",
)
