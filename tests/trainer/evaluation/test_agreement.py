# ruff: noqa: E501  tables of outputs read best on one line
"""The reward that trains and the score that evaluates say the same of the same outputs.

OpenRLHF's evaluation during training calls the reward entry and averages its 0/1 `score`; `trainer evaluate` and
`trainer grade` take the answer out and grade it. All stand on `final_answer` and one grader, and this is where they
are compared.
"""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.answers import perturb
from shared.benchmark import Item
from shared.benchmark_files import read_record
from shared.benchmarks import PAPER
from shared.laptop import draw
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import kind_of, load_items
from trainer.evaluation.results import summarise
from trainer.evaluation.scoring import score
from trainer.evaluation.tasks import task
from trainer.grade import grade_file
from trainer.rewards import format_failure, reward

DATA = Path(__file__).parents[3].parent / "shared/data"
FILES = {
    "math500": "text/math500.parquet",
    "mathverse": "bench/mathverse_testmini_text_only.json",
    "mathvision": "bench/mathvision_test_text.jsonl",
    "olympiadbench": "text/olympiadbench_oe_tp_maths_en.parquet",
    "mathvista": "bench/mathvista_testmini_text.json",
}


def compared(name, items):
    """Accuracy during training and result of evaluation, on golds, other items' golds and wrong neighbours."""
    outputs, during = [], []
    for place, item in enumerate(items):
        other = items[(place * 3 + 1) % len(items)].answer
        text = (item.answer, other, perturb(item.answer, item.kind))[place % 3]
        output = f"<think>So it is.</think>\n\\boxed{{{text}}}"
        during.append(reward(output, item.label()).score)
        outputs.append((item, 0, StoredAnswer(output, 9, 9, truncated=False)))
    return sum(during) / len(during), summarise(task(name), score(task(name), outputs))


def agrees(result, accuracy):
    """Whether two accuracies lie within one standard error, or within one item's weight where that is more."""
    return abs(result["accuracy"] - accuracy) <= max(result["stderr"], 1 / result["n"]) + 1e-12


@pytest.mark.parametrize("name", PAPER)
def test_training_and_evaluation_agree_on_drawn_problems(name):
    problems = [draw(f"mini-{name}", index) for index in range(120)]
    items = [Item(name, p.key, p.question, p.answer, kind_of(p.answer, p.choices), p.choices) for p in problems]
    accuracy, result = compared(name, items)
    assert result["accuracy"] > 0.3
    assert agrees(result, accuracy)


def spellings(item):
    """Answers to an item: the gold and its neighbours, each option as text, letter and both."""
    for letter, choice in zip("ABCDEFGH", item.choices, strict=False):
        yield from (choice, letter, f"({letter})", f"{letter}. {choice}", rf"\text{{{letter}}}")
    yield from (
        item.answer,
        f"x={item.answer}",
        f"{item.answer} cm",
        f"{item.answer}.",
        perturb(item.answer, item.kind),
    )


@pytest.mark.parametrize("name", PAPER)
def test_each_answer_is_worth_the_same_in_training_and_evaluation(name):
    problems = [draw(f"mini-{name}", index) for index in range(80)]
    items = [Item(name, p.key, p.question, p.answer, kind_of(p.answer, p.choices), p.choices) for p in problems]
    assert any(item.choices for item in items)
    asked = [(item, f"<think>So.</think>\n\\boxed{{{text}}}") for item in items for text in spellings(item)]
    scored = score(
        task(name), [(item, n, StoredAnswer(text, 9, 9, truncated=False)) for n, (item, text) in enumerate(asked)]
    )
    for (item, text), entry in zip(asked, scored, strict=True):
        assert (reward(text, item.label()).exact > 0) == entry.correct, (item, text)


