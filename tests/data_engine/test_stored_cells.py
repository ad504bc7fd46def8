"""Cells that stay on the store: found again like those of an annotation table, without being in memory."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine.blocks import again_where_damaged
from shared.annotations import AnnotationTable, SegmentSetAsideError, StoredCells, merging, read_cells
from shared.errors import InfiMmrError
from shared.store import Ranges, open_store

HERE = ("embeddings", "c" * 64)


def vectors(keys, value=1.0, width=4):
    flat = np.full(len(keys) * width, value, np.float32) + np.repeat(np.arange(len(keys)), width).astype(np.float32)
    return pa.table({"key": keys, "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), width)})


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


def test_cells_of_many_files_come_in_the_order_asked_for(store):
    table = StoredCells(store, *HERE)
    table.append_table(vectors(["a", "b"], 10))
    table.append_table(vectors(["c"], 20))
    for one in (table, StoredCells(store, *HERE)):
        assert one.missing(["x", "c", "a"]) == ["x"]
        found = one.columns(["c", "b", "unknown", "c", "a"])
        assert found["key"].to_pylist() == ["c", "b", "a"]
        assert [vector[0] for vector in found["vector"].to_pylist()] == [20.0, 11.0, 10.0]
        assert one.lookup(["b"])["b"]["vector"][0] == 11.0
        assert len(one) == 3
    assert found.schema == AnnotationTable(store, *HERE).columns(["a"]).schema


def test_nothing_known_is_nothing(store):
    assert StoredCells(store, *HERE).columns(["a"]) is None
    assert StoredCells(store, *HERE).lookup(["a"]) == {}
    assert StoredCells(store, *HERE).places(["a"]) == [""]


@pytest.mark.parametrize("order", list(itertools.permutations((1.0, 2.0, 3.0))))
def test_two_values_of_one_key_are_settled_as_an_annotation_table_does(store, order):
    table = StoredCells(store, *HERE)
    for value in order:
        StoredCells(store, *HERE).append_table(vectors(["k"], value))
        table.refresh()
    expected = AnnotationTable(store, *HERE).lookup(["k"])
    assert StoredCells(store, *HERE).lookup(["k"]) == expected
    assert table.lookup(["k"]) == expected
    writer = StoredCells(store, *HERE)
    writer.append_table(vectors(["k", "l"], 9.0))
    assert writer.lookup(["k"]) == AnnotationTable(store, *HERE).lookup(["k"])


def test_cells_are_found_after_another_builder_merged_their_files(store):
    table = StoredCells(store, *HERE)
    for key in "abc":
        table.append_table(vectors([key]))
    AnnotationTable(store, *HERE).compact()
    found = read_cells((store, *HERE), ["c", "a"], table.places(["c", "a"]))
    assert found["key"].to_pylist() == ["c", "a"]


def test_a_file_that_is_gone_for_good_is_told(store):
    table = StoredCells(store, *HERE)
    table.append_table(vectors(["a"]))
    store.delete(f"{table.folder}/{table.places(['a'])[0]}")
    with pytest.raises(SegmentSetAsideError, match="went away"):
        read_cells((store, *HERE), ["a"], table.places(["a"]))


def test_two_workers_that_need_one_damaged_segment_both_go_on(store):
    StoredCells(store, *HERE).append_table(vectors(["a", "b"]))
    path = next(entry.path for entry in store.list("annotations"))
    good = store.get(path)
    values = pq.ParquetFile(pa.BufferReader(good)).metadata.row_group(0).column(1).data_page_offset + 40
    store.put(path, good[:values] + bytes([good[values] ^ 1]) + good[values + 1 :])
    first, second = StoredCells(store, *HERE), StoredCells(store, *HERE)
    assert first.missing(["a", "b"]) == second.missing(["a", "b"]) == []  # both took their places before

    def work(tables):
        table = tables.pop(0) if tables else StoredCells(store, *HERE)
        if table.missing(["a", "b"]):
            table.append_table(vectors(["a", "b"]))
        return table.columns(["a", "b"])

    with pytest.raises(SegmentSetAsideError):
        work([first])
    assert again_where_damaged(work, [second])["key"].to_pylist() == ["a", "b"]
    assert store.get(path) == good


@pytest.mark.parametrize("rot", [True, False], ids=["damaged", "vanished"])
def test_work_on_a_frozen_listing_goes_on_where_a_segment_it_names_is_lost(store, rot):
    table = StoredCells(store, *HERE)
    table.append_table(vectors(["a"]))
    entries = table.listing()
    assert StoredCells(store, *HERE).missing(["a"]) == []  # this process remembers it
    path = next(entry.path for entry in store.list(table.folder))
    good = store.get(path)
    values = pq.ParquetFile(pa.BufferReader(good)).metadata.row_group(0).column(1).data_page_offset + 40
    if rot:
        store.put(path, good[:values] + bytes([good[values] ^ 1]) + good[values + 1 :])
    else:
        store.delete(path)

    def work():
        listed = table.as_listed(entries)
        return listed.missing(["a"]) or listed.columns(["a"])

    assert again_where_damaged(work) == ["a"]


def test_a_segment_that_is_lost_again_and_again_ends_the_work_with_its_name():
    def work():
        raise SegmentSetAsideError("annotation segment x/y went away while it was needed", "")

    with pytest.raises(InfiMmrError, match=r"segment x/y went away .* times over"):
        again_where_damaged(work)


def test_small_files_are_merged_in_groups(store, monkeypatch):
    monkeypatch.setattr(merging, "MERGED_BYTES", 4000)
    table = StoredCells(store, *HERE)
    for number in range(12):
        table.append_table(vectors([f"k{number:02}"], number, 64))
    assert table.compact() == 12
    files = [entry for entry in store.list(table.folder) if entry.path.endswith(".parquet")]
    assert 1 < len(files) < 12
    keys = [f"k{number:02}" for number in range(12)]
    assert [row[0] for row in table.columns(keys)["vector"].to_pylist()] == list(range(12))


def test_opening_reads_the_keys_and_leaves_the_values(store, monkeypatch):
    StoredCells(store, *HERE).append_table(vectors([f"k{n}" for n in range(100)], 1, 1536))
    read = []
    real = Ranges.read

    def spy(self, size=-1):
        data = real(self, size)
        read.append(len(data))
        return data

    monkeypatch.setattr(Ranges, "read", spy)
    assert len(StoredCells(store, *HERE)) == 100
    assert sum(read) < 100 * 1536


def test_a_process_reads_the_keys_of_a_segment_once_however_often_it_opens_the_table(store, monkeypatch):
    read = []

    class Counted(Ranges):
        def __init__(self, store, path):
            read.append(path)
            super().__init__(store, path)

    monkeypatch.setattr("shared.annotations.stored_cells.Ranges", Counted)
    for number in range(5):
        opened = StoredCells(store, *HERE)
        assert opened.missing([f"k{one}" for one in range(7)]) == [f"k{one}" for one in range(number, 7)]
        opened.append_table(vectors([f"k{number}"], number))
        AnnotationTable(store, *HERE).append_table(vectors(["other"], number))  # another builder's, of one key
    assert len(read) == len(set(read)) == 8, "four segments each were new to this process"
    expected = AnnotationTable(store, *HERE).lookup(["other", "k3"])
    assert StoredCells(store, *HERE).lookup(["other", "k3"]) == expected
    AnnotationTable(store, *HERE).compact()
    assert StoredCells(store, *HERE).lookup(["other", "k3"]) == expected, "merged meanwhile: read anew"
    merged = next(entry.path for entry in store.list(f"annotations/{HERE[0]}") if entry.path.endswith(".parquet"))
    store.put(merged, b"damaged")
    opened = StoredCells(store, *HERE)
    with pytest.raises(SegmentSetAsideError):
        opened.columns(["k3"])
    assert StoredCells(store, *HERE).missing(["k3"]) == ["k3"]
