"""The one row schema of every dataset version, and the schema of its ledger.

Purpose: sources, steps, shards, trainer and evaluation agree on these columns and no others. Not covered here: what the
values mean to the grader (`shared.answers`), or how they are stored (`data_engine.shards`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

IMAGE_TYPES = ("aigc", "natural", "mathgeo", "chart", "table", "equation", "ocr", "gui")
"""The eight image types of OmniCaptioner's inference script, which the paper's typing step feeds."""

IMAGE_STRUCT = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""How `datasets` stores an encoded image; `path` keeps the source's relative name."""

DIFFICULTY_STRUCT = pa.struct([pa.field("pass_rate_large", pa.float64()), pa.field("pass_rate_small", pa.float64())])

RATING_STRUCT = pa.struct(
    [
        pa.field("pass_rate", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("samples", pa.int32()),
        pa.field("answer_tokens", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, whether it may be null, and what it holds."""

    name: str
    type: pa.DataType
    nullable: bool
    meaning: str

    def field(self) -> pa.Field:
        """Return the Arrow field, carrying the sentence as metadata."""
        return pa.field(self.name, self.type, nullable=self.nullable, metadata={"meaning": self.meaning})


_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())

COLUMNS = (
    Column("id", _TEXT, False, "Stable identity: source name and 16 hex digits of the source's key and the content."),
    Column("question", _TEXT, False, "The problem, with one <image> per image in order; none in text-only rows."),
    Column("answer", _TEXT, False, "The bare gold answer, \\boxed{} taken off."),
    Column("answer_kind", _TEXT, False, "What the grader read the gold as: choice, integer, fraction, text and so on."),
    Column("choices", _TEXTS, False, "The options in order, A first; empty where the problem has none."),
    # Nullable although never null: `datasets` decodes only where the field equals its own, which is nullable.
    Column("images", pa.list_(IMAGE_STRUCT), True, "The original encoded images with their names in the source."),
    Column("image_types", _TEXTS, False, "One of the eight image types per image; null where not typed."),
    Column("captions", _TEXTS, False, "One caption per image; null where none was asked for."),
    Column("category", _TEXT, True, "The source's own category of the problem."),
    Column("source", _TEXT, True, "The data set that the row came from before this source gathered it."),
    Column("difficulty", DIFFICULTY_STRUCT, True, "Pass rates (0 to 1) of a large and a small model, where known."),
    Column("answer_raw", _TEXT, False, "The gold exactly as the source wrote it."),
    Column("extra", _TEXT, True, "JSON object of fields that only this source has: level, subject, unit, precision."),
    Column("source_name", _TEXT, False, "The source that read the row: virl39k, deepscaler, math500 and so on."),
    Column("source_id", _TEXT, False, "The row's key in the source (qid, unique_id, pid), or its position."),
    Column("source_location", _TEXT, False, "Hub id or folder name, never an absolute path."),
    Column("source_revision", _TEXT, False, "Hub commit, or hash of the files read."),
    Column("row_hash", _TEXT, False, "sha256 of question, answer, choices and image hashes."),
    Column("image_hashes", _TEXTS, False, "sha256 of each image's original bytes, in order."),
)

RATING = Column(
    "rating",
    RATING_STRUCT,
    True,
    "Pass rate of the policy that rate_difficulty asked, its exact 95% interval, number of answers, their mean tokens.",
)
"""Last column of a version whose recipe has the step rate_difficulty; other versions do without it."""

SPLIT = Column("split", _TEXT, False, "The split that the recipe gave the row to: train, validation and so on.")
"""Last column of a version whose recipe names splits."""

LEDGER_COLUMNS = (
    Column("id", _TEXT, False, "The row's id; a rejected source row has the id it would have had."),
    Column("source_id", _TEXT, False, "The row's key in the source."),
    Column("step", _TEXT, False, "The step that found it: source, verify_answers, decontaminate_ngrams and so on."),
    Column("rule", _TEXT, False, "The rule within the step, such as missing_answer, ngram_32, numbers_removed."),
    Column("removed", pa.bool_(), False, "True where the row left the dataset; false for a near miss or a note."),
    Column("benchmark", _TEXT, True, "The benchmark that the row overlaps with."),
    Column("item", _TEXT, True, "The benchmark's item, or the row that this one duplicates."),
    Column("score", pa.float64(), True, "The rule's number: overlap, cosine or Jaccard."),
    Column("evidence", _TEXT, False, "JSON object that lets a person judge: matched spans, both texts, revision."),
)


_DTYPES = {"double": "float64", "int32": "int32"}
"""Arrow's names of number types as `datasets` has them."""


def _features(columns: tuple[Column, ...]) -> dict[str, object]:
    features: dict[str, object] = {}
    for column in columns:
        if column.name == "images":
            features[column.name] = {"feature": {"_type": "Image"}, "_type": "List"}
        elif column.type == _TEXTS:
            features[column.name] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        elif pa.types.is_struct(column.type):
            features[column.name] = {
                field.name: {"dtype": _DTYPES[str(field.type)], "_type": "Value"} for field in column.type
            }
        else:
            features[column.name] = {"dtype": str(column.type), "_type": "Value"}
    return features


def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    # The `huggingface` key is what makes `datasets` decode the image column; Polars' own writer would hide it.
    info = json.dumps({"info": {"features": _features(columns)}}, separators=(",", ":"))
    return pa.schema([column.field() for column in columns], metadata={"huggingface": info})


ROW_SCHEMA = _schema(COLUMNS)
LEDGER_SCHEMA = pa.schema([column.field() for column in LEDGER_COLUMNS])
COLUMN_NAMES = tuple(column.name for column in COLUMNS)
ROW_SCHEMA_WITHOUT_IMAGES = pa.schema([column.field() for column in COLUMNS if column.name != "images"])
"""What steps see: everything but the bytes."""


def row_schema(names: Sequence[str]) -> pa.Schema:
    """Schema of rows with these columns: with `rating` and `split` where they are among them."""
    more = tuple(column for column in (RATING, SPLIT) if column.name in names)
    return _schema((*COLUMNS, *more)) if more else ROW_SCHEMA
