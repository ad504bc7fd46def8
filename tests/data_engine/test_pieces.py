"""Sources read in pieces by workers give what they give read as a whole: every format, pictures, and what is wrong."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.s3_server import s3_server
from data_engine.inputs import open_table
from data_engine.intake.contents import hash_contents
from data_engine.intake.image_places import ImagePlaces, NewPlaces, PlaceFiles, bucket_of, write_places
from data_engine.intake.in_blocks import ingest_blocks
from data_engine.recipe_settings import SourceSettings
from data_engine.runners.local import LocalRunner
from data_engine.sources import file_pieces
from data_engine.sources.base import Count
from data_engine.sources.merged import Merged, Part
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.progress import Progress
from shared.store import StoreFullError, open_store

ROWS = 60


class Away(LocalRunner):
    """Hands work over as a cluster does, as bytes, to this process."""

    name = "ray"

    def map_batches(self, function, tables, *, broadcast=None, task=None):
        yield from super().map_batches(
            pickle.loads(pickle.dumps(function)),  # noqa: S301
            tables,
            broadcast=pickle.loads(pickle.dumps(broadcast)),  # noqa: S301
            task=task,
        )


def png(number):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number % 250, np.uint8)).save(out, "PNG")
    return out.getvalue()


def problems(*, named=True):
    """Rows, some of them twice, with two answers, without one."""
    rows = [{"question": f"How much is {n} plus {n}, please?", "answer": str(2 * n)} for n in range(ROWS)]
    rows = [{"id": f"k{n}", **row} if named else row for n, row in enumerate(rows)]
    again = {**rows[3], "answer": "7"}
    return [*rows[:40], rows[5], *rows[40:], again, {**rows[9], "answer": ""}, rows[5]]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def jsonl(folder, *, named=True):
    rows = problems(named=named)
    odd = (
        "\ufeff"
        + lines(rows[:10]).replace("\n", "\r\n")
        + '\r\n{"question": \n  \u2003\n[1]\n"x"'
        + "\n"
        + lines(rows[10:30])
    )
    (folder / "train-0.jsonl").write_bytes(
        odd.encode() + b'{"question": "caf\xe9?", "answer": "1"}\n' + lines(rows[30:40]).encode()[:-1]
    )
    (folder / "train-1.jsonl").write_text(lines(rows[40:]), newline="")


def unnamed(folder):
    jsonl(folder, named=False)


def named_pictures(folder):
    (folder / "images").mkdir()
    rows = problems()
    for number, row in enumerate(rows):
        row["image"] = f"images/{number % 30}.png"
        (folder / row["image"]).write_bytes(png(number % 30))
    (folder / "images/7.png").write_bytes(b"no picture")
    rows[8]["image"], rows[9]["image"] = "images/none.png", "../out.png"
    (folder / "metadata.jsonl").write_text(lines(rows))


def pictures_of_csv(folder):
    named_pictures(folder)
    pl.read_ndjson(folder / "metadata.jsonl").write_csv(folder / "metadata.csv")
    (folder / "metadata.jsonl").unlink()


def inner_pictures(folder):
    rows = [{**row, "image": base64.b64encode(png(n % 30)).decode()} for n, row in enumerate(problems())]
    (folder / "train.jsonl").write_text(lines(rows))


def tar(folder, mode="w"):
    rows = problems(named=False)
    for shard in range(3):
        with tarfile.open(folder / f"train-{shard}.tar", mode) as out:
            for number in range(shard, len(rows), 3):
                members = {"json": json.dumps(rows[number]).encode(), "png": png(number % 30)}
                members = {"jpg": b"broken", "json": members["json"]} if number == 11 else members
                for ending, data in members.items():
                    about = tarfile.TarInfo(f"{number:06d}.{ending}")
                    about.size = len(data)
                    out.addfile(about, io.BytesIO(data))


def packed_tar(folder):
    tar(folder, "w:gz")


def csv(folder):
    rows = [{**row, "question": f'{row["question"]}\n"again", {row["answer"]}'} for row in problems()]
    pl.DataFrame(rows[:30]).write_csv(folder / "train-0.csv")
    (folder / "train-1.csv").write_text(pl.DataFrame(rows[30:]).write_csv() + "k,short\n")


def parquet(folder):
    rows = problems()
    pl.DataFrame(rows[:50]).write_parquet(folder / "train-0.parquet", row_group_size=20)
    pl.DataFrame(rows[50:]).write_parquet(folder / "train-1.parquet")


def parquet_pictures(folder):
    rows = [{**row, "image": {"bytes": png(n % 30), "path": f"{n}.png"}} for n, row in enumerate(problems())]
    pl.DataFrame(rows).write_parquet(folder / "train.parquet", row_group_size=9)


def saved(folder):
    import datasets

    datasets.Dataset.from_list(problems()).save_to_disk(folder, num_shards=3)


def json_lists(folder):
    (folder / "train-0.json").write_text(json.dumps(problems()[:30]))
    (folder / "train-1.json").write_text(json.dumps({"data": problems()[30:]}))


def packed(folder):
    for number, rows in enumerate((problems()[:30], problems()[30:])):
        with pa.output_stream(str(folder / f"train-{number}.jsonl.gz"), compression="gzip") as out:
            out.write(lines(rows).encode())


def folders(folder):
    """A folder per record, the picture beside it."""
    for number, row in enumerate(problems()):
        own = folder / "train" / str(number)
        own.mkdir(parents=True)
        (own / "data.json").write_text(json.dumps(row))
        (own / "logic_form.json").write_text('{"point_positions": {"A": [1, 2]}}')
        if number != 13:
            (own / "img_diagram.png").write_bytes(b"no picture" if number == 8 else png(number % 30))


def single(folder):
    """A file per record, pictures named from its folder."""
    for number, row in enumerate(problems(named=False)):
        own = folder / f"chapter{number % 3}"
        (own / "img").mkdir(parents=True, exist_ok=True)
        (own / f"img/{number}.png").write_bytes(png(number % 30))
        odd = {7: "../chapter0/img/0.png", 8: "img/none.png", 9: "../../../out.png"}
        picture = odd.get(number, f"img/{number}.png")
        (own / f"{number}.json").write_text(json.dumps({**row, "figure": picture}))


def numbered(folder):
    """Pictures by a number that the records hold."""
    (folder / "png").mkdir()
    for number in range(30):
        (folder / f"png/{number}.png").write_bytes(b"no picture" if number == 7 else png(number))
    rows = [{**row, "image_index": 31 if n == 8 else n % 30} for n, row in enumerate(problems())]
    pl.DataFrame(rows).write_parquet(folder / "train.parquet", row_group_size=20)


FORMATS = {
    one.__name__: one
    for one in (
        jsonl, unnamed, named_pictures, pictures_of_csv, inner_pictures, tar, packed_tar, csv, parquet,
        parquet_pictures, saved, json_lists, packed, folders, single, numbered,
    )
}  # fmt: skip


def source_of(folder):
    return open_table(SourceSettings(reader="table", location=str(folder)), "source")


def ingested(source, place, runner):
    """All that reading a source gives: rows and rejections in order, pictures, and counts."""
    places, store = ImagePlaces(place / "spool"), open_store(place / "store")
    (place / "scratch").mkdir(parents=True, exist_ok=True)
    scratch = open_store(place / "scratch")
    found = ingest_blocks(source, places, store, scratch, runner)
    places = pickle.loads(pickle.dumps(places))  # noqa: S301
    rows = found.rows.frame()
    hashes = {sha256 for some in rows["image_hashes"] for sha256 in some}
    pictures = {sha256: (places.get(sha256), places.size(sha256)) for sha256 in sorted(hashes)}
    assert all(bytes_hash(data) == sha256 and len(data) == size for sha256, (data, size) in pictures.items())
    entries = pl.concat([found.ledger(block) for block in found.rows.numbers]).sort("id")
    told = (found.records, found.rejected, found.inspected, found.remembered, found.warnings, found.mends)
    return rows.to_dicts(), entries.to_dicts(), pictures, told, len(places)


@pytest.fixture(autouse=True)
def read_by_workers(monkeypatch):
    """However small a source is."""
    monkeypatch.setattr("data_engine.intake.in_blocks.FEW_BYTES", 0)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(file_pieces, "PIECE_ROWS", 8)
    monkeypatch.setattr(file_pieces, "PICTURED_ROWS", 8)
    monkeypatch.setattr(file_pieces, "MOST_BYTES", 400)
    monkeypatch.setattr("data_engine.intake.in_blocks.PART_ROWS", 32)
    monkeypatch.setattr("data_engine.blocks.BLOCK_ROWS", 32)


@pytest.mark.parametrize("name", FORMATS)
def test_a_source_in_many_pieces_is_the_source_read_as_a_whole(name, tmp_path, request):
    folder = tmp_path / "set"
    folder.mkdir()
    FORMATS[name](folder)
    here = ingested(source_of(folder), tmp_path / "here", LocalRunner())
    one = ingested(source_of(folder), tmp_path / "one", Away())
    request.getfixturevalue("small_pieces")
    many = ingested(source_of(folder), tmp_path / "many", Away())
    local = ingested(source_of(folder), tmp_path / "local", LocalRunner())
    assert here == one == many == local
    assert len(source_of(folder).pieces()) > 1
    assert here[3][0] >= ROWS


def test_pictures_are_inspected_once_and_remembered_by_the_next_build(tmp_path, small_pieces):
    (tmp_path / "set").mkdir()
    named_pictures(tmp_path / "set")
    told = [ingested(source_of(tmp_path / "set"), tmp_path / "place", Away())[3] for _ in range(2)]
    assert [(inspected, remembered) for _, _, inspected, remembered, *_ in told] == [(30, 0), (0, 30)]


LINE = st.one_of(
    st.sampled_from(
        ['{"question": "1+1?", "answer": "2"}', "{]", "[1]", "", " ", "\u2003", "\x1c", '"\u00e9"', "\udcff"]
    ),
    st.text(st.characters(exclude_characters="\r\n"), max_size=12),
)
END = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


@given(st.lists(st.tuples(LINE, END), max_size=14), st.integers(1, 40), st.booleans(), st.booleans())
def test_lines_are_the_same_wherever_a_file_is_cut(tmp_path_factory, some, size, marked, ended):
    file = Path(tmp_path_factory.mktemp("lines")) / "train.jsonl"
    first = '{"question": "2+2?", "answer": "4"}\n'
    text = first + "".join(line + end for line, end in some)
    data = text.encode("utf-8", "surrogatepass")
    file.write_bytes((b"\xef\xbb\xbf" if marked else b"") + (data if ended else data.rstrip()))
    source = source_of(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_pieces, "MOST_BYTES", size)
        pieces = source.pieces()
    placed = source.placed(pieces, [piece.count() for piece in pieces])
    assert [row for piece in placed for row in pickle.loads(pickle.dumps(piece)).rows()] == list(source.rows())  # noqa: S301


def test_pieces_are_told_by_rows_of_all_and_what_many_workers_stored_of_pictures_is_merged(
    tmp_path, small_pieces, monkeypatch
):
    monkeypatch.setattr("shared.annotations.merging.MANY_SEGMENTS", 2)
    (tmp_path / "set").mkdir()
    tar(tmp_path / "set")
    store, segments, tasks = open_store(tmp_path / "store"), [], []
    for number in range(2):
        (tmp_path / f"scratch{number}").mkdir()
        scratch, task = open_store(tmp_path / f"scratch{number}"), Progress().task("source", unit="records")
        ingest_blocks(source_of(tmp_path / "set"), ImagePlaces(tmp_path / "spool"), store, scratch, Away(), task=task)
        segments.append(len(list((tmp_path / "store" / "annotations" / "inspect_images").glob("*/*.parquet"))))
        tasks.append((task.count, task.total))
    assert segments[0] > 2
    assert segments[1] == 1
    assert set(tasks) == {(len(problems()), len(problems()))}


def test_a_store_that_takes_no_merged_findings_about_pictures_is_read_as_it_lies_there(
    tmp_path, small_pieces, monkeypatch
):
    def full(table, **_):
        raise StoreFullError("no space left", "Free some")

    monkeypatch.setattr("shared.annotations.merging.MANY_SEGMENTS", 2)
    monkeypatch.setattr("shared.annotations.AnnotationTable.compact", full)
    (tmp_path / "set").mkdir()
    tar(tmp_path / "set")
    store, found = open_store(tmp_path / "store"), []
    for number in range(2):
        (tmp_path / f"scratch{number}").mkdir()
        scratch, places = open_store(tmp_path / f"scratch{number}"), ImagePlaces(tmp_path / "spool")
        found.append(ingest_blocks(source_of(tmp_path / "set"), places, store, scratch, Away()))
    assert (found[1].remembered, found[1].inspected) == (found[0].inspected, 0)


@pytest.mark.slow
def test_pictures_that_came_packed_are_read_from_scratch_in_a_bucket(tmp_path, small_pieces):
    (tmp_path / "set").mkdir()
    packed_tar(tmp_path / "set")
    places, store = ImagePlaces(tmp_path / "spool"), open_store(tmp_path / "store")
    with s3_server() as url:
        scratch = open_store(f"{url}/scratch")
        found = ingest_blocks(source_of(tmp_path / "set"), places, store, scratch, Away())
        there = pickle.loads(pickle.dumps(places))  # noqa: S301
        hashes = {sha256 for some in found.rows.frame()["image_hashes"] for sha256 in some}
        assert len(hashes) == len(there) == 30
        assert all(bytes_hash(there.get(sha256)) == sha256 and there.reaches(sha256) for sha256 in hashes)


def test_row_groups_lie_together_in_pieces_and_large_ones_are_cut_a_few_times(tmp_path, monkeypatch):
    monkeypatch.setattr(file_pieces, "PIECE_ROWS", 8)
    rows = [{"question": f"How much is {n} + {n}?", "answer": str(2 * n)} for n in range(63)]
    for number, (start, end, size) in enumerate([(0, 12, 3), (12, 33, 10), (33, 63, 40)]):
        pl.DataFrame(rows[start:end]).write_parquet(tmp_path / f"train-{number}.parquet", row_group_size=size)
    heights = [piece.height for piece in source_of(tmp_path).pieces()]
    assert heights == [6, 6, 8, 2, 8, 2, 1, 8, 8, 8, 6]
    monkeypatch.setattr(file_pieces, "MOST_BYTES", 100)
    assert [piece.height for piece in source_of(tmp_path).pieces()][-4:] == [8, 8, 8, 6]
    monkeypatch.setattr(file_pieces, "PIECE_ROWS", 4)
    source = source_of(tmp_path)
    pieces = source.pieces()
    assert [piece.height for piece in pieces][-4:] == [8, 8, 8, 6]
    placed = source.placed(pieces, [Count(piece.height) for piece in pieces])
    assert [row for piece in placed for row in piece.rows()] == list(source.rows())


def test_a_small_source_is_read_here_and_one_of_many_pictures_is_not_small(tmp_path, monkeypatch):
    for name in ("jsonl", "named_pictures"):
        (tmp_path / name).mkdir()
        FORMATS[name](tmp_path / name)
    monkeypatch.setattr("data_engine.intake.in_blocks.FEW_BYTES", 2**20)
    read = Counter()
    monkeypatch.setattr(file_pieces.TablePiece, "count", lambda piece: read.update([piece.file.name]) or Count(1))
    ingested(source_of(tmp_path / "jsonl"), tmp_path / "here", Away())
    assert not read
    with pytest.raises(InfiMmrError, match="changed while it was being read"):
        ingested(source_of(tmp_path / "named_pictures"), tmp_path / "there", Away())
    assert read


def test_a_worker_is_told_nothing_of_the_records_that_guesses_were_made_from(tmp_path):
    tar(tmp_path)
    assert len(pickle.dumps(source_of(tmp_path).pieces())) < 3000


def test_pictures_of_a_plain_shard_are_read_where_they_lie(tmp_path):
    (tmp_path / "set").mkdir()
    tar(tmp_path / "set")
    ingested(source_of(tmp_path / "set"), tmp_path / "here", Away())
    assert not list((tmp_path / "here" / "scratch").glob("spool/*"))


@pytest.fixture
def hashed_apart(monkeypatch):
    """Contents are hashed by workers however few they are."""
    monkeypatch.setattr("data_engine.sources.table.MUCH", 0)
    monkeypatch.setattr("data_engine.sources.table.MANY", 0)


@pytest.mark.parametrize("name", ["named_pictures", "pictures_of_csv", "tar", "unnamed", "folders", "numbered"])
def test_a_fingerprint_made_by_workers_is_that_of_the_whole(name, tmp_path, small_pieces, hashed_apart, monkeypatch):
    folder = tmp_path / "set"
    folder.mkdir()
    FORMATS[name](folder)
    if name == "named_pictures":
        odd = [
            {"question": "1+1?", "answer": "2", "image": image}
            for image in ("images/\ud800.png", "b", "metadata.jsonl")
        ]
        with (folder / "metadata.jsonl").open("a") as out:
            out.write(lines(odd))
    (tmp_path / "scratch").mkdir()
    scratch = open_store(tmp_path / "scratch")
    source = source_of(folder)
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "nothing is remembered"))
    hash_contents(source, Away(), lambda: contextlib.nullcontext(scratch))
    assert "_content" in vars(source)
    assert source.fingerprint() == source_of(folder).fingerprint()
    assert source.revision == source_of(folder).revision


def test_a_picture_that_changes_is_seen_by_workers_and_a_file_that_is_gone_is_named(
    tmp_path, small_pieces, hashed_apart
):
    folder, scratch = tmp_path / "set", open_store(tmp_path / "scratch")
    for place in (folder, tmp_path / "scratch"):
        place.mkdir()
    named_pictures(folder)
    found = []
    for data in (png(3), png(4)):
        (folder / "images/3.png").write_bytes(data)
        source = source_of(folder)
        hash_contents(source, Away(), lambda: contextlib.nullcontext(scratch))
        found.append(source.fingerprint())
    assert found[0] != found[1]
    source = source_of(folder)
    (folder / "metadata.jsonl").rename(tmp_path / "other")
    hash_contents(source, Away(), lambda: contextlib.nullcontext(scratch))
    with pytest.raises(InfiMmrError, match=r"metadata\.jsonl cannot be read"):
        source.fingerprint()


def test_every_picture_is_found_by_its_hash_and_no_other(tmp_path):
    ends = [b"\0" * 32, b"\xff" * 32, b"\x80" + b"\0" * 31, b"\0" * 31 + b"\x01", b"\x7f" * 31 + b"\0"]
    keys = [*ends, *(bytes.fromhex(bytes_hash(bytes([n]))) for n in range(200))]
    scratch, new = open_store(tmp_path), NewPlaces(open_store(tmp_path), 0)
    for size, key in enumerate(keys):
        new.add_file(key.hex(), tmp_path / f"{size}.png", size)
    frame = new.taken({"ab" * 32: True, keys[3].hex(): True})
    for buckets in (1, 4):
        found = [
            write_places(scratch, n, frame.filter(bucket_of(frame["sha256"], buckets) == n)) for n in range(buckets)
        ]
        assert sum(map(Counter, found), Counter()) == {"pictures": 205, "inspected": 2, "remembered": 204}
        places = ImagePlaces(tmp_path / "spool")
        places.looks_in(PlaceFiles(scratch, buckets, 205, shared=True))
        assert [places.size(key.hex()) for key in keys] == list(range(205))
        assert "ab" * 32 not in places
        assert not places.reaches("00" * 31 + "02")
        assert places.reaches(keys[0].hex())


@pytest.mark.parametrize("name", ["tar", "jsonl", "csv", "parquet_pictures"])
def test_a_file_that_vanishes_or_breaks_ends_the_reading_with_its_name(name, tmp_path, small_pieces):
    folder = tmp_path / "set"
    folder.mkdir()
    FORMATS[name](folder)
    source = source_of(folder)
    source.revision  # noqa: B018  # the content is looked at before it is read
    file = max(folder.glob("train*"))
    data = file.read_bytes()
    cases = [None] if name in {"jsonl", "csv"} else [None, data[: len(data) // 2 - 100]]
    for number, left in enumerate(cases):
        file.unlink()
        if left is not None:
            file.write_bytes(left)
        with pytest.raises(InfiMmrError, match=f"source: {file.name}"):
            ingested(source, tmp_path / f"place{number}", Away())
        file.write_bytes(data)


def test_a_file_that_changes_while_it_is_read_ends_the_reading(tmp_path, small_pieces):
    jsonl(tmp_path)
    source = source_of(tmp_path)
    pieces = source.pieces()
    counts = [piece.count() for piece in pieces]
    for wrong in (-1, 1):
        last = counts[-1].records + wrong
        placed = source.placed(pieces, [*counts[:-1], Count(last)])
        with pytest.raises(InfiMmrError, match=r"train-1.jsonl changed while it was being read"):
            list(placed[-1].rows())


def test_a_file_of_no_records_in_many_pieces_is_told_as_in_one(tmp_path, small_pieces):
    (tmp_path / "train-0.jsonl").write_text(lines(problems()))
    (tmp_path / "train-1.jsonl").write_text("no record at all\n" * 200)
    (tmp_path / "scratch").mkdir()
    source, scratch = source_of(tmp_path), open_store(tmp_path / "scratch")
    said = []
    for runner in (LocalRunner(), Away()):
        with pytest.raises(InfiMmrError) as error:
            ingest_blocks(source, ImagePlaces(tmp_path / "spool"), scratch, scratch, runner)
        said.append(error.value.message)
    assert said[0] == said[1]
    assert "train-1.jsonl holds no JSON object on any of its 200 lines" in said[0]


def test_merged_sources_in_pieces_are_those_read_as_a_whole_and_count_what_was_taken(tmp_path, small_pieces):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    jsonl(tmp_path / "one", named=False)
    tar(tmp_path / "two")
    csv(tmp_path / "three")
    with (tmp_path / "three" / "train-1.csv").open("a") as out:
        out.write('k,5" or "7"?,1\n')  # whole: its quotes do not tell where rows begin

    def merged():
        parts = {"a": Part(source_of(tmp_path / "one"), weight=0.5), "b": Part(source_of(tmp_path / "two"))}
        return Merged({**parts, "c": Part(source_of(tmp_path / "three"))})

    here, there = merged(), merged()
    assert ingested(here, tmp_path / "here", LocalRunner()) == ingested(there, tmp_path / "there", Away())
    assert here.read == there.read == Counter(here.read)
    assert 0 < here.read["a"] < here.read["b"]


def test_an_empty_source_in_pieces_has_no_records(tmp_path):
    pl.DataFrame({"question": ["1+1?"], "answer": ["2"]}).write_parquet(tmp_path / "train-0.parquet")
    source = source_of(tmp_path)
    pl.DataFrame({"question": ["1+1?"], "answer": ["2"]}).clear().write_parquet(tmp_path / "train-0.parquet")
    (tmp_path / "scratch").mkdir()
    scratch = open_store(tmp_path / "scratch")
    found = ingest_blocks(source, ImagePlaces(tmp_path / "spool"), scratch, scratch, Away())
    assert (found.records, found.rows.heights) == (0, (0,))
