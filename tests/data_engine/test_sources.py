from __future__ import annotations

import json
import zipfile
from collections import Counter

import polars as pl
import pytest
from PIL import Image

from data_engine.inputs import open_sources
from data_engine.intake.image_places import ImagePlaces
from data_engine.intake.ingest import ingest
from data_engine.recipe import load_recipe
from data_engine.sources.base import Rejection, SourceRow, pass_rate, unbox
from data_engine.sources.benchmarks import Benchmark
from data_engine.sources.deepscaler import DeepScaler
from data_engine.sources.mini import Mini, MiniSettings
from data_engine.sources.places import find_place
from data_engine.sources.virl39k import Virl39k
from shared.errors import InfiMmrError
from shared.image_tags import fit_image_tags
from shared.images import inspect_image
from shared.option_lists import choices_in_question


def place(path):
    return find_place(str(path), "main", (), what="test")


def picture(file, colour, size=(32, 32)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


def virl_folder(folder, rows, pictures=("a.png", "b.png")):
    for number, name in enumerate(pictures):
        picture(folder / "images" / name, (number, 90, 30))
    base = {"PassRate_32BTrained": -1.0, "PassRate_7BBase": 0.5, "category": "c", "source": "s"}
    frame = pl.DataFrame(
        [{**base, "qid": f"q{n}", "image": ["images/a.png"], **row} for n, row in enumerate(rows)],
        schema={
            "question": pl.String, "answer": pl.String, "PassRate_32BTrained": pl.Float64,
            "PassRate_7BBase": pl.Float64, "category": pl.String, "source": pl.String, "qid": pl.String,
            "image": pl.List(pl.String),
        },
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / "39Krelease.parquet")
    return folder


def read(source, tmp_path, **options):
    return ingest(source, ImagePlaces(tmp_path / "spool"), None, **options)


def rules(read_rows):
    return dict(read_rows.rejections.select("source_id", "rule").iter_rows())


def test_every_bad_row_becomes_a_typed_reason_and_none_is_lost(tmp_path):
    folder = virl_folder(
        tmp_path / "v",
        [
            {"question": "<image>good", "answer": "\\boxed{1}"},
            {"question": "<image>", "answer": "\\boxed{1}"},
            {"question": None, "answer": "\\boxed{1}"},
            {"question": "<image>no answer", "answer": "\\boxed{}"},
            {"question": "<image>null answer", "answer": None},
            {"question": "<image>gone", "answer": "\\boxed{1}", "image": ["images/none.png"]},
            {"question": "<image>up", "answer": "\\boxed{1}", "image": ["../outside.png"]},
            {"question": "<image>root", "answer": "\\boxed{1}", "image": ["/etc/passwd"]},
            {"question": "<image>web", "answer": "\\boxed{1}", "image": ["https://example.org/x.png"]},
            {"question": "<image>link", "answer": "\\boxed{1}", "image": ["images/link.png"]},
            {"question": "<image><image>two tags", "answer": "\\boxed{1}"},
            {"question": "<image>broken", "answer": "\\boxed{1}", "image": ["images/broken.png"]},
            {"question": "<image>tiny", "answer": "\\boxed{1}", "image": ["images/tiny.png"]},
            {"question": "<image>good", "answer": "\\boxed{1}", "qid": "q0"},
        ],
    )
    picture(tmp_path / "outside.png", 1)
    (folder / "images" / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "images" / "broken.png").write_bytes((folder / "images" / "a.png").read_bytes()[:-30])
    picture(folder / "images" / "tiny.png", 1, size=(5, 5))
    found = read(Virl39k(place(folder)), tmp_path)
    assert rules(found) == {
        "q1": "missing_question",
        "q2": "missing_question",
        "q3": "missing_answer",
        "q4": "missing_answer",
        "q5": "image_missing",
        "q6": "path_escape",
        "q7": "path_escape",
        "q8": "remote_url",
        "q9": "path_escape",
        "q10": "tag_image_mismatch",
        "q11": "image_refused:truncated",
        "q12": "image_refused:too_small",
        "q0": "duplicate_id",
    }
    assert found.rows.height == 1
    assert found.records == 14 == found.rows.height + found.rejections.height
    assert found.rejections["id"].is_unique().all()


def test_a_row_without_tags_gets_them_in_front_and_says_so(tmp_path):
    folder = virl_folder(
        tmp_path / "v", [{"question": "How many?", "answer": "\\boxed{2}", "image": ["images/a.png", "images/b.png"]}]
    )
    row = read(Virl39k(place(folder)), tmp_path).rows.row(0, named=True)
    assert row["question"] == "<image><image>\nHow many?"
    assert "2 of 2 image tags put in front" in json.loads(row["extra"])["mends"]
    assert row["difficulty"] == {"pass_rate_large": None, "pass_rate_small": 0.5}
    assert (row["answer"], row["answer_raw"]) == ("2", "\\boxed{2}")


@pytest.mark.parametrize(
    ("question", "images", "text", "mend"),
    [
        ("<image>a <image1> b", 1, "<image>a <image1> b", ""),
        ("a <image1> b <image2>", 2, "a <image> b <image>", "numbered image tags renamed"),
        ("a <image> b", 2, "<image>\na <image> b", "1 of 2 image tags put in front"),
        ("a", 0, "a", ""),
    ],
)
def test_image_tags_fit_images(question, images, text, mend):
    assert fit_image_tags(question, images) == (text, mend)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("$\\boxed{3}$", "3"),
        ("x = \\boxed{3}", "x = \\boxed{3}"),
        ("\\boxed{1} and \\boxed{2}", "\\boxed{1} and \\boxed{2}"),
        ("\\boxed{1", "\\boxed{1"),
        (" 7 ", "7"),
    ],
)
def test_boxes_come_off_whole_or_not_at_all(text, bare):
    assert unbox(text) == bare


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ("Which? Options: (a) Quail eggs (b) Chicken eggs ", ("Quail eggs", "Chicken eggs")),
        ("Select.\n(A) yes\n(B) no", ("yes", "no")),
        ("Choices: (A) 3 (B) 5 (C) 7", ("3", "5", "7")),
        ("f(A) and f(B) at point (A)", ()),
        ("(A) alone", ()),
        ("Given (B) and (A)", ()),
        ("no options", ()),
    ],
)
def test_options_inside_a_question_are_read(question, choices):
    assert choices_in_question(question) == choices


