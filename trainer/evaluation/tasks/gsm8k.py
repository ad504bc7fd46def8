"""GSM8K test (openai/grade-school-math): 1,319 word problems with whole-number answers. Not in the paper's table."""

from trainer.evaluation.scorers import score_value
from trainer.evaluation.task import Task

TASK = Task(
    name="gsm8k",
    title="GSM8K",
    version=1,
    score=score_value,
    protocol="Zero-shot, last box, graded by rules; many reports give eight worked examples first.",
)
