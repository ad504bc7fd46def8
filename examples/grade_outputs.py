"""Grade answers with the grader of rewards, evaluation and data checks.

uv run python examples/grade_outputs.py
"""

from shared.answers import final_answer, grade, grade_output

# One answer against its gold: (gold, prediction).
print(grade(r"\frac{1}{2}", "0.5").verdict)
print(grade("x^2 - 1", "(x - 1)(x + 1)").verdict)
print(grade("12 cm", "120 mm").verdict)

# A whole output against its gold: thinking is left out, the last box counts, else what the output states last.
output = "<think>3 * 7 is 21, not 24.</think> The pens cost \\boxed{21} euros."
print(final_answer(output).answer, grade_output("21", output).correct)

# Options: the letter, or the text of the option.
print(grade_output("24", "The answer is (B).", choices=["12", "24", "48"]).correct)

# What cannot be read is told apart from what is wrong.
print(grade_output("21", "I do not know.").verdict)
