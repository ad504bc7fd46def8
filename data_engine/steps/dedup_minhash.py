"""Finds rows that repeat another row: near-equal words by MinHash, equal numbers, and the same pictures.

Writes, one row per duplicate: `id` (str), `duplicate_of` (str, the row that stays), `score` (float, exact Jaccard
similarity of the two texts), `cluster` (str, id of the first row of all that are connected), `conflict` (bool: the two
gold answers differ), `evidence` (str, JSON: both texts, how the pictures agree, both answers, why the other one stays).
Rows that repeat nothing have no entry.
Record: `duplicates` (scheme, bands and their recall at the threshold), `planted_duplicates` (kind -> planted, found,
recall).

Texts are signed, put into buckets by key and checked pair by pair by the runner's workers; pictures are compared here,
among rows of near texts.

Which one stays: a row whose answer is verified, then the better source, then the smaller id. Every duplicate was
compared directly with the row that stays.
Not covered: paraphrases; the same figure drawn anew; cropped pictures (planted duplicates say how many are found).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from data_engine.ask_blocks import as_one_block
from data_engine.blocks import GROUP_ROWS, Parts, RowBlocks, over, without_runner
from data_engine.cell_counts import CellNotes, noted
from data_engine.decontamination import planting
from data_engine.decontamination.benchmark_overlap import EXCERPT, FORMS, Problems
from data_engine.duplicates.groups import Duplicate, Rows, Rules, find_duplicates
from data_engine.duplicates.image_identity import MAX_BITS, MAX_CELL, ImagePrint, image_print, image_prints
from data_engine.duplicates.minhash import (
    NUM_PERM,
    SCHEME,
    SEED,
    Bands,
    Shingling,
    TextTable,
    bands_for,
    describe,
    signed_texts,
)
from data_engine.duplicates.similar_texts import PRIME, linked
from data_engine.step import StepContext, StepResult
from data_engine.text_hash.text_cells import TEXTS_AT_ONCE, text_key
from shared.config import Strict
from shared.fingerprint import bytes_hash

if TYPE_CHECKING:
    import polars as pl

    from shared.store import Store

NAME = "dedup_minhash"
READS = ("verify_answers",)
"""What decides its findings beside rows and settings: see `data_engine.kept_stages`."""


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
        default=MAX_BITS, ge=0, le=64, description="Bits (of 64) by which perceptual hashes of one image may differ."
    )
    max_cell: int = Field(
        default=MAX_CELL,
        ge=0,
        le=255,
        description="Difference of thumbnails, in any cell, up to which it is one image.",
    )
    prefer_sources: tuple[str, ...] = Field(default=(), description="Values of `source` whose rows stay, best first.")
    planted_duplicates: int = Field(
        default=20, ge=0, validation_alias=planting.NAMES, description="Planted duplicates per kind of edit; 0: none."
    )


def run(context: StepContext, settings: Settings) -> StepResult:
    """Compare the rows of `context.rows` with each other."""
    found = as_one_block(run_blocks, context, settings)
    return replace(found, annotations=found.annotations.drop("row", "of_row"))


def _record(settings: Settings, bands: Bands, planted: list[tuple[str, bool]]) -> dict[str, Any]:
    return {
        "duplicates": {
            "scheme": SCHEME,
            "seed": SEED,
            "num_perm": bands.count * bands.rows,
            "shingle": settings.shingle,
            "bands": bands.count,
            "rows_per_band": bands.rows,
            "recall_at_threshold": round(bands.recall_at(settings.threshold), 5),
        },
        "planted_duplicates": {NAME: planting.recall(planted)},
    }


@dataclass(frozen=True)
class _Job:
    """What a worker is told: the build, the settings, where rows lie and, once known, which of them are linked.

    Attributes:
        context: Its rows are those of one block or bucket.
        settings: The step's.
        blocks: The rows.
        scratch: Where parts of this step lie.
        verified: Parts of `verify_answers`; None where it did not run.
        bucket: int32 [rows], bucket of each row that is linked with another, -1 for the others.
        buckets: Number of buckets.

    """

    context: StepContext
    settings: Settings
    blocks: RowBlocks
    scratch: Store
    verified: Parts | None
    bucket: Any = None
    buckets: int = 0

    def at(self, name: str) -> Parts:
        """Parts of one kind."""
        return Parts(self.scratch, f"{NAME}.{name}")

    @property
    def notes(self) -> CellNotes:
        """Cells that blocks, then buckets, looked for."""
        return CellNotes(self.at("cells"), len(self.blocks.heights))

    @property
    def how(self) -> tuple[Shingling, Bands, Rules]:
        """Shingles, bands and rules of the settings."""
        settings = self.settings
        bands = bands_for(settings.threshold, settings.recall, settings.num_perm)
        rules = Rules(settings.threshold, settings.same_numbers, settings.max_bits, settings.max_cell)
        return Shingling("unicode_words", settings.shingle), bands, rules


def run_blocks(context: StepContext, blocks: RowBlocks, settings: Settings) -> StepResult:
    """Compare rows in blocks; annotations in parts, with `row` and `of_row` (numbers among all rows)."""
    import polars as pl

    verify = context.results.get("verify_answers")
    job = _Job(without_runner(context), settings, blocks, blocks.store, verify.parts if verify is not None else None)
    runner, task = context.runner, context.progress.task(NAME, 3 * blocks.height)
    signed = list(over(runner, _sign_block, blocks.numbers, job, task=task))
    root = linked(runner, job.at("keys"), len(blocks.heights), job.how[1].count, blocks.height)
    members = np.bincount(root, minlength=1) > 1
    alone = ~members[root] if len(root) else members[:0]
    buckets = 1 + int(len(root) - alone.sum()) // GROUP_ROWS
    bucket = (root % buckets).astype(np.int32)
    bucket[alone] = -1
    job = replace(job, bucket=bucket, buckets=buckets)
    del root, members, alone
    list(over(runner, _pick_linked, blocks.numbers, job, task=task))
    slim = replace(job, bucket=None)
    found = list(over(runner, _compare_bucket, range(buckets), slim, away=len(blocks.heights) > 1))
    cut = sum(one["cut"] for one in found)
    list(over(runner, _gather_block, blocks.numbers, slim, task=task))
    planted = _plant_in_blocks(slim, [one["draws"] for one in signed]) if settings.planted_duplicates else []
    for name, numbers in (("keys", blocks.numbers), ("linked", blocks.numbers), ("found", range(buckets))):
        job.at(name).delete(numbers)
    task.done()
    computed, reused = job.notes.count(runner, range(len(blocks.heights) + buckets))
    return StepResult(
        annotations=pl.DataFrame([], schema=_schema()),
        computed=computed,
        reused=reused,
        warnings=[f"{NAME}: {cut} crowds of near texts were too large and mixed to be compared in full"] if cut else [],
        record=_record(settings, job.how[1], planted),
        parts=job.at("parts"),
    )


def _sign_block(block: int, job: _Job) -> dict[str, Any]:
    """Sign the texts of a block; keep what tells which rows could be alike."""
    import polars as pl

    rows = job.blocks.read(block, ["id", "question", "choices", "image_hashes"])
    shingling, bands, rules = job.how
    texts = _texts(rows)
    signed = signed_texts(replace(job.context, first=job.notes.first(block)), texts, shingling, bands)
    table = signed.value
    group = rows["image_hashes"].list.len().to_numpy().astype(np.uint64) * PRIME
    if rules.same_numbers:
        group += table.numbers
    like = table.text ^ (group * PRIME)
    for row in np.flatnonzero(table.text == 0).tolist():  # no words: as `find_duplicates` joins such rows
        count = len(rows["image_hashes"][row])
        like[row] = int(text_key(str(count), "" if count else texts[row].strip())[:16], 16)
    keys = {f"k{band}": key for band, key in enumerate(table.keys)}
    columns = {"like": like, "text": table.text, "group": group, "numbers": table.numbers, **keys}
    job.at("keys").write(block, pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.UInt64)))
    job.notes.write(block, signed.cells)
    draws = planting.draws(planting.Original.of(rows), job.context.images.get, job.settings.planted_duplicates)
    return {"rows": rows.height, "draws": draws}


def _pick_linked(block: int, job: _Job) -> dict[str, Any]:
    """Put the rows of a block that are linked with others into buckets."""
    import polars as pl

    first, last = job.blocks.starts[block : block + 2].tolist()
    chosen = np.flatnonzero(job.bucket[first:last] >= 0)
    columns = ["id", "question", "choices", "image_hashes", "answer", "source"]
    rows = job.blocks.read(block, columns)[chosen]
    verified = pl.Series("verified", [], dtype=pl.String)
    if job.verified is not None:
        known = job.verified.read(block, ["id", "status"])
        verified = known.filter(pl.col("status") == "verified")["id"]
    rows = rows.with_columns(row=pl.Series(chosen + first), verified=pl.col("id").is_in(verified.implode()))
    rows = rows.hstack(job.at("keys").read(block)[chosen].drop("like", "group"))
    job.at("linked").write_grouped(block, rows, job.bucket[first:last][chosen].astype(np.int64), job.buckets)
    return {"rows": last - first}


def _compare_bucket(bucket: int, job: _Job) -> dict[str, Any]:
    """Find the duplicates among the rows of a bucket; write them by block."""
    import polars as pl

    frame = job.at("linked").read_group(job.blocks.numbers, bucket).sort("id")
    shingling, bands, rules = job.how
    keys = np.stack([frame[f"k{band}"].to_numpy() for band in range(bands.count)])
    answers = [answer or "" for answer in frame["answer"].to_list()]
    rows = Rows(
        _texts(frame),
        TextTable(frame["text"].to_numpy(), frame["numbers"].to_numpy(), keys),
        [tuple(row or ()) for row in frame["image_hashes"].to_list()],
        answers,
        _ranks(frame, job.settings),
    )
    printed, number = [noted((), ())], len(job.blocks.heights) + bucket
    context = replace(job.context, first=job.notes.first(number))

    def read_prints(hashes: Iterable[str]) -> Mapping[str, ImagePrint]:
        known = image_prints(context, hashes, context.images)
        printed.append(known.cells)
        return known.value

    found, cut = find_duplicates(rows, read_prints, shingling, rules)
    entries = pl.DataFrame([_entry(one, frame, answers) for one in found], schema=_schema())
    block = np.searchsorted(job.blocks.starts, entries["row"].to_numpy(), side="right") - 1
    job.at("found").write_grouped(bucket, entries, block, len(job.blocks.heights))
    job.notes.write(number, pl.concat(printed))
    return {"cut": cut}


def _gather_block(block: int, job: _Job) -> dict[str, Any]:
    """Bring the duplicates of a block together."""
    job.at("parts").write(block, job.at("found").read_group(range(job.buckets), block).sort("id"))
    return {"rows": job.blocks.heights[block]}


def _plant_in_blocks(job: _Job, draws: Sequence[Mapping[str, Sequence[tuple[str, int]]]]) -> list[tuple[str, bool]]:
    """`_found_duplicates` of all rows, given each block's first draws of a kind: only rows that are drawn are read."""
    import polars as pl

    kinds: dict[str, list[tuple[str, int, int]]] = {}
    for block, found in enumerate(draws):
        for kind, some in found.items():
            kinds.setdefault(kind, []).extend((drawn, block, place) for drawn, place in some)
    per_kind = job.settings.planted_duplicates
    chosen = {(block, place) for some in kinds.values() for _, block, place in sorted(some)[:per_kind]}
    columns = ["id", "question", "choices", "image_hashes", "answer"]
    frames = [
        job.blocks.read(block, columns)[sorted(place for number, place in chosen if number == block)]
        for block in sorted({block for block, _ in chosen})
    ]
    if not frames:
        return []
    return _found_duplicates(job, pl.concat(frames).sort("id"))


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


