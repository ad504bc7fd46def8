"""Finds rows that share text with a benchmark: 32-gram overlap, and exact match after numbers are removed.

Writes, one row per row id, rule and benchmark: `id` (str), `rule` (str: `ngram_32`, `character_ngram_32`,
`exact_short`, `numbers_removed`), `benchmark` (str), `benchmark_revision` (str), `item` (str, the item's id), `score`
(float, 0 to 1: share of the item in the overlap), `removes` (bool: False for a near miss, that is equal words about
another picture or between other operators), `evidence` (str, JSON: both texts with matching spans, `number_only`,
`images`, `other_signs` where the operators differ).
Record: `coverage` (benchmark -> rule -> items that the rule can see), `planted_duplicates` (kind -> planted,
found, recall).
Source: Infi-MMR, data decontamination, first stage.
Rules and tokens: `data_engine/decontamination/benchmark_overlap.py`.

Equal words about another picture are another problem, and so are equal words between other operators (3 + 4 is not
3 - 4): the rules that compare whole texts only note such rows, and texts of fewer than `generic_tokens` tokens
("Find x") count only where the pictures are the same. Overlaps of n-grams remove whatever the pictures are.

Rows are hashed and compared batch by batch by the runner's workers, each of which has the benchmark's index; what
pictures say is decided here, about the few rows that match.
Not covered: paraphrases and pictures alone (decontaminate_embeddings).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_engine.cell_counts import noted
from data_engine.decontamination import planting
from data_engine.decontamination.benchmark_overlap import BenchmarkIndex, HashedTexts, Problems, hash_problems
from data_engine.decontamination.hashed_problems import find_matches, hashed_problems, problem_keys
from data_engine.duplicates.image_identity import VERSION as PRINT_VERSION
from data_engine.duplicates.image_identity import ImagePrint, image_print, image_prints, relation
from data_engine.step import BenchmarkItems, StepContext, StepResult
from data_engine.text_hash import VERSION
from data_engine.text_hash.text_cells import text_key
from shared.annotations import StoredCells
from shared.config import Strict
from shared.fingerprint import bytes_hash, fingerprint

if TYPE_CHECKING:
    import polars as pl

NAME = "decontaminate_ngrams"
BY_BLOCK = True
"""Each row is compared with the benchmarks by itself: see `data_engine.step_blocks`."""
READS = ("benchmarks",)
"""What decides its findings beside rows and settings: see `data_engine.kept_stages`."""
CELL_VERSION = "overlap/3"
"""Part of every cell's context: another rule, verification or form of evidence is another version."""

_NEARNESS = ("same", "none", "unclear", "unknown", "different")
"""Of several items with the words of a row, the one with the likeliest pictures is named; then the more equal text."""

Rule = Literal["ngram", "character_ngram", "exact_short", "numbers_removed"]


class Settings(Strict):
    """Which overlaps of text are looked for."""

    n: int = Field(default=32, ge=2, description="Tokens of an n-gram; the paper's is 32.")
    character_n: int = Field(
        default=32, ge=2, description="Characters of an n-gram in scripts written without spaces, such as Chinese."
    )
    rules: tuple[Rule, ...] = Field(
        default=("ngram", "character_ngram", "exact_short", "numbers_removed"),
        description="Rules that are applied; one left out finds nothing.",
    )
    generic_tokens: int = Field(
        default=4, ge=0, description="Whole texts of fewer tokens need the same image to count; 0: never."
    )
    other_picture: Literal["keep", "remove"] = Field(
        default="keep",
        description="What happens to a row whose whole text equals an item's about another image.",
    )
    planted_duplicates: int = Field(
        default=20,
        ge=0,
        validation_alias=planting.NAMES,
        description="Planted duplicates per kind of edit and benchmark; 0: none.",
    )


