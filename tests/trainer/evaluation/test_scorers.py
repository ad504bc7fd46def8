# ruff: noqa: E501  tables of outputs read best on one line
import pytest

from shared.answers import final_answer
from shared.answers.grade import perfect_match, split_answers
from shared.benchmark import Item, plain_question
from shared.benchmarks import PAPER
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import kind_of
from trainer.evaluation.scoring import score
from trainer.evaluation.task import Status
from trainer.evaluation.tasks import task
from trainer.rewards import reward


def item(benchmark, answer, choices=(), question="How much?", key="1", **extra):
    kind = kind_of(answer, choices)
    return Item(benchmark, key, question, answer, kind, tuple(choices), extra={"answer_raw": answer, **extra})


def verdict(one, output):
    (entry,) = score(task(one.benchmark), [(one, 0, StoredAnswer(output, 0, 0, truncated=False))])
    return entry


def right(one, output):
    return verdict(one, output).outcome.status is Status.CORRECT


CHOICES = ("12 cm", "15 cm", "20 cm", "30 cm", "45 cm")


@pytest.mark.parametrize(
    "output", [r"\boxed{B}", r"\boxed{(B)}", r"\boxed{\text{B}}", r"\boxed{15 cm}", r"\boxed{15}", "B"]
)
def test_mathvision_choices_take_the_letter_or_the_value(output):
    assert right(item("mathvision", "B", CHOICES), output)


@pytest.mark.parametrize(
    "output", [r"\boxed{C}", r"\boxed{20 cm}", r"\boxed{B, C}", r"\boxed{B or C}", r"\boxed{G}", r"\boxed{15.004 cm}"]
)
def test_mathvision_choices_refuse_other_letters_other_values_and_hedging(output):
    assert not right(item("mathvision", "B", CHOICES), output)


LETTERS = [
    r"\text{Option C}", r"\text{Choice C}", r"\text{Answer: C}", r"\text{The answer is C}", "C 18", r"C\ 18", r"\text{C 18}", r"C\quad 18",
    "C;", "C．", "C．18", "Ｃ", "C项", "选C", "选择C", "故选：C", "答案：C", "答案是C", r"\boldsymbol{C}", r"\bm{C}", r"\bf C", r"\bf{(C)}", r"\rm C",
    r"\rm{C}", r"\textit{C}", r"\emph{C}", r"\mathsf{C}", r"\textsf{C}", r"\underline{C}", r"\color{red}{C}", r"\displaystyle C",
    r"\quad C", r"\fbox{C}", "Final answer: C", "Final Answer: (C)", "C: 18", "18 (C)", "我选择 C",
]  # fmt: skip
NO_LETTERS = ["C: 15", "C. 15", "C) 15", "(C) 15", "-C", "C or B", "B, C", "not C", "15"]


@pytest.mark.parametrize(("text", "accepted"), [*((text, True) for text in LETTERS), *((t, False) for t in NO_LETTERS)])
def test_evaluation_reads_a_letter_as_the_reward_does(text, accepted):
    one = item("mathvision", "C", ("12", "15", "18", "20", "25"))
    output = f"<think>So.</think>\n\\boxed{{{text}}}"
    assert right(one, output) == accepted
    assert bool(reward(output, one.label()).score) == accepted


def test_an_answer_in_the_words_of_its_language_is_read_in_evaluation():
    options = ("12", "15", "18", "20", "25")
    assert right(item("mathvision", "D", options), "答案是D。")
    assert right(item("math500", "no"), "The answer is no.")
    assert not right(item("math500", "no"), "The answer is yes.")


def test_gsm8k_takes_the_first_mark_where_a_model_goes_on_with_questions():
    assert right(item("gsm8k", "7"), "#### 7\n\nQuestion: next?\nAnswer: 2\n#### 2")
    assert not right(item("gsm8k", "2"), "#### 7\n\nQuestion: next?\nAnswer: 2\n#### 2")


def test_mathvision_rounding_is_official_only():
    entry = verdict(item("mathvision", "0.333"), r"\boxed{0.3349}")
    assert (entry.correct, entry.official) == (False, True)


def test_a_letter_gold_without_options_takes_that_letter_only():
    lone = item("mathvision", "E")
    assert right(lone, r"\boxed{E}")
    assert not right(lone, r"\boxed{A}")
    entry = verdict(lone, r"\boxed{2.72}")
    assert (entry.correct, entry.official) == (False, True)  # the published rule takes Euler's number for the letter


def test_mathvista_floats_count_to_their_precision():
    one = item("mathvista", "1.2", question_type="free_form", answer_type="float", precision=1)
    assert right(one, r"\boxed{1.23}")
    assert right(one, r"\boxed{1.2}")
    assert not right(one, r"\boxed{1.3}")
    assert not right(one, r"\boxed{1.26}")


def test_mathvista_integers_are_not_cut_off():
    one = item("mathvista", "3", answer_type="integer")
    assert right(one, r"\boxed{3}")
    assert right(one, r"\boxed{3.0}")
    entry = verdict(one, r"\boxed{3.9}")
    assert (entry.correct, entry.official) == (False, True)


def test_mathvista_options_are_matched_by_text_or_letter_never_by_nearness():
    one = item("mathvista", "145°", ("135°", "140°", "145°", "150°"), question_type="multi_choice")
    assert right(one, r"\boxed{C}")
    assert right(one, r"\boxed{145°}")
    entry = verdict(one, r"\boxed{245°}")
    assert (entry.correct, entry.official) == (False, True)


