"""Numbers for the preview's drawings: bars of counted words, and histograms of lengths and rates. No drawing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

MOST_BARS = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, its count, and its share of the longest one (0 to 1)."""

    name: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A titled list of bars; `upright` for histograms, whose order has a meaning. `note` says what was counted."""

    title: str
    note: str
    bars: list[Bar]
    upright: bool = False


def counted(title: str, note: str, values: pl.Series) -> Chart | None:
    """Count words; beyond `MOST_BARS` the rest becomes one bar. None where there is nothing to count."""
    counts = values.cast(pl.String).fill_null("none").value_counts(sort=True, name="count")
    pairs = [
        (str(word), int(count)) for word, count in counts.sort(["count", values.name], descending=[True, False]).rows()
    ]
    if not pairs or (len(pairs) == 1 and pairs[0][0] == "none"):
        return None
    rest = pairs[MOST_BARS:]
    if rest:
        pairs = [*pairs[:MOST_BARS], (f"{len(rest)} others", sum(count for _, count in rest))]
    return Chart(title, note, _bars(pairs))


def histogram(title: str, note: str, values: Sequence[float], bins: int = 16) -> Chart | None:
    """Count numbers in equal bins from the smallest to the 99th percentile; the last bin takes what lies beyond."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0:
        return None
    low, high = float(numbers.min()), float(np.percentile(numbers, 99))
    whole = bool(np.all(numbers == np.round(numbers)))
    if whole:
        high = float(np.ceil(high))
        bins = int(min(bins, max(1, high - low + 1)))
        width = max(1.0, np.ceil((high - low + 1) / bins))
    else:
        width = (high - low) / bins or 1.0
    place = np.clip(((numbers - low) / width).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    edges = [low + width * index for index in range(bins)]
    names = [f"{edge:.0f}" if whole else f"{edge:.2f}" for edge in edges]
    return Chart(title, note, _bars(list(zip(names, counts.tolist(), strict=True))), upright=True)


def _bars(pairs: list[tuple[str, int]]) -> list[Bar]:
    longest = max((count for _, count in pairs), default=1) or 1
    return [Bar(name, count, count / longest) for name, count in pairs]
