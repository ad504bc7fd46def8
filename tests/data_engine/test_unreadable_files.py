"""An unreadable file of a source ends the reading with its name; it is never skipped."""

import bz2
import gzip
import io
import json
import tarfile
from datetime import date

import polars as pl
import pyarrow as pa
import pytest

from data_engine.inputs import open_sources, open_table
from data_engine.inspect import inspect_place
from data_engine.recipe import load_recipe
from data_engine.recipe_settings import SourceSettings
from shared.errors import InfiMmrError

pytestmark = pytest.mark.usefixtures("own_cache")


def rows_of(place):
    return list(open_table(SourceSettings(reader="table", location=str(place)), "source").rows())


def shard_of(rows):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as shard:
        for number, row in enumerate(rows):
            data = json.dumps(row).encode()
            member = tarfile.TarInfo(f"{number:04}.json")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zst(data):
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as packed:
        packed.write(data)
    return out.getvalue().to_pybytes()


def test_a_shard_that_is_cut_off_or_holds_more_behind_its_end_ends_the_reading_with_its_name(folder):
    rows = [{"question": f"q{n}", "answer": str(n)} for n in range(30)]
    whole = shard_of(rows)
    (folder / "a.tar").write_bytes(whole)
    header = 14 * 1024
    torn = whole[:header] + b"\xff" * 40 + whole[header + 40 :]
    for name, broken in (
        ("b.tar", whole[: len(whole) // 2]), ("b.tar", whole[: 6 * 1024]), ("b.tar", torn), ("b.tar", whole + whole),
        ("b.tar.gz", gzip.compress(whole)[:-9]), ("b.tar.gz", gzip.compress(torn)),
        ("b.tar.bz2", bz2.compress(whole)[:-9]), ("b.tar.zst", zst(whole)[:-9]),
    ):  # fmt: skip
        (folder / name).write_bytes(broken)
        for read in (rows_of, lambda place: inspect_place(str(place)), counted):
            with pytest.raises(InfiMmrError, match=rf"{name} cannot be read"):
                read(folder)
        (folder / name).unlink()
    for name, packed in (
        ("b.tar.gz", gzip.compress(whole)),
        ("b.tgz", gzip.compress(whole)),
        ("b.tar.zst", zst(whole)),
        ("b.tar", whole),
    ):
        (folder / name).write_bytes(packed)
        assert len(rows_of(folder)) == counted(folder) == 60
        (folder / name).unlink()


def counted(place):
    """Records as a build in pieces counts them."""
    source = open_table(SourceSettings(reader="table", location=str(place)), "source")
    pieces = source.pieces()
    return sum(piece.height or 0 for piece in source.placed(pieces, [piece.count() for piece in pieces]))


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "tar", "jsonl.gz", "csv.zst"])
def test_an_empty_file_or_folder_among_good_ones_ends_the_reading_with_its_name(folder, ending):
    pack = {"gz": gzip.compress, "zst": zst}.get(ending.rpartition(".")[2], bytes)
    rows = [{"question": f"q{n}", "answer": str(n)} for n in range(3)]
    mark = "\t" if ending == "tsv" else ","
    table = "".join(mark.join(row) + "\n" for row in [("question", "answer"), *(tuple(row.values()) for row in rows)])
    good = {"json": json.dumps(rows), "jsonl": "".join(json.dumps(row) + "\n" for row in rows)}.get(
        ending.partition(".")[0], table
    )
    (folder / f"a.{ending}").write_bytes(pack(shard_of(rows) if ending == "tar" else good.encode()))
    empty = folder / f"b.{ending}"
    nothing = [b"", pack(b""), b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n"]
    for content in [*nothing, *([pack(f"question{mark}answer\n".encode())] if table is good else [])]:
        empty.write_bytes(content)
        for read in (rows_of, lambda place: inspect_place(str(place)), counted):
            with pytest.raises(InfiMmrError, match=rf"b\.{ending}"):
                read(folder)
    empty.unlink()
    empty.mkdir()
    with pytest.raises(InfiMmrError, match=rf"b\.{ending} is a folder without records"):
        rows_of(folder)
    empty.rmdir()
    empty.symlink_to(folder / "nowhere")
    with pytest.raises(InfiMmrError, match=rf"b\.{ending} cannot be read"):
        rows_of(folder)


@pytest.mark.parametrize("reader", ["deepscaler", "virl39k", "benchmark"])
def test_files_of_nothing_end_the_reading_of_the_other_readers_too(folder, reader):
    row = {"qid": "1", "question": "q", "problem": "q", "answer": "1", "image": []}
    (folder / "a.jsonl").write_text(json.dumps(row) + "\n")
    recipe = folder.parent / "x.toml"
    named = 'benchmark = "math500"' if reader == "benchmark" else ""
    recipe.write_text(f'[source]\nreader = "{reader}"\nlocation = "{folder}"\n{named}\n')
    for content in (b"", b"<html>404</html>", None):
        if content is None:
            (folder / "b.jsonl").unlink()
            (folder / "b.jsonl").symlink_to(folder / "nowhere")
        else:
            (folder / "b.jsonl").write_bytes(content)
        with pytest.raises(InfiMmrError, match=r"b\.jsonl"):
            list(open_sources(load_recipe(str(recipe), "local")).rows())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.json", b" \n", "d.json holds no record. Fetch it again, or leave it out"),
        ("d.json", b"[]", "d.json holds no record"),
        ("d.csv", b",,question,answer\n0,1,q,1\n", "d.csv has several columns without a name. Name each in its header"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_says_what_to_do(folder, name, content, said):
    (folder / name).write_bytes(content)
    for read in (rows_of, lambda place: inspect_place(str(place))):
        with pytest.raises(InfiMmrError) as refused:
            read(folder)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "question,answer\rWhat?,1\rWhy?,2\r",
        'question,answer\n"What?",1\rWhy?,2\r',
        "\nquestion,answer\rWhat?,1\rWhy?,2\r",
        " \n\u00a0\nquestion,answer\rWhat?,1\rWhy?,2",
    ],
)
def test_lines_of_a_csv_that_end_with_a_carriage_return_alone_are_inspected_as_they_are_built(folder, text):
    (folder / "d.csv").write_bytes(text.encode())
    assert [row.answer for row in rows_of(folder)] == ["1", "2"]
    found = inspect_place(str(folder))
    assert (found["records"], found["rows"]) == (2, 2)


def test_dates_as_answers_are_named_and_where_they_are_asked_for_their_form_is_told(folder):
    dates = pl.DataFrame({"question": ["a", "b"], "answer": [date(2020, 1, 2), date(2021, 1, 2)]})
    dates.write_parquet(folder / "d.parquet")
    with pytest.raises(InfiMmrError, match="no column could be taken as answer, answer holds date"):
        rows_of(folder)
    found = inspect_place(str(folder), overrides=["columns.answer=answer"])
    assert "answer holds date, taken as text, as 2021-01-02" in found["told"]
