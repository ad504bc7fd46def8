"""Rows that came from real reports: golds that are no answers, broken text, pictures and files that are not there."""

from __future__ import annotations

import json
import math
import zipfile

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.intake.image_places import ImagePlaces
from data_engine.intake.ingest import ingest
from data_engine.sources.base import plain_answer
from data_engine.sources.deepscaler import DeepScaler
from data_engine.sources.places import find_place
from data_engine.sources.virl39k import Virl39k
from shared.answers import gold_answer
from shared.errors import InfiMmrError
from shared.option_lists import choices_in_question


def place(path):
    return find_place(str(path), "main", (), what="test")


def read(source, tmp_path):
    return ingest(source, ImagePlaces(tmp_path / "spool"), None)


def rules(got):
    return dict(got.rejections.select("source_id", "rule").iter_rows())


def lines(file, rows):
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_the_answer_is_taken_out_of_a_whole_solution(tmp_path):
    gold = "She sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"
    file = lines(tmp_path / "gsm.jsonl", [{"question": "How many?", "answer": gold}])
    row = read(DeepScaler(place(file)), tmp_path).rows.row(0, named=True)
    assert (row["answer"], row["answer_raw"]) == ("72", gold)
    assert json.loads(row["extra"])["mends"] == ["answer taken out of a longer gold (marked)"]


@pytest.mark.parametrize(
    "gold", [math.nan, math.inf, -math.inf, None, "N/A", "nan", "略", "见解析", "证明略", "", {}, []]
)
def test_a_missing_value_is_a_missing_answer(gold, tmp_path):
    rows = [
        {"problem": "What is 1 + 1?", "answer": gold, "id": "a"},
        {"problem": "What is 2 + 1?", "answer": 3, "id": "b"},
    ]
    got = read(DeepScaler(place(lines(tmp_path / "rows.jsonl", rows))), tmp_path)
    assert rules(got) == {"a": "missing_answer"}
    assert got.rows["answer"].to_list() == ["3"]


def test_numbers_of_a_table_stay_what_they_are():
    assert [plain_answer(value) for value in (142.0, 0.5, -0.0, 7, [8], True)] == ["142", "0.5", "0", "7", "8", "True"]


def test_half_a_character_refuses_its_row_and_no_other(tmp_path):
    rows = [
        '{"problem": "Solve \\ud835 + 1 = 2", "answer": "1", "id": "cut"}',
        '{"problem": "Solve x + 1 = 3", "answer": "2", "id": "who\\ud83d", "source": "s\\udc00", "note": "a\\u0000b"}',
        '{"problem": "Solve \\ud835\\udc65 = 3", "answer": "3", "id": "whole"}',
        '{"problem": "Solve x\\u0000 = 4", "answer": "4\\u0000", "id": "nul"}',
        '{"problem": "Solve x = 5", "answer": "5\\ud800", "id": "gold"}',
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows))
    got = read(DeepScaler(place(file)), tmp_path)
    assert rules(got) == {"cut": "unreadable", "gold": "unreadable"}
    assert "U+D835" in "".join(got.rejections["evidence"])
    found = {row["source_id"]: row for row in got.rows.iter_rows(named=True)}
    assert set(found) == {"who\ufffd", "whole", "nul"}
    assert found["who\ufffd"]["source"] == "s\ufffd"
    assert json.loads(found["who\ufffd"]["extra"])["columns"]["note"] == "ab"
    assert (found["nul"]["question"], found["nul"]["answer"]) == ("Solve x = 4", "4")
    assert found["whole"]["question"] == "Solve \U0001d465 = 3"


def test_bytes_that_are_no_utf8_refuse_their_row_and_no_other(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(
        b'{"problem": "caf\xe9?", "answer": "1", "id": "a"}\n{"problem": "tea?", "answer": "1", "id": "b"}'
    )
    got = read(DeepScaler(place(tmp_path / "rows.jsonl")), tmp_path)
    assert rules(got) == {"a": "unreadable"}
    assert "byte 0xE9 (no UTF-8)" in got.rejections["evidence"][0]
    texts = pa.array([b"caf\xe9?", b"tea?"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"problem": texts, "answer": ["1", "1"], "id": ["a", "b"]}), tmp_path / "rows.parquet")
    assert rules(read(DeepScaler(place(tmp_path / "rows.parquet")), tmp_path)) == {"a": "unreadable"}


def good_and_bad_parquet(folder, suffix=".parquet"):
    folder.mkdir()
    columns = {"problem": ["a?"], "question": ["<image>a?"], "answer": ["1"], "image": [["a.png"]]}
    pl.DataFrame(columns).write_parquet(folder / "a.parquet")
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    (folder / f"b{suffix}").write_bytes((folder / "a.parquet").read_bytes()[:-20])


@pytest.mark.parametrize("reader", [Virl39k, DeepScaler])
def test_one_unreadable_file_of_several_ends_the_build_with_its_name(reader, tmp_path):
    good_and_bad_parquet(tmp_path / "rows")
    with pytest.raises(InfiMmrError, match=r"b\.parquet cannot be read"):
        read(reader(place(tmp_path / "rows")), tmp_path)


@pytest.mark.parametrize("reader", [Virl39k, DeepScaler])
def test_lines_that_end_within_a_record_end_the_build(reader, tmp_path):
    whole = '{"question": "What is 2 + 2?", "problem": "What is 2 + 2?", "answer": "4", "image": []}\n'
    (tmp_path / "rows.jsonl").write_text(f"{whole}{{broken}}\n{whole[:40]}")
    with pytest.raises(InfiMmrError, match=r"rows\.jsonl cannot be read \(it is cut off within its last line\)"):
        read(reader(place(tmp_path / "rows.jsonl")), tmp_path)


