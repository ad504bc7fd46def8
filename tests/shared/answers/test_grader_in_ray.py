"""The grader inside a Ray actor: its worker processes start there, answer, and leave the actor alive."""

import pytest

from shared.answers import Verdict


@pytest.mark.slow
def test_a_ray_actor_grades_symbols_and_survives_a_stuck_pair():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote(num_cpus=1)
        class Rewarder:
            def verdict(self, pred: str, gold: str, seconds: float) -> str:
                from shared.answers import grade

                return grade(gold, pred, timeout_seconds=seconds).verdict.value

        rewarder = Rewarder.remote()
        integral = r"\int_0^1 x^2 \, dx"

        def ask(pred: str, gold: str, seconds: float) -> Verdict:
            return Verdict(ray.get(rewarder.verdict.remote(pred, gold, seconds), timeout=240))

        assert ask(r"\frac13", integral, 60) is Verdict.CORRECT
        assert ask("12", r"\int_0^{\infty} e^{9^{9^{9^9}}} dx", 1.0) is Verdict.TIMEOUT
        assert ask(r"\frac12", integral, 60) is Verdict.WRONG
        assert ask("5 cm", "5 m", 1.0) is Verdict.WRONG
    finally:
        ray.shutdown()