def test_mathvista_options_that_look_like_letters_are_taken_by_their_text():
    one = item("mathvista", "(b)", ("(c)", "(b)", "(a)"))
    assert right(one, r"\boxed{(b)}")
    assert not right(one, r"\boxed{(a)}")


def test_either_of_two_equal_options_is_right():
    one = item("mathvista", "18", ("9", "12", "18", "18"))
    assert right(one, r"\boxed{C}")
    assert right(one, r"\boxed{D}")


def test_olympiadbench_honours_tolerance_units_and_several_answers():
    near = item("olympiadbench", "4.2", unit="%", error="1e-1", answer_type="Numerical")
    assert right(near, r"\boxed{4.25}")
    assert not right(near, r"\boxed{4.5}")
    several = item("olympiadbench", "$69$,$84$", is_multiple_answer=True)
    assert right(several, r"\boxed{84, 69}")
    assert right(several, r"The answers are \boxed{69} and \boxed{84}.")
    assert not right(several, r"\boxed{69}")
    assert not right(several, r"\boxed{69, 84, 85}")
    assert not right(several, r"\boxed{69, 69}")


def test_olympiadbench_chinese_words_are_compared():
    entry = verdict(item("olympiadbench", "是"), r"\boxed{否}")
    assert (entry.correct, entry.official) == (False, True)


def test_mathverse_takes_units_and_refuses_other_units():
    one = item("mathverse", r"270 \mathrm{cm}^3", question_type="free-form")
    assert right(one, r"\boxed{270 \text{ cm}^3}")
    assert right(one, r"\boxed{270}")
    assert not right(one, r"\boxed{270 \text{ m}^3}")


def test_vision_only_questions_point_to_the_picture():
    one = item("mathverse", "A", ("1", "2"), question="<image>", problem_version="Vision Only")
    text = task("mathverse").question(one)
    assert text.startswith("<image>\n")
    assert len(text) > len("<image>\n")


def test_options_are_put_into_the_question_once():
    inside = item("mathverse", "A", ("1", "2"), question="Which?\nChoices:\nA:1\nB:2")
    assert plain_question(inside) == inside.question
    outside = item("mathvision", "A", ("1 cm", "2 cm"))
    assert plain_question(outside) == "How much?\nChoices: (A) 1 cm (B) 2 cm"
    many = item("mathvision", "J", (*"3456789", "10", "11", "12"))
    assert plain_question(many).endswith("(H) 10 (I) 11 (J) 12"), "no option is left out"
    drawn = item("mathvision", "A", ("A", "B", "C"))
    assert plain_question(item("mathvision", "A", tuple("ABCDEFGHIJK"))).endswith("(J) (K) K"), "as it always was asked"
    assert plain_question(drawn) == "How much?\nChoices: (A) (B) (C)"


def test_the_last_box_outside_the_thinking_is_the_answer():
    assert final_answer(r"<think>\boxed{1}</think> so \boxed{2} no, \boxed{3}").answer == "3"
    assert final_answer("<think>it is 5").answer is None
    assert final_answer("5").answer == "5"
    assert final_answer("long " * 100).answer is None


def test_an_output_without_an_answer_is_wrong_and_a_failed_ask_is_unscored():
    one = item("math500", "5")
    assert verdict(one, "word " * 200).outcome.status is Status.NO_ANSWER
    (entry,) = score(task("math500"), [(one, 0, StoredAnswer("", 0, 0, truncated=False, failure="image_missing"))])
    assert (entry.outcome.status, entry.outcome.reason, entry.scored) == (Status.UNSCORED, "image_missing", False)


def test_a_scorer_that_raises_leaves_its_item_unscored_and_the_rest_scored():
    broken = item("olympiadbench", "5", error=object(), key="2")
    object.__setattr__(broken, "extra", 5)
    whole = item("olympiadbench", "5")
    outputs = [(one, 0, StoredAnswer(r"\boxed{5}", 0, 0, truncated=False)) for one in (broken, whole)]
    first, second = score(task("olympiadbench"), outputs)
    assert first.outcome.status is Status.UNSCORED
    assert second.correct


def test_lists_of_answers_are_split_outside_brackets():
    assert split_answers(r"$(1,2)$, $(3,4)$") == ["(1,2)", "(3,4)"]
    assert split_answers(r"1 and 2") == ["1", "2"]
    assert split_answers(r"\pm 3") == ["3", "- 3"]


def test_matching_is_one_to_one():
    assert perfect_match([[True, True], [True, False]])
    assert not perfect_match([[True, False], [True, False]])


def test_every_task_of_the_paper_loads():
    assert [task(name).name for name in PAPER] == list(PAPER)


@pytest.mark.parametrize(
    ("name", "gold", "given", "accepted"),
    [
        ("olympiadbench", "1234", "1 234", True),  # sympy's parse_latex joins digits
        ("olympiadbench", "1234", "1~234", True),
        ("olympiadbench", "1234", r"1\,234", False),  # the rule splits at every comma
        ("olympiadbench", "234", "1 234", False),
        ("olympiadbench", "6", "2 3", False),
        ("mathvision", "1234", "1 234", True),  # the rule takes blanks out of an answer
        ("mathvision", "234", "1 234", False),
        ("mathvision", "1234", "1,234", True),  # latex2sympy2 reads thousands
        ("mathvision", "1234567.5", "1,234,567.5", True),
        ("mathvision", "234", "1,234", False),
        ("mathvision", "1234", "12,34", False),
        ("mathvision", "1234", "1,2345", False),
    ],
)
def test_published_rules_read_grouped_digits_as_the_parsers_that_they_call(name, gold, given, accepted):
    rule = task(name).official
    assert rule is not None
    assert rule(item(name, gold), f"\\boxed{{{given}}}") is accepted
