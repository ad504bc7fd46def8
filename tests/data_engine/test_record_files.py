"""Sets of one JSON file per record are read: a folder per problem (Geometry3K), a file per problem (MATH)."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from benchmarks.s3_server import s3_server
from data_engine.build import BuildRequest, build
from data_engine.inputs import open_table
from data_engine.inspect import inspect_place
from data_engine.recipe_settings import SourceSettings
from data_engine.sources import record_files
from data_engine.sources.base import SourceRow
from shared.errors import InfiMmrError
from shared.progress import Progress
from shared.store import open_store
from tests.data_engine.public_shapes import png

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path):
    return geometry3k(tmp_path / "geometry3k")


def geometry3k(folder, count=12, first=0):
    """Geometry3K as its authors publish it: fields, and what lies beside them."""
    for number in range(count):
        own = folder / ("train" if number < count - 2 else "test") / str(number)
        own.mkdir(parents=True)
        record = {
            "problem_text": f"In \\odot X, A B = {first + number}. Find m \\widehat A B.",
            "choices": ["30", "40", "60", f"{number}.5"],
            "answer": "ABCD"[number % 4],
            "detailed_solution": " ",
            "problem_type_graph": ["Circle"],
            "problem_type_goal": ["Angle"],
            "source": "textbook2_chapter10.pdf page 21",
            "comment": "",
            "id": first + number,
            "compact_choices": ["30", "40", "60", "80"],
            "precise_value": [30.0, 40.0, 60.0, 80.0],
            "compact_text": f"In \\odot X, AB = {number}.",
            "annotat_text": f"In $\\odot X, A B={number}$.",
            "img_width": 250,
            "img_height": 251,
            "data_type": "train",
        }
        (own / "data.json").write_text(json.dumps(record, indent=2))
        logic = {"text_logic_form": ["Circle(X)"], "point_positions": {"A": [35.0, 18.0]}, "circle_instances": ["X"]}
        (own / "logic_form.json").write_text(json.dumps(logic))
        (own / "img_diagram.png").write_bytes(png(first + number))
        (own / "img_diagram_point.png").write_bytes(png(100 + number))
    return folder


def opened(place, **settings):
    return open_table(SourceSettings(reader="table", location=str(place), **settings), "source")


def built(recipe, tmp_path):
    request = BuildRequest(recipe=str(recipe), profile="local", store=str(tmp_path / "store"))
    return build(request, Progress()).version


def names(place, **settings):
    return [[image.name for image in row.images] for row in opened(place, **settings).rows()]


def test_a_folder_per_problem_is_inspected_and_built_from_a_recipe_under_15_lines(folder, tmp_path):
    recipe = tmp_path / "geometry3k.toml"
    found = inspect_place(str(folder), recipe=str(recipe))
    assert (found["rows"], found["records"], found["images"], found["refused"]) == (10, 10, 10, {})
    assert found["columns"] == {
        "id": "id", "question": "problem_text", "answer": "answer", "choices": "choices", "images": "img_diagram.png",
    }  # fmt: skip
    assert found["answer_kinds"] == {"choice": 10}
    told = " ".join(found["told"])
    assert "split train taken; also there: test" in told
    assert "one record per file: 10 data.json files" in told
    assert "no records, left aside: 10 logic_form.json" in told
    assert "(10 of 10 have some): img_diagram.png; also there: img_diagram_point.png (columns.images overrides)" in told
    assert len(recipe.read_text().splitlines()) < 15
    version = built(recipe, tmp_path)
    rows = version.scan().collect()
    assert rows.height == sum(rows["image_hashes"].list.len()) == 10
    assert names(folder, split="test") == [["test/10/img_diagram.png"], ["test/11/img_diagram.png"]]
    assert names(folder / "train", columns={"images": "img_diagram_point.png"})[1] == ["1/img_diagram_point.png"]


def test_a_record_without_its_picture_is_a_ledger_row_and_a_folder_without_a_record_is_told(folder, tmp_path):
    geometry3k(folder / "more", 40, 40)
    (folder / "train/3/img_diagram.png").unlink()
    (folder / "train/5/img_diagram.png").write_bytes(b"torn")
    (folder / "train/7/data.json").unlink()
    (folder / "train/notes").mkdir()
    (folder / "train/notes/read.me").write_text("nothing")
    recipe = tmp_path / "mine.toml"
    found = inspect_place(str(folder), recipe=str(recipe))
    assert found["refused"] == {"image_missing": 1, "image_refused:not_an_image": 1}
    (lost,) = found["refused_examples"]["image_missing"]
    assert lost == {"source_id": "3", "detail": "no picture lies beside it (img_diagram.png)"}
    assert "no data.json in 1 folders: train/7" in found["told"]
    version = built(recipe, tmp_path)
    ledger = version.ledger()
    assert dict(ledger.filter(ledger["step"] == "source")["rule"].value_counts().iter_rows()) == found["refused"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"problem_text": "Find', r"train/4/data\.json is truncated or not valid JSON"),
        ("", r"train/4/data\.json holds no record"),
        ("[1]", r"train/4/data\.json holds a list, where the files beside it hold one record each"),
        ("version https://git-lfs.github.com/spec/v1\n", r"train/4/data\.json is a pointer of Git LFS"),
        (None, r"train/4/data\.json cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_ends_inspect_and_build_with_its_name(folder, tmp_path, text, said):
    recipe = tmp_path / "mine.toml"
    inspect_place(str(folder), recipe=str(recipe))
    file = folder / "train/4/data.json"
    file.unlink()
    if text is None:
        file.symlink_to(folder / "gone")
    else:
        file.write_text(text)
    with pytest.raises(InfiMmrError, match=said):
        inspect_place(str(folder))
    with pytest.raises(InfiMmrError, match=r"train/4/data\.json"):
        built(recipe, tmp_path)


def test_a_torn_file_of_few_is_named_too(tmp_path):
    folder = geometry3k(tmp_path / "few", 4)
    (folder / "train/1/data.json").write_text('{"problem_text": "Find')
    with pytest.raises(InfiMmrError, match=r"train/1/data\.json is truncated or not valid JSON"):
        opened(folder)


def test_each_file_is_opened_once_by_a_reading_and_folders_are_not_searched_for_each_other(
    folder, tmp_path, monkeypatch
):
    source = opened(folder)
    seen, listed = Counter(), Counter()
    read, scan = record_files.opened_bytes, record_files.os.scandir
    monkeypatch.setattr(record_files, "opened_bytes", lambda file: (seen.update([str(file)]), read(file))[1])
    monkeypatch.setattr(record_files.os, "scandir", lambda path: (listed.update([str(path)]), scan(path))[1])
    assert sum(isinstance(row, SourceRow) for row in source.rows()) == 10
    assert set(seen.values()) == set(listed.values()) == {1}
    assert len(seen) == len(listed) == 10
    assert sum(piece.height for piece in source.pieces()) == 10


def test_a_file_per_problem_is_read_with_the_pictures_that_bear_its_name(tmp_path):
    folder = tmp_path / "MATH/train"
    for number in range(12):
        own = folder / ("algebra" if number % 2 else "geometry")
        own.mkdir(parents=True, exist_ok=True)
        record = {
            "problem": f"What is {number} + 1?",
            "level": "Level 3",
            "type": "Algebra",
            "solution": f"It is $\\boxed{{{number + 1}}}$.",
        }
        (own / f"{number}.json").write_text(json.dumps(record))
    found = inspect_place(str(folder.parent))
    assert (found["rows"], found["records"], found["images"]) == (12, 12, 0)
    assert found["columns"] == {
        "id": "__key__", "question": "problem", "answer": "solution", "category": "type", "difficulty": "level",
    }  # fmt: skip
    assert found["examples"][0]["source_id"] == "train/algebra/1"
    for number in range(12):
        own = folder / ("algebra" if number % 2 else "geometry")
        for ending in (".png",) if number else (".png", "_b.png"):
            (own / f"{number}{ending}").write_bytes(png(number))
    drawn = {image for images in names(folder) for image in images}
    assert drawn == {f"algebra/{n}.png" for n in range(1, 12, 2)} | {f"geometry/{n}.png" for n in range(0, 12, 2)} | {
        "geometry/0_b.png"
    }


def test_pictures_named_by_a_column_start_from_the_record_or_from_a_folder_of_all(folder):
    for number in range(10):
        own = folder / f"train/{number}"
        record = json.loads((own / "data.json").read_text())
        (own / "data.json").write_text(json.dumps({**record, "diagram": "img_diagram_point.png"}))
    (folder / "train/9/img_diagram_point.png").unlink()
    source = opened(folder)
    assert source.columns["images"] == ("diagram",)
    assert names(folder)[0] == ["train/0/img_diagram_point.png"]
    for number in range(10):
        own = folder / f"train/{number}"
        record = json.loads((own / "data.json").read_text())
        (own / "data.json").write_text(json.dumps({**record, "diagram": f"{number}.png"}))
        (folder / "train/images").mkdir(exist_ok=True)
        (folder / f"train/images/{number}.png").write_bytes(png(number))
    source = opened(folder)
    assert [image.path().name for row in source.rows() for image in row.images] == [f"{n}.png" for n in range(10)]
    assert "images' names start from train/images/" in source.notes


def test_columns_are_told_and_a_wrong_one_is_one_line(folder):
    rows = list(opened(folder, columns={"question": "annotat_text", "images": ""}).rows())
    assert rows[0].question.startswith("In $\\odot X, A B=0$.")
    assert not any(row.images for row in rows)
    for columns, said in (
        ({"question": "problem"}, r"no column 'problem' for the role question.*Did you mean problem_text"),
        ({"images": "img_diagrm.png"}, r"no column 'img_diagrm\.png' for the role images"),
    ):
        with pytest.raises(InfiMmrError) as error:
            opened(folder, columns=columns)
        assert re.search(said, str(error.value))
    for file in folder.rglob("data.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({"words": record["problem_text"], "gold": record["answer"]}))
    with pytest.raises(InfiMmrError, match=r"no column could be taken as question \(columns: words, gold"):
        opened(folder)
    assert len(list(opened(folder, columns={"question": "words"}).rows())) == 10


def test_records_of_mixed_types_are_ledger_rows(folder):
    file = folder / "train/2/data.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "problem_text": 5}))
    file = folder / "train/6/data.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "choices": [["30"], {"a": []}]}))
    assert inspect_place(str(folder))["refused"] == {"wrong_type": 2}


def test_files_of_lists_and_dicts_by_id_are_read_as_before(tmp_path):
    for name in ("algebra", "geometry"):
        (tmp_path / name).mkdir()
        rows = {f"{name}-{n}": {"question": f"{n} of {name}?", "answer": str(n)} for n in range(3)}
        (tmp_path / name / "problems.json").write_text(json.dumps(rows))
    assert [row.source_id for row in opened(tmp_path).rows()][0::3] == ["algebra-0", "geometry-0"]


def test_a_folder_per_problem_in_a_bucket_is_the_same_set(folder):
    with s3_server() as url:
        store = open_store(url)
        for file in folder.rglob("*.*"):
            store.put(f"geometry3k/{file.relative_to(folder)}", file)
        source = opened(f"{url}/geometry3k")
        rows = list(source.rows())
        assert [row.source_id for row in rows] == [row.source_id for row in opened(folder).rows()]
        assert all(image.path().is_file() for row in rows for image in row.images)
        assert source.fingerprint() == opened(folder).fingerprint()
