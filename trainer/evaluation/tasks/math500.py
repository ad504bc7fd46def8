"""MATH500 (HuggingFaceH4/MATH-500): 500 text problems, free answers; the output's answer against the gold."""

from trainer.evaluation.task import Task

TASK = Task(
    name="math500",
    title="MATH500",
    version=3,
    protocol="The stated answer, graded by rules; the paper names math-verify.",
)
