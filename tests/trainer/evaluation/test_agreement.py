"""The reward that trains and the score that evaluates say the same of the same outputs.

OpenRLHF's evaluation during training calls the reward entry and averages its 0/1 `score`; `trainer evaluate` takes
the answer out and calls the task's scorer. Both stand on one grader, and this is where they are compared.
"""

from pathlib import Path

import pytest

from shared.answers import perturb
from shared.benchmark_files import read_record
from shared.mini_world import draw
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import kind_of, load_items
from trainer.evaluation.results import agrees, summarise
from trainer.evaluation.scoring import score
from trainer.evaluation.task import Item
from trainer.evaluation.tasks import PAPER, task
from trainer.rewards import reward
from trainer.training_data import LABEL_EXTRAS

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
        label = {"gold": item.answer, "kind": item.kind, "choices": list(item.choices) or None}
        label |= {name: item.extra[name] for name in LABEL_EXTRAS if item.extra.get(name) is not None}
        during.append(reward(output, label).score)
        outputs.append((item, 0, StoredAnswer(output, 9, 9, truncated=False)))
    return sum(during) / len(during), summarise(task(name), score(task(name), outputs))


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
        label = {"gold": item.answer, "kind": item.kind, "choices": list(item.choices) or None}
        assert (reward(text, label).exact > 0) == entry.correct, (item, text)


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
