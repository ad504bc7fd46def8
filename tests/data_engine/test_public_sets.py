"""Public sets in the layout that their authors chose: read without code, and nothing wrong with them is silent."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections import Counter

import pyarrow.parquet as pq
import pytest

from data_engine.build import BuildRequest, build
from data_engine.inputs import open_table
from data_engine.inspect import inspect_place
from data_engine.recipe_settings import SourceSettings
from data_engine.screening import take_census
from data_engine.sources.base import SourceRow
from shared.errors import InfiMmrError
from shared.progress import Progress
from tests.data_engine import public_shapes as shapes

EVERY = {**shapes.SHAPES, **shapes.MORE}


pytestmark = pytest.mark.usefixtures("own_cache")


def opened(place, **settings):
    return open_table(SourceSettings(reader="table", location=str(place), **settings), "source")


def first_column(columns, role):
    return columns[role].split(",")[0]


def listed(value):
    """Records of a JSON value: a list, a dict by id, the list under a key, or one record."""
    if isinstance(value, dict):
        lists = [one for one in value.values() if isinstance(one, list) and one and isinstance(one[0], dict)]
        inner = [one for one in value.values() if isinstance(one, dict)]
        value = lists[0] if lists and len(inner) < len(value) and "conversations" not in value else value
    if isinstance(value, dict):
        return [one for one in value.values() if isinstance(one, dict)] if all_dicts(value) else [value]
    return value


def all_dicts(value):
    return all(isinstance(one, dict) for one in value.values())


def changed(folder, question, change):
    """Let `change` alter the records that hold a question, wherever they lie; columnar ones become lines of JSON."""
    number = 0
    for path in [folder / name for name in opened(folder).files()]:
        file = path
        if file.suffix == ".json":
            value = json.loads(file.read_text())
            rows = listed(value)
        elif file.suffix == ".jsonl":
            rows = value = [json.loads(line) for line in file.read_text().splitlines()]
        elif file.suffix in {".parquet", ".tsv"}:
            rows = plain_rows(file)
            file.unlink()
            file, value = file.with_suffix(".jsonl"), rows
        elif file.suffix == ".tar":
            number = changed_shard(file, change, number)
            continue
        else:
            continue
        for row in rows:
            if question in row:
                change(row, number)
                number += 1
        text = json.dumps(value) if file.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
        file.write_text(text)
    assert number >= 6


def plain_rows(file):
    if file.suffix == ".tsv":
        head, *lines = file.read_text().splitlines()
        return [
            dict(zip(head.split("\t"), (field or None for field in line.split("\t")), strict=True)) for line in lines
        ]
    return [{name: plain(value) for name, value in row.items()} for row in pq.read_table(file).to_pylist()]


def plain(value):
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return {**value, "bytes": base64.b64encode(value["bytes"]).decode()}
    return value


def changed_shard(file, change, number):
    with tarfile.open(file) as shard:
        members = {name: shard.extractfile(name).read() for name in shard.getnames()}
    with tarfile.open(file, "w") as shard:
        for name, data in members.items():
            if name.endswith(".json"):
                about = json.loads(data)
                change(about, number)
                number += 1
                members[name] = json.dumps(about).encode()
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            shard.addfile(info, io.BytesIO(members[name]))
    return number


@pytest.mark.parametrize("name", list(shapes.MORE))
def test_further_public_shapes_are_read_from_a_recipe_under_15_lines(name, folder, tmp_path):
    write, columns, kinds, pictures = shapes.MORE[name]
    found = inspect_place(str(write(folder)), recipe=str(tmp_path / "mine.toml"))
    assert found["columns"] == columns
    assert (found["rows"], found["records"], found["refused"]) == (6, 6, {})
    assert (found["answer_kinds"], found["images"]) == (kinds, pictures)
    assert len((tmp_path / "mine.toml").read_text().splitlines()) < 15
    again = inspect_place(str(tmp_path / "mine.toml"))
    assert {**again, "told": [], "recipe": ""} == {**found, "told": [], "recipe": ""}
    slow = take_census(opened(folder), quick=False)
    assert (slow.rows, dict(slow.answer_kinds), slow.images) == (6, kinds, pictures)


def test_answers_and_options_are_those_that_the_sets_mean(folder):
    for name, answers, choices in (
        ("mmmu", ["B", "B"], ("$6$", "Euler's", "$8$", "$9$")),
        ("tabmwp", ["1,000", "B"], ()),
        ("ai2d", ["A", "B"], ("face", "crust", "core", "mantle")),
        ("arc", ["A", "B"], ("tin", "wood", "glass")),
        ("mathqa", ["A", "B"], ("rs . 400", "rs . 300", "rs . 500", "rs . 350", "none of these")),
        ("olympiadbench", ["$0$", "$1$"], ()),
        ("iconqa", ["A", "B"], ("3", "5")),
        ("textvqa", ["nous les gosses"] * 2, ()),
    ):
        place = folder / name
        place.mkdir()
        rows = sorted(opened(shapes.MORE[name][0](place)).rows(), key=lambda row: len(row.source_id))
        assert [row.answer for row in rows[:2]] == answers, name
        assert rows[0].choices == choices, name


@pytest.mark.parametrize("name", list(EVERY))
def test_a_wrong_column_of_any_set_is_one_line_that_names_it(name, folder):
    write, columns, _, _ = EVERY[name]
    place = write(folder)
    for role in columns:
        with pytest.raises(InfiMmrError) as error:
            opened(place, columns={role: "no_such_column"})
        said = f"source: no column 'no_such_column' for the role {role}"
        assert error.value.message == said
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [n for n, shape in EVERY.items() if "images" in shape[1] and n != "webdataset"])
def test_a_missing_picture_of_any_set_is_a_ledger_row(name, folder):
    write, columns, _, _ = EVERY[name]
    place = write(folder)
    column = first_column(columns, "images")
    if column in {"image.png", "__images__"} or "{" in column:
        lost = next(row for row in opened(place).rows() if row.images)
        lost.images[0].path().unlink()
        gone = 2 if name == "figureqa" else 1
    else:
        gone = 1

        def rename(row, number):
            if number == 1:
                row[column] = ["gone.png"] * len(row[column]) if isinstance(row[column], list) else "gone.png"

        changed(place, first_column(columns, "question"), rename)
    found = inspect_place(str(place))
    assert found["refused"] == {"image_missing": gone}
    assert found["rows"] == 6 - gone


@pytest.mark.parametrize("name", [name for name in EVERY if name != "mmbench"])
def test_records_of_other_types_are_ledger_rows_in_any_set(name, folder):
    write, columns, _, _ = EVERY[name]
    place = write(folder)
    question, answer = first_column(columns, "question"), first_column(columns, "answer")
    told = {role: names.split(",") for role, names in columns.items()}

    def spoil(row, number):
        if number == 0:
            row[question] = 5
        if number == 1 and answer != question:
            row[answer] = {"no": [{"final": "answer"}]}
        if number == 2 and columns.get("choices"):
            row[told["choices"][0]] = [["inner"], ["lists"]]

    changed(place, question, spoil)
    found = inspect_place(str(place), overrides=[f"columns.{role}={json.dumps(names)}" for role, names in told.items()])
    wrong = 1 + (answer != question) + bool(columns.get("choices"))
    assert found["refused"] == {"wrong_type": wrong}
    assert found["rows"] == 6 - wrong


def test_what_inspect_refuses_of_any_set_stands_in_the_ledger_of_a_build(tmp_path):
    recipe, refused, rows = [], Counter(), 0
    for name, (write, columns, _, _) in shapes.MORE.items():
        place = tmp_path / name
        place.mkdir()
        write(place)
        told = {role: names.split(",") for role, names in columns.items()}
        question = told["question"][0]
        changed(place, question, lambda row, number, asked=question: row.update({asked: 5} if number == 1 else {}))
        if "{" in (pictures := columns.get("images", "")) or pictures == "image.png":
            next(row for row in opened(place).rows() if getattr(row, "images", ())).images[0].path().unlink()
        roles = "".join(f"{role} = {json.dumps(names)}\n" for role, names in told.items())
        (tmp_path / f"{name}.toml").write_text(
            f'[source]\nreader = "table"\nlocation = "{name}"\n[source.columns]\n{roles}'
        )
        found = inspect_place(str(tmp_path / f"{name}.toml"))
        refused.update(found["refused"])
        rows += found["rows"]
        recipe.append(f'[sources.{name}]\nreader = "table"\nlocation = "{name}"\n[sources.{name}.columns]\n{roles}')
    (tmp_path / "all.toml").write_text("".join(recipe))
    request = BuildRequest(recipe=str(tmp_path / "all.toml"), profile="local", store=str(tmp_path / "store"))
    version = build(request, Progress()).version
    ledger = version.ledger()
    assert dict(ledger.filter(ledger["step"] == "source")["rule"].value_counts().iter_rows()) == dict(refused)
    assert refused["wrong_type"] == len(shapes.MORE)
    assert refused["image_missing"] >= 3
    assert version.manifest.counts[0].rows_out == rows


def test_pictures_that_no_column_names_are_told_and_a_pattern_takes_them(folder):
    rows = [{"question": f"Find {i}.", "answer": str(i), "split": "train", "shot": i % 2} for i in range(6)]
    shapes.jsonl(rows, folder / "rows.jsonl")
    shapes.files(folder, "shots/0-train.png", "shots/1-train.png")
    said = "images lie there that no column names, and are left out: shots/0-train.png, ..."
    assert any(note.startswith(said) for note in opened(folder).notes)
    source = opened(folder, columns={"images": "shots/{shot}-{split}.png"})
    assert [image.name for row in source.rows() for image in row.images] == [
        f"shots/{i % 2}-train.png" for i in range(6)
    ]
    before = source.fingerprint()
    (folder / "shots/1-train.png").write_bytes(shapes.png(5))
    assert opened(folder, columns={"images": "shots/{shot}-{split}.png"}).fingerprint() != before


def test_scienceqa_as_its_authors_publish_it_is_read_by_a_pattern(folder):
    rows = {
        str(i + 1): {
            "question": f"Which of these is a solid? ({i})",
            "choices": ["milk", "rock", "air"],
            "answer": i % 3,
            "hint": "",
            "image": "image.png" if i % 2 else None,
            "subject": "natural science",
            "split": "train",
        }
        for i in range(6)
    }
    shapes.as_json(rows, folder / "problems.json")
    shapes.as_json({"train": ["1", "2"], "test": ["3"]}, folder / "pid_splits.json")
    shapes.files(folder, *(f"images/train/{i + 1}/image.png" for i in range(1, 6, 2)))
    with pytest.raises(
        InfiMmrError, match=r"pid_splits\.json holds no list of records.*files = \[\.\.\.\] names those"
    ):
        opened(folder)
    source = opened(folder, files=["problems.json"], columns={"images": "images/{split}/{__key__}/{image}"})
    found = [row for row in source.rows() if isinstance(row, SourceRow)]
    assert [row.answer for row in found] == ["A", "B", "C", "A", "B", "C"]
    assert [len(row.images) for row in found] == [0, 1, 0, 1, 0, 1]
    assert all(image.path().is_file() for row in found for image in row.images)


def test_pickled_sets_are_refused_by_name(folder):
    (folder / "calculation_train.pk").write_bytes(b"\x80\x04.")
    with pytest.raises(InfiMmrError, match=r"calculation_train\.pk may be pickled.*never opened"):
        opened(folder)


def test_options_that_are_pictures_are_told(folder):
    rows = [{"question": f"Which {i}?", "choices": ["a.png", "b.png"], "answer": i % 2} for i in range(6)]
    shapes.jsonl(rows, folder / "rows.jsonl")
    assert "choices holds names of images, which rows show as words" in opened(folder).notes


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("They are alike, so the answer is option B.", "B"),
        ("So the correct answer is option C: 60.", "C"),
        ("Therefore, the answer is option B. Answer:B", "B"),
        ("Answer: (A)", "A"),
        ("So the answer is 45.", "B"),
    ],
)
def test_an_option_that_a_closing_sentence_names_is_its_letter(folder, said, answer):
    rows = [{"question": f"Find {i}.", "choices": ["30", "45", "60"], "answer": said} for i in range(4)]
    shapes.jsonl(rows, folder / "rows.jsonl")
    assert {row.answer for row in opened(folder).rows()} == {answer}
    assert inspect_place(str(folder))["answer_kinds"] == {"choice": 4}
