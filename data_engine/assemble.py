"""Assemble: join what the steps found, apply the thresholds, and keep one ledger of what was removed and why.

Input: the ingested rows, the steps' annotation frames, the thresholds. Output: the kept rows with types, captions
and answer kinds filled in, and the ledger: exactly one entry per removed row (the first step that removes it; every
other finding stands in its evidence under `also`), and one per kept row that came near a threshold. So records read =
rows kept + removed entries, always. A duplicate is removed only while the row that it repeats is kept: where that one
leaves for another reason, the first of its duplicates stays in its place.
Not covered: computing anything about rows (steps).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_engine.intake.ingest import ledger_frame
from data_engine.step import StepResult, by_image
from data_engine.step_order import STEP_ORDER

if TYPE_CHECKING:
    import polars as pl

    from data_engine.recipe_settings import AssembleSettings


@dataclass(frozen=True)
class Finding:
    """What one rule says about one row."""

    step: str
    rule: str
    removes: bool
    benchmark: str | None = None
    item: str | None = None
    score: float | None = None
    evidence: Mapping[str, Any] | None = None

    def short(self) -> dict[str, Any]:
        """The finding without its evidence."""
        values = {"step": self.step, "rule": self.rule, "removes": self.removes, "benchmark": self.benchmark}
        return {**values, "item": self.item, "score": self.score}


@dataclass(frozen=True)
class Assembled:
    """The decision: kept rows, the ledger of this stage, removed rows per step, and findings per row for `why`."""

    rows: pl.DataFrame
    ledger: pl.DataFrame
    removed: Mapping[str, int]
    near_misses: int
    findings: Mapping[str, list[Finding]]


def assemble(
    rows: pl.DataFrame,
    results: Mapping[str, StepResult],
    settings: AssembleSettings,
    item_names: Mapping[tuple[str, str], str],
    stands: Mapping[str, str] | None = None,
    *,
    fill: bool = True,
) -> Assembled:
    """Decide about every row.

    Args:
        rows: The rows.
        results: What the steps found about them.
        settings: Thresholds.
        item_names: (benchmark, item id) to the benchmark's own key, which the ledger shows.
        stands: From `stand_ins`, where `rows` are a part of all rows; None: they are all.
        fill: Whether kept rows get their answer kinds, types and captions.

    """
    import polars as pl

    findings: dict[str, list[Finding]] = defaultdict(list)
    for identity, finding in _found(rows, results, settings, item_names):
        findings[identity].append(finding)
    if "dedup_minhash" in results:
        if stands is None:
            gone = [identity for identity, found in findings.items() if any(f.removes for f in found)]
            copies = results["dedup_minhash"].annotations.select("id", "duplicate_of", "score")
            left = pl.col("duplicate_of").is_in(gone) & ~pl.col("id").is_in(gone)
            stands = stand_ins(copies.filter(left), settings)
        for identity, finding in _duplicates(results["dedup_minhash"].annotations, settings, stands):
            findings[identity].append(finding)
    removed: dict[str, int] = defaultdict(int)
    entries, kept_near, out = [], 0, set()
    sources = dict(rows.select("id", "source_id").iter_rows())
    for identity in sorted(findings):
        found = findings[identity]
        first = next((finding for finding in found if finding.removes), None)
        if first is not None:
            removed[first.step] += 1
            out.add(identity)
        else:
            first = max(found, key=lambda finding: finding.score or 0.0)
            kept_near += 1
        entries.append(_entry(identity, sources[identity], first, [other for other in found if other is not first]))
    kept = rows.filter(~pl.col("id").is_in(list(out)))
    return Assembled(
        rows=_filled(kept, results) if fill else kept,
        ledger=ledger_frame(entries),
        removed=dict(removed),
        near_misses=kept_near,
        findings=findings,
    )


def _entry(identity: str, source_id: str, finding: Finding, others: list[Finding]) -> dict[str, Any]:
    evidence = dict(finding.evidence or {})
    if others:
        evidence["also"] = [other.short() for other in others]
    return {
        "id": identity,
        "source_id": source_id,
        "step": finding.step,
        "rule": finding.rule,
        "removed": finding.removes,
        "benchmark": finding.benchmark,
        "item": finding.item,
        "score": finding.score,
        "evidence": json.dumps(evidence, ensure_ascii=False, sort_keys=True, default=str),
    }


_Findings = Iterator[tuple[str, Finding]]
"""Findings about rows, by their ids; those about one row in the order of their weight."""


def _found(
    rows: pl.DataFrame,
    results: Mapping[str, StepResult],
    settings: AssembleSettings,
    item_names: Mapping[tuple[str, str], str],
) -> _Findings:
    """What all steps but `dedup_minhash` found; of several findings that remove a row the first one counts."""
    frames = {name: result.annotations for name, result in results.items()}
    if "verify_answers" in frames:
        yield from _answers(frames["verify_answers"], settings)
    yield from _failures(rows, results, settings)
    if "caption_leaks" in frames:
        yield from _caption_leaks(frames["caption_leaks"])
    if "decontaminate_ngrams" in frames:
        yield from _overlaps(frames["decontaminate_ngrams"], settings, item_names)
    if "decontaminate_embeddings" in frames:
        yield from _cosines(frames["decontaminate_embeddings"], settings, item_names)
    for name, frame in frames.items():
        if name not in STEP_ORDER and {"id", "reason", "removes"} <= set(frame.columns):
            yield from _other_package(name, frame)


def _answers(found: pl.DataFrame, settings: AssembleSettings) -> _Findings:
    for row in found.filter(found["status"] == "unverifiable").iter_rows(named=True):
        evidence = {name: row[name] for name in ("answer_kind", "parsed", "self_accepts", "refuses_neighbour")}
        removes = settings.remove_unverifiable
        yield row["id"], Finding("verify_answers", row["reason"], removes, evidence=evidence)


def _failures(rows: pl.DataFrame, results: Mapping[str, StepResult], settings: AssembleSettings) -> _Findings:
    for step, result in results.items():
        if result.failures is None:
            continue
        by_id = "id" in result.failures.columns
        reasons = dict(result.failures.select("id" if by_id else "image_hash", "reason").iter_rows())
        for identity, hashes in rows.select("id", "image_hashes").iter_rows():
            reason = next((reasons[key] for key in ([identity] if by_id else hashes) if key in reasons), None)
            if reason is not None:
                yield identity, Finding(step, "failed", settings.remove_failed, evidence={"reason": reason})


def _caption_leaks(found: pl.DataFrame) -> _Findings:
    """Captions that give the answer away; what is done about them is the step's setting."""
    for row in found.filter(found["leaks"]).iter_rows(named=True):
        evidence = {name: row[name] for name in ("gold", "found", "span", "picture", "leaked")}
        evidence |= {
            "found_as": row["rule"],
            "caption_dropped": row["captions"] is not None and not any(row["captions"]),
        }
        yield row["id"], Finding("caption_leaks", "gives_answer_away", row["removes"], evidence=evidence)


