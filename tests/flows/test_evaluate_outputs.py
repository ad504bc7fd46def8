"""`trainer evaluate --outputs` as a user runs it: a process, real files, JSON on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

DATA = Path(__file__).parents[2].parent / "shared/data"


def trainer(*words, cwd):
    command = [sys.executable, "-m", "trainer.cli", "evaluate", *map(str, words)]
    root = str(Path(__file__).parents[2])
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
                          env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "HOME": str(cwd)})  # fmt: skip


@pytest.fixture
def items(tmp_path):
    rows = [
        {"unique_id": f"test/{n}", "problem": f"{n} + 1 is?", "answer": str(n + 1), "subject": "sum", "level": 1}
        for n in range(10)
    ]
    path = tmp_path / "math500.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def lines(path, records):
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records) + "\n")
    return path


def test_outputs_are_scored_without_a_model_and_stdout_is_one_json_object(items, tmp_path):
    answers = [n + 1 if n < 7 else 0 for n in range(8)]
    records = [
        *(
            {"benchmark": "math500", "item": f"test/{n}", "output": f"<think>.</think>\\boxed{{{answer}}}"}
            for n, answer in enumerate(answers)
        ),
        "not json",
        {"benchmark": "math500", "item": "test/8", "output": 5},
        {"benchmark": "math500", "item": "nowhere", "output": "1"},
    ]
    outputs = lines(tmp_path / "mine.jsonl", records)
    ran = trainer("--outputs", outputs, "--source", f"math500={items}", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["checkpoint"] is None
    result = document["benchmarks"]["math500"]
    assert (result["n"], result["accuracy"], result["unscored"]) == (8, 7 / 8, 0)
    assert result["stderr"] > 0
    assert result["by_kind"]["integer"]["n"] == 8
    assert (result["missing_outputs"], result["unknown_items"]) == (2, ["nowhere"])
    assert len(document["bad_lines"]) == 2
    kept = pq.read_table(tmp_path / "evaluations/mine/outputs.parquet").to_pylist()
    assert {row["status"] for row in kept} == {"correct", "wrong"}


def test_two_results_are_compared_by_a_paired_test(items, tmp_path):
    for name, good in (("a", 3), ("b", 10)):
        lines(tmp_path / f"{name}.jsonl", [
            {"benchmark": "math500", "item": f"test/{n}", "output": f"\\boxed{{{n + 1 if n < good else 77}}}"}
            for n in range(10)])  # fmt: skip
    first = trainer("--outputs", tmp_path / "a.jsonl", "--source", f"math500={items}", "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    source = f"math500={items}"
    words = ("--outputs", tmp_path / "b.jsonl", "--source", source, "--compare", "evaluations/a", "--json")
    ran = trainer(*words, cwd=tmp_path)
    test = json.loads(ran.stdout)["compared_with"]["tests"]["math500"]
    assert (test["only_first"], test["only_second"]) == (0, 7)
    assert test["p_value"] == pytest.approx(2 / 2**7)


@pytest.mark.parametrize(
    ("record", "words", "code", "says"),
    [
        ({"benchmark": "mathvisoin", "item": "1", "output": "1"}, (), 2, "Did you mean mathvision"),
        ({"benchmark": "math500", "item": "1", "output": "1"}, ("--benchmarks", "mth500"), 2, "Did you mean math500"),
        ({"benchmark": "math500", "item": "test/1", "output": "1"}, (), 1, "data-engine build math500"),
        (
            {"benchmark": "math500", "item": "test/1", "output": "1"},
            ("--source", "math500=absent.parquet"),
            1,
            "absent",
        ),
        ({"benchmark": "math500", "item": "test/1", "output": "1"}, ("--source", "math500"), 2, "NAME=PATH"),
        ({"benchmark": "math500", "item": "test/1", "output": "1"}, ("--checkpoint", "x"), 2, "either"),
    ],
)
def test_wrong_words_are_told_in_one_line(tmp_path, record, words, code, says):
    outputs = lines(tmp_path / "mine.jsonl", [record])
    ran = trainer("--outputs", outputs, "--json", *words, cwd=tmp_path)
    assert ran.returncode == code
    assert len(ran.stderr.strip().splitlines()) == 1
    assert ran.stderr.startswith("error: ")
    assert says in ran.stderr
    assert set(json.loads(ran.stdout)) == {"error", "next"}


def test_real_golds_score_everything_through_the_command(tmp_path):
    file = DATA / "bench/mathvision_testmini.parquet"
    if not file.is_file():
        pytest.skip("real data is not here")
    golds = pq.read_table(file, columns=["id", "answer"]).to_pylist()
    records = [{"benchmark": "mathvision", "item": row["id"], "output": f"\\boxed{{{row['answer']}}}"} for row in golds]
    outputs = lines(tmp_path / "golds.jsonl", records)
    ran = trainer("--outputs", outputs, "--source", f"mathvision={file}", "--json", cwd=tmp_path)
    result = json.loads(ran.stdout)["benchmarks"]["mathvision"]
    assert (result["n"], result["accuracy"], result["unscored"]) == (304, 1.0, 0)
    assert result["official"]["accuracy"] == 1.0


def test_a_comparison_is_saved_beside_the_result_it_was_made_for(items, tmp_path):
    for name, right in (("first", 4), ("second", 6)):
        answers = [{"benchmark": "math500", "item": f"test/{n}", "output": f"\\boxed{{{n + 1 if n < right else 0}}}"}
                   for n in range(8)]  # fmt: skip
        outputs = lines(tmp_path / f"{name}.jsonl", answers)
        more = ["--compare", "evaluations/first"] if name == "second" else []
        ran = trainer("--outputs", outputs, "--source", f"math500={items}", "--json", *more, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    kept = json.loads((tmp_path / "evaluations/second/evaluation.json").read_text())
    assert kept["compared_with"] == json.loads(ran.stdout)["compared_with"]
    assert kept["compared_with"]["folder"] == "evaluations/first"
    assert kept["compared_with"]["tests"]["math500"]["difference"] == 0.25


def test_items_from_a_file_of_ones_own_are_not_reported_as_the_benchmark(items, tmp_path):
    outputs = lines(tmp_path / "o.jsonl", [{"benchmark": "math500", "item": "test/1", "output": "\\boxed{2}"}])
    ran = trainer("--outputs", outputs, "--source", f"math500={items}", cwd=tmp_path)
    source = json.loads((tmp_path / "evaluations/o/evaluation.json").read_text())["benchmarks"]["math500"]["source"]
    assert (source["files"], source["rows"]) == (["math500.parquet"], 10)
    told = " ".join(ran.stderr.split())
    assert "MATH500†" in told
    assert "other items than the benchmark's dataset version: file math500.parquet, 10 rows, sha256 " in told
    assert source["fingerprint"][:12] in told


def test_an_output_folder_that_cannot_be_made_is_refused_before_anything_is_scored(items, tmp_path):
    outputs = lines(tmp_path / "o.jsonl", [{"benchmark": "math500", "item": "test/1", "output": "2"}])
    words = ("--outputs", outputs, "--source", f"math500={items}", "--output", "/proc/x")
    ran = trainer(*words, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr == "error: the folder /proc/x cannot be made. Name another place with --output\n"


@pytest.mark.parametrize("temperature", ["2.5", "0.005"])
def test_a_temperature_that_the_engine_would_change_or_refuse_is_refused_with_the_reason(tmp_path, temperature):
    words = ("--checkpoint", "tiny-vl", "--benchmarks", "math500", "--samples", "4", "--temperature", temperature)
    ran = trainer(*words, cwd=tmp_path)
    assert ran.returncode == 2
    assert "vLLM samples at temperatures from 0.01 to 2" in ran.stderr