GOLDS = [
    ("17", (), {}), ("C", ("12", "15", "18", "20"), {}), ("18", ("12", "15", "18", "18"), {}), ("no", (), {}),
    ("B", ("yes", "no", "cannot be determined"), {}), ("(b)", ("(c)", "(b)", "(a)"), {}), ("1.2", (), {"tolerance": 0.05}),
    ("14", (), {"unit": "$"}), ("$69$,$84$", (), {"is_multiple_answer": True}), (r"\frac{1}{2}", (), {}), ("E", (), {}),
    ("x=3, y=4", (), {}), ("二十五", (), {}), ("C\nD", ("1", "2", "3", "4"), {}), ("m大于n", (), {}), ("5 cm", (), {}),
    ("Steps.\n#### 72", (), {}), (r"\{1,2\}", (), {}),
]  # fmt: skip
FRAMES = [
    "{}", r"\boxed{{{}}}", "Answer: {}", "**Answer:** {}", "Final Answer: ${}$", "#### {}", "<answer>{}</answer>", "So x = {}.",
    "The answer is {}.", "答案是{}。", "The answer is not {}.", r"\fbox{{{}}}", "Therefore, the value is {}.", r"\boxed{{\text{{{}}}}}",
    "We look at everything once more, slowly and with care.\nAnswer: {}", "Is it {}?", r"\boxed{{-{}}}", "({})",
]  # fmt: skip
CONTENTS = ["17", "18", "C", "B", "(b)", "yes", "no", "69", "84", "69, 84", "1.24", "1/2", "0.5", "14", "14 cm", "x=3, y=4",
            "y=3, x=4", "25", "72", "A", "C: 15", "Option C", "C 18", "18 (C)", "nothing", "m小于n", "2,1", "5", "", "\ud800", "17\ud83d", "17\0"]  # fmt: skip
answers = st.tuples(st.sampled_from(FRAMES), st.sampled_from(CONTENTS)).map(lambda pair: pair[0].format(pair[1]))
outputs = st.lists(answers, min_size=1, max_size=3).map("\n".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(st.tuples(st.sampled_from(GOLDS), outputs, st.booleans()), min_size=8, max_size=24))
def test_reward_evaluation_and_grade_never_disagree_about_an_output(tmp_path, drawn):
    items = [Item("mathvision", "1", "?", g, kind_of(g, c), c, extra=e) for (g, c, e), _, _ in drawn]
    texts = [f"<think>So.</think>\n{text}" if thinks else text for _, text, thinks in drawn]
    scored = score(
        task("mathvision"), [(i, 0, StoredAnswer(t, 9, 9, False)) for i, t in zip(items, texts, strict=True)]
    )
    lines = [{**item.label(), "pred": text} for item, text in zip(items, texts, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    verdicts = [line["verdict"] for line in grade_file(tmp_path / "pairs.jsonl")["verdicts"]]
    for item, text, entry, verdict in zip(items, texts, scored, verdicts, strict=True):
        parts = reward(text, item.label())
        keeps = not format_failure(text) or (parts.format > 0)
        assert bool(parts.score) == (entry.correct and keeps), (item, text, entry.outcome, parts)
        assert (verdict == "correct") == (bool(parts.score) if "<think>" in text else entry.correct), (item, text)


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_training_and_evaluation_agree_on_the_real_benchmarks(name, file):
    if not (DATA / file).is_file():
        pytest.skip(f"real data is not here: {file}")
    items = load_items(name, str(DATA / file), None, images=False, limit=300).items
    accuracy, result = compared(name, items)
    assert agrees(result, accuracy), (accuracy, result["accuracy"], result["stderr"])


@pytest.mark.parametrize(("given", "right"), [("1.2", True), ("1.24", True), ("1.26", False), ("1.1", False)])
def test_training_grants_the_error_that_an_item_states_as_evaluation_does(given, right):
    records = {
        "mathvista": {"pid": "1", "question": "How long?", "answer": "1.2", "answer_type": "float", "precision": 1.0},
        "olympiadbench": {"id": "1", "question": "How long?", "final_answer": ["1.2"], "error": "5e-2"},
    }
    for name, record in records.items():
        row = read_record(name, record, Path("items.jsonl"))
        item = Item(name, "1", row["question"], row["answer"], "decimal", extra=row["extra"])
        label = {"gold": row["answer"], "kind": "decimal", "tolerance": row["extra"]["tolerance"]}
        output = f"<think>So.</think>\n\\boxed{{{given}}}"
        (scored,) = score(task(name), [(item, 0, StoredAnswer(output, 9, 9, truncated=False))])
        assert (bool(reward(output, label).score), scored.correct) == (right, right), name
