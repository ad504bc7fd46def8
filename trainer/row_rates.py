"""Pass rates of rows: which rows a phase keeps by them, how many those are, and in which order they come.

Input: a dataset version and a phase's `data.pass_rate_column`, `min_pass_rate`, `max_pass_rate`, `rate_weight`.
Output: a row's rate, why it does not train, counts for the plan. A column is named with its field:
`difficulty.pass_rate_large` is the source's, `rating.pass_rate` the policy's own (step `rate_difficulty`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError, did_you_mean
from trainer.phase_settings import SOURCE_RATE, DataSettings

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion

LEAST_WEIGHT = 0.01
"""Weight of a row that is always or never passed: last, and not for ever (its rate is an estimate from few answers)."""
UNKNOWN_WEIGHT = 0.125
"""Weight of a row whose rate is not known: half of the largest, p (1 - p) = 0.25."""


def filters(data: DataSettings) -> bool:
    """Whether a bound is set."""
    return data.min_pass_rate > 0 or data.max_pass_rate < 1


def rate_column(data: DataSettings) -> str:
    """Column to read for the rate: the name before the dot."""
    return data.pass_rate_column.split(".")[0]


def check_rate_column(version: DatasetVersion, data: DataSettings) -> None:
    """Refuse a column that the version does not have.

    Raises:
        InfiMmrError: no such column or field; names the nearest, or how the policy's own rates come to be.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data.pass_rate_column == SOURCE_RATE or not version.files():
        return
    schema = pq.read_schema(version.files()[0])
    known = [
        f"{field.name}.{inner.name}"
        for field in schema
        if pa.types.is_struct(field.type)
        for inner in field.type
        if pa.types.is_floating(inner.type)
    ]
    known += [field.name for field in schema if pa.types.is_floating(field.type)]
    if data.pass_rate_column in known:
        return
    hint = did_you_mean(data.pass_rate_column, known)
    if data.pass_rate_column.startswith("rating."):
        hint = "Build it with the step rate_difficulty, e.g. --set steps.rate_difficulty.engine.model=CHECKPOINT"
    raise InfiMmrError(f"dataset {version.manifest.label} has no column {data.pass_rate_column}", hint)


def rate_of(row: Mapping[str, Any], data: DataSettings) -> float | None:
    """Pass rate of a row; None where it is not known."""
    value: Any = row
    for name in data.pass_rate_column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def rate_reason(rate: float | None, data: DataSettings) -> str:
    """Why a row with this rate does not train, as one word; empty when it does."""
    if rate is None:
        return "no_pass_rate" if filters(data) and data.pass_rate_column != SOURCE_RATE else ""
    return "" if data.min_pass_rate <= rate <= data.max_pass_rate else "pass_rate"


def rows_in_range(version: DatasetVersion, data: DataSettings) -> int:
    """Rows of a version that the bounds keep, read from the column alone."""
    import pyarrow.parquet as pq

    check_rate_column(version, data)
    kept = 0
    for file in version.files():
        rows = pq.read_table(file, columns=[rate_column(data)]).to_pylist()
        kept += sum(not rate_reason(rate_of(row, data), data) for row in rows)
    return kept


def range_text(data: DataSettings) -> str:
    """The bounds in words."""
    return f"{data.pass_rate_column} from {data.min_pass_rate:g} to {data.max_pass_rate:g}"


def draw_order(rates: Sequence[float | None], order: random.Random) -> list[int]:
    """Positions in the order of one pass, drawn without putting back by the variance p (1 - p) of their rates.

    Source of the draw: Efraimidis and Spirakis 2006, a key u ** (1 / weight) per position, largest first.
    """
    keys = [order.random() ** (1 / _weight(rate)) for rate in rates]
    return sorted(range(len(rates)), key=keys.__getitem__, reverse=True)


def _weight(rate: float | None) -> float:
    return UNKNOWN_WEIGHT if rate is None else max(rate * (1 - rate), LEAST_WEIGHT)
