"""Finds rows that repeat another row: near-equal words by MinHash, equal numbers, and the same pictures.

Writes, one row per duplicate: `id` (str), `duplicate_of` (str, the row that stays), `score` (float, exact Jaccard
similarity of the two texts), `cluster` (str, id of the first row of all that are connected), `conflict` (bool: the two
gold answers differ), `evidence` (str, JSON: both texts, how the pictures agree, both answers, why the other one stays).
Rows that repeat nothing have no entry.
Record: `duplicates` (scheme, bands and their recall at the threshold), `canaries` (kind -> planted, found, recall).

Texts are signed, put into buckets by key and checked pair by pair by the runner's workers; pictures are compared here,
among rows of near texts.

Which one stays: a row whose answer is verified, then the better source, then the smaller id. Every duplicate was
compared directly with the row that stays.
Not covered: paraphrases; the same figure drawn anew; cropped pictures (the canaries say how many are found).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_engine.decontamination import canaries
from data_engine.decontamination.benchmark_overlap import EXCERPT, FORMS, Problems
from data_engine.duplicates.groups import Duplicate, Rows, Rules, find_duplicates
from data_engine.duplicates.image_identity import MAX_BITS, MAX_CELL, image_print, image_prints
from data_engine.duplicates.minhash import NUM_PERM, SCHEME, SEED, Shingling, bands_for, describe, signed_texts
from data_engine.step import StepContext, StepResult
from data_engine.text_hash.text_cells import TEXTS_AT_ONCE
from shared.config import Strict
from shared.fingerprint import bytes_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars as pl

    from data_engine.duplicates.image_identity import ImagePrint
    from data_engine.duplicates.minhash import Bands

NAME = "dedup_minhash"


class Settings(Strict):
    """What counts as the same problem."""

    threshold: float = Field(default=0.8, gt=0, le=1, description="Smallest Jaccard similarity of two texts.")
    recall: float = Field(
        default=0.995, gt=0, lt=1, description="Chance that the bands propose a pair which is just at the threshold."
    )
    shingle: int = Field(default=5, ge=1, description="Tokens per shingle.")
    num_perm: int = Field(default=NUM_PERM, ge=8, le=512, description="Values of a MinHash signature at most.")
    same_numbers: bool = Field(
        default=True, description="Whether texts with one other number, sign, name or telling word are other problems."
    )
    max_bits: int = Field(
        default=MAX_BITS, ge=0, le=64, description="Bits (of 64) by which perceptual hashes of one picture may differ."
    )
    max_cell: int = Field(
        default=MAX_CELL,
        ge=0,
        le=255,
        description="Difference of thumbnails, in any cell, up to which it is one picture.",
    )
    prefer_sources: tuple[str, ...] = Field(default=(), description="Values of `source` whose rows stay, best first.")
    canaries: int = Field(default=20, ge=0, description="Planted copies per kind of edit; 0: none.")


def run(context: StepContext, settings: Settings) -> StepResult:
    """Compare the rows of `context.rows` with each other."""
    import polars as pl

    started = time.monotonic()
    shingling = Shingling("unicode_words", settings.shingle)
    bands = bands_for(settings.threshold, settings.recall, settings.num_perm)
    texts = _texts(context.rows)
    signed = signed_texts(context, texts, shingling, bands)
    columns = context.rows
    rows = Rows(
        texts,
        signed.value,
        [tuple(row or ()) for row in columns["image_hashes"].to_list()],
        [answer or "" for answer in columns["answer"].to_list()],
        _order(context, settings),
    )
    printed = [0, 0]

    def read_prints(hashes: Iterable[str]) -> Mapping[str, ImagePrint]:
        known = image_prints(context, hashes, context.images)
        printed[0], printed[1] = known.computed, known.reused
        return known.value

    rules = Rules(settings.threshold, settings.same_numbers, settings.max_bits, settings.max_cell)
    found, cut = find_duplicates(rows, read_prints, shingling, rules, context.runner)
    warnings = [f"{NAME}: {cut} crowds of near texts were too large and mixed to be compared in full"] if cut else []
    ids = context.rows["id"].to_list()
    entries = [_entry(duplicate, ids, context.rows["question"], rows.answers) for duplicate in found]
    planted = _canaries(context, settings.canaries, rows, (shingling, bands, rules)) if settings.canaries else []
    record = {
        "duplicates": {
            "scheme": SCHEME,
            "seed": SEED,
            "num_perm": bands.count * bands.rows,
            "shingle": settings.shingle,
            "bands": bands.count,
            "rows_per_band": bands.rows,
            "recall_at_threshold": round(bands.recall_at(settings.threshold), 5),
        },
        "canaries": {NAME: canaries.recall(planted)},
    }
    return StepResult(
        annotations=pl.DataFrame(entries, schema=_schema()).sort("id"),
        computed=signed.computed + printed[0],
        reused=signed.reused + printed[1],
        seconds=time.monotonic() - started,
        warnings=warnings,
        record=record,
    )


def _texts(rows: pl.DataFrame) -> pl.Series:
    """The words that are compared: question without image tags, with lettered options."""
    import polars as pl

    parts = [pl.Series("text", [], dtype=pl.String)]
    for start in range(0, rows.height, TEXTS_AT_ONCE):
        problems = Problems.of(rows[start : start + TEXTS_AT_ONCE])
        parts.append(_forms(problems))
    return pl.concat(parts)


def _forms(problems: Problems) -> pl.Series:
    import polars as pl

    return pl.Series("text", [problems.form(row, FORMS - 1) for row in range(len(problems))], dtype=pl.String)


def _order(context: StepContext, settings: Settings) -> list[int]:
    """Rank of each row: verified before not, sources in the order preferred, smaller id first."""
    verify = context.results.get("verify_answers")
    verified: set[str] = set()
    if verify is not None:
        verified = set(verify.annotations.filter(verify.annotations["status"] == "verified")["id"].to_list())
    place = {source: rank for rank, source in enumerate(settings.prefer_sources)}
    ids = context.rows["id"].to_list()
    sources = context.rows["source"].to_list() if "source" in context.rows.columns else [None] * len(ids)
    key = [(i not in verified, place.get(source or "", len(place)), i) for i, source in zip(ids, sources, strict=True)]
    rank = [0] * len(ids)
    for position, row in enumerate(sorted(range(len(ids)), key=lambda row: key[row])):
        rank[row] = position
    return rank


def _entry(duplicate: Duplicate, ids: Sequence[str], questions: pl.Series, answers: Sequence[str]) -> dict[str, Any]:
    ours, theirs = answers[duplicate.row], answers[duplicate.of]
    evidence = {
        "text": "equal" if duplicate.score == 1.0 else "near",
        "images": duplicate.images,
        "image_bits": duplicate.image_bits,
        "row": (questions[duplicate.row] or "")[:EXCERPT],
        "kept": (questions[duplicate.of] or "")[:EXCERPT],
        "answers": [ours[:EXCERPT], theirs[:EXCERPT]],
    }
    return {
        "id": ids[duplicate.row],
        "duplicate_of": ids[duplicate.of],
        "score": duplicate.score,
        "cluster": ids[duplicate.cluster],
        "conflict": ours.strip() != theirs.strip(),
        "evidence": json.dumps(evidence, ensure_ascii=False, sort_keys=True),
    }


def _schema() -> dict[str, Any]:
    import polars as pl

    return {
        "id": pl.String,
        "duplicate_of": pl.String,
        "score": pl.Float64,
        "cluster": pl.String,
        "conflict": pl.Boolean,
        "evidence": pl.String,
    }


def _canaries(
    context: StepContext, per_kind: int, rows: Rows, how: tuple[Shingling, Bands, Rules]
) -> list[tuple[str, bool]]:
    """Plant copies of rows beside their originals alone, and say of each whether it is found to repeat its original."""
    import polars as pl

    shingling, bands, rules = how
    problems = Problems.of(context.rows)
    ids = context.rows["id"].to_list()
    originals = [
        canaries.Original(i, q, tuple(c), p)
        for i, q, c, p in zip(ids, problems.questions, problems.choices, rows.pictures, strict=True)
    ]
    made = list(canaries.plant(originals, context.images.get, per_kind))
    outcome: list[tuple[str, bool]] = []
    for number in range(0, len(made), per_kind):
        some = made[number : number + per_kind]
        chosen = sorted({copy.original for copy in some})
        copies = Problems([copy.question for copy in some], [list(copy.choices) for copy in some])
        texts = pl.concat([rows.texts.gather(chosen), _forms(copies)])
        own = {bytes_hash(data): image_print(bytes_hash(data), data) for copy in some for data in copy.images}

        def read_prints(hashes: Iterable[str], own: dict[str, ImagePrint] = own) -> dict[str, ImagePrint]:
            return {**image_prints(context, set(hashes) - set(own), context.images).value, **own}

        both = Rows(
            texts,
            describe(texts, shingling, bands, numbers=True),
            [rows.pictures[row] for row in chosen] + [canaries.image_hashes(copy, originals) for copy in some],
            [rows.answers[row] for row in chosen] + [rows.answers[copy.original] for copy in some],
            range(len(texts)),
        )
        found = {duplicate.row for duplicate in find_duplicates(both, read_prints, shingling, rules)[0]}
        outcome.extend((copy.kind, len(chosen) + place in found) for place, copy in enumerate(some))
    return outcome
