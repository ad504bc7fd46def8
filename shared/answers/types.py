"""What grading returns: typed endings, never a bare boolean. Unparsable is not wrong; a timeout is neither."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Verdict(StrEnum):
    """How the comparison of one answer with its gold ended."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE_ANSWER = "unparsable_answer"
    UNPARSABLE_GOLD = "unparsable_gold"
    TIMEOUT = "timeout"
    UNDECIDED = "undecided"  # the symbolic library failed (out of memory, not implemented): neither right nor wrong


@dataclass(frozen=True, slots=True)
class Extracted:
    """The final answer found in a model's output.

    `answer` is None where there is none; `source` says which form held it; `boxes` counts the balanced boxes and
    `answer_tags` the `<answer>` blocks outside the thinking, so that a reward can refuse several. `contents` are the
    different contents of that form, the answer last; `others` what the output says to be its answer in other forms.
    """

    answer: str | None
    source: Literal["boxed", "answer_tag", "marked", "stated", "bare", "none"]
    boxes: int = 0
    answer_tags: int = 0
    contents: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded pair.

    `kind` is the gold's kind, `layer` the rule that settled the pair (`exact`, `number`, `choice`, `text`,
    `structure`, `numeric`, `symbolic`, `none`), `type_match` whether the answer is of the gold's family,
    `exact` whether it is the gold answer (the same truth as `correct`).
    """

    verdict: Verdict
    kind: str
    layer: str
    type_match: bool
    exact: bool

    @property
    def correct(self) -> bool:
        """True only for the verdict `correct`."""
        return self.verdict is Verdict.CORRECT


@dataclass(frozen=True, slots=True)
class GoldCheck:
    """Whether a gold answer can serve as a verifiable reward.

    `verified`: the grader accepts the gold against itself and refuses it against a wrong neighbour.
    `reason` is empty for verified golds, else a short machine-readable word.
    """

    status: Literal["verified", "unverifiable"]
    reason: str
    kind: str
    parsed: str
    self_accepts: bool
    refuses_neighbour: bool