def run(context: StepContext, settings: Settings) -> StepResult:
    """Compare `context.rows` with every benchmark of `context.benchmarks`."""
    import polars as pl

    pictures, problems = context.rows["image_hashes"].to_list(), problem_keys(Problems.of(context.rows))
    keys = [text_key(key, *(images or ())) for key, images in zip(problems, pictures, strict=True)]
    ids = context.rows["id"].to_list()
    task = context.progress.task("compare texts", len(context.benchmarks), unit="benchmarks")
    found: list[dict[str, Any]] = []
    coverage, planted, notes = {}, [], [noted((), ())]
    for benchmark in context.benchmarks:
        search = _Search(context, settings, benchmark)
        cells, fresh = search.cells(context.rows, keys)
        found += [{"id": identity, **hit} for identity, hits in zip(ids, cells, strict=True) for hit in hits]
        notes.append(noted(keys, fresh, benchmark.name))
        coverage[benchmark.name] = {"revision": benchmark.revision, **search.index.coverage()}
        planted.extend(search.found_duplicates())
        task.advance(1)
    task.done()
    looked_for = pl.concat(notes)
    computed = int(looked_for["made"].sum())
    return StepResult(
        annotations=_frame(found),
        computed=computed,
        reused=looked_for.height - computed,
        cells=looked_for,
        warnings=_blind_spots(coverage),
        record={
            "coverage": {name: {NAME: counts} for name, counts in coverage.items()},
            "planted_duplicates": {NAME: planting.recall(planted)},
            "text": {"tokens": VERSION, "n": settings.n, "character_n": settings.character_n},
        },
    )


