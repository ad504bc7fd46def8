# ruff: noqa: E501  golds read best on one line
"""What data sets call an answer: whole solutions, analyses, placeholders, paragraphs; and what a model can match."""

import pytest

from shared.answers import check_gold, gold_answer, grade

SOLUTION = "He sells 48 / 2 = <<48/2=24>>24 clips in May.\nTogether 48 + 24 = <<48+24=72>>72 clips.\n#### 72"


@pytest.mark.parametrize(
    ("gold", "answer", "taken"),
    [
        (SOLUTION, "72", "marked"),
        ("It costs 1000 + 200.\n#### 1,200", "1,200", "marked"),
        ("5 - 8 = -3\n####-3", "-3", "marked"),
        ("They share it.\n#### 3.5", "3.5", "marked"),
        ("She leaves at noon.\n#### 5\n", "5", "marked"),
        (r"Adding gives 72, so the answer is \boxed{72}.", "72", "boxed"),
        (r"We get $x=\boxed{\frac{1}{2}}$, as claimed.", r"\frac{1}{2}", "boxed"),
        (r"Thus \boxed{B}. (Only B has it.)", "B", "boxed"),
        (r"First \boxed{7} and once more \boxed{7}.", "7", "boxed"),
        ("Solution: the sides are 3 and 4, hence \\boxed{5\\text{ cm}} is the third.", r"5\text{ cm}", "boxed"),
        ("D\n\n[Analysis] From above one sees three squares, from the left two.", "D", "analysis"),
        ("A\n【解析】由题意可知两直线平行，所以同位角相等。", "A", "analysis"),
        ("$\\mathrm{C}$\n\n【Analysis】Fold the net and look.", "$\\mathrm{C}$", "analysis"),
        ("12 cm\n\n## [Solution] The sum of all edges is 12 cm.", "12 cm", "analysis"),
        ("4 或 6 [分析] 分两种情况讨论。", "4 或 6", "analysis"),
        (
            "解: 3 分米等于 30 厘米，四条长边一共是一百六十厘米，四条宽边一共是六十厘米。故答案为: 290 。",
            "290",
            "stated",
        ),
    ],
)
def test_the_answer_is_taken_out_of_a_solution_and_a_model_that_gives_it_is_right(gold, answer, taken):
    found = gold_answer(gold)
    assert (found.answer, found.taken, found.reason) == (answer, taken, "")
    assert grade(gold, answer).correct
    assert not grade(gold, "73").correct
    checked = check_gold(gold)
    assert (checked.status, checked.kind) == ("verified", check_gold(answer).kind)


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        *((gold, "missing") for gold in ("nan", "NaN", "inf", "-inf", "null", "N/A", r"\text{N/A}", "n/a.", "No answer", "暂无答案")),
        *((gold, "elsewhere") for gold in ("略", "见解析", "证明略", "如图", "如图所示.", "详见解析", "答案见解析。", "证明见解析")),
        *((gold, "elsewhere") for gold in ("See the analysis.", "see figure", "Proof omitted", "As shown in the figure")),
        *((gold, "elsewhere") for gold in ("Answers may vary", "(1) A cone (2) See the analysis", "Proof.")),
        (r"Either \boxed{3} or \boxed{4}.", "several_boxes"),
        ("Every quadrilateral with four equal sides is a rhombus, and the opposite sides of any rhombus are parallel.", "paragraph"),
        ("The scale is linear. Each step adds five pounds to the load on the rope.", "paragraph"),
        ("Yes, because five independent vectors can be extended to a basis of the whole space.\nBut it has only five.", "paragraph"),
        ("三组对面分别平行的四棱柱叫做平行六面体，平行六面体的四条对角线相交于同一点并且互相平分。", "paragraph"),
        ("Let r be the radius of the base, then by the volume formula the length of the minor axis is eight.", "paragraph"),
    ],
)  # fmt: skip
def test_a_gold_that_no_model_can_match_is_never_verified_and_says_why(gold, reason):
    found = gold_answer(gold)
    assert (found.answer, found.reason) == (None, reason)
    checked = check_gold(gold)
    assert (checked.status, checked.reason) == ("unverifiable", reason)


@pytest.mark.parametrize(
    "gold",
    ["No", "no", "no.", "None", "No solution", "none of these", "undefined", r"\infty", "12 cm", r"\boxed{5}", r"$\boxed{\text{B}}$.",
     "Fluffy Cat's Academy", "isosceles right triangle", "cannot be determined", "正确", "平行四边形", "north\n40\neast\n50", "#4", "x = 5"],
)  # fmt: skip
def test_an_ordinary_gold_is_the_answer_as_it_stands(gold):
    found = gold_answer(gold)
    assert (found.answer, found.taken, found.reason) == (gold, "", "")


def test_the_text_of_an_option_is_an_answer_whatever_it_says():
    options = ["See the figure", "N/A", "a", "b"]
    assert gold_answer("N/A", options).answer == "N/A"
    assert check_gold("N/A", choices=options).status == "verified"
    assert grade("N/A", "B", choices=options).correct
