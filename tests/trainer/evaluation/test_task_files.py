# ruff: noqa: E501 - records of published layouts stand one a line
"""Tasks that are one TOML file: the user's own, and those that come with the project beside the paper's five."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from shared.benchmarks import PAPER, declared
from shared.errors import InfiMmrError, UsageError
from trainer.evaluation.items import load_items
from trainer.evaluation.run import evaluate_outputs
from trainer.evaluation.tasks import _OWN, benchmark_names, task

MATH500 = 'title = "Mine"\nscorer = "answer"\n[source]\nlocation = "{place}"\n'
MATHVISTA = """
title = "Mine"
decimals = "precision"
unit = "unit"
[source]
location = "{place}"
[scorer]
by = "answer_type"
otherwise = "option"
scorers = {{ float = "number", integer = "number" }}
"""


@pytest.fixture(autouse=True)
def forgotten():
    """Task files of one test are unknown to the next."""
    yield
    _OWN.clear()


def jsonl(rows, file):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def scored(tmp_path, name, outputs, **sources):
    lines = [{"benchmark": name, "item": key, "output": text} for key, text in outputs]
    file = jsonl(lines, tmp_path / "outputs.jsonl")
    return evaluate_outputs(file, None, str(tmp_path / "store"), sources=sources)["benchmarks"][name]


@pytest.mark.parametrize(
    ("builtin", "file", "text"),
    [("math500", "text/math500.parquet", MATH500), ("mathvista", "bench/mathvista_testmini_text.json", MATHVISTA)],
)
def test_a_benchmark_written_as_a_file_has_the_accuracy_of_the_built_in_task(real_data, tmp_path, builtin, file, text):
    place = real_data / file
    (tmp_path / "mine.toml").write_text(text.format(place=place))
    assert benchmark_names(str(tmp_path / "mine.toml")) == ["mine"]
    items = load_items(builtin, str(place), None, images=False).items
    forms = [
        "\\boxed{%s}",
        "%s",
        "<answer>%s</answer>",
        "\\boxed{%s.}",
        "I think %s, or not",
        "<think>x</think>\\boxed{%s}",
    ]
    others = [item.answer for item in items]
    outputs = [
        (item.key, forms[place % 6] % (item.answer if place % 5 else others[place - 7]))
        for place, item in enumerate(items)
    ]
    letters = [(item.key, f"\\boxed{{{'ABCD'[place % 4]}}}") for place, item in enumerate(items) if item.choices]
    told = [item for item in items if item.extra.get("unit")]
    units = [(o.key, f"\\boxed{{{o.answer} {('kg', o.extra['unit'])[place % 2]}}}") for place, o in enumerate(told)]
    for answers in (outputs, letters, units, [(item.key, "\\boxed{%s5}" % item.answer) for item in items]):  # noqa: UP031
        if not answers:
            continue
        ours = scored(tmp_path, builtin, answers, **{builtin: str(place)})
        theirs = scored(tmp_path, "mine", answers)
        for number in ("n", "correct", "accuracy", "stderr", "unscored", "no_answer", "by_kind"):
            assert ours[number] == theirs[number], number
        assert 0 < ours["correct"] < ours["n"] or answers[-1][1].endswith("5}")


SHAPES = {
    "mmmu": (
        [
            {"id": "validation_Math_1", "question": "Which is <image 1>?", "options": "['3', '<image 2>', '5']", "answer": "B",
             "question_type": "multiple-choice", "subfield": "Geometry", "topic_difficulty": "Easy"},
            {"id": "validation_Math_2", "question": "Find x.", "options": "[]", "answer": "['1.234', '$1.234']",
             "question_type": "open", "subfield": "Algebra", "topic_difficulty": "Hard"},
        ],
        [("validation_Math_1", "\\boxed{B}", 1), ("validation_Math_1", "\\boxed{A}", 0),
         ("validation_Math_2", "\\boxed{1.23}", 1), ("validation_Math_2", "\\boxed{1.3}", 0)],
    ),
    "wemath": (
        [
            {"ID": f"2steps_{i}", "split": "testmini", "knowledge concept": "Angles", "question": f"Angle {i}?",
             "option": "A. 10°; B. 20°; C. 30°; D. No correct answer", "answer": "B", "key": "2steps_1",
             "image_path": f"2steps/image/7-{i}.png"}
            for i in range(2)
        ],
        [("2steps_0", "\\boxed{B}", 1), ("2steps_0", "\\boxed{20°}", 1), ("2steps_1", "\\boxed{C}", 0)],
    ),
    "logicvista": (
        {"v1_0": {"imagename": "v1_0.png", "question": "Which fits?", "answer": "C", "skill": ["inductive"], "capability": ["ocr"]},
         "v1_1": {"imagename": "v1_1.png", "question": "Which two?", "answer": "A, D", "skill": ["deductive"], "capability": []}},
        [("v1_0", "\\boxed{C}", 1), ("v1_1", "\\boxed{D and A}", 1), ("v1_1", "\\boxed{A}", 0), ("v1_1", "\\boxed{A,B,D}", 0)],
    ),
    "dynamath": (
        [
            {"id": "17", "question": "Area?", "ground_truth": "22.3835", "answer_type": "float", "subject": "solid geometry",
             "level": "high school", "image": "a.png"},
            {"id": "17", "question": "Area then?", "ground_truth": "5.0", "answer_type": "float", "subject": "solid geometry",
             "level": "high school", "image": "b.png"},
            {"id": "18", "question": "Which?", "ground_truth": "A", "answer_type": "multiple choice", "subject": "graph theory",
             "level": "undergraduate", "image": "c.png"},
        ],
        [("17", "\\boxed{22.384}", 1), ("17", "\\boxed{22.39}", 0), ("17#2", "\\boxed{5}", 1), ("18", "\\boxed{(A)}", 1)],
    ),
    "mathverse_text": (
        [
            {"sample_index": "1", "problem_index": "1", "problem_version": "Text Only", "question": "x?\nChoices:\nA:40°\nB:60°",
             "answer": "B", "question_type": "multi-choice", "metadata": {"subject": "Plane Geometry"}, "image": ""},
            {"sample_index": "2", "problem_index": "1", "problem_version": "Vision Only", "question": "", "answer": "B",
             "question_type": "multi-choice", "metadata": {}, "image": ""},
        ],
        [("1", "\\boxed{B}", 1), ("1", "\\boxed{60°}", 1), ("1", "\\boxed{A}", 0)],
    ),
    "aime24": (
        [{"id": "2024-I-1", "problem": "Find it.", "answer": "073", "solution": "...", "url": "-"}],
        [("2024-I-1", "\\boxed{73}", 1), ("2024-I-1", "\\boxed{74}", 0)],
    ),
    "aime25": ([{"id": "0", "problem": "Find it.", "answer": 70}], [("0", "\\boxed{070}", 1), ("0", "\\boxed{7}", 0)]),
    "hallusionbench": (
        [
            {"category": "VD", "subcategory": "figure", "visual_input": str(q), "set_id": "0", "figure_id": str(f), "sample_note": "c",
             "question_id": str(q), "question": f"Is {q} so?", "gt_answer": str((q + f) % 2), "filename": f"./h/{f}.png"}
            for q in range(2) for f in range(2)
        ],
        [("0", "\\boxed{No}", 1), ("0", "\\boxed{yes}", 0), ("1", "\\boxed{Yes}", 1)],
    ),
    "chartqa": (
        [
            {"image": "a.png", "query": "How many?", "label": ["100"], "human_or_machine": 0},
            {"image": "b.png", "query": "Which?", "label": ["Blue", "Dark blue"], "human_or_machine": 1},
            {"image": "c.png", "query": "Share?", "label": ["14%"], "human_or_machine": 1},
        ],
        [("0", "\\boxed{104.9}", 1), ("0", "\\boxed{105.1}", 0), ("1", "\\boxed{dark blue}", 1), ("1", "\\boxed{red}", 0),
         ("2", "\\boxed{14}", 0), ("2", "\\boxed{0.14}", 1), ("2", "\\boxed{14.2\\%}", 1)],
    ),
    "geometry3k": (
        [{"images": ["a.png"], "problem": "<image>Find x.", "answer": "2\\sqrt{3}"}],
        [("0", "\\boxed{\\sqrt{12}}", 1), ("0", "\\boxed{3.5}", 0)],
    ),
}  # fmt: skip
"""Published layouts in miniature, and outputs with their scores."""


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_further_benchmarks_are_read_in_their_published_layout_and_scored_by_their_rules(tmp_path, name):
    records, outputs = SHAPES[name]
    file = tmp_path / "items.json"
    file.write_text(json.dumps(records), encoding="utf-8")
    for key, text, right in outputs:
        result = scored(tmp_path, name, [(key, text)], **{name: str(file)})
        assert (result["n"], result["correct"]) == (1, right), (key, text, result)


def test_chartqa_rows_as_published_are_asked_with_their_pictures_and_scored_by_the_relaxed_rule(real_data, tmp_path):
    import polars as pl

    meta = pl.read_parquet(real_data / "virl_like/virl_like_meta.parquet")
    rows = [json.loads(text) for text in meta.filter(pl.col("qid").str.starts_with("chartqa"))["raw_json"]][:120]
    (tmp_path / "test/png").mkdir(parents=True)
    (tmp_path / "test/annotations").mkdir()
    (tmp_path / "test/annotations/train_x.json").write_text('[{"bars": 1}]')
    for row in rows:
        picture = real_data / "virl_like/images" / f"chartqa-{row['imgname']}"
        (tmp_path / "test/png" / row["imgname"]).write_bytes(picture.read_bytes())
    (tmp_path / "test/test_human.json").write_text(json.dumps(rows))
    items = load_items("chartqa", str(tmp_path / "test"), None, images=True).items
    assert [len(item.images) for item in items] == [1] * 120
    assert [item.answer for item in items] == [row["label"] for row in rows]
    golds = [(item.key, f"\\boxed{{{item.answer}}}") for item in items]
    assert scored(tmp_path, "chartqa", golds, chartqa=str(tmp_path / "test"))["accuracy"] == 1


def test_geometry3k_rows_as_published_are_scored_by_letter_and_by_value(real_data, tmp_path):
    import polars as pl

    meta = pl.read_parquet(real_data / "virl_like/virl_like_meta.parquet")
    rows = [json.loads(text) for text in meta.filter(pl.col("qid").str.starts_with("geometry3k"))["raw_json"]]
    file = tmp_path / "test.json"
    file.write_text(json.dumps(rows))
    assert len(rows) == 42
    items = load_items("geometry3k", str(file), None, images=False).items
    assert [(item.question, item.answer, list(item.choices)) for item in items] == [
        (row["problem_text"], row["answer"], row["choices"]) for row in rows
    ]
    for answer in (lambda row: row["answer"], lambda row: row["choices"]["ABCD".index(row["answer"])]):
        outputs = [(item.key, f"\\boxed{{{answer(row)}}}") for item, row in zip(items, rows, strict=True)]
        result = scored(tmp_path, "geometry3k", outputs, geometry3k=str(file))
        assert (result["n"], result["accuracy"]) == (42, 1)
    assert set(result["by_goal"]) >= {"Length", "Angle"}


def test_geometry3k_is_read_from_the_folders_that_its_authors_publish(tmp_path):
    from tests.data_engine.test_record_files import geometry3k

    folder = geometry3k(tmp_path / "geometry3k")
    (folder / "test/11/img_diagram.png").unlink()
    items = load_items("geometry3k", str(folder), None, images=True).items
    assert [(item.key, item.answer, len(item.images), len(item.choices)) for item in items] == [
        ("10", "C", 1, 4),
        ("11", "D", 0, 4),
    ]
    assert items[0].images[0] == (folder / "test/10/img_diagram.png").read_bytes()
    assert items[1].missing_images == ("img_diagram.png",)
    result = scored(
        tmp_path, "geometry3k", [("10", "\\boxed{C}"), ("11", "\\boxed{A}")], geometry3k=str(folder / "test")
    )
    assert (result["n"], result["correct"], set(result["by_goal"])) == (2, 1, {"Angle"})
    (folder / "test/11/data.json").write_text('{"problem_text": "Fi')
    with pytest.raises(InfiMmrError, match=r"11/data\.json cannot be read"):
        load_items("geometry3k", str(folder), None, images=True)


def test_a_field_that_a_file_lacks_is_one_line_with_those_that_it_has(tmp_path):
    jsonl([{"query": "q", "label": "1", "kind": "bar"}], tmp_path / "i.jsonl")
    for columns, where, words in (
        (
            'question = "qury"',
            "",
            r"i\.jsonl has no field qury for source\.columns\.question \(its fields: query, label, kind",
        ),
        (
            'question = "query"',
            "",
            r"no field answer or .* for source\.columns\.answer \(its fields: query, label, kind\)",
        ),
        ('answer = "lable"', "", r"no field lable for source\.columns\.answer.*Did you mean label"),
        ('answer = "label", images = "picture"', "", r"no field picture for source\.columns\.images"),
        ('answer = "label"', 'where = { typ = "bar" }', r"no field typ for source\.where"),
        ('answer = "label"', 'files = ["train*"]', ""),
    ):
        (tmp_path / "own.toml").write_text(
            f'[source]\nlocation = "i.jsonl"\ncolumns = {{ question = "query", {columns} }}\n{where}\n'
            if not columns.startswith("question")
            else f'[source]\nlocation = "i.jsonl"\ncolumns = {{ {columns} }}\n'
        )
        benchmark_names(str(tmp_path / "own.toml"))
        if not words:
            assert len(load_items("own", None, None, images=False).items) == 1, "one file is meant whatever its name"
            continue
        with pytest.raises(InfiMmrError, match=words):
            load_items("own", None, None, images=False)
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        jsonl([{"query": "q", "answer": "1"}], tmp_path / "set" / f"{name}.jsonl")
    (tmp_path / "own.toml").write_text('[source]\nlocation = "set"\nfiles = ["test*"]\n')
    benchmark_names(str(tmp_path / "own.toml"))
    with pytest.raises(InfiMmrError, match=r"task own: no file fits test\* \(there are a\.jsonl, b\.jsonl\)"):
        load_items("own", None, None, images=False)


@pytest.mark.parametrize(
    ("groups", "keep", "words"),
    [
        (
            'by_chart = "tpe"',
            "",
            r"i\.jsonl has no field tpe for groups\.by_chart \(its fields: .*\)\. Did you mean type",
        ),
        ("", '"typ"', r"has no field typ for source\.keep"),
        ('by_kind = "type"', "", r"task own\.toml: groups\.by_kind is a name that every result has"),
    ],
)
def test_a_group_or_kept_field_that_cannot_be_shown_is_one_line_in_place_of_an_absent_table(
    tmp_path, groups, keep, words
):
    jsonl([{"id": "a", "question": "q", "answer": "1", "type": "bar"}], tmp_path / "i.jsonl")
    text = f'groups = {{ {groups} }}\n[source]\nlocation = "i.jsonl"\nkeep = [{keep}]\n'
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(InfiMmrError, match=words):
        load_items(*benchmark_names(str(tmp_path / "own.toml")), None, None, images=False)


def test_a_group_needs_no_second_mention_under_keep(tmp_path):
    jsonl([{"id": "a", "question": "q", "answer": "1", "type": "bar"}], tmp_path / "i.jsonl")
    (tmp_path / "own.toml").write_text('groups = { by_chart = "type" }\n[source]\nlocation = "i.jsonl"\n')
    benchmark_names(str(tmp_path / "own.toml"))
    assert scored(tmp_path, "own", [("a", "\\boxed{1}")])["by_chart"]["bar"]["n"] == 1


def test_every_task_file_of_the_project_names_its_source_and_has_a_test():
    assert set(declared()) - {*PAPER, "gsm8k"} == set(SHAPES)
    for name in declared():
        assert task(name).protocol.endswith(".")


def test_shares_of_groups_that_are_right_as_a_whole(tmp_path):
    file = tmp_path / "items.json"
    file.write_text(json.dumps(SHAPES["hallusionbench"][0]), encoding="utf-8")
    golds = ["no", "yes", "yes", "no"]
    right = [(str(i), f"\\boxed{{{gold}}}") for i, gold in enumerate(golds)]
    result = scored(tmp_path, "hallusionbench", [*right[:3], ("3", "\\boxed{yes}")], hallusionbench=str(file))
    assert result["accuracy"] == 0.75
    assert (result["together"]["fAcc"]["accuracy"], result["together"]["fAcc"]["n"]) == (0.5, 2)
    assert result["together"]["qAcc"]["accuracy"] == 0.5


def test_a_question_of_the_users_own_keeps_its_pictures_and_its_mathematics(tmp_path):
    jsonl(
        [
            {
                "question": "<image> Solve {x} in $\\frac{a}{b}$.",
                "answer": "1",
                "hint": "look",
                "image": "a.png",
                "options": ["p", "q"],
            }
        ],
        tmp_path / "i.jsonl",
    )
    (tmp_path / "own.toml").write_text(
        'question = "Hint: {hint}\\n{question}\\n{options}\\nUse {nothing}."\n[source]\nlocation = "i.jsonl"\nkeep = ["hint"]\n'
    )
    benchmark_names(str(tmp_path / "own.toml"))
    (item,) = load_items("own", None, None, images=False).items
    assert (
        task("own").question(item) == "Hint: look\n<image> Solve {x} in $\\frac{a}{b}$.\n(A) p\n(B) q\nUse {nothing}."
    )


def test_a_field_of_the_item_chooses_its_scorer(tmp_path):
    golds = {"bar": "100", "pie": "100", "map": "B, D", "odd": "100"}
    rows = [{"id": kind, "question": "q", "answer": gold, "chart": kind} for kind, gold in golds.items()]
    jsonl(rows, tmp_path / "i.jsonl")
    (tmp_path / "own.toml").write_text(
        'relative_tolerance = 0.05\n[source]\nlocation = "i.jsonl"\nkeep = ["chart"]\n'
        '[scorer]\nby = "chart"\notherwise = "letters"\nscorers = { bar = "relaxed", pie = "text" }\n'
    )
    benchmark_names(str(tmp_path / "own.toml"))
    outputs = {"bar": ("104", "106"), "pie": ("100", "104"), "map": ("D and B", "B")}
    for kind, texts in outputs.items():
        assert [scored(tmp_path, "own", [(kind, f"\\boxed{{{text}}}")])["correct"] for text in texts] == [1, 0]
    found = scored(tmp_path, "own", [("odd", "\\boxed{7}")])
    assert (found["correct"], found["unread_golds"]) == (0, 1), "no letter in the gold is no letter that was chosen"


def test_a_scorer_of_the_users_own_is_a_python_function_beside_the_task(tmp_path):
    jsonl([{"id": "a", "question": "Name a prime.", "answer": "any", "most": 10}], tmp_path / "i.jsonl")
    (tmp_path / "mine.py").write_text(
        "def prime(item, answer):\n    n = int(answer)\n    return n <= item.extra['most'] and all(n % d for d in range(2, n))\n"
    )
    text = '[source]\nlocation = "i.jsonl"\nkeep = ["most"]\n'
    (tmp_path / "primes.toml").write_text('scorer = "mine.py:prime"\n' + text)
    benchmark_names(str(tmp_path / "primes.toml"))
    assert [scored(tmp_path, "primes", [("a", f"\\boxed{{{n}}}")])["correct"] for n in (7, 9, 11)] == [1, 0, 0]
    assert scored(tmp_path, "primes", [("a", "\\boxed{x}")])["unscored_reasons"] == {"scorer_error:ValueError": 1}
    (tmp_path / "gone.toml").write_text('scorer = "gone.py:prime"\n' + text)
    with pytest.raises(InfiMmrError, match=r"scorer gone\.py:prime cannot be loaded"):
        benchmark_names(str(tmp_path / "gone.toml"))


def test_a_table_with_one_option_a_column_and_pictures_in_base64_is_a_task(tmp_path):
    Image.effect_noise((64, 64), 50).save(drawn := io.BytesIO(), "PNG")
    picture = drawn.getvalue()
    head = ["index", "question", "A", "B", "C", "answer", "image"]
    line = ["7", "Which\nis red?", "red", "blue", "", "A", base64.b64encode(picture).decode()]
    for ending, comma in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / f"items.{ending}").open("w", newline="") as file:
            csv.writer(file, delimiter=comma).writerows([head, line])
        (tmp_path / f"own_{ending}.toml").write_text(
            f'[source]\nlocation = "items.{ending}"\ncolumns = {{ choices = ["A", "B", "C"] }}\n'
        )
        benchmark_names(str(tmp_path / f"own_{ending}.toml"))
        (item,) = load_items(f"own_{ending}", None, None, images=True).items
        assert (item.key, item.question, item.choices, item.answer) == (
            "7", "<image>\nWhich\nis red?", ("red", "blue"), "A",
        )  # fmt: skip
        assert item.images == (picture,)
        assert scored(tmp_path, f"own_{ending}", [("7", "\\boxed{red}")])["correct"] == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "item['answer'] == answer",
            "fails on item a \\(TypeError: .*not subscriptable\\). It is called as \\(item, answer\\)",
        ),
        ("item.extra['most'] == answer", "fails on item a \\(KeyError: 'most'\\)"),
        ("0.5", r"mine\.py:rule returned 0\.5, and an answer is right \(True\) or wrong \(False\)"),
        ("float('nan')", r"mine\.py:rule returned nan, and an answer is right"),
        ("'False'", r"mine\.py:rule returned 'False', and an answer is right"),
        ("{'right': True}", r"mine\.py:rule returned \{'right': True\}, and an answer is right"),
    ],
)
def test_a_scorer_whose_code_is_wrong_is_one_line_before_anything_is_asked(tmp_path, code, said):
    jsonl([{"id": "a", "question": "1 + 1?", "answer": "2"}], tmp_path / "i.jsonl")
    (tmp_path / "mine.py").write_text(f"def rule(item, answer):\n    return {code}\n")
    (tmp_path / "slip.toml").write_text('scorer = "mine.py:rule"\n[source]\nlocation = "i.jsonl"\n')
    benchmark_names(str(tmp_path / "slip.toml"))
    with pytest.raises(InfiMmrError, match=said):
        load_items("slip", None, None, images=False)


def test_a_file_of_items_that_is_not_there_is_to_be_corrected_where_it_is_named(tmp_path):
    (tmp_path / "lost.toml").write_text('[source]\nlocation = "i.jsnl"\n')
    benchmark_names(str(tmp_path / "lost.toml"))
    with pytest.raises(
        InfiMmrError, match=r"i\.jsnl does not exist\. Correct it in lost=PATH, or in \[source\] of the task"
    ):
        load_items("lost", None, None, images=False)


@pytest.mark.parametrize(
    ("returns", "found"),
    [
        ("answer == '1'", (1, 1.0, {})),
        ("None", (1, 0.0, {})),  # a function that ends without a verdict says no
        ("numpy.bool_(True)", (1, 1.0, {})),
        ("__import__('re').fullmatch('1', answer)", (1, 1.0, {})),
        ("numpy.array([True, False])", (0, 0.0, {"scorer_error:ValueError": 1})),
        ("sys.exit(3)", (0, 0.0, {"scorer_error:RuntimeError": 1})),
    ],
)
def test_what_an_own_scorer_returns_is_a_verdict_or_counts_for_nothing(tmp_path, returns, found):
    jsonl([{"id": "a", "question": "q", "answer": "1"}], tmp_path / "i.jsonl")
    (tmp_path / "mine.py").write_text(f"import sys, numpy\ndef own(item, answer):\n    return {returns}\n")
    (tmp_path / "own.toml").write_text('scorer = "mine.py:own"\n[source]\nlocation = "i.jsonl"\n')
    benchmark_names(str(tmp_path / "own.toml"))
    result = scored(tmp_path, "own", [("a", "\\boxed{1}")])
    assert (result["n"], result["accuracy"], result["unscored_reasons"]) == found


def test_a_benchmark_of_which_nothing_could_be_scored_fails_and_the_outputs_file_has_each_reason(tmp_path, capsys):
    import polars as pl

    jsonl([{"id": "a", "question": "q", "answer": "1"}], tmp_path / "i.jsonl")
    (tmp_path / "mine.py").write_text("def own(item, answer):\n    raise ValueError('no such column: x')\n")
    (tmp_path / "own.toml").write_text('scorer = "mine.py:own"\n[source]\nlocation = "i.jsonl"\n')
    outputs = jsonl([{"benchmark": "own", "item": "a", "output": "\\boxed{1}"}], tmp_path / "outputs.jsonl")
    words = ["--outputs", outputs, "--benchmarks", tmp_path / "own.toml", "--output", tmp_path / "out", "--json"]
    from trainer.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, words)])
    assert ended.value.code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "benchmark own: none of its items could be scored (1 scorer_error:ValueError)"
    (row,) = pl.read_parquet(tmp_path / "out" / "outputs.parquet").to_dicts()
    assert row["reason"] == "scorer_error:ValueError: no such column: x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('cluster = "tpe"', r"no field tpe for cluster \(its fields: .*\)\. Did you mean type"),
        ('cluster = ["type", "tpe"]', r"no field tpe for cluster\[1\]"),
        ('stratum = "tpe"', r"no field tpe for stratum"),
        ('subset = "tpe"', r"no field tpe for subset"),
        ('decimals = "tpe"', r"no field tpe for decimals"),
        ('unit = "tpe"', r"no field tpe for unit"),
        ('together = { all = "tpe" }', r"no field tpe for together\.all"),
        ('scorer = { by = "tpe", scorers = { bar = "text" } }', r"no field tpe for scorer\.by"),
    ],
)
def test_a_field_named_outside_the_source_is_there_or_refused_and_needs_no_second_mention(tmp_path, text, words):
    rows = [{"id": f"{i}", "question": "q", "answer": "1", "type": "12"} for i in range(4)]
    jsonl([*rows, {**rows[0], "id": "4", "type": "3"}], tmp_path / "i.jsonl")
    source = '\n[source]\nlocation = "i.jsonl"\n'
    for name, told in (("wrong", text), ("right", text.replace("tpe", "type"))):
        (tmp_path / f"{name}.toml").write_text(told + source)
        benchmark_names(str(tmp_path / f"{name}.toml"))
    with pytest.raises(InfiMmrError, match=words):
        load_items("wrong", None, None, images=False)
    items = load_items("right", None, None, images=False).items
    if text.startswith("cluster = "):
        assert len({task("right").cluster(item) for item in items}) == 2


def test_where_and_split_that_leave_no_item_or_mean_nothing_are_one_line(tmp_path):
    jsonl([{"id": "a", "question": "q", "answer": "1", "type": "bar"}], tmp_path / "i.jsonl")
    for text, words in (
        ('where = { type = "pie" }', r"benchmark own: none of its records is an item\. Correct source\.where"),
        ('split = "test"', r"task own: source\.split is for a dataset version, and .* Choose its records by source"),
    ):
        (tmp_path / "own.toml").write_text(f'[source]\nlocation = "i.jsonl"\n{text}\n')
        benchmark_names(str(tmp_path / "own.toml"))
        with pytest.raises(InfiMmrError, match=words):
            load_items("own", None, None, images=False)


def test_wrong_words_in_a_task_file_are_one_line(tmp_path):
    derived = "[source.derived.x]\nfield = 'id'\npattern = '{}'\n"
    for name, text, words in (
        ("a.toml", 'scorer = "chioce"\n', "unknown scorer 'chioce'. Did you mean choice"),
        ("b.toml", "tolerence = 0.1\n", "unknown key tolerence. Did you mean tolerance"),
        ("c.toml", '[source.columns]\nqestion = "q"\n', "no role 'qestion'. Did you mean question"),
        ("f.toml", derived.format("(a"), r"source.derived.x.pattern = '\(a': no regular expression \(missing \)"),
        ("g.toml", derived.format("[0-9]+"), r"source.derived.x.pattern = '\[0-9\]\+': no group: put the part"),
        ("h.toml", "tolerance = inf\n", "tolerance = inf: Input should be a finite number"),
        ("i.toml", 'scorer = "relaxed"\nrelative_tolerance = inf\n', "relative_tolerance = inf: Input should be"),
        ("mathvista.toml", "", "mathvista is a benchmark of this project"),
        ("d e.toml", "", "'d e' is not a name for results"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=words):
            benchmark_names(str(tmp_path / name))
    with pytest.raises(UsageError, match="does not exist"):
        benchmark_names(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"unknown benchmark 'mathvist'. Did you mean mathvista"):
        benchmark_names("mathvist")


def test_samples_have_avg_and_pass_with_intervals(tmp_path):
    jsonl([{"id": str(i), "problem": "p", "answer": str(i)} for i in range(4)], tmp_path / "i.jsonl")
    outputs = [(str(i), f"\\boxed{{{i if j <= i else 999}}}") for i in range(4) for j in range(4)]
    result = scored(tmp_path, "aime24", outputs, aime24=str(tmp_path / "i.jsonl"))["samples"]
    assert (result["k"], result["avg_at_k"], result["pass_at"]["4"]) == (4, 0.625, 1.0)
    assert result["pass_at"]["1"] == 0.625
    low, high = result["pass_at_interval95"]["2"]
    assert 0 <= low < result["pass_at"]["2"] < high <= 1
    assert result["avg_at_k_interval95"][0] < 0.625 < result["avg_at_k_interval95"][1]


def test_the_command_takes_a_path_and_the_result_names_the_file(tmp_path):
    jsonl(
        [{"frage": "1+1?", "loesung": "2", "nr": "n1"}, {"frage": "2+2?", "loesung": "4", "nr": "n2"}],
        tmp_path / "i.jsonl",
    )
    (tmp_path / "sums.toml").write_text(
        'title = "Sums"\n[source]\nlocation = "i.jsonl"\n[source.columns]\nid = "nr"\nquestion = "frage"\nanswer = "loesung"\n'
    )
    lines = [
        {"benchmark": "sums", "item": "n1", "output": "\\boxed{2}"},
        {"benchmark": "sums", "item": "n2", "output": "\\boxed{5}"},
    ]
    jsonl(lines, tmp_path / "o.jsonl")
    command = [sys.executable, "-m", "trainer.cli", "evaluate", "--outputs", "o.jsonl", "--benchmarks", "./sums.toml"]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["benchmarks"]["sums"]
    assert (result["accuracy"], result["n"]) == (0.5, 2)
    assert result["task_file"].startswith("sums.toml sha256:")
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ})
    assert "Sums" in shown.stderr
    assert "other items" not in shown.stderr
