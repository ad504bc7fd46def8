"""Text files read as columns give the records that a build reads; what columns tell is what the records hold."""

import json
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine import gold_kinds, screening, text_flags
from data_engine.inputs import open_table
from data_engine.intake.image_places import ImagePlaces
from data_engine.intake.in_blocks import ingest_blocks
from data_engine.recipe_settings import SourceSettings
from data_engine.runners.local import LocalRunner
from data_engine.sources import table_columns
from data_engine.sources.arrow_texts import arrow
from data_engine.sources.conversations import first_exchange, plain_pairs
from data_engine.sources.table_columns import column_batches, column_types
from data_engine.sources.table_files import read_batches
from shared.errors import InfiMmrError
from shared.option_lists import choices_in_question
from shared.store import open_store

GOOD_LINE = '{"id": %d, "question": "q \\u00e9 %d", "answer": "1", "more": [1, {"a": null}]}'
LINES = st.sampled_from(
    [
        GOOD_LINE, GOOD_LINE, GOOD_LINE, "", "  ", "{", "[1]", "7", '{"id": 1} {"id": 2}', '{"id": 1}{"id": 2}',
        '{"question": 7, "answer": "x"}', '{"question": "\\ud800", "answer": "x"}', '{"answer": 1.50}', '{"id": "a"}',
        '{"answer": NaN}', '{"question": "a", "question": "b"}', '{"question": null}', ' {"answer": "blank"}',
        '{"answer": "blank"} ', '{"id": 123456789012345678901234567890}', '{"id": -0}', '{"id": true}',
        '{"a": {"b": 1}',
        '{"question": "tab\there"}', '{"question": "\\u0000"}', "{}", '{"id": 1e2}', '{"question": {"a": 1}}',
    ]
)  # fmt: skip
FIELDS = st.sampled_from(
    ["a", "", '"b"', '"x, y"', '"line\nbreak"', '"say ""no"""', "5' 6", ' "c"', "é", "'", '"lone\rreturn"', "d\re"]
)
ODD_FIELDS = st.sampled_from(['5" pipe', '"open', 'a"b"', '""c', '"'])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("columns")


def plain(records):
    """Records and unreadable ones, told apart."""
    return [(type(record).__name__, record) for record in records]


