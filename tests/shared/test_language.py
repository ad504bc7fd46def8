"""Which language a problem is in: Chinese or not, whatever its formulas and letters."""

from __future__ import annotations

import pytest

from shared.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("<image>如图，在△ABC中，∠BAC=90°，AB=AC，D是BC的中点，则AD=", "zh"),
        ("<image>求值：$\\sin 30^\\circ + \\cos 60^\\circ$", "zh"),
        ("<image>\n$如图，在三棱柱ABC-A_1B_1C_1中，AB\\perp 平面B_1C_1C.$", "zh"),
        ("In triangle ABC, find x.<image>", "en"),
        ("What does the character 福 on the red sign mean in English?", "en"),
        ("阅读下面的短文 Tom goes to school 并回答下列问题，选择正确的一项", "zh"),
        ("$x^2 = 4$, $x = ?$", "en"),
        ("<image>", "en"),
        ("", "en"),
    ],
)
def test_the_words_of_a_question_tell_its_language(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_question_without_words_is_told_by_its_options() -> None:
    assert language_of("<image>$?$", ["锐角三角形", "钝角三角形"]) == "zh"
    assert language_of("<image>$?$", ["acute", "obtuse"]) == "en"
    assert language_of("Which one?", ["锐角三角形", "钝角三角形"]) == "en"
