"""What the values of a recipe mean: its tables, each with its defaults.

Not covered: the tables of the steps, which stand with the steps, and how a recipe is found and resolved (`recipe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from data_engine.sources.mini import MiniSettings
from shared.config import NO_IDENTITY, Strict

TABLE_ONLY = ("config", "split", "answers", "pictures")
"""Settings that only reader 'table' has: of other readers they are no part of a recipe's identity."""
TABLE_SETTINGS = ("location", "revision", "files", "licence", "columns", "links", *TABLE_ONLY)


class SourceSettings(Strict):
    """Where rows come from."""

    reader: str = Field(
        description="Which reader knows the records: virl39k, deepscaler, benchmark, table, or one of another package."
    )
    location: str = Field(min_length=1, description="Hub id, folder, file, or 'mini' for the project's own small set.")
    revision: str = Field(
        default="main", description="Hub branch, tag or commit; recorded as the commit. Ignored for folders."
    )
    benchmark: str = Field(default="", description="Name of the benchmark, for reader 'benchmark'.")
    files: tuple[str, ...] = Field(
        default=(), description="Hub files to fetch, as patterns; empty takes the reader's own."
    )
    licence: str = Field(
        default="", description="License of the rows, recorded in the manifest; another location has its own."
    )
    name: str = Field(
        default="", description="What row ids begin with; empty takes the reader's name. Not for location 'mini'."
    )
    columns: dict[str, str | tuple[str, ...]] = Field(
        default={},
        description="Columns of your own by role, e.g. question = 'prompt_text'; see the reader's roles. Reader 'table'"
        " guesses the others, joins several, and takes none where one is empty.",
    )
    limit: int = Field(default=0, ge=0, description="Records read from the front; 0 reads all.")
    mini: MiniSettings = Field(default=MiniSettings(), description="Sizes for location 'mini'.")
    config: str = Field(default="", description="Configuration (subset) of a hub dataset, for reader 'table'.")
    split: str = Field(default="", description="Split, for reader 'table'; empty takes the training split.")
    answers: Literal["guess", "text", "index", "index1"] = Field(
        default="guess", description="How a number beside options is meant: as it stands, or its place from 0 or 1."
    )
    pictures: str = Field(default="", description="Folder below the location that images' names start from.")
    links: str = Field(
        default="",
        description="Folder besides the location where links of its files may end, e.g. of linked images; empty: none.",
        json_schema_extra=NO_IDENTITY,
    )
    options: dict[str, Any] = Field(default={}, description="What a reader of another package is told besides.")


class PartSettings(SourceSettings):
    """One of several sources that a recipe merges."""

    weight: float = Field(
        default=1.0, gt=0, le=1, description="Share of its rows that is taken, by their hash: the same in every build."
    )


class BenchmarkSettings(Strict):
    """A benchmark to compare rows with."""

    location: str = Field(min_length=1, description="Hub id, folder, file, or 'mini'.")
    revision: str = Field(default="main", description="Hub branch, tag or commit. Ignored for folders.")
    files: tuple[str, ...] = Field(
        default=(), description="Hub files to fetch, as patterns; empty takes the reader's own."
    )
    rows: int = Field(default=40, ge=1, description="Items drawn for location 'mini'.")


class AssembleSettings(Strict):
    """Which findings remove a row. Changing one re-runs assembling only."""

    remove_unverifiable: bool = Field(default=True, description="Remove rows whose gold the grader cannot verify.")
    remove_conflicts: bool = Field(default=True, description="Remove problems that occur with different answers.")
    remove_overlaps: bool = Field(default=True, description="Remove rows that the text rules find in a benchmark.")
    cosine_threshold: float = Field(
        default=0.95, ge=0, le=1.01, description="Remove at this cosine and above; 1.01 keeps all."
    )
    cosine_near: float = Field(
        default=0.90, ge=0, le=1.01, description="Note as near miss from this cosine; 1.01 notes none."
    )
    jaccard_threshold: float = Field(
        default=0.8, ge=0, le=1.01, description="Remove duplicates from this Jaccard similarity."
    )
    remove_failed: bool = Field(default=True, description="Remove rows for which a model call failed for good.")


THRESHOLD_OF: Mapping[str, str] = {}
"""Step by field of `AssembleSettings` that decides that step's findings alone: no part of other recipes' identity.

Fields that are not here are part of every recipe's identity."""


class ShardSettings(Strict):
    """How rows are laid into files."""

    shard_megabytes: int = Field(default=500, ge=1, description="Size that shards should not pass, in MB (10^6 bytes).")
    row_group_megabytes: int = Field(
        default=32, ge=1, le=280, description="A row group closes at this many MB of its own."
    )


class RecipeSettings(Strict):
    """What every recipe may say, beside its steps."""

    description: str = Field(default="", description="One sentence for people.")
    prompts: str = Field(
        default="",
        description="Prompt set that models are asked with: full, bundled (tiny-vl's), a folder; empty: the profile's.",
    )
    source: SourceSettings | None = Field(default=None, description="Where rows come from.")
    sources: dict[str, PartSettings] = Field(
        default={}, description="In place of source: several, merged; their names begin the rows' ids."
    )
    splits: dict[str, float] = Field(
        default={},
        description="Share of each split, e.g. train = 0.95, validation = 0.05; rows of one image, repeats and equal"
        " words stay together. Empty: the version is not split.",
    )
    benchmarks: dict[str, BenchmarkSettings] = Field(default={}, description="Benchmarks to compare with, by name.")
    assemble: AssembleSettings = Field(default=AssembleSettings(), description="What removes a row.")
    shards: ShardSettings = Field(default=ShardSettings(), description="How rows are laid into files.")

    @field_validator("splits")
    @classmethod
    def _by_name(cls, splits: dict[str, float]) -> dict[str, float]:
        return dict(sorted(splits.items()))  # the order of a table decides nothing