def read(batches):
    """Records in order, or what the reading was ended with."""
    try:
        return [record for batch in batches for record in plain(batch.records())]
    except InfiMmrError as error:
        return str(error)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(LINES, min_size=1, max_size=30),
    st.tuples(
        st.sampled_from(["\n", "\n", "\r\n"]),
        st.booleans(),
        st.integers(1, 400),
        st.sampled_from([b"", b"\xef\xbb\xbf", b'{"question": "\xff"}\n']),
    ),
)
def test_lines_read_as_columns_are_the_records_that_a_build_reads(folder, lines, layout):
    end, ended, size, head = layout
    file = folder / "d.jsonl"
    text = end.join(line % (n, n) if line == GOOD_LINE else line for n, line in enumerate(lines))
    file.write_bytes(head + (text + end * ended).encode())
    types = column_types([{"id": 1, "question": "q", "answer": "a"}], ["id", "question", "answer"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_columns, "CHUNK_BYTES", size)
        assert read(column_batches(file, "jsonl", "x", types)) == read(read_batches(file, "jsonl", "x"))
        try:
            batches = list(column_batches(file, "jsonl", "x", types))
        except InfiMmrError:
            return
    for batch in batches:
        records = batch.records()
        assert plain(batch.at(range(len(batch)))) == plain(records)
        held = [{} if isinstance(record, str) else record for record in records]
        for name, known in (("question", str), ("answer", str), ("id", int)):
            told = batch.texts(name, numbers=True).to_pylist()
            values = [record.get(name) for record in held]
            assert all(text is None or text == str(value) for text, value in zip(told, values, strict=True))
            lost = [v for text, v in zip(told, values, strict=True) if text is None and type(v) is known]
            assert not [value for value in lost if str(value).isascii() or "é" in str(value)]


ITEMS = st.sampled_from(
    [
        *[{"id": 1, "question": "q é", "answer": "1", "more": [{"id": 2}, {"id": 3}]}] * 3,
        {"id": 2, "question": 'a},{"id": 1', "answer": "}\n{"}, {"question": "first", "id": 3}, {"id": "a"}, {}, 7,
        [{"id": 1}, {"id": 2}], None, {"id": {"id": 1}, "question": "\ud800"}, {"id": 1.5},
    ]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.lists(ITEMS, max_size=20),
    st.tuples(
        st.sampled_from([None, 2, "\t"]),
        st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", ":")]),
        st.sampled_from(["", "", "\n", "x", None]),
        st.sampled_from(["é", "é", "\n", "\t"]),
        st.integers(1, 500),
    ),
)
def test_items_of_a_list_read_as_columns_are_the_records_that_a_build_reads(folder, items, layout):
    indent, separators, tail, raw, size = layout
    file = folder / "d.json"
    text = json.dumps(items, indent=indent, separators=separators, ensure_ascii=False).replace("\ud800", "")
    file.write_bytes((text[:-9] if tail is None else text + tail).replace("é", raw).encode())
    types = column_types([{"id": 1, "question": "q", "answer": "a"}], ["id", "question", "answer"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_columns, "CHUNK_BYTES", size)
        assert read(column_batches(file, "json", "x", types)) == read(read_batches(file, "json", "x"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(FIELDS, min_size=3, max_size=3), min_size=1, max_size=20),
    st.lists(ODD_FIELDS, max_size=1),
    st.tuples(
        st.sampled_from(["\n", "\r\n"]),
        st.sampled_from([",", ";", "\t"]),
        st.booleans(),
        st.integers(1, 300),
        st.sampled_from(["", "a,b\n", "\n", "a,b,c,d\n"]),
    ),
)
def test_rows_read_as_columns_are_the_records_that_a_build_reads(folder, rows, odd, layout):
    end, mark, ended, size, last = layout
    file = folder / "d.csv"
    lines = [mark.join(row) for row in [["question", "answer", "more"], *rows]]
    lines += [mark.join([*odd, "x", "y"])] if odd else []
    file.write_bytes((end.join(lines) + end * ended + last).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_columns, "CHUNK_BYTES", size)
        found = read(column_batches(file, "csv", "x", {}))
    assert found == read(read_batches(file, "csv", "x"))


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_packed_files_and_bytes_that_are_no_text_read_alike(tmp_path, packing):
    import pyarrow as pa

    for name, data in (
        (
            "d.jsonl",
            b"".join(b'{"question": "q%d", "answer": "1"}\n' % n for n in range(5000)) + b'{"question": "\xff"}',
        ),
        ("d.csv", b"question,answer\n" + b"".join(b'"q, %d",1\n' % n for n in range(5000)) + b"\xff,2"),
    ):
        file = tmp_path / f"{name}{packing}"
        if packing:
            kind = {".gz": "gzip", ".zst": "zstd"}[packing]
            with pa.output_stream(str(file), compression=kind) as out:
                out.write(data)
        else:
            file.write_bytes(data)
        kind = name.partition(".")[2]
        types = column_types([{"question": "q", "answer": "1"}], ["question", "answer"])
        found = read(column_batches(file, kind, "x", types))
        assert len(found) == 5001
        assert found == read(read_batches(file, kind, "x"))


MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "from": st.sampled_from(["human", "gpt", "user", "system", "Human", None]),
        "value": st.sampled_from(["why?", "", "because", None]),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.lists(MESSAGE, max_size=3), min_size=1, max_size=6))
