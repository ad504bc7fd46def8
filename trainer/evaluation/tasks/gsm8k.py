"""GSM8K test (openai/grade-school-math): 1,319 word problems with whole-number answers. Not in the paper's table.

The answer is the last box, else what follows the last `####`: the data set's own mark of a final answer, which models
trained on its solutions write whatever they are asked for.
"""

import re

from trainer.evaluation.scorers import score_value
from trainer.evaluation.task import Item, Task, final_answer

_MARKED = re.compile(r"####[ \t]*(\S[^\n]*)")


def _answer_of(_item: Item, output: str) -> str | None:
    boxed_or_bare = final_answer(output)
    if boxed_or_bare is not None and "####" not in boxed_or_bare:
        return boxed_or_bare
    marked = _MARKED.findall(output.rpartition("</think>")[2])
    return marked[-1].strip().rstrip(".") if marked else None


TASK = Task(
    name="gsm8k",
    title="GSM8K",
    version=2,
    score=score_value,
    answer_of=_answer_of,
    protocol="Zero-shot, last box or `####` line, graded by rules; many reports give eight worked examples first.",
)
