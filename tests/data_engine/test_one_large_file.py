"""One large file read in pieces gives what it gives read from its front, wherever it is cut."""

import csv
import io
import json
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from data_engine.inputs import open_table
from data_engine.recipe_settings import SourceSettings
from data_engine.sources import csv_pieces, file_pieces
from data_engine.sources.base import Count
from shared.errors import InfiMmrError


def source_of(folder):
    return open_table(SourceSettings(reader="table", location=str(folder)), "source")


def placed_pieces(source):
    """Pieces as workers read them, counted as often as it takes."""
    placed = source.pieces()
    while any(piece.height is None for piece in placed):
        placed = source.placed(placed, [Count(one.height) if one.height is not None else one.count() for one in placed])
    return pickle.loads(pickle.dumps(placed))  # noqa: S301


def said_or_read(rows):
    try:
        return list(rows())
    except InfiMmrError as error:
        return str(error)


SIGNS = st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "\0", " ", "a", '"a"', ',"b\n', "\u00e9"])
FIELD = st.lists(SIGNS, max_size=4).map("".join)


@given(
    st.lists(st.tuples(FIELD, FIELD), max_size=9),
    st.tuples(st.lists(SIGNS, max_size=9).map("".join), st.sampled_from([b"", b"\xef\xbb\xbf", b" \r\n\n"])),
    st.tuples(st.integers(1, 40), st.sampled_from([1, 7, 1 << 18])),
    st.booleans(),
)
def test_rows_are_the_same_wherever_a_csv_is_cut(tmp_path_factory, good, around, sizes, quoted):
    file = Path(tmp_path_factory.mktemp("rows")) / "train.csv"
    text = io.StringIO()
    rows = csv.writer(
        text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n\n" if quoted else "\n"
    )
    rows.writerows([("question", "answer"), ("2+2?", "4"), *good])
    file.write_bytes(around[1] + text.getvalue().encode() + around[0].encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_engine.sources.table.SAMPLE", 1)
        patch.setattr(file_pieces, "MOST_BYTES", sizes[0])
        patch.setattr(csv_pieces, "_BLOCK", sizes[1])
        source = source_of(file)
        whole = said_or_read(source.rows)
        cut = said_or_read(lambda: [row for piece in placed_pieces(source) for row in piece.rows()])
        assert cut == whole


def test_a_csv_whose_quotes_do_not_tell_where_rows_begin_is_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(file_pieces, "MOST_BYTES", 400)
    rows = ["question,answer", *(f'"{n}, plus\n{n}?",{2 * n}' for n in range(200))]
    for row, cut in (('"a, b",1', True), ('5" or "7",1', False), ("Why?\rHow?,1", False)):
        (tmp_path / "train.csv").write_text("\n".join([*rows, row, *rows[1:3], ""]), newline="")
        source = source_of(tmp_path)
        placed = placed_pieces(source)
        assert (len(placed) > 5) is cut
        assert [item for piece in placed for item in piece.rows()] == list(source.rows())


def shard(form, *, stated=""):
    """Records of a few members each under short and long names, folders and hidden files among them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers={"comment": stated} if stated else {}) as made:
        for number in range(40):
            folder = "a very long name/" * (number % 3 * 5) + "é/" * (number % 2)
            record = {"question": f"How much is {number} + {number}?", "answer": str(2 * number)}
            for name, data in (
                (f"{folder}{number % 7}.json", json.dumps(record).encode()),
                (f"{folder}{number % 7}.b.png", bytes([number]) * 700 * (number % 4)),
                (f"{folder}{number % 7}.a.png", b"x"),
                (".hidden", b"h" * number),
            )[: 4 if number % 5 == 0 else 3]:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                made.addfile(member, io.BytesIO(data))
                if number % 6 == 0:
                    inside = tarfile.TarInfo("folder")
                    inside.type = tarfile.DIRTYPE
                    made.addfile(inside)
    return out.getvalue()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(("most", "size"), [(1, 1 << 20), (7, 1 << 20), (40, 3000), (1, 1)])
def test_records_of_a_shard_are_the_same_wherever_it_is_cut(tmp_path, monkeypatch, form, most, size):
    monkeypatch.setattr(file_pieces, "PICTURED_ROWS", most)
    monkeypatch.setattr(file_pieces, "MOST_BYTES", size)
    (tmp_path / "train.tar").write_bytes(shard(form))
    source = source_of(tmp_path)
    placed = placed_pieces(source)
    assert len(placed) > 5
    assert [row for piece in placed for row in piece.rows()] == list(source.rows())
    assert all(piece.height <= most for piece in placed)


def test_a_shard_that_states_what_holds_for_all_its_members_is_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(file_pieces, "PICTURED_ROWS", 7)
    (tmp_path / "train.tar").write_bytes(shard(tarfile.PAX_FORMAT, stated="of all"))
    source = source_of(tmp_path)
    (placed,) = placed_pieces(source)
    assert list(placed.rows()) == list(source.rows())


def test_a_shard_that_breaks_after_it_was_counted_ends_the_reading_with_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(file_pieces, "PICTURED_ROWS", 7)
    whole = shard(tarfile.GNU_FORMAT)
    (tmp_path / "train.tar").write_bytes(whole)
    placed = placed_pieces(source_of(tmp_path))
    (tmp_path / "train.tar").write_bytes(whole[: len(whole) // 2])
    said = [said_or_read(piece.rows) for piece in placed]
    assert isinstance(said[0], list)
    assert "train.tar cannot be read" in said[-1]


def stream(table, file):
    with pa.ipc.new_stream(file, table.schema) as out:
        for batch in table.to_batches(max_chunksize=20):
            out.write_batch(batch)


@pytest.mark.parametrize(
    "write",
    [
        stream,
        lambda table, file: feather.write_feather(table, file, compression="uncompressed", chunksize=20),
        lambda table, file: feather.write_feather(table, file, compression="lz4", chunksize=9),
        lambda table, file: feather.write_feather(table, file, compression="uncompressed"),
    ],
    ids=["stream", "file", "packed batches", "one batch"],
)
def test_rows_of_an_arrow_file_are_the_same_wherever_it_is_cut(tmp_path, monkeypatch, write):
    names = pa.array([f"s{n % 3}" for n in range(90)]).dictionary_encode()
    columns = {"question": [f"How much is {n}?" for n in range(90)], "answer": [*range(90)], "subject": names}
    write(pa.table(columns), tmp_path / "train.arrow")
    source = source_of(tmp_path)
    monkeypatch.setattr(file_pieces, "PIECE_ROWS", 13)
    for most in (1 << 20, 300):
        monkeypatch.setattr(file_pieces, "MOST_BYTES", most)
        placed = placed_pieces(source)
        assert len(placed) > 6
        assert [row for piece in placed for row in piece.rows()] == list(source.rows())