def test_columns_of_conversations_tell_what_each_of_them_holds(talks):
    kind = pl.List(pl.Struct({"from": pl.String, "value": pl.String}))
    column = pl.Series(talks, dtype=kind)
    texts, places = plain_pairs(arrow(column))
    for talk, place in zip(column.to_list(), places.tolist(), strict=True):
        whole = first_exchange(talk)
        if place >= 0:
            question, answer = texts[place].as_py(), texts[place + 1].as_py()
            assert (whole.question, whole.answer, whole.images, whole.later) == (question, answer, [], 0)
        elif talk and [m["from"] for m in talk] == ["human", "gpt"]:
            assert None in [message["value"] for message in talk]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["1", "2", " 3", "A. x", "(B) y", "<b>", "red", "a;b", "", "A", "B"]), max_size=5),
            st.sampled_from(["A", "B", "E", "1", "0", "red", "(A)", "7", "A, B"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_options_are_counted_as_a_build_takes_them(folder, items):
    place = folder / "d.parquet"
    rows = [{"question": f"q{n}", "options": options, "answer": answer} for n, (options, answer) in enumerate(items)]
    pl.DataFrame(rows, schema_overrides={"options": pl.List(pl.String)}).write_parquet(place)
    columns = {"question": "question", "answer": "answer", "choices": "options"}
    for form in ("text", "index", "index1"):
        settings_ = SourceSettings(reader="table", location=str(place), columns=columns, answers=form)
        found = [screening.take_census(open_table(settings_, "x"), quick=quick) for quick in (True, False)]
        assert replace(found[0], examples=[], refusals={}) == replace(found[1], examples=[], refusals={})


@pytest.mark.parametrize(
    "items",
    [
        [("red; green", "green"), ({"A": "red", "B": "green"}, "green"), (["red", "green"], "green")],
        [(["", "x"], "1/2"), (["", "x"], ["1", "2"])],
    ],
)
def test_options_in_several_forms_or_without_words_are_counted_as_a_build_takes_them(tmp_path, items):
    file = tmp_path / "d.jsonl"
    rows = [{"question": "What is it?", "options": options, "answer": answer} for options, answer in items]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = open_table(SourceSettings(reader="table", location=str(file)), "x")
    found = [screening.take_census(table, quick=quick) for quick in (True, False)]
    assert replace(found[0], examples=[], refusals={}) == replace(found[1], examples=[], refusals={})


@pytest.mark.parametrize(
    ("answers", "rows"),
    [
        (("b)", "Answer: B"), 2),  # the grader takes one for the other, with one of them as the gold
        (("Answer: B", "b)"), 2),
        (("12", "12 cm", "12 m"), 0),  # each may be 12, and two of them differ
        (("12 cm", "12", "12 m"), 0),
    ],
)
def test_answers_are_in_conflict_whichever_the_source_names_first(tmp_path, answers, rows):
    file, scratch = tmp_path / "d.jsonl", tmp_path / "scratch"
    scratch.mkdir()
    file.write_text("".join(json.dumps({"question": "What is it?", "answer": answer}) + "\n" for answer in answers))
    table = open_table(SourceSettings(reader="table", location=str(file)), "x")
    places, store = ImagePlaces(tmp_path / "spool"), open_store(tmp_path / "store")
    built = ingest_blocks(table, places, store, open_store(scratch), LocalRunner())
    assert built.rows.height == rows
    assert [screening.take_census(table, quick=quick).rows for quick in (True, False)] == [rows] * 2


@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_numbers_that_no_column_holds_are_counted_like_others(tmp_path, name):
    file = tmp_path / name
    rows = [{"id": n, "question": f"What is {n}?", "answer": 10**40 if n > 2 else n} for n in range(5)]
    file.write_text(json.dumps(rows) if name == "d.json" else "".join(json.dumps(row) + "\n" for row in rows))
    table = open_table(SourceSettings(reader="table", location=str(file)), "x")
    for quick in (True, False):
        found = screening.take_census(table, quick=quick)
        assert (found.rows, found.answer_kinds) == (5, {"integer": 5})


def test_a_mark_of_byte_order_at_the_first_rows_beginning_is_part_of_its_text(tmp_path):
    file = tmp_path / "d.csv"
    file.write_text("question,answer\n\ufeffWhat is it?,1\nWhat is it?,2\n", encoding="utf-8")
    table = open_table(SourceSettings(reader="table", location=str(file)), "x")
    assert [screening.take_census(table, quick=quick).rows for quick in (True, False)] == [2, 2]


def test_one_question_with_other_options_of_its_own_column_is_no_conflict(tmp_path):
    file = tmp_path / "d.jsonl"
    for question in ("Pick A. one B. two", "Pick"):
        options = ((["one", "two"], "A"), (["p", "q"], "B"))
        rows = [{"question": question, "answer": answer, "choices": listed} for listed, answer in options]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        table = open_table(SourceSettings(reader="table", location=str(file)), "x")
        for quick in (True, False):
            found = screening.take_census(table, quick=quick)
            assert (found.rows, found.refused.total()) == (2, 0)


def test_plain_answers_are_counted_and_only_the_others_told_by_proportion(tmp_path, monkeypatch):
    monkeypatch.setattr(gold_kinds, "READ_ALL", 3)
    monkeypatch.setattr(gold_kinds, "READ", 3)
    file = tmp_path / "d.jsonl"
    with file.open("w") as out:
        for n in range(900):
            answer = f"x+{n}" if n % 9 == 0 else "3.5" if n % 9 == 1 else str(n)
            out.write(json.dumps({"question": f"q{n}", "answer": answer}) + "\n")
    found = screening.take_census(open_table(SourceSettings(reader="table", location=str(file)), "x"))
    assert found.answer_kinds == {"integer": 700, "decimal": 100, "expression": 100}
    assert found.estimated == 97


@pytest.mark.parametrize("first", ['A pipe is 5" wide,12.7', '"A pipe is 5 wide,12.7'])
def test_a_stray_quote_does_not_have_inspect_hold_the_whole_file(tmp_path, monkeypatch, first):
    file, seen = tmp_path / "d.csv", []
    file.write_text("question,answer\n" + first + "\n" + "".join(f"What is {n}?,{n}\n" for n in range(2000)))
    whole = table_columns._whole_rows
    monkeypatch.setattr(table_columns, "_whole_rows", lambda data, mark: seen.append(len(data)) or whole(data, mark))
    monkeypatch.setattr(table_columns, "CHUNK_BYTES", 500)
    monkeypatch.setattr(table_columns, "HELD_BYTES", 2000)
    assert read(column_batches(file, "csv", "x", {})) == read(read_batches(file, "csv", "x"))
    assert max(seen) <= 2500 < file.stat().st_size / 10


OPTIONS = ["(A)", "(B)", "(a)", "(b) ", "A. 1 ", "B. 2 ", "C.", "C\u3000\uff1a1"]
SIGNS = [*"aAbB1 .):<[\n\t\u00e9\u3000\uff1a\x1c", *OPTIONS]
WORDS = st.lists(st.sampled_from(SIGNS), max_size=12).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | WORDS, min_size=1, max_size=9), st.sampled_from([4, 1 << 17]))
def test_signs_told_by_bytes_are_never_missed(texts, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_flags, "BLOCK", block)
        found = text_flags.text_flags(arrow(pl.Series(texts, dtype=pl.String)))
    for place, text in enumerate(text or "" for text in texts):
        assert found.empty[place] == (not text)
        assert found.marked[place] or not ("<" in text or "[" in text)
        assert found.spaced[place] or " ".join(text.split()) == text
        assert found.edged[place] or (text.strip() == text and text.isascii() and text.isprintable())
        assert found.lists[place] or not any(choices_in_question(text, answer) for answer in ("A", "1"))