def test_pass_rates_outside_zero_to_one_are_unknown():
    assert [pass_rate(value) for value in (-1.0, 0.25, 1, None, True, 3.0)] == [None, 0.25, 1.0, None, None, None]


def test_the_same_problem_with_other_answers_is_rejected_and_with_equal_ones_kept(tmp_path):
    folder = virl_folder(
        tmp_path / "v",
        [
            {"question": "<image>x?", "answer": "\\boxed{179}"},
            {"question": "<image>x?", "answer": "\\boxed{312}"},
            {"question": "<image>y?", "answer": "\\boxed{0.5}"},
            {"question": "<image>y?", "answer": "\\boxed{1/2}"},
            {"question": "<image>x?", "answer": "\\boxed{312}", "image": ["images/b.png"]},
        ],
    )
    found = read(Virl39k(place(folder)), tmp_path)
    assert rules(found) == {"q0": "conflicting_answers", "q1": "conflicting_answers"}
    assert set(found.rows["source_id"]) == {"q2", "q3", "q4"}


def test_a_zip_of_images_and_embedded_images_read_like_a_folder(tmp_path):
    rows = [{"question": "<image>x?", "answer": "\\boxed{1}"}]
    plain = virl_folder(tmp_path / "plain", rows)
    zipped = virl_folder(tmp_path / "zipped", rows)
    with zipfile.ZipFile(zipped / "images.zip", "w") as archive:
        archive.write(plain / "images" / "a.png", "images/a.png")
    for file in (zipped / "images").iterdir():
        file.unlink()
    (zipped / "images").rmdir()
    embedded = tmp_path / "embedded"
    embedded.mkdir()
    data = (plain / "images" / "a.png").read_bytes()
    pl.DataFrame(
        {"question": ["<image>x?"], "answer": ["\\boxed{1}"], "image": [[{"bytes": data, "path": "images/a.png"}]]}
    ).write_parquet(embedded / "any_name.parquet")
    hashes = {read(Virl39k(place(path)), tmp_path).rows["row_hash"][0] for path in (plain, zipped, embedded)}
    assert len(hashes) == 1


