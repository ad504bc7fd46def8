"""Proportions of few trials: the exact interval and the distribution under it. Pure functions on numbers.

Input: trials and how many succeeded. Source: Clopper and Pearson 1934. Evaluation tells it beside an accuracy, the data
engine beside a pass rate.
"""

from __future__ import annotations


def exact_interval(correct: int, count: int) -> tuple[float, float]:
    """Clopper-Pearson 95% interval of a proportion; (0, 1) where there is no item."""
    from scipy.special import betaincinv

    tail = (1 - 0.95) / 2
    low = 0.0 if correct == 0 else float(betaincinv(correct, count - correct + 1, tail))
    high = 1.0 if correct == count else float(betaincinv(correct + 1, count - correct, 1 - tail))
    return low, high


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial."""
    from scipy.special import bdtr

    return float(bdtr(k, n, p))