def _ranks(rows: pl.DataFrame, settings: Settings) -> list[int]:
    """Rank of each row: verified before not, sources in the order preferred, smaller id first."""
    place = {source: rank for rank, source in enumerate(settings.prefer_sources)}
    told = rows.select("verified", "source", "id").iter_rows()
    key = [(not verified, place.get(source or "", len(place)), identity) for verified, source, identity in told]
    rank = [0] * len(key)
    for position, row in enumerate(sorted(range(len(key)), key=key.__getitem__)):
        rank[row] = position
    return rank


def _entry(duplicate: Duplicate, rows: pl.DataFrame, answers: Sequence[str]) -> dict[str, Any]:
    ids, questions, numbers = rows["id"], rows["question"], rows["row"]
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
        "row": numbers[duplicate.row],
        "of_row": numbers[duplicate.of],
    }


def _schema() -> dict[str, Any]:
    import polars as pl

    found = {"id": pl.String, "duplicate_of": pl.String, "score": pl.Float64, "cluster": pl.String}
    return {**found, "conflict": pl.Boolean, "evidence": pl.String, "row": pl.Int64, "of_row": pl.Int64}


def _found_duplicates(job: _Job, rows: pl.DataFrame) -> list[tuple[str, bool]]:
    """Plant copies of rows beside their originals alone, and say of each whether it is found to repeat its original."""
    import polars as pl

    per_kind, (shingling, bands, rules) = job.settings.planted_duplicates, job.how
    originals = planting.Original.of(rows)
    texts, answers = _texts(rows), [answer or "" for answer in rows["answer"].to_list()]
    made = list(planting.plant(originals, job.context.images.get, per_kind))
    outcome: list[tuple[str, bool]] = []
    for number in range(0, len(made), per_kind):
        some = made[number : number + per_kind]
        chosen = sorted({copy.original for copy in some})
        copies = Problems([copy.question for copy in some], [list(copy.choices) for copy in some])
        words = pl.concat([texts.gather(chosen), _forms(copies)])
        own = {bytes_hash(data): image_print(bytes_hash(data), data) for copy in some for data in copy.images}

        def read_prints(hashes: Iterable[str], own: dict[str, ImagePrint] = own) -> dict[str, ImagePrint]:
            return {**image_prints(job.context, set(hashes) - set(own), job.context.images).value, **own}

        both = Rows(
            words,
            describe(words, shingling, bands, numbers=True),
            [originals[row].image_hashes for row in chosen] + [planting.image_hashes(copy, originals) for copy in some],
            [answers[row] for row in chosen] + [answers[copy.original] for copy in some],
            range(len(words)),
        )
        found = {duplicate.row for duplicate in find_duplicates(both, read_prints, shingling, rules)[0]}
        outcome.extend((copy.kind, len(chosen) + place in found) for place, copy in enumerate(some))
    return outcome