def test_a_zip_member_that_leaves_the_folder_stops_the_unpacking(tmp_path):
    folder = virl_folder(tmp_path / "v", [{"question": "<image>x?", "answer": "\\boxed{1}"}])
    for file in (folder / "images").iterdir():
        file.unlink()
    (folder / "images").rmdir()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.writestr("../escaped.png", b"x")
    with pytest.raises(InfiMmrError, match="cannot be unpacked"):
        Virl39k(place(folder))
    assert not list(tmp_path.rglob("escaped.png"))


def test_limit_reads_the_front(tmp_path):
    rows = [{"question": f"<image>{n}?", "answer": "\\boxed{1}"} for n in range(5)]
    found = read(Virl39k(place(virl_folder(tmp_path / "v", rows))), tmp_path, limit=3)
    assert found.records == 3
    assert set(found.rows["source_id"]) == {"q0", "q1", "q2"}


def test_the_fingerprint_follows_pictures_and_not_places(tmp_path):
    rows = [{"question": "<image>x?", "answer": "\\boxed{1}"}]
    one = Virl39k(place(virl_folder(tmp_path / "one", rows)))
    two = Virl39k(place(virl_folder(tmp_path / "two", rows)))
    assert one.fingerprint() == two.fingerprint()
    picture(tmp_path / "two" / "images" / "a.png", (200, 1, 1))
    assert Virl39k(place(tmp_path / "two")).fingerprint() != one.fingerprint()
    assert str(tmp_path) not in one.location + one.revision + one.taken


def test_a_folder_without_the_columns_says_which_are_missing(tmp_path):
    pl.DataFrame({"question": ["x"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InfiMmrError, match="missing answer, image"):
        Virl39k(place(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InfiMmrError, match=r"x\.parquet cannot be read"):
        Virl39k(place(tmp_path))


@pytest.mark.parametrize("words", ["./nothing", "/no/such/folder", "data/rows.parquet", "a b"])
def test_a_place_that_is_not_there_is_named(words):
    with pytest.raises(InfiMmrError, match="does not exist"):
        place(words)


def test_deepscaler_takes_json_lines_and_lists_with_answers_of_any_type(tmp_path):
    records = [
        {"problem": "a?", "answer": 142.0},
        {"problem": "b?", "answer": ["7"]},
        {"problem": "c?", "answer": ["1/2", "0.5"]},
        {"problem": "d?", "answer": None},
        {"problem": "e?", "answer": ""},
        {"problem": "", "answer": "1"},
        {"problem": "what is \x0crac{1}{2}?", "answer": "\\boxed{0.5}"},
    ]
    (tmp_path / "x.json").write_text(json.dumps(records))
    (tmp_path / "y.jsonl").write_text("\n".join([*map(json.dumps, records), "not json"]))
    by_json = read(DeepScaler(place(tmp_path / "x.json")), tmp_path)
    by_lines = read(DeepScaler(place(tmp_path / "y.jsonl")), tmp_path)
    assert dict(by_json.rows.select("source_id", "answer").iter_rows()) == {
        "0": "142",
        "1": "7",
        "2": "1/2",
        "6": "0.5",
    }
    assert rules(by_json) == {"3": "missing_answer", "4": "missing_answer", "5": "missing_question"}
    assert rules(by_lines) == {**rules(by_json), "7": "unreadable"}
    mended = by_json.rows.filter(pl.col("source_id") == "6")
    assert mended["question"][0] == "what is \\frac{1}{2}?"
    extra = by_json.rows.filter(pl.col("source_id") == "2")["extra"][0]
    assert json.loads(extra)["alternatives"] == ["0.5"]


def test_a_benchmark_without_its_pictures_is_text_alone_and_says_so(tmp_path):
    items = [{"id": "1", "question": "How many?\n<image1>", "options": [], "answer": "6", "image": "images/1.jpg"}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, items)))
    found = read(Benchmark("mathvision", place(tmp_path / "test.jsonl")), tmp_path, check_conflicts=False)
    row = found.rows.row(0, named=True)
    assert row["question"] == "How many?"
    assert row["image_hashes"] == []
    assert json.loads(row["extra"])["missing_images"] == ["images/1.jpg"]
    assert found.warnings == ["mathvision: images of 1 of 1 items are not there: text only"]


def test_mini_is_the_same_everywhere_and_plants_what_it_says(tmp_path):
    settings = MiniSettings(rows=36, duplicates=4, copies=1, renumbered=1)
    for name, copies, renumbered in (("virl39k", 5, 2), ("deepscaler", 2, 2)):
        source = Mini(name, settings)
        rows = list(source.rows())
        assert rows == list(Mini(name, settings).rows())
        assert not [row for row in rows if isinstance(row, Rejection)]
        assert len(rows) == source.count() == 36 + 4 + copies + renumbered
        planted = Counter(
            (row.extra["planted"].split(":")[0], row.extra["planted"].split()[-1])
            for row in rows
            if row.extra.get("planted")
        )
        assert planted == {
            ("duplicate_of", "exact"): 2,
            ("duplicate_of", "edited"): 2,
            ("copy_of", "exact"): copies,
            ("copy_of", "renumbered"): renumbered,
        }
        assert Mini(name, settings).fingerprint() != Mini(name, MiniSettings(rows=37)).fingerprint()
        for row in rows:
            assert isinstance(row, SourceRow)
            for image in row.images:
                inspect_image(image.data)


def test_mini_traces_end_in_the_gold_but_for_those_that_are_planted():
    settings = MiniSettings(rows=60)
    traces = Mini("deepscaler", settings, traces=True)
    rows = list(traces.rows())
    assert rows == list(traces.rows())
    assert len(rows) == traces.count() == 60
    assert Counter(row.extra.get("planted", "") for row in rows) == {"": 53, "no_trace": 5, "wrong_trace": 2}
    for row in rows:
        right = f"\\boxed{{{row.answer}}}"
        assert row.extra.get("trace", "").endswith(right) == ("planted" not in row.extra)
    others = {row.source_id for row in Mini("deepscaler", settings).rows()}
    assert not others & {row.source_id for row in rows}
    assert traces.fingerprint() != Mini("deepscaler", settings).fingerprint()


def test_a_worked_solution_is_kept_as_trace_only_where_a_recipe_names_its_column(tmp_path):
    talk = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "<think>b</think>\\boxed{1}"}]
    records = [
        {"problem": "a?", "answer": "1", "solution": "So 1.", "messages": talk, "generations": ["x 1", "", "y 1"]}
    ]
    (tmp_path / "x.json").write_text(json.dumps(records))

    def trace(columns):
        rows = read(DeepScaler(place(tmp_path / "x.json"), columns=columns), tmp_path / str(len(str(columns)))).rows
        return json.loads(rows["extra"][0] or "{}").get("trace")

    assert trace(None) is None
    assert trace({"trace": "solution"}) == "So 1."
    assert trace({"trace": "messages"}) == talk[1]["content"]
    assert trace({"trace": "generations"}) == ["x 1", "y 1"]


