"""Pairs written before their author saw the rules, and near misses that the rules once had wrong."""

import json
import time
from pathlib import Path

import pytest

from shared.answers import GraderPool, grade
from shared.answers.symbolic import pool as pool_module
from shared.answers.symbolic.worker import FailedError, settle
from shared.answers.types import Settlement
from trainer.grade import grade_file

INDEPENDENT = Path(__file__).parent / "golden" / "independent.jsonl"


def test_the_independent_pairs_are_graded_as_expected_and_nothing_false_is_accepted():
    table = [json.loads(line) for line in INDEPENDENT.read_text(encoding="utf-8").splitlines()]
    verdicts = [v["verdict"] == "correct" for v in grade_file(INDEPENDENT)["verdicts"]]
    judged = [(r, accepted) for r, accepted in zip(table, verdicts, strict=True) if not r["contested"]]
    assert not [(r["gold"], r["pred"]) for r, accepted in judged if accepted and not r["expected"]]
    refused = [(r["gold"], r["pred"]) for r, accepted in judged if r["expected"] and not accepted]
    assert len(refused) <= len(judged) // 200, refused


@pytest.mark.parametrize(
    ("gold", "pred", "why"),
    [
        (r"45^\circ", "45 rad", "a radian is no degree"),
        (r"\lfloor x \rfloor", "x", "equal at whole numbers only"),
        ("1+e^{-200}", "1", "differs in the 87th digit"),
        ("1-e^{-1000}", "1", "differs in the 435th digit"),
        (r"\pi+10^{-70}", r"\pi", "differs in the 71st digit"),
        ("16 square units", "16 cubic units", "an area is no volume"),
        ("16 square units", "16 cm", "an area is no length"),
        ("100 yen", "100 yuan", "another currency"),
        ("5", "The wrong answer is 5", "the frame denies"),
        ("5", "Half of the answer is 5", "the frame changes the value"),
        ("12", "12 factorial", "not a counted thing"),
        ("5", "5 tenths", "not a counted thing"),
        (r"\frac13", "0.333334", "neither rounded nor cut off"),
        (r"\sqrt2", "1.41422", "neither rounded nor cut off"),
        (r"3 \times 4 matrix", "12", "a shape is no count"),
        ("x'", "x", "a derivative is not its function"),
        ("seven seas", "7", "a name is no number"),
        (r"\{2, \frac12\}", "2.5", "two answers are not their sum"),
        ("(-1,1)", r"|x| \le 1", "closed ends"),
        ("(-1,1)", "|x| < -1", "no number has a negative absolute value"),
        ("6:10", "3:5", "a time of day is not reduced"),
    ],
)
def test_near_misses_are_refused(gold, pred, why):
    assert not grade(gold, pred).correct, why


@pytest.mark.parametrize(
    ("gold", "pred"),
    [
        (r"90^\circ", r"\frac{\pi}{2} rad"),
        ("3:5", "6:10"),
        ("(-1,1)", "|x|<1"),
        ("(1,5)", "2>|x-3|"),
        (r"(-\infty,-2)\cup(2,\infty)", "|x|>2"),
        ("5 apples", "five apples"),
        ("five apples", "5 apples"),
        ("2.5", "2 and 1/2"),
        ("2.5", r"2 \text{ and } \frac{1}{2}"),
        (r"4.7 k\Omega", r"4700 \Omega"),
        ("¥100", "100 yen"),
        ("¥100", "100元"),
        ("£5", "5 pounds"),
        (r"\frac23", "0.666666"),
        (r"\frac23", "0.666667"),
        (r"\lceil n/2 \rceil", r"\lfloor (n+1)/2 \rfloor"),
    ],
)
def test_equal_values_in_unusual_words_are_accepted(gold, pred):
    assert grade(gold, pred).correct


INTEGRAL = r"\int_0^1 x^2 \, dx"


@pytest.mark.parametrize(
    ("pred", "word"),
    [
        (r"\frac13", "same"),
        ("0.333333", "same"),
        ("0.3333334", "different"),
        ("0.33333", "different"),
        (r"\frac12", "different"),
        ("", "unread_answer"),
    ],
)
def test_the_symbolic_layer_takes_a_decimal_only_at_its_own_precision(pred, word):
    assert settle(INTEGRAL, pred) == word


@pytest.mark.parametrize(
    ("gold", "pred"),
    [
        (INTEGRAL, r"\text{not } \frac13"),
        (r"$\frac35$ 或 $\frac{33}{20}$ 或 $\int x$", r"not $\frac35$ 或 $\frac{33}{20}$ 或 $\int x$"),
        ("-2\n0.5\n$1\\frac{1}{4}$", "not -2\n0.5\n$1\\frac{1}{4}$"),
    ],
)
def test_several_formulas_or_a_denial_never_reach_the_symbolic_layer(gold, pred):
    assert not grade(gold, pred, timeout_seconds=60).correct


def test_a_chain_of_different_numbers_is_not_its_last_side():
    assert not grade(INTEGRAL, r"1 = \frac13", timeout_seconds=60).correct


def test_a_library_that_fails_is_neither_right_nor_wrong(monkeypatch):
    import math_verify

    def out_of_memory(*_arguments: object, **_options: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(math_verify, "verify", out_of_memory)
    with pytest.raises(FailedError, match="MemoryError"):
        settle(INTEGRAL, r"\frac13")


def test_a_worker_out_of_memory_says_so_and_decides_the_next_pair():
    with GraderPool(workers=1, memory_bytes_per_worker=700 * 2**20) as pool:
        assert pool.warm_up()
        # Looking for formulas in it takes more than 2 GiB, and fails so within a second.
        assert pool.compare(INTEGRAL, " " * 12_000_000 + "2", timeout_seconds=60) is Settlement.FAILED
        assert pool.compare(INTEGRAL, " " * 12 + "2", timeout_seconds=60) is Settlement.DIFFERENT
        assert pool.replaced == 0


def test_loading_the_workers_is_no_part_of_the_deadline_of_the_first_pair(monkeypatch):
    timeout_seconds, loading_seconds = 3, 3.5
    wait_ready = pool_module._Worker.wait_ready

    def slowly(worker: pool_module._Worker, deadline: float) -> bool:
        if not worker.ready:
            time.sleep(loading_seconds)
        return wait_ready(worker, deadline)

    monkeypatch.setattr(pool_module._Worker, "wait_ready", slowly)
    with GraderPool(workers=1) as pool:
        assert grade(INTEGRAL, r"\frac13", pool=pool, timeout_seconds=timeout_seconds).correct
