"""Finding the final answer in an output."""

from shared.answers import extract_answer, grade_output


def test_the_last_balanced_box_is_the_answer():
    assert extract_answer(r"so \boxed{3} or rather \boxed{\frac{1}{2}}").answer == r"\frac{1}{2}"
    assert extract_answer(r"\boxed{\text{a {nested} group}}").answer == r"\text{a {nested} group}"


def test_an_unbalanced_box_at_the_end_is_not_an_answer():
    assert extract_answer(r"\boxed{5} then \boxed{\frac{1}{2").answer == "5"
    assert extract_answer(r"\boxed{\frac{1}{2").answer is None


def test_a_box_comes_before_an_answer_tag_and_an_answer_tag_before_nothing():
    assert extract_answer(r"<answer>4</answer> \boxed{5}").source == "boxed"
    found = extract_answer("<answer> 4 </answer>")
    assert (found.answer, found.source) == ("4", "answer_tag")
    assert extract_answer("the answer is 5").source == "none"


def test_thinking_never_counts():
    assert extract_answer(r"<think>\boxed{5}</think> I do not know").answer is None
    assert extract_answer(r"<think>maybe \boxed{5}").answer is None
    assert extract_answer(r"thinking without an opening tag \boxed{4}</think> \boxed{5}").answer == "5"
    assert not grade_output("5", r"<think>\boxed{5}</think> I do not know").correct


def test_boxes_inside_a_box_are_one_box_and_several_boxes_are_counted():
    assert extract_answer(r"\boxed{\boxed{5}}").boxes == 1
    assert extract_answer(r"\boxed{5} \boxed{6}").boxes == 2


def test_escaped_braces_do_not_close_a_box():
    assert extract_answer(r"\boxed{\{1,2\}}").answer == r"\{1,2\}"


def test_extraction_is_linear_in_hostile_outputs():
    hostile = [
        r"\boxed{" * 100_000,
        r"\boxed{5}" * 100_000,
        "{" * 1_000_000,
        "<answer>" * 200_000,
        "<think>" * 200_000,
        "\\" * 1_000_000,
    ]
    for text in hostile:
        extract_answer(text)  # the suite's time limit fails a quadratic scan