def test_the_recipe_of_traces_reads_openr1s_layout(tmp_path):
    trace = "<think>So.</think>\\boxed{7}"
    talk = [{"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": trace}]
    record = {
        "problem": "What is 3 + 4?", "solution": "It is 7.", "answer": "7", "problem_type": "Algebra", "source": "amc",
        "uuid": "u-1", "is_reasoning_complete": [True, False], "generations": ["<think>", ""], "messages": talk,
        "correctness_math_verify": [True, False], "correctness_count": 1,
    }  # fmt: skip
    (tmp_path / "data").mkdir()
    pl.DataFrame([record, {**record, "uuid": "u-2", "messages": None}]).write_parquet(
        tmp_path / "data" / "train-00000-of-00001.parquet"
    )
    recipe = load_recipe("reasoning-traces", "full", source=str(tmp_path))
    first, second = open_sources(recipe).rows()
    assert (first.source_id, first.answer, first.source) == ("u-1", "7", "amc")
    assert first.extra["trace"] == trace
    assert first.extra["columns"] == {"problem_type": "Algebra", "correctness_count": 1}
    assert "trace" not in second.extra


def test_mini_has_a_set_for_every_benchmark():
    for name in ("math500", "mathverse", "mathvision", "olympiadbench", "mathvista"):
        rows = list(Mini(name, MiniSettings(rows=3)).rows())
        assert [row.source_id for row in rows] == [f"mini-{name}-{n}" for n in range(3)]
        assert any(row.images for row in rows) == (name not in {"math500", "olympiadbench"})


