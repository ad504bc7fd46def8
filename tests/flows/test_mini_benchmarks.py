"""The small benchmarks through the evaluation: golds are right, other items' golds are not, every table is filled."""

import pytest

from data_engine.sources.mini import Mini, MiniSettings
from shared.benchmark import Item
from shared.benchmarks import PAPER
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import kind_of
from trainer.evaluation.results import summarise
from trainer.evaluation.scoring import score
from trainer.evaluation.tasks import task

TABLES = {
    "math500": {"by_subject", "by_level"},
    "mathverse": {"by_version", "by_subject", "by_type"},
    "mathvision": {"by_subject", "by_level"},
    "olympiadbench": {"by_subset", "by_subject", "by_type"},
    "mathvista": {"by_subject", "by_level", "by_type"},
}


def items(name):
    return [
        Item(name, row.source_id, row.question, row.answer, kind_of(row.answer, row.choices), row.choices,
             category=row.category, extra={**row.extra, "answer_raw": row.answer_raw})
        for row in Mini(name, MiniSettings(rows=40)).rows()
    ]  # fmt: skip


def result(name, pairs):
    outputs = [(item, 0, StoredAnswer(f"<think>.</think>\n\\boxed{{{text}}}", 9, 9, False)) for item, text in pairs]
    return summarise(task(name), score(task(name), outputs))


@pytest.mark.parametrize("name", PAPER)
def test_golds_of_a_small_benchmark_are_right_and_fill_every_table(name):
    drawn = items(name)
    found = result(name, [(item, item.answer) for item in drawn])
    assert (found["n"], found["accuracy"], found["unscored"], found["unread_golds"]) == (40, 1.0, 0, 0)
    assert TABLES[name] == {key for key in found if key.startswith("by_")} - {"by_kind"}
    assert all(sum(row["n"] for row in found[key].values()) == 40 for key in (*TABLES[name], "by_kind"))
    letters = [(item, "ABCD"[item.choices.index(item.answer)]) for item in drawn if item.answer in item.choices]
    if name == "mathvista":
        assert result(name, letters)["accuracy"] == 1.0


@pytest.mark.parametrize("name", PAPER)
def test_golds_of_other_items_are_mostly_wrong(name):
    drawn = items(name)
    shifted = [(item, drawn[(place + 3) % 40].answer) for place, item in enumerate(drawn)]
    assert result(name, shifted)["accuracy"] < 0.3


def test_two_answers_may_come_in_any_order_and_in_two_boxes():
    item = next(item for item in items("olympiadbench") if item.extra["is_multiple_answer"])
    first, second = item.answer.split(", ")
    for text, right in ((f"{second}, {first}", 1.0), (f"{first}}} and \\boxed{{{second}", 1.0), (first, 0.0)):
        assert result("olympiadbench", [(item, text)])["accuracy"] == right, text
