"""What changed between two versions: rows, by which step and rule, in which columns, and under which configuration.

Rows are the same row if source name and source key agree (a corrected question is a change, not one row less and one
more); where a key is not unique, the row's id decides. Pictures are compared by their hashes. Where a row went is
read from the ledgers: a removed row names the step and rule that removed it in B, an added one what had removed it in
A.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from shared.dataset_version import DatasetVersion, Manifest

SAMPLES = 5
_LINEAGE = {"id", "row_hash", "source_location", "source_revision"}
"""Columns whose change follows from another one, or says only where the same rows were read."""
_NO_RULE = ("source", "not in the source")


def compare(a: DatasetVersion, b: DatasetVersion, *, samples: int = SAMPLES) -> dict[str, Any]:
    """Compare two versions; return counts, samples, rules and configuration differences as JSON values."""
    left, right = _rows(a), _rows(b)
    for name in sorted({*left.columns} ^ {*right.columns}):  # `rating`, which only some versions have
        left, right = _with_column(left, right, name), _with_column(right, left, name)
    keys = _keys(left, right)
    left, right = left.with_columns(keys[0]), right.with_columns(keys[1])
    removed = left.join(right, on="_key", how="anti").sort("_key")
    added = right.join(left, on="_key", how="anti").sort("_key")
    changed, columns = _changed(left, right)
    in_a, in_b = removals(a), removals(b)
    by_a, by_b = _reasons(a), _reasons(b)
    return {
        "a": a.label,
        "b": b.label,
        "rows": {
            "a": left.height,
            "b": right.height,
            "added": added.height,
            "removed": removed.height,
            "changed": len(changed),
            "same": left.height - removed.height - len(changed),
        },
        "added_by": _because(added, by_a),
        "removed_by": _because(removed, by_b),
        "changed_columns": dict(columns.most_common()),
        "samples": {
            "added": _shown(added, by_a, samples),
            "removed": _shown(removed, by_b, samples),
            "changed": changed[:samples],
        },
        "rules": [
            {"step": step, "rule": rule, "removed_a": in_a[step, rule], "removed_b": in_b[step, rule]}
            for step, rule in sorted(in_a.keys() | in_b.keys())
        ],
        "configuration": configuration_differences(a.manifest, b.manifest),
    }


def configuration_differences(a: Manifest, b: Manifest) -> list[dict[str, Any]]:
    """Return the keys of recipe, inputs, models, prompts, packages and so on that differ, with both values."""
    left, right = _configuration(a), _configuration(b)
    return [
        {"key": key, "a": left.get(key), "b": right.get(key)}
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def _configuration(manifest: Manifest) -> dict[str, Any]:
    fields = manifest.model_dump(mode="json", include={"profile", "recipe", "packages", "code_commit"})
    fields["inputs"] = {entry.name: entry.model_dump(exclude={"name"}) for entry in manifest.inputs}
    fields["prompts"] = {prompt.name: prompt.sha256 for prompt in manifest.prompts}
    fields["models"] = {str(model.get("step", place)): model for place, model in enumerate(manifest.models)}
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        else:
            flat[path] = value

    walk(fields, "")
    return flat


def _rows(version: DatasetVersion) -> pl.DataFrame:
    return version.scan().select(pl.exclude("images")).collect()


def _with_column(frame: pl.DataFrame, other: pl.DataFrame, name: str) -> pl.DataFrame:
    """`frame` with a column that only `other` has, empty."""
    return frame if name in frame.columns else frame.with_columns(pl.lit(None, other.schema[name]).alias(name))


def _keys(left: pl.DataFrame, right: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    pair = pl.concat_str("source_name", "source_id", separator="/").alias("_key")
    found = left.select(pair).to_series(), right.select(pair).to_series()
    if all(keys.n_unique() == len(keys) for keys in found):
        return found
    return left["id"].alias("_key"), right["id"].alias("_key")


def _changed(left: pl.DataFrame, right: pl.DataFrame) -> tuple[list[dict[str, Any]], Counter[str]]:
    names = [name for name in left.columns if name != "_key" and name not in _LINEAGE]
    both = left.join(right, on="_key", how="inner", suffix="_b").sort("_key")
    differs = both.select("_key", *(pl.col(name).ne_missing(pl.col(f"{name}_b")).alias(name) for name in names))
    some = pl.any_horizontal(pl.col(name) for name in names)
    changed, columns = [], Counter[str]()
    values = both.filter(differs.select(some).to_series())
    for row, flags in zip(values.iter_rows(named=True), differs.filter(some).iter_rows(named=True), strict=True):
        there = [name for name in names if flags[name]]
        columns.update(there)
        changed.append(
            {
                "id": row["id_b"],
                "source_id": row["source_id"],
                "columns": {name: {"a": row[name], "b": row[f"{name}_b"]} for name in there},
            }
        )
    return changed, columns


def _reasons(version: DatasetVersion) -> dict[str, tuple[str, str]]:
    """Return (step, rule) by id and by source key of the rows that a version removed."""
    reasons: dict[str, tuple[str, str]] = {}
    for row in version.ledger().iter_rows(named=True):
        if row["removed"]:
            reasons[row["id"]] = reasons[f"/{row['source_id']}"] = (row["step"], row["rule"])
    return reasons


def _reason(row: dict[str, Any], reasons: dict[str, tuple[str, str]]) -> tuple[str, str]:
    return reasons.get(row["id"]) or reasons.get(f"/{row['source_id']}") or _NO_RULE


def _because(rows: pl.DataFrame, reasons: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    counts = Counter(_reason(row, reasons) for row in rows.select("id", "source_id").iter_rows(named=True))
    return [{"step": step, "rule": rule, "rows": count} for (step, rule), count in counts.most_common()]


def _shown(rows: pl.DataFrame, reasons: dict[str, tuple[str, str]], samples: int) -> list[dict[str, Any]]:
    shown = rows.head(samples).select("id", "source_id", "question", "answer").iter_rows(named=True)
    return [row | dict(zip(("step", "rule"), _reason(row, reasons), strict=True)) for row in shown]


def removals(version: DatasetVersion) -> Counter[tuple[str, str]]:
    """Return how many rows each (step, rule) removed."""
    return Counter((row["step"], row["rule"]) for row in version.ledger().iter_rows(named=True) if row["removed"])