def _overlaps(found: pl.DataFrame, settings: AssembleSettings, item_names: Mapping[tuple[str, str], str]) -> _Findings:
    order = ["id", "removes", "score", "benchmark", "item", "rule"]
    for row in found.sort(order, descending=[False, True, True, False, False, False]).iter_rows(named=True):
        evidence = json.loads(row["evidence"]) | {"benchmark_revision": row["benchmark_revision"]}
        item = item_names.get((row["benchmark"], row["item"]), row["item"])
        removes, score = settings.remove_overlaps and bool(row["removes"]), row["score"]
        yield row["id"], Finding("decontaminate_ngrams", row["rule"], removes, row["benchmark"], item, score, evidence)


def _cosines(found: pl.DataFrame, settings: AssembleSettings, item_names: Mapping[tuple[str, str], str]) -> _Findings:
    step, threshold = "decontaminate_embeddings", settings.cosine_threshold
    near = found.filter(found["score"] >= min(settings.cosine_near, threshold))
    for row in near.sort("id", "score", descending=[False, True]).iter_rows(named=True):
        item, score = item_names.get((row["benchmark"], row["item"]), row["item"]), row["score"]
        evidence = {"threshold": threshold, **json.loads(row["evidence"])}
        yield row["id"], Finding(step, "cosine", score >= threshold, row["benchmark"], item, score, evidence)


