import io
import json
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from shared.answers import split_thinking
from shared.charts import Series, line_chart, sparkline, ticks
from shared.errors import InfiMmrError
from trainer.report.build import build, render
from trainer.report.cli import register
from trainer.report.collect import CURVES, collect, differences, starts
from trainer.report.text import print_report


def invoke(*words):
    app = Typer()
    register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_a_curriculum_gives_its_runs_in_order_with_the_papers_rows(curriculum):
    report = build(collect([curriculum], 24))
    assert [row["name"] for row in report.table] == ["base", "fra", "cmra", "mre"]
    assert [column["title"] for column in report.columns] == [
        "MATH500", "MathVerse", "MathVision", "OlympiadBench", "MathVista"]  # fmt: skip
    assert report.paper_rows[-1]["cells"] == ["65.50", "43.68", "27.04", "21.33", "67.20"]
    assert [row["name"] for row in report.deltas] == ["base → fra", "fra → cmra", "cmra → mre", "base → mre"]
    assert all(cell["p"].startswith("p = ") for row in report.deltas for cell in row["cells"])
    assert [cell["hint"] for cell in report.deltas[0]["cells"]].count("clustered z") == 1  # MathVerse's versions
    assert len(report.charts) == 3
    assert len(report.rollouts) == 72
    assert all(url and url.startswith("data:image/") for row in report.rollouts for url in row["images"])


def test_local_runs_carry_the_plain_note_that_they_are_not_the_papers_tasks(curriculum):
    notes = build(collect([curriculum], 0)).notes
    assert "nothing here can be compared with the paper" in notes[0]


def test_paired_differences_equal_the_difference_of_the_headlines(curriculum):
    base, fra, *_ = collect([curriculum], 0)
    for name, one in differences(base, fra).items():
        results = [run.evaluation["benchmarks"][name]["accuracy"] for run in (base, fra)]
        assert one["points"] == pytest.approx(100 * (results[1] - results[0]))
        assert 0 < one["stderr"] < 20


def test_a_difference_between_other_items_is_not_paired(curriculum, tmp_path):
    base, fra, *_ = collect([curriculum], 0)
    folder = shutil.copytree(fra.folder, tmp_path / "fra")
    table = pq.read_table(folder / "outputs.parquet").to_pylist()
    asked = [{**row, "question": f"{row['question']} Now."} if row["item"].endswith("-7") else row for row in table]
    pq.write_table(pa.Table.from_pylist(asked), folder / "outputs.parquet")
    (other,) = collect([folder], 0)
    assert {one["paired"] for one in differences(base, fra).values()} == {True}
    assert {(one["paired"], one["other_items"]) for one in differences(base, other).values()} == {(False, True)}
    assert "other items" in render(build([base, other]))


def test_the_page_needs_no_network_and_escapes_what_models_wrote(curriculum):
    page = render(build(collect([curriculum], 24)))
    body = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+|@import|<link|src=\"(?!\")", body)
    assert "<script>document.title" not in page
    assert "&lt;script&gt;document.title" in page
    assert "{{ 7*7 }}" in page
    assert "built-in method" not in page
    assert "MathVerse</b> (60 items)" in page
    assert "default-src 'none'" in page


