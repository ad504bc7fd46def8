r"""The reward of one rollout (paper, section 3.2).

R = w_f * format + w_a * accuracy, accuracy only if the format holds.

Input: the model's whole output and a label `{"gold", "kind", "choices", ...}`. Output: `RewardParts`, each part on its
own so that training can log them per kind. Pure and total: `reward` never raises, and anything unexpected ends as a
reward of zero with the reason in `failure`. Imports only `shared`.

Format rule (that of the same laboratory's InfiGUI-R1): the output starts with `<think>`, has exactly one `<think>` and
one `</think>`, the thinking and the text after it are not empty, and the text after it provides exactly one final
answer (`\boxed{}` or `<answer>`; paper: "Final Answer Provision").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from shared.answers import Extracted, Grade, Verdict, extract_answer, final_answer, grade_output, options_of
from shared.code_points import carried
from shared.config import Strict

MAX_OUTPUT_CHARACTERS = 1_000_000
"""An output beyond this many characters has no valid format: no policy of this project generates that much."""


SEVERAL = "several_final_answers"


class RewardWeights(Strict):
    """R = format_weight * format + accuracy_weight * accuracy (paper, sections 3.2 and 5.1)."""

    format_weight: float = Field(default=0.1, ge=0, le=1, description="w_f.")
    accuracy_weight: float = Field(default=0.9, ge=0, le=1, description="w_a.")
    type_weight: float = Field(default=0.2, ge=0, le=1, description="w_t, share of the type match in the accuracy.")
    exact_weight: float = Field(default=0.8, ge=0, le=1, description="w_p, share of the exact match.")
    accuracy_mode: Literal["type_exact", "binary"] = Field(
        default="type_exact", description="type_exact as in the paper's text, or 0/1 (InfiGUI-R1 for mathematics)."
    )

    @model_validator(mode="after")
    def _sums_are_one(self) -> Self:
        """Refuse weights that the paper's formula does not allow."""
        for first, second in (("format_weight", "accuracy_weight"), ("type_weight", "exact_weight")):
            a, b = getattr(self, first), getattr(self, second)
            if abs(a + b - 1) > 1e-9:
                raise ValueError(f"reward weights {first}={a} and {second}={b} must sum to 1 (paper, equation 3)")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardParts:
    """One rollout's reward and its parts, all in [0, 1].

    `total` is what the policy is trained on; `score` is 0/1 accuracy behind a valid format (what dynamic filtering
    needs; a function of the user's own may give shares); `failure` is empty, or one word for why there is no
    accuracy.
    """

    total: float
    format: float
    accuracy: float
    type_match: float
    exact: float
    score: float
    kind: str
    verdict: str
    failure: str


def no_reward(kind: str, verdict: Verdict, failure: str) -> RewardParts:
    """All parts zero, with the reason."""
    return RewardParts(
        total=0.0,
        format=0.0,
        accuracy=0.0,
        type_match=0.0,
        exact=0.0,
        score=0,
        kind=kind,
        verdict=verdict.value,
        failure=failure,
    )


def format_failure(output: str, found: Extracted | None = None) -> str:  # noqa: PLR0911
    """Why an output breaks the format rule, as one word; empty when it holds. `found`: what `extract_answer` found."""
    if len(output) > MAX_OUTPUT_CHARACTERS:
        return "output_too_long"
    text = output.strip()
    if not text.startswith("<think>"):
        return "no_leading_think"
    if text.count("<think>") != 1 or text.count("</think>") != 1:
        return "think_tags_repeated_or_missing"
    thinking, rest = text[len("<think>") :].split("</think>")
    if not thinking.strip():
        return "empty_thinking"
    if not rest.strip():
        return "empty_answer_part"
    found = found or extract_answer(text)
    if found.answer is None:
        return "no_final_answer"
    if len(found.contents) > 1 or found.answer_tags > 1 or rest.count("<answer>") > 1:
        return SEVERAL
    return ""


def reward(output: str, label: Mapping[str, Any], weights: RewardWeights | None = None) -> RewardParts:
    """Reward of one whole output against its label `{"gold", "kind"?, "choices"?, "tolerance"?, "unit"?, "several"?}`.

    Never raises: an unusable label ends as `unparsable_gold`, and an internal error as `failure="error:<type>"`.
    """
    weights = weights or RewardWeights()
    kind = "text"
    try:
        kind = str(label.get("kind") or "text")
        found = extract_answer(carried(output[: MAX_OUTPUT_CHARACTERS + 1]))
        failure = format_failure(output, found)
        if failure and failure != SEVERAL:
            return no_reward(kind, Verdict.UNPARSABLE_ANSWER, failure)
        graded = grade_output(str(label.get("gold") or ""), final_answer(output, found), **options_of(label))
        if failure and not graded.correct:  # the boxes of the parts of one answer are one final answer
            return no_reward(kind, Verdict.UNPARSABLE_ANSWER, failure)
    except Exception as error:  # noqa: BLE001  the trainer swallows exceptions and turns them into no reward at all
        return no_reward(kind, Verdict.WRONG, f"error:{type(error).__name__}")
    return reward_of_grade(graded, weights)


def reward_of_grade(graded: Grade, weights: RewardWeights | None = None) -> RewardParts:
    """Reward of an answer that was graded already and whose output keeps the format.

    An unreadable answer keeps the format part only.
    """
    weights = weights or RewardWeights()
    type_match, exact = float(graded.type_match), float(graded.exact)
    binary = weights.accuracy_mode == "binary"
    accuracy = exact if binary else weights.type_weight * type_match + weights.exact_weight * exact
    return RewardParts(
        total=weights.format_weight + weights.accuracy_weight * accuracy,
        format=1.0,
        accuracy=accuracy,
        type_match=type_match,
        exact=exact,
        score=int(graded.correct),
        kind=graded.kind,
        verdict=graded.verdict.value,
        failure="" if graded.verdict in (Verdict.CORRECT, Verdict.WRONG) else graded.verdict.value,
    )