def _other_package(step: str, found: pl.DataFrame) -> _Findings:
    """What a step of another package gives as a reason."""
    for row in found.sort("id").iter_rows(named=True):
        identity, reason, removes = row.pop("id"), row.pop("reason"), row.pop("removes")
        if reason:
            yield identity, Finding(step, str(reason), bool(removes), evidence=row)


def stand_ins(copies: pl.DataFrame, settings: AssembleSettings) -> dict[str, str]:
    """Which row stays in the place of one that left: by the id of each row that repeats it, its own for the first.

    `copies` (`id`, `duplicate_of`, `score`) are the duplicates that do not leave for another reason, while the row that
    they repeat does.
    """
    first: dict[str, str] = {}
    return {
        identity: first.setdefault(original, identity)
        for identity, original, score in copies.sort("id").iter_rows()
        if score >= settings.jaccard_threshold
    }


def _duplicates(found: pl.DataFrame, settings: AssembleSettings, stands: Mapping[str, str]) -> _Findings:
    for row in found.sort("id").iter_rows(named=True):
        original = row["duplicate_of"]
        removes = row["score"] >= settings.jaccard_threshold
        evidence = {**json.loads(row["evidence"]), "cluster": row["cluster"]}
        stays = stands.get(row["id"])
        if stays == row["id"]:
            removes = False
            evidence["kept_because"] = f"{original} left for another reason"
        elif stays is not None:
            evidence["repeats"] = original
            original = stays
        yield row["id"], Finding("dedup_minhash", "duplicate", removes, None, original, row["score"], evidence)


def _filled(rows: pl.DataFrame, results: Mapping[str, StepResult]) -> pl.DataFrame:
    """Put answer kinds, types and captions into their columns, and the policy's pass rates into one of their own."""
    import polars as pl

    from shared.schema import RATING_STRUCT

    if "verify_answers" in results:
        kinds = results["verify_answers"].annotations.select("id", kind="answer_kind")
        rows = rows.join(kinds, on="id", how="left", maintain_order="left")
        rows = rows.with_columns(answer_kind=pl.col("kind").fill_null("")).drop("kind")
    for step, column, source in (
        ("type_images", "image_types", "image_type"),
        ("caption_images", "captions", "caption"),
    ):
        result = results.get(step)
        if result is None or result.annotations.height == 0:
            continue
        known = by_image(result.annotations)
        values = [
            [(known(sha256, question, choices) or {}).get(source) for sha256 in hashes]
            for question, choices, hashes in rows.select("question", "choices", "image_hashes").iter_rows()
        ]
        rows = rows.with_columns(pl.Series(column, values, dtype=pl.List(pl.String)))
    leaks = results.get("caption_leaks")
    if leaks is not None:
        changed = dict(leaks.annotations.drop_nulls("captions").select("id", "captions").iter_rows())
        values = [changed.get(identity, held) for identity, held in rows.select("id", "captions").iter_rows()]
        rows = rows.with_columns(pl.Series("captions", values, dtype=pl.List(pl.String)))
    if "rate_difficulty" in results:
        names = [field.name for field in RATING_STRUCT]
        rates = results["rate_difficulty"].annotations.select("id", pl.struct(names).alias("rating"))
        rows = rows.join(rates, on="id", how="left", maintain_order="left")
    return rows