def test_mini_mathverse_asks_each_problem_in_five_versions_of_one_picture_and_answer():
    rows = list(Mini("mathverse", MiniSettings(rows=40)).rows())
    problems = {}
    for row in rows:
        problems.setdefault(row.extra["problem_index"], {})[row.extra["problem_version"]] = row
    assert len(problems) == 8
    assert {row.extra["question_type"] for row in rows} == {"multi-choice", "free-form"}
    for versions in problems.values():
        assert set(versions) == {"Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only"}
        assert len({(row.answer, row.choices, row.images[0].data) for row in versions.values()}) == 1
        plain = versions["Vision Dominant"].question
        assert all(row.extra["question_for_eval"] == plain.removeprefix("<image>\n") for row in versions.values())
        own = versions["Vision Only"].question
        assert own != plain
        assert own.partition("Choices:")[2] == plain.partition("Choices:")[2]
        lengths = [len(versions[f"{name}"].question) for name in ("Text Dominant", "Text Lite", "Vision Dominant")]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] > lengths[-1]


def test_mini_mathvista_has_every_answer_type_with_its_precision():
    rows = list(Mini("mathvista", MiniSettings(rows=400)).rows())
    assert {row.extra["answer_type"] for row in rows} == {"integer", "float", "list", "text"}
    for row in rows:
        if row.extra["question_type"] == "multi_choice":
            assert row.answer in row.choices
        elif row.extra["answer_type"] == "float":
            assert row.answer.endswith(".0")
            assert row.extra["precision"] == 1
        elif row.extra["answer_type"] == "integer":
            assert int(row.answer) == float(row.answer)


def test_mini_olympiadbench_has_units_tolerances_and_several_answers():
    rows = list(Mini("olympiadbench", MiniSettings(rows=40)).rows())
    assert {row.extra["subset"] for row in rows} == {"OE_TO_maths_en_COMP"}
    several = [row for row in rows if row.extra["is_multiple_answer"]]
    assert 1 < len(several) < 5
    assert all(len(row.answer.split(", ")) == 2 for row in several)
    assert {row.extra["unit"] for row in rows if "unit" in row.extra} <= {"apples", "coins", "cups", "stones"}
    assert [row.answer for row in rows if row.extra.get("error") == "1e-2"] == ["151.5"]


def test_the_mini_items_that_training_sets_copy_are_items_of_the_benchmark():
    for name in ("mathverse", "mathvista", "olympiadbench", "mathvision", "math500"):
        rows = list(Mini(name, MiniSettings(rows=40)).rows())
        planted = {row.extra["planted"].split("/")[1].split()[0]: row
                   for row in Mini("virl39k", MiniSettings(rows=12, copies=8)).rows()
                   if row.extra.get("planted", "").startswith(f"copy_of:{name}/") and "exact" in row.extra["planted"]
                   }  # fmt: skip
        by_key = {row.source_id: row for row in rows}
        assert len(planted) == 8
        for key, row in planted.items():
            assert row.question == by_key[key].question


def test_real_rows_all_arrive_or_have_a_reason(real_data, tmp_path):
    source = Virl39k(place(real_data / "virl_like"))
    found = read(source, tmp_path, limit=600)
    assert found.records == 600 == found.rows.height + found.rejections.height
    reasons = set(found.rejections["rule"].unique())
    assert reasons <= {"missing_question", "missing_answer", "image_refused:too_small"}
    for question, hashes in found.rows.select("question", "image_hashes").iter_rows():
        assert question.count("<image>") == len(hashes)


def test_real_text_rows_all_arrive_or_have_a_reason(real_data, tmp_path):
    found = read(DeepScaler(place(real_data / "text" / "deepscaler_partial.parquet")), tmp_path)
    assert found.records == 11_352 == found.rows.height + found.rejections.height
    counts = Counter(found.rejections["rule"].to_list())
    assert counts["missing_answer"] == 4
    conflict = found.rejections.filter(pl.col("rule") == "conflicting_answers")["evidence"].to_list()
    assert any('"179"' in text and '"312"' in text for text in conflict), counts
    assert not any("65\\\\frac" in text for text in conflict), "equal answers in another writing are no conflict"
    assert not found.rows["question"].str.contains("\x0crac", literal=True).any()