def test_a_file_that_is_left_out_is_named(tmp_path):
    good_and_bad_parquet(tmp_path / "rows")
    pl.DataFrame({"qid": ["a"], "licence": ["MIT"]}).write_parquet(tmp_path / "rows" / "b.parquet")
    (tmp_path / "rows" / "more.jsonl").write_text('{"question": "<image>b?", "answer": "2", "image": "a.png"}')
    (tmp_path / "rows" / "more").mkdir()
    (tmp_path / "rows" / "more" / "c.parquet").write_bytes(b"")
    (tmp_path / "rows" / "old.csv").write_text("question,answer")
    source = Virl39k(place(tmp_path / "rows"))
    assert any("old.csv was left out" in note for note in source.notes)
    assert any("more/c.parquet was left out" in note for note in source.notes)
    source.notes = [note for note in source.notes if "more.jsonl" in note or "b.parquet" in note]
    assert [note.split(" was left out")[0].split()[-1] for note in source.notes] == ["more.jsonl", "b.parquet"]
    assert "no column question, answer, image" in source.notes[1]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "rows.csv").write_text("question,answer")
    with pytest.raises(InfiMmrError, match=r"there are rows\.csv"):
        Virl39k(place(tmp_path / "tables"))


def test_rows_with_pictures_may_come_as_jsonl(tmp_path):
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "a.png")
    rows = [{"id": "x", "question": "What?", "answer": "1", "image": "a.png", "subject": "algebra"}, "no record"]
    lines(tmp_path / "mine.jsonl", rows)
    got = read(Virl39k(place(tmp_path)), tmp_path)
    assert rules(got) == {"1": "unreadable"}
    row = got.rows.row(0, named=True)
    assert (row["source_id"], row["category"], row["question"]) == ("x", "algebra", "<image>\nWhat?")
    with_pictures = read(DeepScaler(place(tmp_path / "mine.jsonl")), tmp_path)
    assert rules(with_pictures) == {"x": "has_pictures", "1": "unreadable"}, "never dropped in silence"


@pytest.mark.parametrize("image", [{"bytes": None, "path": None}, None, {"bytes": b"", "path": ""}])
def test_a_picture_that_is_nothing_is_missing_and_no_escape(image, tmp_path):
    struct = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"question": ["<image>a?"], "answer": ["1"], "image": pa.array([[image]], struct)})
    pq.write_table(table, tmp_path / "a.parquet")
    got = read(Virl39k(place(tmp_path)), tmp_path)
    assert rules(got) == {"0": "image_missing"}
    assert "neither bytes nor a path" in got.rejections["evidence"][0]


def test_an_encrypted_archive_is_one_clear_line(tmp_path):
    pl.DataFrame({"question": ["<image>a?"], "answer": ["1"], "image": [["images/a.png"]]}).write_parquet(
        tmp_path / "39Krelease.parquet"
    )
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as packed:
        packed.writestr("images/a.png", b"x" * 40)
    data = bytearray((tmp_path / "images.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "images.zip").write_bytes(data)
    with pytest.raises(InfiMmrError, match=r"images\.zip cannot be unpacked"):
        Virl39k(place(tmp_path))


OPTIONS = "What is the area?\n<image>\nA. $18 \\pi$\nB. $20 \\pi$\nC. $16 \\pi$\nD. $14 \\pi$\n\n##"


@pytest.mark.parametrize(
    ("question", "answer", "choices"),
    [
        (OPTIONS, "B", (r"$18 \pi$", r"$20 \pi$", r"$16 \pi$", r"$14 \pi$")),
        (OPTIONS, r"$\mathrm{C}$", (r"$18 \pi$", r"$20 \pi$", r"$16 \pi$", r"$14 \pi$")),
        ("Pick one: A. 3 B. 4 C. 5", "4", ("3", "4", "5")),
        ("选哪个 A．南 B．北 C．西", "C", ("南", "北", "西")),
        (OPTIONS, "20", ()),
        (OPTIONS, "E", ()),
        ("A. Smith and B. Jones met C. Brown.", "three", ()),
        ("Look at A.\n<image>\nB.\n<image>\nC.\n<image>", "A", ()),
        ("The points A. B. C. lie on a line", "B", ()),
        ("Is it A. yes or B. no", "A", ()),
    ],
)
def test_options_with_dots_are_read_where_the_gold_shows_that_they_are_options(question, answer, choices):
    assert choices_in_question(question, answer) == choices


def test_real_rows_lose_no_answer_that_is_one(real_data, tmp_path):
    """Golds with an analysis behind them are read; only such as point elsewhere leave, with their reason."""
    got = read(Virl39k(place(real_data / "virl_like" / "virl_like.parquet")), tmp_path)
    refused = [json.loads(text) for text in got.rejections["evidence"]]
    assert 0 < sum("holds no answer" in entry["detail"] for entry in refused) < 12
    assert not any("ImageHere" in question for question in got.rows["question"])
    assert sum("[Analysis]" in answer or "【" in answer for answer in got.rows["answer"]) <= 3
    lettered = got.rows.filter(pl.col("answer").is_in(list("ABCDE")) & (pl.col("choices").list.len() > 0))
    assert lettered.height > 40
    assert all(gold_answer(answer).reason != "elsewhere" for answer in got.rows["answer"])
