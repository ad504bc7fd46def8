"""A row that repeats an item of any benchmark goes, however the benchmark's file calls its columns."""

from __future__ import annotations

import json
import random

import pytest

from data_engine.build import BuildRequest, build
from data_engine.plan import plan_build
from shared.benchmarks import PAPER, declared
from shared.errors import InfiMmrError
from shared.laptop import benchmark_record
from shared.progress import Progress
from tests.trainer.evaluation.test_task_files import SHAPES

RECIPE = '[source]\nreader = "table"\nlocation = "rows.jsonl"\nlicence = "CC0"\n[steps.decontaminate_ngrams]\n'
OTHER = {"question": "How many eggs do 7 hens lay in 12 days, if each of them lays an egg a day?", "answer": "84"}


def words(seed):
    """A question of forty words that nobody else asks."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghiklmnoprstu", k=7)) for _ in range(40)) + "?"


def published(name):
    """An item in the benchmark's published columns, asking what `words` says."""
    records = SHAPES[name][0] if name in SHAPES else None
    if records is None:
        record = {"question": "?", "answer": "1"} if name == "gsm8k" else benchmark_record(name, 0)
        record = {key: value for key, value in record.items() if key not in {"image", "decoded_image"}}
    else:
        record = dict(next(iter(records.values())) if isinstance(records, dict) else records[0])
    field = next(field for field in ("query", "problem", "question") if field in record)
    return record | {field: words(name)}


def jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def request(tmp_path, questions, **benchmarks):
    rows = [{"question": question, "answer": "1"} for question in questions]
    jsonl(tmp_path / "rows.jsonl", [OTHER, *rows])
    (tmp_path / "set.toml").write_text(RECIPE, encoding="utf-8")
    named = [f"{name}={place}" for name, place in benchmarks.items()]
    return BuildRequest(str(tmp_path / "set.toml"), "local", str(tmp_path / "store"), benchmarks=named)


def built(tmp_path, questions, **benchmarks):
    return build(request(tmp_path, questions, **benchmarks), Progress()).version


def compared(version):
    return {one.name: one.rows for one in version.manifest.inputs if one.name in version.manifest.decontamination}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A version whose source repeats an item of every benchmark of the project."""
    folder = tmp_path_factory.mktemp("guarded")
    files = {name: jsonl(folder / f"{name}.jsonl", [published(name)]) for name in declared()}
    return built(folder, [words(name) for name in declared()], **files)


@pytest.mark.parametrize("name", [*PAPER, *sorted({*declared()} - {*PAPER})])
def test_a_row_that_repeats_an_item_is_removed_for_every_benchmark_of_the_project(guarded, name):
    assert name in {entry["benchmark"] for entry in guarded.ledger().to_dicts() if entry["removed"]}
    assert compared(guarded)[name] == 1


def test_the_row_that_repeats_nothing_is_kept(guarded):
    assert guarded.manifest.rows == 1
    assert not any("guard nothing" in warning for warning in guarded.manifest.warnings)


def test_an_item_without_an_answer_guards_and_one_without_a_question_is_told_of(tmp_path):
    items = [{"query": words("gold")}, {"query": words("null"), "label": None}, {"query": "", "label": "3"}]
    file = jsonl(tmp_path / "items.jsonl", items)
    file.write_text(file.read_text() + "{not json\n")
    version = built(tmp_path, [words("gold"), words("null")], chartqa=file)
    assert version.manifest.rows == 1
    assert compared(version) == {"chartqa": 2}
    told = "benchmark chartqa: 2 of 4 items guard nothing (1 missing_question, 1 unreadable)"
    assert told in version.manifest.warnings
    plan = plan_build(request(tmp_path, [words("new")], chartqa=file), Progress())
    assert told in plan["notes"]


def test_what_a_benchmark_leaves_out_does_not_guard(tmp_path):
    items = [published("mathverse_text"), {"problem_version": "Vision Only", "question": words("other"), "answer": "B"}]
    version = built(tmp_path, [words("other")], mathverse_text=jsonl(tmp_path / "items.jsonl", items))
    assert version.manifest.rows == 2
    assert compared(version) == {"mathverse_text": 1}


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([{"query": ""}, {"query": None}], r"benchmark chartqa: none of its 2 items .*\(2 missing_question\)"),
        ([{"text": "?"}], r"benchmark chartqa: items\.jsonl has no field query or question .*its fields: text"),
    ],
)
def test_a_benchmark_of_which_no_item_can_be_read_ends_the_build_before_the_source_is_read(
    tmp_path, monkeypatch, items, told
):
    asked = request(tmp_path, [words("gold")], chartqa=jsonl(tmp_path / "items.jsonl", items))
    monkeypatch.setattr(
        "data_engine.intake.in_blocks.ingest_blocks", lambda *_, **__: pytest.fail("the source is read")
    )
    for run in (build, plan_build):
        with pytest.raises(InfiMmrError, match=told) as error:
            run(asked, Progress())
        assert "[source]" in error.value.next_step or "task file" in error.value.next_step


def test_a_task_file_of_ones_own_is_a_benchmark_of_a_recipe(tmp_path):
    text = (
        '[source]\nlocation = "own.jsonl"\ncolumns = { question = "ask", answer = "key" }\nwhere = { part = "test" }\n'
    )
    (tmp_path / "own.toml").write_text(text)
    items = [{"ask": words("a"), "key": "1", "part": "test"}, {"ask": words("b"), "key": "1", "part": "train"}]
    jsonl(tmp_path / "own.jsonl", items)
    asked = [words("a"), words("b")]
    first = built(tmp_path, asked, own=tmp_path / "own.toml")
    assert (first.manifest.rows, compared(first)) == (2, {"own": 1})
    (tmp_path / "own.toml").write_text(text.replace('"test"', '["test", "train"]'))
    second = built(tmp_path, asked, own=tmp_path / "own.toml")
    assert (second.manifest.rows, compared(second)) == (1, {"own": 2}), "what the file says is part of the identity"
    for wrong, told in (
        (text.replace('"test"', '"dev"'), "benchmark own: it has no items"),
        (text.replace('location = "own.jsonl"\n', ""), "own.toml says no place of its items"),
        (text.replace("answer =", "anwser ="), "has no role 'anwser'"),
        (text.replace("where =", "were ="), "unknown key source.were"),
    ):
        (tmp_path / "own.toml").write_text(wrong)
        with pytest.raises(InfiMmrError, match=told):
            built(tmp_path, asked, own=tmp_path / "own.toml")
