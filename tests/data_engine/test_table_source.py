"""Sets of one's own are read by the roles of their columns, inspected, and built from the recipe of inspect."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.s3_server import s3_server
from data_engine import gold_kinds, screening
from data_engine.build import BuildRequest, build
from data_engine.inputs import open_table
from data_engine.inspect import inspect_place
from data_engine.intake.ingest import carried_row
from data_engine.recipe_settings import SourceSettings
from data_engine.sources.base import Rejection, SourceRow
from shared.answers import ANSWER_KINDS, answer_kind, grade
from shared.errors import InfiMmrError, UsageError
from shared.option_lists import MAY_LIST, choices_in_question
from shared.progress import Progress
from shared.store import open_store
from tests.data_engine import public_shapes as shapes

pytestmark = pytest.mark.usefixtures("own_cache")


def rows_of(place, **settings):
    return list(open_table(SourceSettings(reader="table", location=str(place), **settings), "source").rows())


def build_recipe(recipe, tmp_path, **more):
    request = BuildRequest(recipe=str(recipe), profile="local", store=str(tmp_path / "store"), **more)
    return build(request, Progress())


def test_a_mistyped_folder_that_could_be_a_hub_id_is_told_as_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "sets" / "charts").mkdir(parents=True)
    with pytest.raises(InfiMmrError, match=r"folder sets has no chart, and .*Did you mean sets/charts\?"):
        rows_of("sets/chart")


@pytest.mark.parametrize("name", list(shapes.SHAPES))
def test_public_shapes_are_inspected_and_built_from_a_recipe_under_15_lines(name, folder, tmp_path):
    write, columns, kinds, pictures = shapes.SHAPES[name]
    place = write(folder)
    recipe = tmp_path / f"{name}.toml"
    found = inspect_place(str(place), recipe=str(recipe))
    assert found["columns"] == columns
    assert (found["rows"], found["records"], found["refused"]) == (6, 6, {})
    assert found["answer_kinds"] == kinds
    assert found["images"] == pictures
    assert len(recipe.read_text().splitlines()) < 15
    assert "[steps.decontaminate_ngrams]" in recipe.read_text()  # how to keep benchmarks out, as a comment
    report = build_recipe(recipe, tmp_path)
    rows = report.version.scan().collect()
    assert rows.height == 6, report.version.manifest
    assert sum(rows["image_hashes"].list.len().to_list()) == pictures
    assert all(q.count("<image>") == len(h) for q, h in rows.select("question", "image_hashes").iter_rows())
    assert dict(rows["answer_kind"].value_counts().iter_rows()) == kinds
    assert build_recipe(recipe, tmp_path).found


def test_answers_come_out_of_tags_boxes_marks_sentences_and_places(folder):
    for name, answers in {
        "geoqa": ["70°", "69°"],
        "gsm8k": ["1,000", "1,100"],
        "numinamath": ["1", "2"],
        "llava": ["2", "3"],
        "mathv360k": ["A", "B"],
        "scienceqa": ["A", "B"],
        "sharegpt": ["A", "B"],
    }.items():
        inside = folder / name
        inside.mkdir()
        rows = rows_of(shapes.SHAPES[name][0](inside))
        assert [row.answer for row in rows[:2]] == answers, name


def test_options_that_the_question_does_not_show_are_written_into_it(folder):
    first = rows_of(shapes.scienceqa(folder))[0]
    assert first.question == "Which of these is a solid? (0)\nChoices: (A) milk (B) rock"
    assert first.choices == ("milk", "rock")


def test_later_exchanges_are_left_out_and_told(folder):
    found = inspect_place(str(shapes.llava(folder)))
    assert "1 rows: later exchanges of a conversation left out" in found["told"]


@pytest.mark.parametrize(
    ("question", "pictures", "text", "order"),
    [
        ("<ImageHere> What?", "ab"[:1], "<image> What?", "a"),
        ("<|image_1|> and <|image_2|>?", "ab", "<image> and <image>?", "ab"),
        ("<|vision_start|><|image_pad|><|vision_end|>What?", "a", "<image>What?", "a"),
        ("Picture 1: <img>a.png</img>\nWhat?", "a", "<image>\nWhat?", "a"),
        ("<img> What?", "a", "<image> What?", "a"),
        ("(<image>./</image>)\nWhat?", "a", "<image>\nWhat?", "a"),
        ("<start_of_image> What?", "a", "<image> What?", "a"),
        (
            "<image 2> is larger than <image 1>; in <image 2>?",
            "ab",
            "<image> is larger than <image>; in image 2?",
            "ba",
        ),
        ('See <img src="a.png"/> here', "a", "See <image> here", "a"),
        ("No tag", "ab", "<image><image>\nNo tag", "ab"),
    ],
)
def test_image_conventions_of_the_usual_trainers(folder, question, pictures, text, order):
    for seed, name in enumerate("ab"):
        (folder / f"{name}.png").write_bytes(shapes.png(seed))
    row = {"question": question, "answer": "1", "images": [f"{name}.png" for name in pictures]}
    shapes.jsonl([row], folder / "d.jsonl")
    (found,) = rows_of(folder)
    assert found.question == text
    assert [image.name for image in found.images] == [f"{name}.png" for name in order]


def test_pictures_come_as_names_bytes_structs_base64_data_urls_and_lists(folder):
    data = shapes.png(1)
    coded = base64.b64encode(data).decode()
    (folder / "a.png").write_bytes(data)
    forms = ["a.png", "./a.png", coded, f"data:image/png;base64,{coded}", ["a.png", coded], '["a.png"]', "['a.png']"]
    shapes.jsonl(
        [{"question": f"q{i}", "answer": "1", "image": form} for i, form in enumerate(forms)], folder / "d.jsonl"
    )
    assert [len(row.images) for row in rows_of(folder)] == [1, 1, 1, 1, 2, 1, 1]
    parquet = folder / "p.parquet"
    shapes.parquet([{"question": "q", "answer": "1", "image": data}], parquet)
    assert rows_of(parquet)[0].images[0].data == data
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{coded}"}},
        {"type": "text", "text": "What?"},
    ]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "\\boxed{4}"}]
    talk = folder / "t.jsonl"
    shapes.jsonl([{"messages": messages}], talk)
    (row,) = rows_of(talk)
    assert (row.question, row.answer, row.images[0].data) == ("<image>\nWhat?", "4", data)


def test_every_format_gives_the_same_rows(folder, tmp_path):
    import datasets

    rows = [{"id": f"r{i}", "question": f"What is {i}, and 1?", "answer": f"{i}.5", "level": "easy"} for i in range(5)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "a.parquet")
    shapes.jsonl(rows, folder / "a.jsonl")
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "d.json").write_text((folder / "a.jsonl").read_text())
    (folder / "b.json").write_text(json.dumps({"info": {"v": 1}, "data": rows}))
    (folder / "c.json").write_text(json.dumps({row["id"]: row for row in rows}))
    frame = pl.DataFrame(rows)
    frame.write_csv(folder / "a.csv")
    frame.write_csv(folder / "b.csv", separator=";")
    frame.write_csv(folder / "a.tsv", separator="\t")
    frame.write_ipc(folder / "a.arrow")
    with pa.OSFile(str(folder / "b.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    for packing in ("gz", "zst", "bz2"):
        codec = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}[packing]
        with pa.output_stream(str(folder / f"a.jsonl.{packing}"), compression=codec) as out:
            out.write((folder / "a.jsonl").read_bytes())
    saved = tmp_path / "saved"
    datasets.Dataset.from_list(rows).save_to_disk(saved)
    both = tmp_path / "both"
    datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows), "test": datasets.Dataset.from_list(rows[:1])}
    ).save_to_disk(both)
    expected = rows_of(folder / "a.parquet")
    assert [row.source_id for row in expected] == [f"r{i}" for i in range(5)]
    for place in [*sorted(folder.iterdir()), saved, both]:
        assert rows_of(place) == expected, place.name
    assert len(rows_of(both, split="test")) == 1


def test_a_class_label_is_its_word(tmp_path):
    import datasets

    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.ClassLabel(names=["circle", "square"])}
    )
    datasets.Dataset.from_list([{"question": "Which?", "answer": 1}], features=features).save_to_disk(tmp_path / "s")
    assert rows_of(tmp_path / "s")[0].answer == "square"


def test_columns_are_overridden_and_a_wrong_one_is_one_line_with_the_nearest(folder):
    shapes.jsonl([{"text": "What?", "reply": "3", "other": "4", "deep": {"gold": "5"}}], folder / "d.jsonl")
    assert rows_of(folder, columns={"question": "text", "answer": "other"})[0].answer == "4"
    assert rows_of(folder, columns={"question": "text", "answer": "deep.gold"})[0].answer == "5"
    with pytest.raises(InfiMmrError, match=r"no column 'replies' for the role answer. Did you mean reply\?"):
        rows_of(folder, columns={"question": "text", "answer": "replies"})
    with pytest.raises(InfiMmrError, match=r"no column could be taken as answer \(columns: text, reply, other"):
        rows_of(folder, columns={"question": "text"})
    with pytest.raises(UsageError, match=r"no role 'anwser'. Did you mean answer\?"):
        inspect_place(str(folder), overrides=["columns.anwser=reply"])


def test_a_trace_is_kept_where_its_column_is_told_and_never_guessed(folder):
    long = "<think>So.</think> 7" * 20
    record = {"question": "What is 3 + 4?", "answer": "7", "solution": "3 + 4 = 7.", "trace": long}
    (folder / "x.jsonl").write_text(json.dumps(record))
    assert "trace" not in rows_of(folder)[0].extra
    assert rows_of(folder, columns={"trace": "solution"})[0].extra["trace"] == "3 + 4 = 7."
    assert rows_of(folder, columns={"trace": "trace"})[0].extra["trace"] == long
    with pytest.raises(UsageError, match="trace"):
        rows_of(folder, columns={"traces": "solution"})


def test_what_cannot_be_a_row_is_refused_with_its_reason_in_inspect_and_in_the_ledger(folder, tmp_path):
    (folder / "ok.png").write_bytes(shapes.png(1))
    (folder / "cut.png").write_bytes(shapes.png(2)[:300])
    good = [{"question": f"Look at {i}", "answer": i, "image": "ok.png"} for i in range(4)]
    bad = [
        {"question": "gone", "answer": "1", "image": "gone.png"},
        {"question": "out", "answer": "1", "image": "../../etc/passwd.png"},
        {"question": "far", "answer": "1", "image": "https://a.example/x.png"},
        {"question": "cut", "answer": "1", "image": "cut.png"},
        {"question": "<image><image> two", "answer": "1", "image": "ok.png"},
        {"question": 7, "answer": "1", "image": "ok.png"},
        {"question": "", "answer": "1", "image": "ok.png"},
        {"question": "no gold", "answer": None, "image": "ok.png"},
        {"question": "odd gold", "answer": {"a": 1, "b": 2}, "image": "ok.png"},
        {"question": "odd picture", "answer": "1", "image": 5},
        {"question": "prose", "answer": "First we look. " * 30, "image": "ok.png"},
        {"question": "Look at 1", "answer": 2, "image": "ok.png"},
    ]
    shapes.jsonl([*good, *bad], folder / "d.jsonl")
    with (folder / "d.jsonl").open("a") as out:
        out.write("{broken\n[1]\n")
    expected = {
        "image_missing": 1, "path_escape": 1, "remote_url": 1, "image_refused:truncated": 1, "tag_image_mismatch": 1,
        "wrong_type": 3, "missing_question": 1, "missing_answer": 1, "no_final_answer": 1, "unreadable": 2,
        "conflicting_answers": 2,
    }  # fmt: skip
    found = inspect_place(str(folder), recipe=str(tmp_path / "r.toml"))
    assert found["refused"] == expected
    assert (found["records"], found["rows"]) == (18, 3)
    report = build_recipe(tmp_path / "r.toml", tmp_path, overrides=["steps={}"])
    ledger = report.version.ledger()
    assert dict(ledger["rule"].value_counts().iter_rows()) == expected
    assert report.version.manifest.rows == 3


def test_an_unreadable_file_ends_the_reading_with_its_name(folder):
    rows = [{"question": "q", "answer": "1"}]
    shapes.parquet(rows, folder / "a.parquet")
    whole = (folder / "a.parquet").read_bytes()
    (folder / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InfiMmrError, match=r"b\.parquet cannot be read"):
        rows_of(folder)
    for name, content, words in (
        ("c.jsonl", b"not json\nat all\n", "c.jsonl holds no JSON object on any of its 2 lines"),
        ("cut.jsonl", b'{"question": "q", "answer": "1"}\n{"question": "q2", "ans', "cut.jsonl is cut off within its"),
        ("d.json", b'[{"question": "q", "answer": "1"}, {"que', r"d.json is truncated or not valid JSON"),
        ("e.json", b'"words"', "e.json holds neither a list nor an object"),
        ("g.csv", b"question,answer,answer\n1,2,3\n", "g.csv names the column 'answer' twice"),
        ("h.tar", b"\0" * 100, "h.tar cannot be read"),
        ("i.arrow", b"ARROW1 and nothing", "i.arrow cannot be read"),
        ("j.jsonl.gz", b"no gzip", "j.jsonl.gz cannot be read"),
    ):
        (folder / name).write_bytes(content)
        for read in (rows_of, lambda place: inspect_place(str(place))):
            with pytest.raises(InfiMmrError, match=words):
                read(folder / name)
    (folder / "k.pkl").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(InfiMmrError, match=r"k\.pkl may be pickled.*never opened"):
        rows_of(folder / "k.pkl")


def test_files_without_the_questions_column_are_left_aside_by_name(folder):
    shapes.jsonl([{"question": "q", "answer": "1"}], folder / "b.jsonl")
    shapes.jsonl([{"image": "x.png", "width": 3}], folder / "a.jsonl")
    source = open_table(SourceSettings(reader="table", location=str(folder)), "source")
    assert source.files() == ("b.jsonl",)
    assert source.notes == (
        "columns guessed: question from question; answer from answer (source.columns overrides)",
        "left aside, since they have no column question: a.jsonl",
    )
    shapes.parquet([{"question": "q", "answer": "1"}], folder / "b.parquet")
    shapes.parquet([{"question": "q", "gold": "1"}], folder / "c.parquet")
    with pytest.raises(
        InfiMmrError, match=r"c\.parquet has no column 'answer' for the role answer \(its columns: question, gold"
    ):
        rows_of(folder)


def test_answers_of_32_bits_are_what_was_written(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    answers = pa.array([0.1, 2.5, 7.0, None], pa.float32())
    pq.write_table(pa.table({"question": list("abcd"), "answer": answers}), folder / "a.parquet")
    assert [getattr(row, "answer", "") for row in rows_of(folder)] == ["0.1", "2.5", "7", ""]
    assert [example["answer"] for example in inspect_place(str(folder))["examples"]] == ["0.1", "2.5", "7"]


def test_csv_rows_of_another_length_are_ledger_rows(folder):
    (folder / "b.csv").write_bytes("question,answer\nwas heißt,1\nok,2\n".encode("latin-1"))
    rows = rows_of(folder / "b.csv")
    assert [carried_row(row).question for row in rows][1] == "ok"
    assert carried_row(rows[0]).reason == "unreadable"
    assert inspect_place(str(folder / "b.csv"))["refused"] == {"unreadable": 1}
    (folder / "b.csv").unlink()
    (folder / "a.csv").write_text('question,answer\n"a, b",1\nonly\nc,2,3\nd,4\n')
    found = rows_of(folder)
    assert [type(row) for row in found] == [SourceRow, Rejection, Rejection, SourceRow]
    assert found[1].detail == "row 2 has 1 fields, the header names 2"


def test_tar_members_that_are_links_or_leave_the_shard_make_their_record_unreadable(folder):
    import io
    import tarfile

    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in (
            ("x.json", b'{"question": "q", "answer": "1"}'),
            ("../y.json", b"{}"),
            ("z.json", b'{"question": "r", "answer": "2"}'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("z.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = rows_of(folder)
    assert isinstance(found[0], SourceRow)
    assert [row.detail for row in found[1:]] == [
        "../y.json: its name leads out of the shard",
        "z.png: a link or device, not a file",
    ]


def test_files_of_several_splits_formats_and_configurations_are_told_apart(folder):
    rows = [{"question": "q", "answer": "1"}]
    for name in (
        "algebra/train-00000-of-00001.parquet",
        "geometry/train-00000-of-00001.parquet",
        "algebra/test.parquet",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        shapes.parquet([{**rows[0], "question": name}], folder / name)
    shapes.jsonl(rows, folder / "notes.jsonl")
    source = open_table(SourceSettings(reader="table", location=str(folder), config="algebra"), "source")
    assert source.files() == ("algebra/train-00000-of-00001.parquet",)
    assert source.notes[1:] == ("split train taken; also there: test (split = ...)",)
    assert rows_of(folder, config="algebra", split="test")[0].question == "algebra/test.parquet"
    assert len(rows_of(folder, split="train")) == 2
    with pytest.raises(InfiMmrError, match=r"no split 'tset'. Did you mean test"):
        rows_of(folder, split="tset")
    two = "- config_name: two\n  data_files:\n  - split: train\n    path: geometry/*.parquet\n"
    one = "- config_name: one\n  data_files: notes.jsonl\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{two}{one}---\n# Card\n")
    assert rows_of(folder, config="one")[0].question == "q"
    assert rows_of(folder)[0].question == "geometry/train-00000-of-00001.parquet"


def test_several_answers_are_one_value_the_most_frequent_or_all_of_them(folder):
    given = [["3", "-2"], ["0.5", "1/2"], ["yes", "no", "yes"], ["C", "A"], []]
    rows = [
        {"question": f"q{i}", "answers": value, "options": ["p", "q", "r"] if i == 3 else None}
        for i, value in enumerate(given)
    ]
    shapes.jsonl(rows, folder / "d.jsonl")
    found = rows_of(folder)
    assert [row.answer for row in found[:4]] == ["3, -2", "0.5", "yes", "A, C"]
    assert found[4].reason == "missing_answer"


def test_a_closed_interval_in_brackets_stays_the_interval_that_it_is(folder):
    given = ["[-2,4]", "[0, 2.5]", "[4, 1]", "['3', '5']", "[1, 2, 3]"]
    shapes.jsonl([{"question": f"q{i}", "answer": value} for i, value in enumerate(given)], folder / "d.jsonl")
    rows = rows_of(folder)
    assert [row.answer for row in rows] == ["[-2,4]", "[0, 2.5]", "4, 1", "3, 5", "1, 2, 3"]
    assert all(grade(rows[0].answer, one).correct for one in ("$[-2, 4]$", "-2 \\le x \\le 4"))
    assert not grade(rows[0].answer, "4, -2").correct
    assert inspect_place(str(folder))["answer_kinds"] == {"set": 3, "tuple": 2}


def test_a_story_that_tells_repeated_questions_apart_stands_before_them(folder):
    rows = [{"Body": f"Ann has {i} pens.", "Question": "How many pens has she?", "Answer": str(i)} for i in range(20)]
    shapes.jsonl(rows, folder / "d.jsonl")
    source = open_table(SourceSettings(reader="table", location=str(folder)), "source")
    assert source.columns["question"] == ("Body", "Question")
    assert "Body stands before the question" in source.notes[1]
    assert next(source.rows()).question == "Ann has 0 pens.\nHow many pens has she?"
    told = {"question": "Question"}
    assert open_table(SourceSettings(reader="table", location=str(folder), columns=told), "s").columns["question"] == (
        "Question",
    )


def test_pass_rates_fill_the_difficulty_and_other_values_stay_in_extra(folder):
    rows = [
        {"question": "q", "answer": "1", "pass_rate": 0.25, "level": 4},
        {"question": "r", "answer": "1", "pass_rate": 7},
    ]
    shapes.jsonl(rows, folder / "d.jsonl")
    first, second = rows_of(folder)
    assert (first.pass_rate_large, first.extra["level"]) == (0.25, 4)
    assert (second.pass_rate_large, second.extra["pass_rate"]) == (None, 7)


def test_a_changed_picture_makes_another_version_and_another_place_the_same(folder, tmp_path):
    place = shapes.chartqa(folder)
    inspect_place(str(place), recipe=str(tmp_path / "r.toml"))
    first = build_recipe(tmp_path / "r.toml", tmp_path)
    moved = tmp_path / "elsewhere" / "set"
    moved.parent.mkdir()
    place.rename(moved)
    again = build_recipe(tmp_path / "r.toml", tmp_path, source=str(moved))
    assert again.found
    assert again.version.manifest.fingerprint == first.version.manifest.fingerprint
    (moved / "png" / "3.png").write_bytes(shapes.png(999))
    assert not build_recipe(tmp_path / "r.toml", tmp_path, source=str(moved)).found


def test_a_picture_in_a_message_is_part_of_the_contents_however_answers_are_read(folder):
    for number in range(6):
        (folder / f"{number}.png").write_bytes(shapes.png(number))
    rows = [
        {
            "messages": [{"role": "user", "content": [{"type": "image", "image": f"{number}.png"}, "How many?"]}],
            "options": ["1", "2", "3", "4"],
            "answer": 9 if number == 5 else number % 4,
        }
        for number in range(6)
    ]
    shapes.jsonl(rows, folder / "train.jsonl")

    def contents(answers):
        return open_table(SourceSettings(reader="table", location=str(folder), answers=answers), "source").fingerprint()

    before = contents("text")
    assert contents("index") == before
    (folder / "5.png").write_bytes(shapes.png(999))
    assert contents("index") == contents("text") != before


def test_guesses_stand_in_the_manifest(folder, tmp_path):
    inspect_place(str(shapes.mmk12(folder)), recipe=str(tmp_path / "r.toml"))
    warnings = build_recipe(tmp_path / "r.toml", tmp_path).version.manifest.warnings
    assert "split train taken; also there: test (split = ...)" in warnings
    assert not [text for text in warnings if text.startswith("columns guessed")], "the written recipe tells them all"
    (tmp_path / "short.toml").write_text(f'[source]\nreader = "table"\nlocation = "{folder}"\n')
    warnings = build_recipe(tmp_path / "short.toml", tmp_path).version.manifest.warnings
    assert any("columns guessed: id from id; question from question; answer from answer" in text for text in warnings)


def test_a_recipe_is_written_once_and_inspected_itself(folder, tmp_path):
    recipe = tmp_path / "r.toml"
    first = inspect_place(str(shapes.gsm8k(folder)), recipe=str(recipe))
    assert inspect_place(str(recipe))["columns"] == first["columns"]
    recipe.write_text(recipe.read_text().replace("[source.columns]", "limit = 1\n[source.columns]"))
    assert inspect_place(str(recipe))["records"] == 1
    with pytest.raises(UsageError, match="already exists"):
        inspect_place(str(folder), recipe=str(recipe))
    with pytest.raises(UsageError, match="not a TOML file"):
        inspect_place(str(folder), recipe=str(tmp_path / "r.txt"))
    recipe.write_text('[source]\nreader = "virl39k"\nlocation = "mini"\n')
    with pytest.raises(UsageError, match="this is virl39k"):
        inspect_place(str(recipe))


def census(place, *, quick, **settings):
    table = open_table(SourceSettings(reader="table", location=str(place), **settings), "source")
    found = screening.take_census(table, quick=quick)
    return {name: getattr(found, name) for name in ("records", "rows", "images", "refused", "answer_kinds", "notes")}


@pytest.mark.parametrize(
    "name",
    [
        "virl_like", "text/gsm8k_test.parquet", "text/deepscaler_partial.parquet", "text/extra_deepmath_5k.parquet",
        "bench/mathvision_test_text.jsonl", "bench/mathvista_testmini_text.json", "bench/dynamath_60x3variants.parquet",
        "bench/mathverse_testmini_text_only.json", "text/agentica_test_minerva.json", "text/bench_cmath.parquet",
        "bench/mathvision_testmini.parquet", "text/bench_minerva_math.parquet",
    ],
)  # fmt: skip
def test_plain_records_are_counted_as_a_build_takes_them(real_data, name, monkeypatch):
    monkeypatch.setattr(screening, "MOST_DECODED", 100)
    assert census(real_data / name, quick=True) == census(real_data / name, quick=False)


def test_inspect_counts_real_rows_as_a_build_does(real_data, tmp_path):
    recipe = tmp_path / "mine.toml"
    found = inspect_place(str(real_data / "bench" / "mathverse_via_solidgeo_150.parquet"), recipe=str(recipe))
    report = build_recipe(recipe, tmp_path, overrides=["steps={}"])
    assert found["rows"] == report.version.manifest.rows
    assert found["refused"] == dict(report.version.ledger()["rule"].value_counts().iter_rows())
    assert found["images"] == report.version.scan().collect()["image_hashes"].list.len().sum()


@settings(max_examples=300, deadline=None)
@given(sign=st.sampled_from(["", "-"]), whole=st.integers(0, 10**12 - 1), part=st.integers(1, 10**9 - 1))
def test_the_grader_calls_plain_golds_what_inspect_calls_them(sign, whole, part):
    for text in (
        f"{sign}{whole}",
        f"{sign}{whole}.{part}",
        f"{sign}\\frac{{{part}}}{{{part}}}",
        f"{sign}{part}/7",
        "ABCJ"[whole % 4],
    ):
        kinds = gold_kinds.plain_kinds(pl.Series([text]))
        assert [ANSWER_KINDS[kind] for kind in kinds] == [answer_kind(text)]


def test_kinds_beyond_the_budget_are_told_by_proportion_and_said(folder, monkeypatch):
    monkeypatch.setattr(gold_kinds, "READ_ALL", 3)
    monkeypatch.setattr(gold_kinds, "READ", 3)
    shapes.jsonl([{"question": f"q{i}", "answer": f"x+{i}"} for i in range(40)], folder / "d.jsonl")
    found = inspect_place(str(folder))
    assert found["answer_kinds"] == {"expression": 40}
    said = "the proportion of 3 others, read evenly over the file: within 57 points"
    assert f"answer kinds of 37 rows are told by {said}" in found["told"]


def test_a_set_in_a_bucket_is_the_same_set(folder, tmp_path):
    place = shapes.chartqa(folder)
    with s3_server() as url:
        _compare_bucket(url, place, tmp_path)


def _compare_bucket(url, place, tmp_path):
    store, folder = open_store(url), place
    (folder / "unrelated.bin").write_bytes(b"never fetched")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        store.put(f"set/{file.relative_to(folder)}", file)
    here = inspect_place(str(place))
    there = inspect_place(f"{url}/set", recipe=str(tmp_path / "r.toml"))
    assert {**there, "recipe": ""} == {**here, "recipe": ""}
    assert not list((tmp_path / "cache").rglob("unrelated.bin"))
    report = build_recipe(tmp_path / "r.toml", tmp_path)
    assert report.version.scan().collect()["image_hashes"].list.len().sum() == 6
    store.put("set/png/2.png", shapes.png(77, (50, 50)))
    assert not build_recipe(tmp_path / "r.toml", tmp_path).found, "a changed picture is fetched again"
    with pytest.raises(InfiMmrError, match="nothing lies under s3://team-bucket/nothing"):
        inspect_place(f"{url}/nothing")
    with pytest.raises(InfiMmrError, match=r"none\.jsonl does not exist"):
        inspect_place(f"{url}/set/none.jsonl")
    assert inspect_place(f"{url}/set/train_human.json")["images"] == 6


def inspect_command(*words, cwd):
    command = [sys.executable, "-m", "data_engine.cli", "inspect", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_the_command_writes_one_object_on_stdout_and_words_for_people_on_stderr(folder, tmp_path):
    done = inspect_command(shapes.chartqa(folder), "--json", "--recipe", "mine.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"rows", "columns", "answer_kinds", "images", "refused"} <= found.keys()
    assert found["columns"] == {"question": "query", "answer": "label", "images": "imgname"}
    assert "6 of 6 records become rows, 6 images" in done.stderr
    assert "note: images' names start from png/" in done.stderr
    assert (tmp_path / "mine.toml").is_file()


def test_a_wrong_place_or_option_is_one_line(folder, tmp_path):
    (folder / "notes.txt").write_text("nothing")
    (folder / "cut.parquet").write_bytes(b"PAR1 and no more")
    jsonl = tmp_path / "d.jsonl"
    shapes.jsonl([{"question": "q", "answer": "1"}], jsonl)
    for words, code, said in (
        (["nowhere"], 1, "inspect: nowhere does not exist"),
        ([folder / "notes.txt"], 1, "no file with records"),
        ([folder], 1, "cut.parquet cannot be read"),
        ([jsonl, "--set", "columns.answer=anwser"], 1, "no column 'anwser' for the role answer. Did you mean answer?"),
        ([jsonl, "--set", "colums.answer=answer"], 2, "unknown key colums"),
        ([jsonl, "--set", "split=test"], 1, "d.jsonl is one file, of which split and config say nothing"),
        ([jsonl, "--recipe", "no/such/folder/r.toml"], 2, "the folder of no/such/folder/r.toml does not exist"),
        (["mini"], 1, "mini does not exist"),
    ):
        done = inspect_command(*words, cwd=tmp_path)
        assert done.returncode == code, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert said in done.stderr
        assert done.stderr.count("error: ") == 1


@pytest.mark.parametrize("name", list(shapes.SHAPES))
def test_public_shapes_are_counted_alike_with_and_without_short_cuts(name, folder, monkeypatch):
    place = shapes.SHAPES[name][0](folder)
    assert census(place, quick=True) == census(place, quick=False)
    monkeypatch.setattr(screening, "MOST_DECODED", 2)
    assert census(place, quick=True)["images"] == shapes.SHAPES[name][3]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["(A)", "(B)", "(a)", "(b)", "A.", "B.", "C.", "A:", " ", "\n", "x", "12", "Ann", "B"]),
        max_size=12,
    ),
    st.sampled_from(["A", "B", "12"]),
)
def test_whatever_lists_options_is_looked_at(parts, answer):
    question = "".join(parts)
    assert not choices_in_question(question, answer) or MAY_LIST.search(question)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_one_line_that_names_it(tmp_path, ending):
    table = pa.table([pa.array(["1+1?"]), pa.array(["2"]), pa.array(["3"])], names=["question", "answer", "answer"])
    file = tmp_path / f"d.{ending}"
    if ending == "parquet":
        pq.write_table(table, file)
    else:
        with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(InfiMmrError, match=f"d.{ending} names the column 'answer' twice"):
        inspect_place(str(file))


@pytest.mark.parametrize("form", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_named_as_such(tmp_path, form):
    for name, text in (("d.csv", "question,answer\n1+1?,2\n"), ("d.jsonl", '{"question": "1+1?", "answer": "2"}\n')):
        (tmp_path / name).write_bytes((("\ufeff" if form == "utf-16-be" else "") + text).encode(form))
        with pytest.raises(InfiMmrError, match=f"{name} is UTF-16, not UTF-8"):
            inspect_place(str(tmp_path / name))


def test_decimal_numbers_of_a_database_are_answers(tmp_path):
    rows = {"question": ["3/2?", "2*2?"], "answer": pa.array([Decimal("1.50"), Decimal("4.25")])}
    pq.write_table(pa.table(rows), tmp_path / "d.parquet")
    assert inspect_place(str(tmp_path / "d.parquet"))["answer_kinds"] == {"decimal": 2}
