"""Proportions of few trials: the exact interval and the distribution under it. Pure functions on numbers.

Input: trials and how many succeeded. Source: Clopper and Pearson 1934. Evaluation tells it beside an accuracy, the data
engine beside a pass rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def exact_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a proportion; (0, 1) where there is no item."""
    if count == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if correct == 0 else _bisect(lambda p: 1 - binomial_cdf(correct - 1, count, p) - tail)
    high = 1.0 if correct == count else _bisect(lambda p: tail - binomial_cdf(correct, count, p))
    return low, high


def _bisect(function: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial: the incomplete beta function I(1 - p; n - k, k + 1)."""
    if k < 0 or p >= 1:
        return 0.0 if k < n else 1.0
    if k >= n or p <= 0:
        return 1.0
    return _incomplete_beta(1 - p, n - k, k + 1)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function for 0 < x < 1 (continued fraction, DLMF 8.17.22, by Lentz's method)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)  # where the fraction converges fast
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    d = 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    c, fraction = 1.0, d
    for m in range(1, 10_000):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 + factor * d, 1 + factor / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(front) * fraction / a
