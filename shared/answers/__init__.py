"""One grader for rewards, evaluation and data checks: does a model's answer equal the gold answer?

`grade` compares an answer with its gold, `grade_output` a whole model output, `check_gold` says whether a gold can
serve as a verifiable reward, `gold_answer` takes the answer out of a data set's gold.
Importing this package loads neither torch, ray, sympy nor math-verify.
"""

from shared.answers.check import check_gold, neighbours, perturb
from shared.answers.grade import grade, grade_many, grade_output
from shared.answers.labels import label_of, options_of
from shared.answers.parse.answer import answer_kind
from shared.answers.parse.extract import extract_answer, split_thinking
from shared.answers.parse.final import final_answer
from shared.answers.parse.golds import gold_answer
from shared.answers.symbolic.pool import GraderPool, default_pool
from shared.answers.types import ANSWER_KINDS, Extracted, GoldAnswer, GoldCheck, Grade, Verdict, kind_family

__all__ = [
    "ANSWER_KINDS",
    "Extracted",
    "GoldAnswer",
    "GoldCheck",
    "Grade",
    "GraderPool",
    "Verdict",
    "answer_kind",
    "check_gold",
    "default_pool",
    "extract_answer",
    "final_answer",
    "gold_answer",
    "grade",
    "grade_many",
    "grade_output",
    "kind_family",
    "label_of",
    "neighbours",
    "options_of",
    "perturb",
    "split_thinking",
]
