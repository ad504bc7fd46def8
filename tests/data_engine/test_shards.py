from __future__ import annotations

import io

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.intake.image_places import ImagePlaces
from data_engine.intake.ingest import ledger_frame, rows_frame
from data_engine.shards import shard_count, shard_file, shard_numbers, shard_of, write_ledger, write_shard
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash, file_hash, row_hash, row_id
from shared.schema import LEDGER_SCHEMA, ROW_SCHEMA


def noise(seed, side=64):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def world(tmp_path, count=30, images=1):
    places = ImagePlaces(tmp_path / "spool")
    rows = []
    for number in range(count):
        hashes = []
        for place in range(images):
            data = noise(number * 10 + place)
            hashes.append(bytes_hash(data))
            places.add_bytes(hashes[-1], data)
        digest = row_hash(f"q{number}", "1", [], hashes)
        rows.append(
            {
                "id": row_id("s", str(number), digest), "question": "<image>" * images + f"q{number}", "answer": "1",
                "answer_kind": "integer", "choices": ["a", "b"] if number % 2 else [],
                "image_types": ["chart"] * images,
                "captions": [None] * images, "category": None, "source": "x",
                "difficulty": {"pass_rate_large": 0.5, "pass_rate_small": None} if number % 3 else None,
                "answer_raw": "1", "extra": None, "source_name": "s", "source_id": str(number), "source_location": "l",
                "source_revision": "r", "row_hash": digest, "image_hashes": hashes,
                "image_names": [f"images/{number}-{place}.png" for place in range(images)],
            }
        )  # fmt: skip
    return rows_frame(rows).sort("id"), places


def write(frame, places, folder, shard_bytes=10**9, row_group_bytes=10**9):
    folder.mkdir()
    total = sum(places.size(sha256) for hashes in frame["image_hashes"].to_list() for sha256 in hashes)
    count = shard_count(frame.height, total, shard_bytes)
    numbers = shard_numbers(frame["id"], count)
    files = [folder / shard_file("set", number, count) for number in range(count)]
    for number, file in enumerate(files):
        write_shard(frame.filter(pl.Series(numbers == number)).sort("id"), places, file, row_group_bytes)
    return files


def test_two_writes_of_the_same_rows_are_the_same_bytes(tmp_path):
    frame, places = world(tmp_path)
    one = write(frame, places, tmp_path / "one", 200_000, 60_000)
    two = write(frame.reverse(), places, tmp_path / "two", 200_000, 60_000)
    assert [file.name for file in one] == [file.name for file in two]
    assert len(one) == 4
    assert [file_hash(file) for file in one] == [file_hash(file) for file in two]


def test_the_layout_is_as_the_facts_ask(tmp_path):
    frame, places = world(tmp_path, count=40)
    file = pq.ParquetFile(write(frame, places, tmp_path / "out", row_group_bytes=60_000)[0])
    assert file.schema_arrow.equals(ROW_SCHEMA, check_metadata=False)
    assert b"huggingface" in file.schema_arrow.metadata
    assert file.metadata.num_row_groups == 8, "groups close by bytes: five pictures of 12 kB and their rows pass 60 kB"
    group = file.metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    image = columns["images.list.element.bytes"]
    assert (image.compression, image.has_dictionary_page) == ("UNCOMPRESSED", False)
    assert columns["question"].compression == "ZSTD"
    assert all(column.has_offset_index for column in columns.values())
    assert columns["id"].has_column_index
    assert file.read(["id"])["id"].to_pylist() == sorted(frame["id"].to_list())


def test_a_removed_row_changes_its_own_shard_only(tmp_path):
    frame, places = world(tmp_path)
    before = {file.name: file_hash(file) for file in write(frame, places, tmp_path / "one", 200_000)}
    gone = frame["id"][3]
    after = {
        file.name: file_hash(file)
        for file in write(frame.filter(frame["id"] != gone), places, tmp_path / "two", 200_000)
    }
    assert before.keys() == after.keys()
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [f"set-{shard_of(gone, 4):05d}-of-00004.parquet"]


def test_datasets_decodes_the_images_and_polars_scans_the_rest(tmp_path):
    import datasets
    import polars as pl

    frame, places = world(tmp_path, count=6, images=2)
    files = write(frame, places, tmp_path / "out")
    loaded = datasets.load_dataset(
        "parquet", data_files=[str(file) for file in files], split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0]["images"][1].size == (64, 64)
    assert loaded.features["images"].feature.decode
    scanned = pl.scan_parquet(files).select("id", "images", "difficulty").collect().sort("id")
    for identity, images, hashes in zip(scanned["id"], scanned["images"], frame["image_hashes"], strict=True):
        assert identity in frame["id"].to_list()
        assert [bytes_hash(image["bytes"]) for image in images.to_list()] == hashes.to_list()


def test_no_rows_still_make_a_shard_with_the_schema(tmp_path):
    frame, places = world(tmp_path, count=2)
    file = write(frame.clear(), places, tmp_path / "out")[0]
    assert pq.ParquetFile(file).metadata.num_rows == 0
    assert pq.read_schema(file).names == ROW_SCHEMA.names


@pytest.mark.parametrize(("size", "count"), [(0, 1), (400_000_000, 1), (401_000_000, 2), (5_000_000_000, 16)])
def test_the_number_of_shards_is_a_power_of_two_with_room(size, count):
    assert shard_count(0, size, 500_000_000) == count


def test_a_picture_that_changes_under_the_build_is_noticed(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(noise(1))
    places = ImagePlaces(tmp_path / "spool")
    sha256 = bytes_hash(noise(1))
    places.add_file(sha256, file, file.stat().st_size)
    assert places.get(sha256) == noise(1)
    file.write_bytes(noise(2))
    with pytest.raises(InfiMmrError, match="changed while it was being built"):
        places.get(sha256)


def test_places_travel_to_other_processes_and_keep_one_copy(tmp_path):
    import pickle

    places = ImagePlaces(tmp_path / "spool")
    for _ in range(3):
        places.add_bytes(bytes_hash(noise(1)), noise(1))
    copy = pickle.loads(pickle.dumps(places))  # noqa: S301 - our own bytes, as workers get them
    assert copy.get(bytes_hash(noise(1))) == noise(1)
    assert (tmp_path / "spool").stat().st_size == len(noise(1))
    with pytest.raises(InfiMmrError, match="no image"):
        copy.get(bytes_hash(b"other"))


def test_the_ledger_is_sorted_and_typed(tmp_path):
    entry = {"source_id": "1", "step": "source", "rule": "r", "removed": True, "benchmark": None, "item": None}
    ledger = ledger_frame([{**entry, "id": name, "score": 0.5, "evidence": "{}"} for name in ("b", "a")])
    table = pq.read_table(write_ledger(ledger, tmp_path / "ledger.parquet"))
    assert table.schema.equals(LEDGER_SCHEMA, check_metadata=False)
    assert table["id"].to_pylist() == ["a", "b"]
