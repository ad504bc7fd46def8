"""GSM8K test (openai/grade-school-math): 1,319 word problems with whole-number answers. Not in the paper's table.

The answer is the last box, else what follows the first `####`: the data set's own mark of a final answer, which models
trained on its solutions write whatever they are asked for, and behind which they may go on with further questions.
"""

from trainer.evaluation.task import Task

TASK = Task(
    name="gsm8k",
    title="GSM8K",
    version=3,
    protocol="Zero-shot, last box or first `####` line, by rules; many reports give eight worked examples first.",
)
