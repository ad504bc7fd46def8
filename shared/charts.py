"""Charts as inline SVG, drawn by this project: no script, no font and no file from elsewhere.

Input: points per run. Output: markup whose colours are the page's CSS variables, so that it follows light and dark.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 920, 224
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 44
_LETTER = 7
"""Width of a letter of a label, about."""


@dataclass(frozen=True)
class Series:
    """One run's points (step within the run, value) of one metric, and the page's colour number."""

    name: str
    colour: int
    points: Sequence[tuple[int, float]]
    start: int = 0
    """Steps trained before this run: those of the run that it went on from."""


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values that span [low, high], about so many: steps of 1, 2 or 5 times a power of ten."""
    if not math.isfinite(low) or not math.isfinite(high) or high <= low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def smoothed(values: Sequence[float], half: int) -> list[float]:
    """Centred moving average over at most `2 half + 1` values."""
    windows = (values[max(0, place - half) : place + half + 1] for place in range(len(values)))
    return [statistics.fmean(window) for window in windows]


def line_chart(series: Sequence[Series], title: str) -> str:
    """Runs along one axis of steps, one behind another where it went on from there, else over each other.

    A faint line of values, a strong one of their moving average.
    """
    series = [one for one in series if one.points]
    values = [value for one in series for _, value in one.points]
    if not values:
        return ""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    marks = ticks(low, high)
    low, high = min(low, marks[0]), max(high, marks[-1])
    total = max(one.start + _length(one) for one in series)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over steps">',
        f"<title>{escape(title)} over training steps</title>",
    ]
    for mark in marks:
        y = _y(mark, low, high)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(mark)}</text>')
    parts += _step_axis(total)
    apart = all(
        first.start + _length(first) <= second.start or second.start + _length(second) <= first.start
        for first, second in itertools.combinations(series, 2)
    )
    for place, one in enumerate(series):
        middle = one.start + _length(one) / 2 if apart else total * (place + 0.5) / len(series)
        room = _x(_length(one), total) - LEFT if apart else (WIDTH - LEFT - RIGHT) / len(series)
        parts += _run(one, total, low, high, _x(middle, total), room=room)
    parts.append("</svg>")
    return "".join(parts)


def _length(one: Series) -> int:
    return max(step for step, _ in one.points)


def _step_axis(total: int) -> list[str]:
    """Round numbers of steps under the chart, and what they count at its left."""
    floor = HEIGHT - BOTTOM
    parts = [f'<text class="tick" x="{LEFT - 8}" y="{floor + 15}" text-anchor="end">steps</text>']
    for mark in (int(mark) for mark in ticks(0, total, 8) if mark <= total and mark == int(mark)):
        x = _x(mark, total)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{mark:,}</text>')
    return parts


def _run(one: Series, total: int, low: float, high: float, label_x: float, *, room: float) -> list[str]:
    start = _x(one.start, total)
    parts = [f'<g class="phase c{one.colour}">']
    if one.start:
        parts.append(f'<line class="border" x1="{start:.1f}" x2="{start:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    label = f"{one.name} · {_length(one)} steps"
    if room < _LETTER * len(label):
        label = one.name if room >= _LETTER * len(one.name) else f"{one.name[: max(int(room / _LETTER) - 1, 1)]}…"
    parts.append(f'<text class="label" x="{label_x:.1f}" y="{HEIGHT - 9}" text-anchor="middle">{escape(label)}</text>')
    values = [value for _, value in one.points]
    half = max(len(values) // 40, 1) if len(values) > 12 else 0
    for css, line in (("raw", values), ("mean", smoothed(values, half))) if half else (("mean", values),):
        points = " ".join(
            f"{_x(one.start + step, total):.1f},{_y(value, low, high):.1f}"
            for (step, _), value in zip(one.points, line, strict=True)
        )
        parts.append(f'<polyline class="{css}" points="{points}"/>')
    step, last = one.points[-1]
    x, y = _x(one.start + step, total), _y(smoothed(values, half)[-1], low, high)
    spoken = f"<title>{_short(last)} at step {step}</title>"
    parts.append(f'<circle class="end" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{spoken}</circle>')
    parts.append("</g>")
    return parts


def _x(step: float, total: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / max(total, 1)


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval_bar(points: float, stderr: float, widest: float) -> str:
    """A difference in percentage points with its 95% interval, on a scale of +-`widest`."""
    width, height, middle = 120, 16, 60

    def x(value: float) -> float:
        return middle + max(-1.0, min(1.0, value / widest)) * (middle - 6)

    low, high = x(points - 1.96 * stderr), x(points + 1.96 * stderr)
    css = "up" if points - 1.96 * stderr > 0 else "down" if points + 1.96 * stderr < 0 else "even"
    return (
        f'<svg class="interval {css}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="1" y2="{height - 1}"/>'
        f'<line class="span" x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8"/>'
        f'<circle cx="{x(points):.1f}" cy="8" r="3.5"/></svg>'
    )


def share_bar(accuracy: float, interval: Sequence[float] | None) -> str:
    """An accuracy between 0 and 1 as a bar, with its interval as a whisker where there is one."""
    width, height = 100, 12
    parts = [
        f'<svg class="share" viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">',
        f'<rect class="room" width="{width}" height="{height}"/>',
        f'<rect class="filled" width="{width * accuracy:.1f}" height="{height}"/>',
    ]
    if interval:
        low, high = (width * bound for bound in interval)
        parts.append(f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="6" y2="6"/>')
    return "".join(parts) + "</svg>"


def sparkline(values: Sequence[float]) -> str:
    """The curve in one line of text, for the terminal."""
    blocks, width = "▁▂▃▄▅▆▇█", 32
    if not values:
        return ""
    size = max(len(values) / width, 1)
    starts = [int(cell * size) for cell in range(min(width, len(values)))]
    cells = [values[start : max(int(start + size), start + 1)] for start in starts]
    means = [statistics.fmean(cell) for cell in cells if cell]
    low, high = min(means), max(means)
    span = high - low
    return "".join(blocks[round((value - low) / span * 7) if span > 1e-12 else 3] for value in means)
