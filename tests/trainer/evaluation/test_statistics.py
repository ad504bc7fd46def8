import itertools
import math
import random

import pytest

from shared.binomial import exact_interval
from trainer.evaluation.statistics import mcnemar, pass_at_k, standard_error


def test_standard_error_of_independent_scores_is_the_binomial_one():
    scores = [1.0] * 30 + [0.0] * 70
    assert standard_error(scores) == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_standard_error_of_repeated_clusters_is_that_of_the_distinct_problems():
    problems = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    five_times = [score for score in problems for _ in range(5)]
    clusters = [problem for problem in range(8) for _ in range(5)]
    assert standard_error(five_times, clusters) == pytest.approx(standard_error(problems))
    assert standard_error(five_times) < standard_error(problems) / 2


def test_standard_error_over_strata_of_equal_size_equals_the_plain_one_up_to_between_group_variance():
    scores = [1.0, 0.0, 1.0, 0.0]
    assert standard_error(scores, strata=["a", "a", "b", "b"]) == pytest.approx(standard_error(scores))


def test_standard_error_agrees_with_the_bootstrap():
    dice = random.Random(5)
    scores = [float(dice.random() < 0.4) for _ in range(400)]
    means = [sum(dice.choices(scores, k=400)) / 400 for _ in range(2000)]
    centre = sum(means) / len(means)
    spread = math.sqrt(sum((value - centre) ** 2 for value in means) / len(means))
    assert standard_error(scores) == pytest.approx(spread, rel=0.1)


def test_exact_interval_has_the_textbook_values():
    low, high = exact_interval(5, 10)
    assert (low, high) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    assert exact_interval(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert exact_interval(20, 20)[1] == 1.0
    assert exact_interval(0, 0) == (0.0, 1.0)
    low, high = exact_interval(1500, 3040)
    assert low < 1500 / 3040 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 3040), rel=0.05)


def test_pass_at_k_equals_the_average_over_all_draws():
    answers = [True, False, False, True, False]
    for k in range(1, 6):
        draws = list(itertools.combinations(answers, k))
        assert pass_at_k(5, 2, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


def test_pass_at_k_refuses_more_draws_than_samples():
    with pytest.raises(ValueError, match="k=6 of 5"):
        pass_at_k(5, 2, 6)


def test_mcnemar_counts_discordant_items_and_gives_the_exact_p_value():
    first = [True] * 8 + [False] * 2 + [True] * 10
    second = [False] * 8 + [True] * 2 + [True] * 10
    test = mcnemar(first, second)
    assert (test.n, test.only_first, test.only_second) == (20, 8, 2)
    assert test.difference == pytest.approx(-0.3)
    assert test.p_value == pytest.approx(2 * sum(math.comb(10, i) for i in range(3)) / 2**10)


def test_equal_results_differ_by_nothing_with_certainty():
    test = mcnemar([True, False, True], [True, False, True])
    assert (test.difference, test.stderr, test.p_value) == (0.0, 0.0, 1.0)


def test_versions_of_one_problem_are_not_taken_for_independent_wins():
    first, second = [False] * 20, [True] * 10 + [False] * 10
    alone = mcnemar(first, second)
    together = mcnemar(first, second, [number // 5 for number in range(20)])
    assert (alone.test, together.test) == ("McNemar", "clustered z")
    assert alone.p_value == pytest.approx(2 / 2**10)
    assert together.p_value > 10 * alone.p_value
    assert mcnemar(first, second, list(range(20))).test == "McNemar"
