"""Small dataset versions for tests and benchmarks: Parquet in the one schema, drawn from a seed, pictures included."""

from __future__ import annotations

import hashlib
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shared.dataset_version import DatasetVersion, Input, ManifestDraft, StepCount, publish
from shared.schema import LEDGER_SCHEMA, row_schema

ROW_GROUP = 8


def picture(seed: int, side: int = 24) -> bytes:
    """Return a PNG of noise."""
    pixels = random.Random(seed).randbytes(side * side * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), pixels).save(out, "PNG")
    return out.getvalue()


def row(number: int, caption: str = "a picture of noise", side: int = 24, **changes: object) -> dict[str, object]:
    """Return one row with one picture; `changes` replace columns."""
    data = picture(number, side)
    question = f"<image>\nWhat is {number} + {number}?"
    made: dict[str, object] = {
        "id": f"sample-{number:016x}",
        "question": question,
        "answer": str(2 * number),
        "answer_kind": "integer" if number % 3 else "expression",
        "choices": [],
        "images": [{"bytes": data, "path": f"images/{number}.png"}],
        "image_types": ["chart" if number % 2 else "mathgeo"],
        "captions": [f"{caption} number {number}"],
        "category": "Broader STEM Topics",
        "source": "sample",
        "difficulty": {"pass_rate_large": (number % 10) / 10, "pass_rate_small": None},
        "answer_raw": f"\\boxed{{{2 * number}}}",
        "extra": json.dumps({"level": number % 5}),
        "source_name": "sample",
        "source_id": str(number),
        "source_location": "sample",
        "source_revision": "1",
        "row_hash": hashlib.sha256(question.encode() + data).hexdigest(),
        "image_hashes": [hashlib.sha256(data).hexdigest()],
    }
    return made | changes


def ledger_row(number: int, **changes: object) -> dict[str, object]:
    """Return one removed row of the ledger; `changes` replace columns."""
    evidence = {
        "question": f"How much is {number} and {number}, <b>says</b> the text?",
        "item_question": f"How much is {number} and {number}?",
        "benchmark_revision": "abc",
    }
    made: dict[str, object] = {
        "id": f"sample-{number:016x}",
        "source_id": str(number),
        "step": "decontaminate_ngrams",
        "rule": "ngram_32",
        "removed": True,
        "benchmark": "math500",
        "item": f"test/algebra/{number}.json",
        "score": 0.5,
        "evidence": json.dumps(evidence),
    }
    return made | changes


def write_rows(folder: Path, rows: list[dict[str, object]], shards: int = 2) -> list[Path]:
    """Write rows as shards the way the build does: pictures plain, small row groups, shard by position."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for shard in range(shards):
        schema = row_schema([name for one in rows for name in one])
        table = pa.Table.from_pylist(rows[shard::shards], schema=schema)
        file = folder / f"train-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(table, file, row_group_size=ROW_GROUP, compression="zstd", use_dictionary=False)
        files.append(file)
    return files


def write_ledger(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write a ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), folder / "ledger.parquet")
    return folder / "ledger.parquet"


def draft(name: str = "sample", **changes: object) -> ManifestDraft:
    """Return what a build would know; `changes` replace fields."""
    made = {
        "name": name,
        "profile": "local",
        "build_key": "key",
        "recipe": {"name": name, "threshold": 0.95},
        "inputs": [Input(name="sample", location="sample", revision="1", rows=20, fingerprint="f" * 64)],
        "counts": [
            StepCount(name="source", rows_in=22, rows_out=22),
            StepCount(name="decontaminate_ngrams", rows_in=22, rows_out=20, computed=22),
        ],
        "decontamination": {"math500": {"items": 500, "ngram_32": 219, "exact_short": 281}},
        "planted_duplicates": {"reworded": {"planted": 4, "found": 3, "recall": 0.75}},
        "licences": {"sample": "MIT"},
    }
    return ManifestDraft.model_validate(made | changes)


def publish_sample(
    store: object, folder: Path, numbers: range = range(20), name: str = "sample", **row_changes: object
) -> DatasetVersion:
    """Publish rows `numbers` and a ledger of two rows; `row_changes` go to each row."""
    rows = [row(number, **row_changes) for number in numbers]
    ledger = [
        ledger_row(100),
        ledger_row(101, step="decontaminate_embeddings", rule="cosine", removed=False, score=0.94),
    ]
    return publish(store, draft(name), write_rows(folder, rows), write_ledger(folder, ledger))
