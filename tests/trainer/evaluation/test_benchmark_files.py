import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.benchmark_files import benchmark_files
from shared.benchmark_golds import mend_gold
from shared.errors import InfiMmrError
from shared.image_tags import place_image_tags
from shared.item_source import fields_taken, read_benchmark
from shared.option_lists import choices_in_text

DATA = Path(__file__).parents[3].parent / "shared/data"
FILES = [
    ("math500", "text/math500.parquet", 500),
    ("mathverse", "bench/mathverse_testmini_text_only.json", 788),
    ("mathverse", "bench/mathverse_via_solidgeo_150.parquet", 150),
    ("mathvision", "bench/mathvision_test_text.jsonl", 3040),
    ("mathvision", "bench/mathvision_testmini.parquet", 304),
    ("mathvision", "bench/mathvision_test_extra200.parquet", 200),
    ("mathvision", "bench/mathvision_via_solidgeo_120.parquet", 120),
    ("olympiadbench", "text/olympiadbench_oe_tp_maths_en.parquet", 675),
    ("mathvista", "bench/mathvista_testmini_text.json", 1000),
    ("gsm8k", "text/gsm8k_test.parquet", 1319),
]


@pytest.mark.parametrize(("name", "file", "count"), FILES)
def test_real_files_are_read_whole_with_one_tag_per_image(name, file, count):
    if not (DATA / file).is_file():
        pytest.skip(f"real data is not here: {file}")
    rows = list(read_benchmark(name, DATA / file))
    assert len(rows) == count
    assert len({row["source_id"] for row in rows}) == count
    assert all(row["problem"] is None and row["answer"] for row in rows)
    for row in rows:
        assert row["question"].count("<image>") == len(row["images"]) + len(row["missing_images"])
        assert all(row["choices"])


def test_the_readers_say_which_columns_they_took():
    path = DATA / "bench/mathvista_testmini_text.json"
    if not path.is_file():
        pytest.skip("real data is not here")
    taken = fields_taken("mathvista", path)
    assert taken == {"id": "pid", "question": "question", "answer": "answer", "choices": "choices", "images": "image"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\x0crac{36}{13}", r"\frac{36}{13}"),
        ("11 ", "11"),
        (r"$\boxed{\frac{3}{4}}$", r"\frac{3}{4}"),
        (r"69{degrees}", r"69^{\circ}"),
        (r"Area $=9 \pi \mathrm{cm}^{2}$", r"$9 \pi \mathrm{cm}^{2}$"),
        ("118掳T", "118°T"),
        ("-4.9\n-4.9", "-4.9"),
        (r"{8}{5} \pi", r"\frac{8}{5} \pi"),
        ("y=-2 t+180", "y=-2 t+180"),  # an equation is an answer, not a label
        (r"\frac{x^2}{81}+\frac{y^2}{9}=1", r"\frac{x^2}{81}+\frac{y^2}{9}=1"),
        ("(2,-2)", "(2,-2)"),
        ("4.0", "4.0"),
    ],
)
def test_dirty_golds_are_mended_and_clean_ones_left_alone(before, after):
    gold, mends = mend_gold(before)
    assert gold == after
    assert bool(mends) == (before != after)


def test_a_choice_gold_becomes_its_letter():
    assert mend_gold("(C)", ["1", "2", "3"], multiple_choice=True)[0] == "C"
    assert mend_gold("False", ["True", "False"], multiple_choice=True)[0] == "B"
    assert mend_gold("C\nD", ["1", "2", "3", "4"], multiple_choice=True)[0] == "C\nD"


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("See <image1> and <image2>.", 1, "See <image> and ."),
        ("No tag at all", 1, "<image>\nNo tag at all"),
        ("<image_1> then <image_2>", 2, "<image> then <image>"),
        ("Drawn <image1>", 0, "Drawn"),
    ],
)
def test_image_tags_are_as_many_as_images(text, count, expected):
    assert place_image_tags(text, count) == expected


def test_choices_are_found_inside_a_mathverse_question():
    assert choices_in_text("Angle?\nChoices:\nA:40°\nB:60°\nC:120°") == ["40°", "60°", "120°"]
    assert choices_in_text("Angle?\nChoice:\nA. True\nB. False") == ["True", "False"]
    assert choices_in_text("Angle A: 40") == []


def test_hub_layouts_are_read_with_pictures_inside_the_rows_and_beside_them(tmp_path):
    struct = {"bytes": b"png", "path": "1.png"}
    vision = {"id": "1", "question": "<image1> how many?", "options": [], "image": "images/1.png", "answer": "3"}
    pq.write_table(
        pa.Table.from_pylist([{**vision, "decoded_image": struct}]), tmp_path / "test-00000-of-00001.parquet"
    )
    pq.write_table(pa.Table.from_pylist([vision]), tmp_path / "testmini-00000-of-00001.parquet")
    assert [file.name for file in benchmark_files("mathvision", tmp_path)] == ["test-00000-of-00001.parquet"]
    (row,) = read_benchmark("mathvision", tmp_path)
    assert row["images"] == [{"bytes": b"png", "path": "1.png"}]

    beside = tmp_path / "beside"
    (beside / "images").mkdir(parents=True)
    (beside / "images/1.png").write_bytes(b"other")
    (beside / "items.jsonl").write_text(
        json.dumps(vision) + "\n" + json.dumps({**vision, "image": "../../x.png"}) + "\n"
    )
    first, second = read_benchmark("mathvision", beside)
    assert first["images"] == [{"bytes": b"other", "path": "images/1.png"}]
    assert second["missing_images"] == ["../../x.png"]


def test_olympiadbench_proofs_are_marked_and_the_subset_is_named(tmp_path):
    folder = tmp_path / "TP_MM_maths_en_COMP"
    folder.mkdir()
    row = {"id": 7, "question": "Prove <image_1>", "final_answer": None, "is_multiple_answer": False, "image_1": None}
    pq.write_table(pa.Table.from_pylist([row]), folder / "TP_MM_maths_en_COMP.parquet")
    (item,) = read_benchmark("olympiadbench", folder)
    assert (item["problem"], item["extra"]["subset"]) == ("proof", "TP_MM_maths_en_COMP")


def test_bad_items_come_out_marked_and_never_stop_a_file(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"problem": "1+1?", "answer": "2"}\nnot json\n{"problem": "2+2?", "answer": null}\n[1]\n')
    problems = [row["problem"] for row in read_benchmark("mine", path)]
    assert problems == [None, "unreadable", "answer_missing", "unreadable"]


def test_unreadable_files_say_what_to_do(tmp_path):
    for name, content in (("a.txt", "x"), ("b.json", "{"), ("c.parquet", "nope"), ("d.jsonl", '{"x": 1}')):
        (tmp_path / name).write_text(content)
        with pytest.raises(InfiMmrError, match="benchmark"):
            list(read_benchmark("mine", tmp_path / name))
    with pytest.raises(InfiMmrError, match="does not exist"):
        list(read_benchmark("mine", tmp_path / "absent"))
