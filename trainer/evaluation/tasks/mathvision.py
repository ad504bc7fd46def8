"""MathVision test (MathLLMs/MathVision): 3,040 problems, half with options A to E, half free.

Strict score: the letter or the option's value, free answers by exact value. Beside it the official rule (values equal
after rounding to two decimals), re-implemented without evaluating text: `official.mathvision`.
"""

from trainer.evaluation import official
from trainer.evaluation.task import Task

TASK = Task(
    name="mathvision",
    title="MathVision",
    version=2,
    official=official.mathvision,
    protocol="Exact values; the official rule, which rounds to two decimals, stands beside it.",
)
