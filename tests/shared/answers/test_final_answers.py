# ruff: noqa: E501  tables of outputs read best on one line
"""What an output's answer is, in the styles that models write, and what is none."""

import pytest

from shared.answers import final_answer, grade, grade_output

LONG = "We add eight and nine in two steps.\n\nThen we look at both of them with all the care that they deserve.\n\n"


@pytest.mark.parametrize(
    "said",
    ["Answer: 17", "**Answer:** 17", "Final Answer: $17$", "#### 17", "<answer>17</answer>", "So x = 17.", "The answer is 17.",
     "**Final Answer**\n\n$$17$$", "ANSWER: 17", "Therefore, the answer is **17**.", "答案是17。", "所以答案为：17。", r"\fbox{17}",
     "The final answer is $17$. I hope it is correct.", "### Answer\n17", "The answer to the question is 17.", r"\boxed{17}"],
)  # fmt: skip
def test_an_answer_in_an_ordinary_style_is_read_alone_and_behind_reasoning(said):
    for output in (said, LONG + said, f"<think>{LONG}</think>\n{said}", f"<think>so 99</think>{LONG}{said}\n"):
        assert grade_output("17", output).correct, output
        assert not grade_output("18", output).correct, output


@pytest.mark.parametrize(
    ("output", "source", "answer"),
    [
        (r"The answer is 4. \boxed{5}", "boxed", "5"),
        ("Answer: 4 <answer>5</answer>", "answer_tag", "5"),
        ("#### 7\nAnswer: 7", "marked", "7"),
        ("The answer is no.", "stated", "no"),
        (LONG + "So x = 17.", "stated", "x = 17"),
        ("x = 17", "bare", "x = 17"),
        ("#### 7\n\nQuestion: next?\nAnswer: 2\n#### 2", "marked", "7"),
        ("Answer: 7\n\nQuestion: What is 1+1?\nAnswer: 2", "stated", "7"),
        ("The answer is C. Because 18 is the sum.", "stated", "C"),
        ("The answer is C. 18", "stated", "C. 18"),
        ("The answer is 5. No wait, the answer is 7.", "stated", "7"),
    ],
)
def test_what_counts_is_the_box_then_the_tag_then_the_mark_then_the_last_statement(output, source, answer):
    found = final_answer(output)
    assert (found.source, found.answer) == (source, answer)


@pytest.mark.parametrize(
    "output",
    [LONG, "long " * 100, LONG + "#### Step 1", LONG + "#### 5. Conclusion", LONG + "The wrong answer is 5.", LONG + "Half of the answer is 5.",
     LONG + "The answer is 5. No wait, it is 7.", LONG + "Answer: 5\nActually, I made a mistake.", LONG + "The answer is 5. It could also be 6.",
     LONG + "I don't think the answer is 5.", "<think>the answer is 5", "<think>Answer: 5</think>", ""],
)  # fmt: skip
def test_a_denied_a_withdrawn_and_a_hedged_statement_state_nothing(output):
    assert final_answer(output).answer is None
    assert not grade_output("5", output).correct


@pytest.mark.parametrize(
    ("output", "gold", "right"),
    [
        (r"<answer>4</answer> \boxed{5}", "5", False),
        (r"<answer>5</answer> \boxed{5}", "5", True),
        (r"<answer>\boxed{5}</answer>", "5", True),
        ("Answer: 4\n\\boxed{5}", "5", False),
        ("The answer is 1/2.\n\\boxed{0.5}", "0.5", True),
        (r"\boxed{4} \boxed{5}", "5", False),
        (r"\boxed{5} \boxed{5}", "5", True),
        (r"\boxed{\frac12} = \boxed{0.5}", "1/2", True),
        (r"\boxed{69} and \boxed{84}", "69, 84", True),
        (r"\boxed{69} and \boxed{85}", "69, 84", False),
        ("#### 5\nAnswer: 4", "5", False),
    ],
)
def test_an_output_that_answers_in_two_ways_is_right_only_if_neither_is_wrong(output, gold, right):
    assert grade_output(gold, output).correct == right


def test_looking_for_an_answer_is_linear_in_hostile_outputs():
    hostile = ["the answer is " * 50_000, "Answer:\n" * 100_000, "#### 1\n" * 100_000, "答案" * 200_000, "so " * 200_000,
               ". " * 300_000, "answer to " * 50_000, "**Answer:** " * 50_000, "=" * 500_000, "\n\nQuestion" * 50_000]  # fmt: skip
    for text in hostile:
        final_answer(text)  # the suite's time limit fails a quadratic scan


@pytest.mark.parametrize("output", [r"\fbox{}", "((b))\n\\fbox{}", "Is it 17?\n\\fbox{}", "17 \\boxed{}"])
def test_an_output_whose_box_is_empty_is_graded_to_an_end_and_states_nothing(output):
    assert final_answer(output).answer is None
    assert not grade("17", output).correct
