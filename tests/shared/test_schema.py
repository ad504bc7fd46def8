from __future__ import annotations

import json

import pyarrow as pa

from shared.schema import COLUMN_NAMES, COLUMNS, IMAGE_TYPES, LEDGER_SCHEMA, ROW_SCHEMA, ROW_SCHEMA_WITHOUT_IMAGES


def test_every_column_has_a_sentence_and_the_schema_carries_it():
    for column in COLUMNS:
        assert column.meaning.endswith(".")
        assert ROW_SCHEMA.field(column.name).metadata[b"meaning"].decode() == column.meaning


def test_the_columns_stand_in_the_agreed_order():
    assert COLUMN_NAMES == (
        "id", "question", "answer", "answer_kind", "choices", "images", "image_types", "captions", "category", "source",
        "difficulty", "answer_raw", "extra", "source_name", "source_id", "source_location", "source_revision",
        "row_hash", "image_hashes",
    )  # fmt: skip
    assert ROW_SCHEMA_WITHOUT_IMAGES.names == [name for name in COLUMN_NAMES if name != "images"]


def test_the_huggingface_metadata_describes_every_column_and_marks_images():
    from datasets import Features

    features = Features.from_dict(json.loads(ROW_SCHEMA.metadata[b"huggingface"])["info"]["features"])
    assert list(features) == list(COLUMN_NAMES)
    for name in COLUMN_NAMES:
        assert features.arrow_schema.field(name).type == ROW_SCHEMA.field(name).type, name
    assert type(features["images"].feature).__name__ == "Image"


def test_the_ledger_has_the_fields_that_show_prints():
    assert LEDGER_SCHEMA.names == [
        "id", "source_id", "step", "rule", "removed", "benchmark", "item", "score", "evidence",
    ]  # fmt: skip
    assert LEDGER_SCHEMA.field("removed").type == pa.bool_()


def test_there_are_eight_image_types():
    assert sorted(IMAGE_TYPES) == ["aigc", "chart", "equation", "gui", "mathgeo", "natural", "ocr", "table"]
