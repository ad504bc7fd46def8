"""Outputs that break graders: a run survives them, none is accepted, none takes its item out of reach for long."""

import pytest

from shared.benchmark import Item
from shared.benchmarks import PAPER
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.scoring import score
from trainer.evaluation.task import Status
from trainer.evaluation.tasks import task

OUTPUTS = [
    "",
    " \n\t",
    "\x00\x01\x02",
    "\ud800",
    r"\boxed{9^{9^{9^9}}}",
    r"\boxed{" + "{" * 2000,
    r"\boxed{" + "1" * 20_000 + "}",
    r"\boxed{" + r"\frac{" * 300 + "1" + "}{2}" * 300 + "}",
    r"\boxed{" + ",".join("1" for _ in range(3000)) + "}",
    r"\boxed{__import__('os').system('true')}",
    r"\boxed{(1e999)!}",
    "<think>" * 1000,
    "x" * 500_000,
    r"\boxed{nan}",
    r"\boxed{" + "(" * 500 + "}",
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", PAPER)
def test_hostile_outputs_end_typed_and_are_never_accepted(name):
    items = [
        Item(name, "1", "q", "12", "integer", extra={"answer_type": "integer", "answer_raw": "12"}),
        Item(name, "2", "q", "1.25", "decimal", extra={"answer_type": "float", "precision": 2, "answer_raw": "1.25"}),
        Item(name, "3", "q", "B", "choice", ("10", "20"), extra={"question_type": "multi-choice", "answer_raw": "B"}),
        Item(name, "4", "q", "$1$,$2$", "set", extra={"is_multiple_answer": True, "answer_raw": "$1$,$2$"}),
    ]
    entries = [(item, 0, StoredAnswer(text, 0, 0, truncated=False)) for item in items for text in OUTPUTS]
    scored = score(task(name), entries)
    assert len(scored) == len(entries)
    assert [(entry.item.key, entry.output.text[:40]) for entry in scored if entry.correct] == []
    assert all(entry.outcome.reason for entry in scored if entry.outcome.status is Status.UNSCORED)


@pytest.mark.timeout(120)
def test_an_answer_that_cannot_be_compared_in_time_is_unscored_with_its_reason():
    item = Item("math500", "1", "q", "12", "integer", extra={"answer_raw": "12"})
    text = r"\boxed{\sum_{n=1}^{\infty} \frac{1}{n^{1.0001}}}"
    (entry,) = score(task("math500"), [(item, 0, StoredAnswer(text, 0, 0, truncated=False))])
    assert not entry.correct
    assert entry.outcome.status is Status.WRONG or entry.outcome.reason == "timeout"
