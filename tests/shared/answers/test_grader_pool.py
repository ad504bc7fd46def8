# ruff: noqa: E501  lists of hostile texts read best on one line
"""The symbolic layer: right answers from workers, a hard deadline, and use from threads, asyncio and forked or daemonic processes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.answers import GraderPool, Verdict, grade, grade_many

INTEGRAL = r"\int_0^1 x^2 \, dx"
ENDLESS = r"\int_0^{\infty} e^{9^{9^{9^9}}} dx"
SLACK = 0.5
"""Processor seconds that this process may spend beyond a deadline; waiting for a worker costs it none."""
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pool():
    with GraderPool(workers=1) as workers:
        assert workers.warm_up(), "a symbolic worker did not load within two minutes"
        yield workers


def test_symbols_are_settled_by_a_worker(pool):
    right, wrong = grade(INTEGRAL, r"\frac13", pool=pool), grade(INTEGRAL, r"\frac12", pool=pool)
    assert (right.verdict, right.layer, right.kind) == (Verdict.CORRECT, "symbolic", "expression")
    assert wrong.verdict is Verdict.WRONG


def test_a_stuck_worker_is_replaced_and_only_its_pair_is_lost(pool):
    before = pool.replaced
    assert grade(ENDLESS, "12", pool=pool, timeout_seconds=1.0).verdict is Verdict.TIMEOUT
    assert pool.warm_up()
    assert pool.replaced == before + 1
    assert grade(INTEGRAL, r"\frac13", pool=pool).correct


def test_a_runaway_computation_is_bounded_in_memory_and_time(pool):
    started = time.process_time()
    settled = grade(r"\sum_{k=1}^{100} (10000000!)^{10000000!}", r"\int_0^1 x \, dx", pool=pool, timeout_seconds=1.5)
    assert not settled.correct
    assert time.process_time() - started < 1.5 + SLACK


@pytest.mark.parametrize(
    "hostile",
    ["9^{9^{9^9}}", "{" * 100_000, "(" * 1900 + "5" + ")" * 1900, "5\x00", "9" * 19_000, "10000000!", r"\frac{1}{" * 300 + "2" + "}" * 300,
     "a" * 19_000 + "!", "1,000" * 390, r"\text{" * 300, "the answer is " * 140, r"\pm".join(["1"] * 300), "e^{e^{e^{e^e}}}", "1/0", "0^0",
     r"\sum_{n=1}^{10000000} \frac{1}{n!^{n!}}", "A, " * 900, "²" * 2000],
)  # fmt: skip
def test_hostile_answers_end_by_their_deadline_and_are_never_accepted(pool, hostile):
    for gold in ("12", r"\frac{1}{2}", "x^2+1", r"\{1,2\}", "B", "yes", "hello world"):
        started = time.process_time()
        settled = grade(gold, hostile, pool=pool, timeout_seconds=1.0)
        assert time.process_time() - started < 1.0 + SLACK
        assert not settled.correct


def test_a_limit_in_processor_time_is_not_met_by_waiting_but_by_computing(pool):
    pool.warm_up()
    (worker,) = pool._all
    halted = threading.Timer(0.05, worker.process.send_signal, [signal.SIGSTOP])
    again = threading.Timer(2.5, worker.process.send_signal, [signal.SIGCONT])
    halted.start()
    again.start()
    slow = r"\int_0^1 \sqrt{1+x^2} e^{x} \sin(x) \, dx"
    limits = {"timeout_seconds": 120, "processor_seconds": 60.0}
    assert grade(slow + "+0", slow, pool=pool, **limits).verdict is not Verdict.TIMEOUT
    again.join()
    before = pool.replaced
    assert grade(ENDLESS, "12", pool=pool, timeout_seconds=120, processor_seconds=1.0).verdict is Verdict.TIMEOUT
    assert pool.warm_up()
    assert pool.replaced == before + 1


def test_the_pool_serves_many_threads_and_an_event_loop(pool):
    pool.warm_up()
    with ThreadPoolExecutor(8) as threads:
        grades = list(
            threads.map(
                lambda k: grade(INTEGRAL, r"\frac13" if k % 2 else "7", pool=pool, timeout_seconds=60), range(16)
            )
        )
    assert [g.correct for g in grades] == [bool(k % 2) for k in range(16)]

    async def gather() -> list[bool]:
        tasks = [asyncio.to_thread(grade, INTEGRAL, r"\frac13", pool=pool, timeout_seconds=60) for _ in range(4)]
        return [g.correct for g in await asyncio.gather(*tasks)]

    assert asyncio.run(gather()) == [True] * 4


def test_a_batch_keeps_its_order_and_mixes_layers(pool):
    pairs = [("5", "5"), (INTEGRAL, r"\frac13"), ("5", "6"), {"pred": r"\frac14", "gold": INTEGRAL}]
    assert [g.correct for g in grade_many(pairs, pool=pool)] == [True, True, False, False]


def test_a_few_symbolic_pairs_load_one_worker_and_a_stuck_one_costs_the_next_pair_nothing():
    pairs = [("12", "12"), {"pred": "12", "gold": ENDLESS, "timeout_seconds": 1.0}, (INTEGRAL, r"\frac13")]
    with GraderPool(workers=2) as fresh:
        grades = grade_many(pairs, pool=fresh)
        assert (len(fresh._all), fresh.replaced) == (1, 1)
    assert [g.verdict for g in grades] == [Verdict.CORRECT, Verdict.TIMEOUT, Verdict.CORRECT]


DAEMON_SCRIPT = r"""
import multiprocessing
from shared.answers import grade
def work(queue):
    queue.put(grade(r"\frac13", r"\int_0^1 x^2 \, dx", timeout_seconds=100).verdict.value)
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,), daemon=True)
    child.start()
    print(queue.get(timeout=110))
"""


def test_a_daemonic_child_process_gets_a_pool_of_its_own(tmp_path):
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON_SCRIPT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment, timeout=150
    )
    assert done.stdout.strip() == "correct"


def test_a_closed_pool_answers_timeout_and_an_empty_one_is_refused():
    pool = GraderPool(workers=1)
    pool.close()
    assert grade(INTEGRAL, "7", pool=pool).verdict is Verdict.TIMEOUT
    with pytest.raises(ValueError, match="at least one worker"):
        GraderPool(workers=0)


def test_importing_the_grader_loads_no_heavy_module_and_numbers_need_none():
    code = (
        "import sys; from shared.answers import grade; from trainer.rewards import reward; assert grade('1/2', '0.5').correct;"
        "print([m for m in ('sympy', 'math_verify', 'mpmath', 'torch', 'ray', 'numpy', 'multiprocessing') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