def test_damaged_and_missing_files_are_named_and_never_stop_a_report(curriculum, tmp_path):
    run = tmp_path / "run"
    (run / "rollouts").mkdir(parents=True)
    (run / "run.json").write_text("{")
    (run / "evaluation.json").write_text("[]")
    (run / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "rew')
    (run / "rollouts/step-000001.parquet").write_text("nope")
    (found,) = collect([run], 5)
    report = build([found])
    assert len(found.notes) == 4
    assert report.table == []
    assert "cannot be read" in render(report)


def test_a_curriculum_under_way_shows_what_is_there(curriculum, tmp_path):
    root = tmp_path / "curriculum"
    (root / "1-fra").mkdir(parents=True)
    (root / "1-fra/run.json").write_text((curriculum / "1-fra/run.json").read_text())
    (root / "1-fra/metrics.jsonl").write_text((curriculum / "1-fra/metrics.jsonl").read_text())
    (root / "curriculum.json").write_text(json.dumps({"phases": ["fra"], "table": []}))
    report = build(collect([root], 5))
    assert [run["name"] for run in report.runs] == ["fra"]
    assert len(report.charts) == 3


def test_a_folder_without_a_run_says_what_to_name(tmp_path):
    with pytest.raises(InfiMmrError, match="holds no run"):
        collect([tmp_path], 1)
    outcome = invoke(tmp_path / "absent", "--json")
    assert outcome.exit_code == 1
    assert "does not exist" in json.loads(outcome.stdout)["error"]


def test_the_command_writes_the_page_and_prints_the_table(curriculum, tmp_path):
    page = tmp_path / "report.html"
    outcome = invoke(curriculum, "--html", page, "--json")
    assert outcome.exit_code == 0
    document = json.loads(outcome.stdout)
    assert set(document["accuracy"]) == {"base", "fra", "cmra", "mre"}
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_terminal_shows_scores_differences_and_curves(curriculum):
    runs = collect([curriculum], 0)
    console = Console(width=200, record=True, file=io.StringIO())
    print_report(build(runs), runs, console)
    text = console.export_text()
    assert "paper CMRA" in text
    assert "base → mre" in text
    assert "▁" in text


def test_runs_evaluated_on_ones_own_tasks_alone_stand_in_a_table_of_those_tasks(curriculum, tmp_path):
    document = json.loads((curriculum / "0-base" / "evaluation.json").read_text())
    result = next(iter(document["benchmarks"].values()))
    version = {"from": "task file's dataset version", "dataset": "rows@v1", "rows": 9}
    document["benchmarks"] = {
        "sums": result | {"source": version},
        "charts": result | {"source": {"from": "task file"}},
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "evaluation.json").write_text(json.dumps(document))
    runs = collect([tmp_path / "mine"], 0)
    report = build(runs)
    assert ([column["name"] for column in report.columns], report.paper_rows) == (["charts", "sums"], [])
    assert not any(word in note for note in report.notes for word in ("paper", "profile local", "other items"))
    assert "Paper, Table 1" not in render(report)


def test_names_of_runs_are_shown_however_many_columns_there_are(curriculum):
    runs = collect([curriculum], 0)
    report = build(runs)
    report.columns += [{"name": name, "title": f"A task called {name}", "group": "Other"} for name in "abcdef"]
    for row in (*report.table, *report.deltas):
        row["cells"] += [{"text": "33.33", "error": "6.14"}] * 6
    console = Console(width=80, record=True, file=io.StringIO())
    print_report(report, runs, console)
    assert "cmra" in console.export_text().replace("\n", "")


def a_run(folder, phase="mre", steps=12, parent="tiny-vl"):
    folder.mkdir(parents=True)
    record = {"phase": {"name": phase, "title": "T", "profile_name": "local"}, "parent": {"location": parent}}
    (folder / "run.json").write_text(json.dumps(record))
    lines = [
        {"step": step, "reward": step / 20, "accuracy": step / 30, "response_length": 40, "kl": step / 10_000,
         "grad_norm": 1.5, "seconds": 9.0}
        for step in range(1, steps + 1)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_two_runs_of_one_phase_have_names_of_their_own_and_are_drawn_over_each_other(tmp_path):
    folders = [a_run(tmp_path / "high-rate"), a_run(tmp_path / "low-rate", steps=8)]
    runs = collect(folders, 0)
    assert [run.name for run in runs] == ["high-rate", "low-rate"]
    assert starts(runs) == [0, 0]
    reward = build(runs).charts[0]["svg"]
    assert 'class="border"' not in reward
    first, second = re.findall(r'<polyline class="mean" points="([\d.]+),', reward)
    assert first == second  # both begin at the left
    twice = collect([a_run(tmp_path / "a" / "mre"), a_run(tmp_path / "b" / "mre")], 0)
    assert [run.name for run in twice] == ["a/mre", "b/mre"]


def test_a_run_that_goes_on_from_another_is_drawn_behind_it(curriculum, tmp_path):
    folders = [a_run(tmp_path / "first", "fra"), a_run(tmp_path / "second", "cmra", parent="first/checkpoint")]
    assert starts(collect(folders, 0)) == [0, 12]
    assert starts(collect([curriculum], 0)) == [0, 0, 60, 120]  # the base has no steps


def test_kl_gradient_norm_and_time_are_shown_where_a_run_has_them(tmp_path):
    runs = collect([a_run(tmp_path / "run")], 0)
    report = build(runs)
    drawn = [title for name, (_, title) in CURVES.items() if name != "loss"]  # that of a cold start alone
    assert [chart["title"] for chart in report.charts] == drawn
    facts = dict(report.runs[0]["facts"])
    assert (facts["last KL"], facts["last gradient norm"], facts["training"]) == ("0.0012", "1.5", "1 min 48 s")
    console = Console(width=100, record=True, file=io.StringIO())
    print_report(report, runs, console)
    text = console.export_text()
    assert "KL" in text
    assert "gradient" in text
    assert "s/step" in text


def test_what_a_reward_of_ones_own_names_is_drawn(tmp_path):
    folder = a_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line | {"reward_brevity": 0.1 * place, "reward_failed": 0.0} for place, line in enumerate(lines)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    titles = [chart["title"] for chart in build(collect([folder], 0)).charts]
    assert "Reward of one's own: brevity" in titles
    assert not [title for title in titles if "failed" in title]


def test_the_page_shows_where_the_seconds_of_a_step_went(tmp_path):
    folder = tmp_path / "run"
    a_run(folder, steps=3)
    line = {"seconds": 10.0, "seconds_generation": 6.0, "seconds_update": 3.0, "seconds_engine": 5.0}
    lines = [{"step": 1, **dict.fromkeys(line, 99.0)}, *({"step": step, "reward": 0.5, **line} for step in (2, 3))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (found,) = build(collect([folder], 0)).step_seconds
    assert (found["run"], found["whole"]) == ("mre", "10.0 s")  # the first step is aside
    assert [(row["name"], row["text"]) for row in found["rows"]] == [
        ("rollouts", "6.00 s"),
        ("update", "3.00 s"),
        ("engine at work", "5.00 s"),
    ]
    page = render(build(collect([folder], 0)))
    assert "Seconds of a step" in page
    assert "engine at work" in page


def test_the_axis_of_steps_has_round_numbers():
    svg = line_chart([Series("fra", 1, [(step, step / 60) for step in range(1, 61)])], "Reward")
    numbers = re.findall(r'text-anchor="middle">([\d,]+)</text>', svg)
    assert numbers == ["0", "10", "20", "30", "40", "50", "60"]
    assert ">steps</text>" in svg
    assert re.findall(r'text-anchor="middle">(\d+)</text>', line_chart([Series("x", 1, [(1, 0.5)])], "R"))[-1] == "1"


def test_ticks_are_round_and_span_the_range():
    assert ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    assert ticks(0.31, 0.92) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(41, 97)[0] <= 41
    assert ticks(41, 97)[-1] >= 97


def test_charts_survive_constant_and_empty_curves():
    assert line_chart([Series("fra", 1, [])], "Reward") == ""
    assert "polyline" in line_chart([Series("fra", 1, [(1, 0.5), (2, 0.5)])], "Reward")
    assert "&lt;b&gt;" in line_chart([Series("<b>", 1, [(1, 0.5), (2, 0.7)])], "Reward")


def test_sparklines_follow_the_curve():
    assert sparkline([1, 2, 3, 4]) == "▁▃▆█"
    assert sparkline([]) == ""
    assert len(sparkline(list(range(1000)))) == 32


def test_outputs_are_split_into_thinking_and_answer():
    assert split_thinking("<think>a</think>b") == ("a", "b")
    assert split_thinking("<think>a") == ("a", "")