class _Search:
    """One benchmark, its items hashed and indexed."""

    def __init__(self, context: StepContext, settings: Settings, benchmark: BenchmarkItems) -> None:
        import pyarrow as pa

        self.context, self.settings, self.benchmark = context, settings, benchmark
        self.items = Problems.of(benchmark.rows)
        self.ids = benchmark.rows["id"].to_list()
        self.pictures = [tuple(row or ()) for row in benchmark.rows["image_hashes"].to_list()]
        hashed = hashed_problems(context, self.items, settings.n, settings.character_n)
        self.index = BenchmarkIndex(self.items, hashed.value, settings.n, settings.character_n)
        content = [[i, k, list(p)] for i, k, p in zip(self.ids, problem_keys(self.items), self.pictures, strict=True)]
        about = {
            "step": NAME,
            "version": [CELL_VERSION, VERSION, PRINT_VERSION],
            "n": settings.n,
            "character_n": settings.character_n,
            "benchmark": benchmark.name,
            "items": fingerprint(content),
        }
        schema = pa.schema([("matches", pa.string())])
        self.table = StoredCells(context.store, NAME, fingerprint(about), schema, about)

    def cells(self, rows: pl.DataFrame, keys: Sequence[str]) -> tuple[list[list[dict[str, Any]]], set[str]]:
        """Matches of every row, from the store where known; and the keys of those that were compared now."""
        table = self.table
        known = {key: json.loads(cell["matches"]) for key, cell in table.lookup(keys).items()}
        missing = set(self.context.missing(table, keys))
        if missing:
            first = {key: row for row, key in reversed(list(enumerate(keys))) if key in missing}
            places = sorted(first.values())
            some = rows if len(places) == len(keys) else rows[places]
            problems = Problems.of(some)
            hashed = hashed_problems(self.context, problems, self.settings.n, self.settings.character_n)
            made = self._compare(problems, hashed.value, [tuple(row or ()) for row in some["image_hashes"].to_list()])
            fresh = {keys[place]: hits for place, hits in zip(places, made, strict=True)}
            table.append([{"key": key, "matches": json.dumps(hits, ensure_ascii=False)} for key, hits in fresh.items()])
            known.update(fresh)
        return [[hit for hit in map(self._decide, known[key]) if hit is not None] for key in keys], missing

    def found_duplicates(self) -> list[tuple[str, bool]]:
        """Plant copies of the items, run them through the same rules, say of each kind and copy whether it goes."""
        if not self.settings.planted_duplicates:
            return []
        originals = planting.Original.of(self.benchmark.rows)
        made = list(planting.plant(originals, self.benchmark.images.get, self.settings.planted_duplicates))
        if not made:
            return []
        problems = Problems([copy.question for copy in made], [list(copy.choices) for copy in made])
        hashed = hash_problems(problems, self.settings.n, self.settings.character_n)
        own = {bytes_hash(data): image_print(bytes_hash(data), data) for copy in made for data in copy.images}
        pictures = [planting.image_hashes(copy, originals) for copy in made]
        hits = self._compare(problems, hashed, pictures, own)
        decided = [[self._decide(hit) for hit in some] for some in hits]
        return [
            (copy.kind, any(hit is not None and hit["removes"] for hit in some))
            for copy, some in zip(made, decided, strict=True)
        ]

    def _compare(
        self,
        rows: Problems,
        hashed: HashedTexts,
        pictures: Sequence[tuple[str, ...]],
        own: dict[str, ImagePrint] | None = None,
    ) -> list[list[dict[str, Any]]]:
        matches = list(find_matches(self.context.runner, self.index, rows, hashed))
        # Only pictures of matching rows and items are ever decoded.
        seen = dict(own or {})
        theirs_seen = {sha256 for match in matches for sha256 in self.pictures[match.item]}
        seen |= image_prints(self.context, theirs_seen, self.benchmark.images).value
        ours_seen = {sha256 for match in matches for sha256 in pictures[match.row]} - set(seen)
        seen |= image_prints(self.context, ours_seen, self.context.images).value
        best: dict[tuple[int, str], tuple[tuple[int, float], dict[str, Any]]] = {}
        for match in matches:
            ours = [seen[sha256] for sha256 in pictures[match.row]]
            theirs = [seen[sha256] for sha256 in self.pictures[match.item]]
            how, bits = relation(ours, theirs)
            evidence = {**match.evidence, "images": how, "image_bits": bits}
            hit = {"rule": match.rule, "item": self.ids[match.item], "score": match.score, "evidence": evidence}
            rank = (_NEARNESS.index(how) + len(_NEARNESS) * bool(evidence.get("other_signs")), -match.score)
            if (match.row, match.rule) not in best or rank < best[match.row, match.rule][0]:
                best[match.row, match.rule] = (rank, hit)
        result: list[list[dict[str, Any]]] = [[] for _ in range(len(rows))]
        for (row, _), (_, hit) in best.items():
            result[row].append(hit)
        return result

    def _decide(self, hit: dict[str, Any]) -> dict[str, Any] | None:
        """Add what the settings say of a stored match; None where its rule is not asked for."""
        rule = hit["rule"]
        family = rule.rsplit("_", 1)[0] if "ngram" in rule else rule
        if family not in self.settings.rules:
            return None
        evidence, removes = hit["evidence"], True
        if family in {"exact_short", "numbers_removed"} and self.settings.other_picture == "keep":
            generic = evidence["tokens"] < self.settings.generic_tokens
            removes = evidence["images"] in {"same", "none"} if generic else evidence["images"] != "different"
            removes = removes and not evidence.get("other_signs")
        return {
            **hit,
            "benchmark": self.benchmark.name,
            "benchmark_revision": self.benchmark.revision,
            "removes": removes,
        }


def _blind_spots(coverage: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{NAME}: {counts['unseen']} of {counts['items']} items of {name} have no words that a text rule could see"
        for name, counts in coverage.items()
        if counts["unseen"]
    ]


def _frame(found: Sequence[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    texts = dict.fromkeys(("id", "rule", "benchmark", "benchmark_revision", "item"), pl.String)
    schema: dict[str, Any] = {**texts, "score": pl.Float64, "removes": pl.Boolean, "evidence": pl.String}
    hits = [{**hit, "evidence": json.dumps(hit["evidence"], ensure_ascii=False, sort_keys=True)} for hit in found]
    return pl.DataFrame(hits, schema=schema).sort("id", "rule", "benchmark")
