"""`trainer grade`: the JSON of the contract, and errors that name the line."""

import json

import pytest

from shared.errors import UsageError
from trainer.cli import main
from trainer.grade import grade_file


def grade(*words):
    """Run `trainer grade`; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["grade", *map(str, words)])
    return ended.value.code or 0


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {"gold": "5", "pred": "5.0", "expected": True},
        {"gold": "5", "pred": "6", "expected": False},
        {"gold": "5", "pred": "five", "expected": False},
        {"gold": "1/2", "pred": "0.49", "expected": True},
        {"gold": "B", "pred": "12 cm", "choices": ["5 cm", "12 cm"], "expected": True},
        {"gold": "5", "pred": r"<think>2+3</think> \boxed{5}", "expected": True},
        {"gold": "5", "pred": r"<think></think> \boxed{5}", "expected": False},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n", encoding="utf-8")
    return path


def test_the_result_has_the_contract_s_keys_and_counts(pairs):
    result = grade_file(pairs)
    assert set(result) == {"n", "accepted", "seconds", "verdicts", "correct", "false_accepts", "false_rejects"}
    assert set(result["verdicts"][0]) == {"verdict", "kind", "reward", "type_match", "exact"}
    assert (result["n"], result["accepted"], result["correct"], result["false_accepts"], result["false_rejects"]) == (
        7,
        4,
        5,
        1,
        1,
    )
    assert [v["reward"] for v in result["verdicts"]] == [1.0, 0.28, 1.0, 0.28, 1.0, 1.0, 0.0]


def test_without_expectations_there_are_no_judgements(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"gold": "5", "pred": "5"}\n', encoding="utf-8")
    assert set(grade_file(path)) == {"n", "accepted", "seconds", "verdicts"}


def test_json_is_the_only_thing_on_stdout(pairs, capsys):
    assert grade(pairs, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n"] == 7
    assert grade(pairs) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '{"gold": "5"}',
        '{"gold": "5", "pred": "5", "expected": 1}',
        '{"gold": ["1", "2"], "pred": "1, 2"}',
        '{"gold": "5", "pred": {"answer": 5}}',
        '{"gold": "B", "pred": "B", "choices": 3}',
        '{"gold": "B", "pred": "B", "choices": "abc"}',
        '{"gold": "5", "pred": "5.1", "tolerance": Infinity}',
        '{"gold": "5", "pred": "5.1", "tolerance": -1}',
        '{"gold": "5", "pred": "5.1", "tolerance": "N/A"}',
        '{"gold": "5", "pred": "5.1", "tolerance": [0.1]}',
        '{"gold": "5", "pred": "5 cm", "unit": ["cm"]}',
        '{"gold": "1, 2", "pred": "2, 1", "several": "no"}',
    ],
)
def test_a_bad_line_is_named(tmp_path, line, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"gold": "5", "pred": "5"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        grade_file(path)
    assert grade(path) == 2
    assert "line 2" in capsys.readouterr().err


def test_a_pairs_file_that_does_not_exist_is_said_so_in_words_and_in_json(tmp_path, capsys):
    assert grade(tmp_path / "nothere.jsonl") == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert "nothere.jsonl does not exist. Pass a JSON Lines file" in told.err
    assert grade(tmp_path / "nothere.jsonl", "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"].endswith("nothere.jsonl does not exist")


def test_pairs_that_fail_are_listed_for_people(pairs, capsys):
    assert grade(pairs) == 0
    shown = capsys.readouterr().err
    assert "pair 3: false accept" in shown
    assert "pair 4: false reject" in shown
    assert '"0.49"' in shown
    assert "pair 1" not in shown


def test_line_separators_inside_a_line_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"gold": "9", "pred": f"9{mark}"}, ensure_ascii=False) for mark in "\u2028\u2029\u0085"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    result = grade_file(path)
    assert (result["n"], result["accepted"]) == (3, 3)


def test_half_a_character_in_a_pair_is_graded_and_written(tmp_path, capsysbinary):
    path = tmp_path / "pairs.jsonl"
    lines = [r'{"gold": "9", "pred": "9\ud800", "expected": true}', r'{"gold": "\udfff", "pred": "9"}']
    path.write_text("\n".join(lines), encoding="utf-8")
    assert grade(path, "--json") == 0
    assert grade(path) == 0
    captured = capsysbinary.readouterr()
    assert json.loads(captured.out.splitlines()[0])["n"] == 2


def test_values_that_fit_are_taken_whatever_their_type(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"gold": 5, "pred": "5.1", "tolerance": "0.2"},
        {"gold": "1, 2", "pred": "2, 1", "several": True, "unit": None, "choices": None},
        {"gold": 1.5, "pred": 1.5},
        {"gold": "B", "pred": "2", "choices": [1, 2]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert grade_file(path)["accepted"] == 4
