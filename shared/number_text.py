"""Numbers in the words of people: durations, sizes, paces."""

from __future__ import annotations

from collections.abc import Mapping


def clock_text(seconds: float) -> str:
    """A running clock: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def human_seconds(seconds: float) -> str:
    """Return a duration in the largest two units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def human_bytes(count: float) -> str:
    """Return a size in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def rate_text(count: float, seconds: float, unit: str) -> str:
    """A pace for people, such as `21 images/s`."""
    pace = count / seconds
    if unit == "bytes":
        return f"{human_bytes(pace)}/s"
    return f"{pace:,.0f} {unit}/s" if pace >= 10 else f"{pace:.2g} {unit}/s"


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts by name in one line."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