@pytest.mark.parametrize(
    ("name", "file", "items", "rejected"),
    [
        ("math500", "text/math500.parquet", 500, 0),
        ("mathverse", "bench/mathverse_testmini_text_only.json", 788, 0),
        ("mathvision", "bench/mathvision_testmini.parquet", 304, 0),
        ("mathvision", "bench/mathvision_test_text.jsonl", 3040, 1),
        ("olympiadbench", "text/olympiadbench_oe_tp_maths_en.parquet", 675, 0),
        ("mathvista", "bench/mathvista_testmini_text.json", 1000, 0),
        ("dynamath", "bench/dynamath_60x3variants.parquet", 180, 0),
        ("mathverse", "bench/mathverse_via_solidgeo_150.parquet", 150, 0),
        ("gsm8k", "text/gsm8k_test.parquet", 1319, 0),
    ],
)
def test_real_benchmark_files_are_read(  # noqa: PLR0917 - a table's columns
    real_data, tmp_path, name, file, items, rejected
):
    source = Benchmark(name, place(real_data / file))
    found = read(source, tmp_path, check_conflicts=False)
    assert (found.records, found.rejections.height) == (items, rejected)
    assert "question from" in source.taken


def test_odd_images_as_rows_never_stop_the_reading(real_data, tmp_path):
    folder = tmp_path / "odd"
    (folder / "images").mkdir(parents=True)
    names = sorted(file.name for file in (real_data / "odd_images").iterdir())
    for name in names:
        (folder / "images" / name).write_bytes((real_data / "odd_images" / name).read_bytes())
    rows = [{"question": f"<image>{name}?", "answer": "\\boxed{1}", "image": [f"images/{name}"]} for name in names]
    found = read(Virl39k(place(virl_folder(folder, rows))), tmp_path)
    assert found.records == 205 == found.rows.height + found.rejections.height
    assert found.rows.height >= 165
    assert all(rule.startswith("image_refused:") for rule in found.rejections["rule"])
    assert "image_refused:bomb" in found.rejections["rule"].to_list()


@pytest.mark.parametrize(
    ("question", "images", "fitted"),
    [
        ("<|vision_start|><|image_pad|><|vision_end|>How tall is it?", 1, "<image>How tall is it?"),
        ("<image><image>\nA\n<ImageHere>\nor B\n<ImageHere>", 2, "A\n<image>\nor B\n<image>"),
        ("What is it?\n<ImageHere>", 1, "What is it?\n<image>"),
        ("<image>\nWhich view?\n<ImageHere>\nA.\n<ImageHere>\nB.", 1, "<image>\nWhich view?\n\nA.\n\nB."),
        ("See <ImageHere> and the other.", 2, "<image>\nSee <image> and the other."),
        ("<image>Compare <|image_pad|>.", 2, "<image>Compare <image>."),
    ],
)
def test_marks_of_pictures_become_tags_where_the_question_has_them(question, images, fitted):
    assert fit_image_tags(question, images)[0] == fitted


def test_a_question_that_would_close_the_turn_is_refused_by_name(tmp_path):
    folder = virl_folder(
        tmp_path / "v",
        [
            {"question": "<image>How tall?<|im_end|>", "answer": "\\boxed{3}"},
            {"question": "<image>How tall?", "answer": "\\boxed{3<|endoftext|>}"},
            {"question": "<|vision_start|><|image_pad|><|vision_end|>How tall?", "answer": "\\boxed{3}"},
            {"question": "<image>Solve 1 <|x|> 2", "answer": "\\boxed{3}"},
        ],
    )
    got = read(Virl39k(place(folder)), tmp_path)
    assert rules(got) == {"q0": "model_tokens", "q1": "model_tokens"}
    assert "<|im_end|>" in got.rejections["evidence"].to_list()[0] + got.rejections["evidence"].to_list()[1]
    assert sorted(got.rows["question"].to_list()) == ["<image>How tall?", "<image>Solve 1 <|x|> 2"]

    lines = tmp_path / "t.jsonl"
    rows = [{"problem": "Say <|im_end|>", "answer": "1"}, {"problem": "An <image> tag in words", "answer": "1"}]
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    got = read(DeepScaler(place(lines)), tmp_path)
    assert rules(got) == {"0": "model_tokens"}
    assert got.rows["question"].to_list() == ["An < image > tag in words"]
