"""Statistics of evaluation results: standard errors, exact intervals, pass@k, paired tests. Pure functions on numbers.

Input: scores in [0, 1] per item, with the cluster each belongs to. Sources: Miller 2024, "Adding error bars to evals"
(arXiv 2411.00640) for clustered standard errors; McNemar 1947 for two models on the same items; Chen et al. 2021
(arXiv 2107.03374) for the unbiased pass@k. The exact interval of a proportion is `shared.binomial`'s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from shared.binomial import binomial_cdf


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0


def standard_error(
    scores: Sequence[float], clusters: Sequence[Hashable] | None = None, strata: Sequence[Hashable] | None = None
) -> float:
    """Standard error of the mean score, robust to clusters of related items.

    `clusters` names the group of each score (the five versions of one MathVerse problem, the samples of one prompt);
    without it every score stands alone and the result is sqrt(p (1 - p) / (n - 1)) for scores of 0 and 1. With
    `strata` the mean is the mean of the strata's means (MathVerse: versions). 0 for fewer than two clusters.
    """
    count = len(scores)
    if count < 2:
        return 0.0
    strata = strata if strata is not None else [0] * count
    by_stratum: dict[Hashable, list[float]] = defaultdict(list)
    for score, stratum in zip(scores, strata, strict=True):
        by_stratum[stratum].append(score)
    centre = {stratum: mean(values) for stratum, values in by_stratum.items()}
    weight = {stratum: 1 / (len(by_stratum) * len(values)) for stratum, values in by_stratum.items()}
    residuals: dict[Hashable, float] = defaultdict(float)
    names = clusters if clusters is not None else range(count)
    for score, stratum, cluster in zip(scores, strata, names, strict=True):
        residuals[cluster] += weight[stratum] * (score - centre[stratum])
    groups = len(residuals)
    if groups < 2:
        return 0.0
    return math.sqrt(groups / (groups - 1) * math.fsum(value * value for value in residuals.values()))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that at least one of `k` answers drawn without replacement from `samples` is correct.

    Unbiased estimator 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, equation 1).

    Raises:
        ValueError: k is not between 1 and the number of samples.

    """
    if not 1 <= k <= samples:
        message = f"pass@k needs 1 <= k <= samples, not k={k} of {samples} samples"
        raise ValueError(message)
    if samples - correct < k:
        return 1.0
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two results on the same items.

    `only_first` and `only_second` count items that just one of them got right; `difference` is second minus first,
    `stderr` its paired standard error, `p_value` the two-sided one of `test`.
    """

    n: int
    only_first: int
    only_second: int
    difference: float
    stderr: float
    p_value: float
    test: str


def mcnemar(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> PairedTest:
    """McNemar's exact test: given the discordant items, each side wins one with probability one half.

    Where items share clusters (versions of one problem) that does not hold, and the p value is the normal one of the
    difference over its cluster-robust standard error (Miller 2024, section 4.2).

    Raises:
        ValueError: the two sequences differ in length.

    """
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    differences = [float(b) - float(a) for a, b in pairs]
    discordant = only_first + only_second
    p_value = min(1.0, 2 * binomial_cdf(min(only_first, only_second), discordant, 0.5)) if discordant else 1.0
    error, test = standard_error(differences, clusters), "McNemar"
    if clusters is not None and len(set(clusters)) < len(pairs) and error > 0:
        p_value, test = math.erfc(abs(mean(differences)) / error / math.sqrt(2)), "clustered z"
    return PairedTest(len(pairs), only_first, only_second, mean(differences), error, p_value, test)
