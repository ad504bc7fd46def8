"""The reward: the paper's formula, the format rule, and outputs that try to cheat."""

import pytest

from trainer.rewards import RewardWeights, reward

THINK = "<think>two and three make five</think>"
HALVES = dict.fromkeys(("format_weight", "accuracy_weight", "type_weight", "exact_weight"), 0.5)
LABEL = {"gold": "5", "kind": "integer"}


def total(output: str, gold: str = "5", **options) -> float:
    return round(reward(output, {"gold": gold}, RewardWeights(**options)).total, 6)


def test_the_paper_s_levels_are_0_and_0_10_and_0_28_and_1():
    assert total("5") == 0.0
    assert total(THINK + r"\boxed{hello there}") == 0.10
    assert total(THINK + r"\boxed{6}") == 0.28
    assert total(THINK + r"\boxed{5}") == 1.0


def test_binary_accuracy_gives_nothing_for_the_type():
    assert total(THINK + r"\boxed{6}", accuracy_mode="binary") == 0.10
    assert total(THINK + r"\boxed{5}", accuracy_mode="binary") == 1.0


def test_weights_come_from_the_phase_file_and_are_checked():
    assert total(THINK + r"\boxed{5}", **HALVES) == 1.0
    assert total(THINK + r"\boxed{6}", **HALVES) == 0.75
    with pytest.raises(ValueError, match="sum to 1"):
        RewardWeights(format_weight=0.5)
    with pytest.raises(ValueError, match="accuracy_mode"):
        RewardWeights(accuracy_mode="shaped")


def test_parts_are_reported_separately_with_kind_and_verdict():
    parts = reward(THINK + r"\boxed{6}", LABEL)
    assert (parts.format, parts.type_match, parts.exact, parts.score) == (1.0, 1.0, 0.0, 0)
    assert (parts.kind, parts.verdict, parts.failure) == ("integer", "wrong", "")
    assert reward(THINK + "<answer>5</answer>", LABEL).score == 1


@pytest.mark.parametrize(
    ("output", "failure"),
    [
        (r"\boxed{5}", "no_leading_think"),
        (r"first <think>a</think>\boxed{5}", "no_leading_think"),
        (r"<think></think>\boxed{5}", "empty_thinking"),
        ("<think> \n </think>" + r"\boxed{5}", "empty_thinking"),
        (r"<think>a</think><think>b</think>\boxed{5}", "think_tags_repeated_or_missing"),
        (r"<think>a</think></think>\boxed{5}", "think_tags_repeated_or_missing"),
        (r"<think>a \boxed{5}", "think_tags_repeated_or_missing"),
        (r"<think>a \boxed{5}</think>", "empty_answer_part"),
        (r"<think>a \boxed{5}</think> as said above", "no_final_answer"),
        (THINK + r"\boxed{5} \boxed{6}", "several_final_answers"),
        (THINK + r"\boxed{6} \boxed{5}", "several_final_answers"),
        (THINK + "<answer>6</answer><answer>5</answer>", "several_final_answers"),
        (THINK + r"\boxed{}", "no_final_answer"),
        (THINK + r"\boxed{5}" + "x" * 1_000_001, "output_too_long"),
    ],
)
def test_a_broken_format_earns_nothing_and_says_why(output, failure):
    parts = reward(output, LABEL)
    assert (parts.total, parts.score, parts.failure) == (0.0, 0, failure)


def test_boxes_that_repeat_the_answer_or_hold_its_parts_are_one_final_answer():
    assert total(THINK + r"\boxed{5}, as I said, \boxed{5}") == 1.0
    assert total(THINK + r"\boxed{69} and \boxed{84}", gold="69, 84") == 1.0
    assert total(THINK + r"\boxed{69} and \boxed{85}", gold="69, 84") == 0.0
    assert reward(THINK + r"<answer>4</answer>\boxed{5}", LABEL).score == 0
    assert reward(THINK + r"\fbox{5}", LABEL).score == 1
    assert reward(THINK + "Answer: 5", LABEL).failure == "no_final_answer"


@pytest.mark.parametrize(
    "answer", ["1,2,3,4,5", "4 or 5", "5 or 6", "[1,9]", r"\pm 5", "x", "any number", "1 2 3 4 5", "5, 5"]
)
def test_listing_answers_is_not_answering(answer):
    assert reward(THINK + rf"\boxed{{{answer}}}", LABEL).score == 0


@pytest.mark.parametrize("answer", ["A, B, C, D", "ABCD", "A or B", "A. 4 B. 5", "not B", "all of them"])
def test_listing_options_is_not_choosing(answer):
    label = {"gold": "B", "kind": "choice", "choices": ["4", "5", "6", "7"]}
    assert reward(THINK + rf"\boxed{{{answer}}}", label).score == 0


@pytest.mark.parametrize(
    "label",
    [
        {},
        {"gold": None},
        {"gold": ""},
        {"gold": "5", "choices": 3},
        None,
    ],
)
def test_an_unusable_label_never_raises_and_never_pays(label):
    parts = reward(THINK + r"\boxed{5}", label)
    assert parts.total <= 0.1
