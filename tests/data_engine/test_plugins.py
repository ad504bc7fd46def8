"""A package installed beside ours brings a reader and a step, which recipes name as they name ours."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cloudpickle
import polars as pl
import pytest
from typer.testing import CliRunner

from data_engine.blocks import Parts, RowBlocks
from data_engine.cli import app
from data_engine.plugins import Plugin, PluginStep, _PluginSource, load_plugin, own_step, plugin_step
from data_engine.recipe import _steps_model
from data_engine.sources.mini import Mini, MiniSettings
from data_engine.step import StepResult
from data_engine.step_blocks import run_step
from shared.config import Strict
from shared.dataset_version import open_dataset
from shared.errors import InfiMmrError
from shared.fingerprint import file_hash
from shared.store import open_store

ROOT = Path(__file__).resolve().parents[2]
READER = """
from pathlib import Path
from data_engine.sources.base import Rejection, SourceRow
from data_engine.sources.files import FileSource

def open_source(settings, what):
    files = list(Path(settings.location).glob("*.sums"))
    def rows():
        for file in sorted(files):
            for number, line in enumerate(file.read_text().splitlines()):
                left, equals, right = line.partition("=")
                name = f"{file.stem}-{number}"
                if equals:
                    question = f"What is {left.strip()}?" + settings.options.get("end", "")
                    yield SourceRow(name, question, right.strip(), right)
                else:
                    yield Rejection(name, "missing_answer", "no equals sign")
    return FileSource("sums", settings, files, rows)
"""
STEP = '''
"""Counts the words of questions."""
print("loaded")
from pydantic import Field
from data_engine.step import judge_rows
from shared.config import Strict

class Settings(Strict):
    most: int = Field(default=100, description="Words that a question may have.")

def judge(row, settings):
    words = len(row["question"].split())
    return {"words": words, "reason": "too_many_words" if words > settings.most else "", "removes": True}

def run(context, settings):
    return judge_rows(context, judge, {"words": "int64", "reason": "string", "removes": "bool"}, settings)
'''
RECIPE = """
[source]
reader = "sums"
location = "rows"
licence = "CC0"
[steps.verify_answers]
[steps.count_words]
most = 5
"""


@pytest.fixture
def package(tmp_path):
    """A folder as pip would leave it, with one distribution, and rows for its reader."""
    site = tmp_path / "site"
    info = site / "my_charts-0.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-charts\nVersion: 0.2\n")
    (info / "entry_points.txt").write_text(
        "[infi_mmr.readers]\nsums = my_charts.reader:open_source\nbroken = my_charts.broken:open_source\n"
        "[infi_mmr.steps]\ncount_words = my_charts.count_words\nno_step = my_charts.reader\n"
    )
    room = site / "my_charts"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "reader.py").write_text(READER)
    (room / "count_words.py").write_text(STEP)
    (room / "broken.py").write_text("import nosuchlibrary\n")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.sums").write_text("1 + 1 = 2\n1 + 2 + 3 + 4 = 10\nnothing\n1 + 1 = 2\n")
    return room


def run(package, recipe, *words):
    home = package.parents[1]
    (home / "sums.toml").write_text(recipe)
    paths = [str(package.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    words = [*words[:1], "./sums.toml", *words[1:], "--profile", "local", "--store", "store"]
    ran = subprocess.run(
        [sys.executable, "-m", "data_engine.cli", *words],
        cwd=home,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def forget():
    """What this process knows of the package."""
    for known in (plugin_step, load_plugin, _steps_model):
        known.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_charts"]:
        del sys.modules[name]


@pytest.fixture
def in_process(package, monkeypatch):
    """The package, importable here, too."""
    monkeypatch.syspath_prepend(str(package.parent))
    forget()
    yield package
    forget()


@pytest.fixture
def refused(in_process, monkeypatch):
    """Build a recipe in this process; gives the last line of why it was refused."""
    home = in_process.parents[1]
    monkeypatch.chdir(home)

    def line(recipe):
        (home / "sums.toml").write_text(recipe)
        forget()
        ran = CliRunner().invoke(app, ["build", "./sums.toml", "--profile", "local", "--store", "store"])
        assert isinstance(ran.exception, SystemExit), ran.exception  # of anything else people would see a traceback
        return ran.stderr.strip().splitlines()[-1]

    return line


def counts(report):
    return {step["name"]: (step["computed"], step["reused"]) for step in report["steps"]}


def test_a_recipe_builds_with_the_reader_and_the_step_of_another_package(package):
    assert run(package, RECIPE, "plan", "--json")["steps"][1]["name"] == "count_words"
    report = run(package, RECIPE, "build", "--json")
    assert (report["rows"], report["rejected"]) == (2, 2)
    assert counts(report)["count_words"] == (2, 0)  # equal questions are judged once
    version = Path(report["path"])
    manifest = json.loads((version / "manifest.json").read_text())
    owner = {"package": "my-charts", "version": "0.2"}
    for place in (manifest["recipe"]["steps"]["count_words"], manifest["recipe"]["source"]):
        assert owner.items() <= place["plugin"].items()
    ledger = open_dataset("sums", str(package.parents[1] / "store")).ledger()
    assert set(ledger.select("step", "rule").rows()) == {
        ("source", "missing_answer"),
        ("count_words", "too_many_words"),
    }
    again = run(package, RECIPE, "build", "--json")
    assert again["fingerprint"] == report["fingerprint"]


def test_other_settings_judge_anew_and_so_does_other_code_of_the_package(package):
    first = run(package, RECIPE, "build", "--json")
    looser = run(package, RECIPE.replace("most = 5", "most = 50"), "build", "--json")
    assert (looser["rows"], counts(looser)["count_words"]) == (3, (2, 0))
    code = package / "count_words.py"
    code.write_text(STEP.replace('len(row["question"].split())', "0"))
    changed = run(package, RECIPE, "build", "--json")
    assert (changed["rows"], counts(changed)["count_words"]) == (3, (2, 0))
    assert changed["fingerprint"] != first["fingerprint"]
    code.write_text(STEP)
    assert counts(run(package, RECIPE + "[shards]\nshard_megabytes = 400\n", "build", "--json"))["count_words"] == (
        0,
        2,
    )


@pytest.mark.parametrize("how", [pickle, cloudpickle])
def test_the_source_of_another_package_reaches_workers_as_any_other(how):
    source = _PluginSource(Mini("deepscaler", MiniSettings(rows=3)), "reader sums")
    there = how.loads(how.dumps(source))
    assert (there.name, there.fingerprint()) == (source.name, source.fingerprint())
    assert [row.source_id for row in there.rows()] == [row.source_id for row in source.rows()]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('reader = "sums"', 'reader = "sum"', "recipe sums.toml: no reader 'sum'. Did you mean sums?"),
        (
            "count_words]",
            "count_word]",
            "unknown key steps.count_word. Did you mean steps.count_words? Or install the package that provides it",
        ),
        ("most = 5", "mots = 5", "unknown key steps.count_words.mots. Did you mean steps.count_words.most?"),
        (
            'reader = "sums"',
            'reader = "broken"',
            "reader broken of package my-charts 0.2 cannot be loaded (ModuleNotFoundError: No module named 'nosuchl",
        ),
        ("count_words]\nmost = 5", "no_step]", "step no_step of package my-charts 0.2 has no Settings"),
        ('licence = "CC0"', "options.end = 3", "reader sums of package my-charts 0.2, record 0 failed: TypeError"),
        ('reader = "sums"', 'reader = "table"\noptions.x = 1', "reader table takes no source.options"),
        ('location = "rows"', 'location = "none"', "none holds no file of reader sums"),
    ],
)
def test_what_is_wrong_with_a_package_is_told_in_one_line_by_name_where_it_is_used(refused, old, new, said):
    assert said in refused(RECIPE.replace(old, new))


def test_a_step_that_fails_for_a_row_names_step_package_and_row(package, refused):
    (package / "count_words.py").write_text(
        STEP.replace("    words = len", '    assert "1 + 2" not in row["question"]\n    words = len')
    )
    line = refused(RECIPE)
    assert "recipe sums, count_words: " in line
    assert "row sums-" in line
    assert "AssertionError" in line
    (package / "count_words.py").write_text(
        STEP.replace("def run(context, settings):", "def run(context, settings):\n    return 1 / 0")
    )
    assert "step count_words of package my-charts 0.2 failed: ZeroDivisionError" in refused(RECIPE)


COUNTING = """
import polars as pl
from data_engine.step import StepResult
from shared.config import Strict
class Settings(Strict):
    pass
def run(context, settings):
    ids, words = context.rows["id"], context.results["verify_answers"].annotations
    failed = pl.DataFrame({"id": ids[:1], "reason": ["odd"]})
    return StepResult(pl.DataFrame({"id": ids, "seen": context.rows.height, "of": words.height}), 1, failures=failed)
"""


@pytest.mark.parametrize("declared", ["", "NEEDS_ALL_ROWS = True"])
def test_a_packages_step_gets_blocks_of_rows_unless_it_says_that_it_needs_all(
    in_process, step_world, tmp_path, declared
):
    (in_process / "count_words.py").write_text(COUNTING + declared)
    context = step_world.context([(f"r-{number:016x}", "What?") for number in (1, 2, 2**63 + 1)])
    blocks = RowBlocks(open_store(tmp_path / "scratch"), "rows", (2, 1))
    verified = Parts(blocks.store, "verify_answers")
    for block, start in enumerate((0, 2)):
        rows = context.rows[start : start + blocks.heights[block]]
        blocks.write(block, rows.with_columns(image_names=pl.lit(None)))
        verified.write(block, rows.select("id"))
    held = replace(context, rows=pl.DataFrame(), results={"verify_answers": StepResult(pl.DataFrame(), parts=verified)})
    found = run_step("count_words", plugin_step("count_words").Settings(), held, blocks)
    told = [row for block in blocks.numbers for row in found.parts.read(block)["seen", "of"].iter_rows()]
    assert told == ([(3, 3)] * 3 if declared else [(2, 2), (2, 2), (1, 1)])
    assert found.failures.height == found.computed == (1 if declared else 2)


FAILING = """
from datetime import date
import polars as pl
from data_engine.step import StepResult
from shared.config import Strict
class Settings(Strict):
    pass
def run(context, settings):
    some = context.rows.select("id", reason=pl.lit("slow" if context.rows.height == 1 else None, pl.String))
    return StepResult(context.rows.select("id"), failures=some.with_columns(when=date(2026, 11, 28)))
"""


def test_failures_of_a_packages_step_come_back_from_blocks_whatever_else_they_hold(in_process, step_world, tmp_path):
    (in_process / "count_words.py").write_text(FAILING)
    context = step_world.context([(f"r-{number:016x}", "What?") for number in range(121)])
    blocks = RowBlocks(open_store(tmp_path / "scratch"), "rows", (120, 1))
    for block, start in enumerate((0, 120)):
        rows = context.rows[start : start + blocks.heights[block]]
        blocks.write(block, rows.with_columns(image_names=pl.lit(None)))
    held = replace(context, rows=pl.DataFrame())
    failures = run_step("count_words", plugin_step("count_words").Settings(), held, blocks).failures
    assert failures["reason"].to_list() == [None] * 120 + ["slow"]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"id": ["x-0"], "reason": ["odd"], "removes": [True]}, "returned row 'x-0', which it was not given"),
        ({"id": ["r0", None]}, "returned no id in row 1"),
        ({"id": [7]}, "returned id 7 in row 0, which is not text"),
        ({"image_hash": [None], "n": [1]}, "returned image_hash None in row 0, which is not text"),
        ({"n": [1]}, "returned rows with neither id nor image_hash, but n"),
    ],
)
def test_a_step_that_tells_about_rows_it_was_not_given_is_refused_in_one_line(step_world, frame, said):
    module = ModuleType("odd")
    context = step_world.context([("r0", "What?"), ("r1", "Why?")])
    for result in (
        lambda *_: StepResult(pl.DataFrame(frame)),
        lambda context, _: StepResult(context.rows.select("id"), failures=pl.DataFrame(frame)),
    ):
        module.run = result
        step = PluginStep(Plugin("odd", "my-charts", "0.2", "", module), Strict)
        with pytest.raises(InfiMmrError, match=r"step odd of package my-charts 0\.2 ") as raised:
            step.run(context, Strict())
        assert said in str(raised.value)
    module.run = lambda context, _: StepResult(context.rows.select("id"), failures=context.rows.select("id").clear())
    assert step.run(context, Strict()).annotations["id"].to_list() == ["r0", "r1"]


def test_a_broken_package_harms_nobody_who_does_not_name_it(package):
    (package / "__init__.py").write_text("raise RuntimeError('broken')")
    (package.parents[1] / "rows" / "rows.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    plain = '[source]\nreader = "table"\nlocation = "rows/rows.jsonl"\nlicence = "CC0"\n'
    assert run(package, plain, "build", "--json")["rows"] == 1


def test_two_packages_that_bring_the_same_step_are_both_named(package, refused):
    other = package.parent / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[infi_mmr.steps]\ncount_words = my_charts.count_words\n")
    line = refused(RECIPE)
    assert "step count_words is provided by my-charts and other. Uninstall one of them" in line


OWN = RECIPE.replace("[steps.count_words]", '[steps.long_ones]\npath = "steps/count.py"')


@pytest.fixture
def own_file(package):
    """A step in a file beside the recipe."""
    file = package.parents[1] / "steps" / "count.py"
    file.parent.mkdir()
    file.write_text(STEP)
    return file


def test_a_recipe_builds_with_a_step_of_one_file_whose_content_and_not_its_place_is_what_the_version_is_of(
    package, own_file
):
    assert run(package, OWN, "plan", "--json")["steps"][1]["name"] == "long_ones"
    report = run(package, OWN, "build", "--json")
    assert (report["rows"], counts(report)["long_ones"]) == (2, (2, 0))
    manifest = json.loads((Path(report["path"]) / "manifest.json").read_text())
    told = manifest["recipe"]["steps"]["long_ones"]
    assert told == {"most": 5, "plugin": {"file": "count.py", "code": file_hash(own_file)}}
    ledger = open_dataset("sums", str(package.parents[1] / "store")).ledger()
    assert ("long_ones", "too_many_words") in ledger.select("step", "rule").rows()
    moved = own_file.rename(own_file.parents[1] / "count.py")
    again = run(package, OWN.replace("steps/count.py", "count.py"), "build", "--json")
    assert (again["version"], again["seconds"] < report["seconds"]) == (report["version"], True)
    moved.write_text(STEP.replace('len(row["question"].split())', "0"))
    changed = run(package, OWN.replace("steps/count.py", "count.py"), "build", "--json")
    assert (changed["rows"], counts(changed)["long_ones"]) == (3, (2, 0))
    assert changed["fingerprint"] != report["fingerprint"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("class Settings(Strict):", "class Options(Strict):", "step long_ones: steps/count.py has no Settings"),
        ("print(", "import nosuchlibrary  # ", "(ModuleNotFoundError: No module named 'nosuchlibrary')"),
        ("def run(", "def ran(", "(count.py has no function run). Did you mean ran?"),
        ("    words = len", '    assert "1 + 2" not in row["question"]\n    words = len', "long_ones: row sums-"),
        ("return judge_rows(", "return 1 / 0 or (", "step long_ones of file count.py failed: ZeroDivisionError"),
        ("return judge_rows(", "raise SystemExit(3) or (", "step long_ones of file count.py failed: SystemExit: 3"),
        ("    words = len", "    exit(3)\n    words = len", "long_ones: row sums-"),
        (
            '{"words": words,',
            '{"words": words / 2,',
            "long_ones: row sums-2e63f0ee59221276: ValueError: words is 2.5, no int64",
        ),
        ('{"words": words,', '{"words": "many",', "row sums-2e63f0ee59221276: ArrowInvalid: Could not convert 'many'"),
        (
            '"reason": "too',
            '"raeson": "too',
            "row sums-2e63f0ee59221276: KeyError: 'it returns raeson, and names words, reason, r",
        ),
    ],
)
def test_what_is_wrong_with_a_step_of_a_file_is_told_in_one_line_before_anything_is_read(
    own_file, refused, old, new, said
):
    own_file.write_text(STEP.replace(old, new))
    line = refused(OWN)
    assert said in line
    assert "recipe sums" in line
    assert (own_file.parents[1] / "store").exists() == ("row" in said or "failed" in said)


def test_a_step_of_a_file_that_is_not_there_is_refused_by_its_name(refused):
    assert "step long_ones: steps/count.py:run cannot be loaded (FileNotFoundError" in refused(OWN)


@pytest.mark.parametrize("name", ["zähl", "with space", "a.b", "../x", "", "_x", "model_config", "copy", "source"])
def test_a_name_that_cannot_be_that_of_a_step_is_refused_before_anything_is_read(own_file, refused, name):
    line = refused(OWN.replace("[steps.long_ones]", f'[steps."{name}"]'))
    assert f"{name!r} cannot name a step. Use letters, digits, _ and -" in line
    assert not (own_file.parents[1] / "store").exists()


def test_a_file_that_stands_for_a_step_of_ours_is_told_to_have_another_name(own_file, refused):
    line = refused(OWN.replace("long_ones", "verify_answers").replace("[steps.verify_answers]", "", 1))
    assert "step verify_answers is one of ours, and has no path. Give yours another name" in line


def test_a_step_of_a_file_may_be_called_as_something_that_a_build_keeps_on_scratch(package, own_file):
    report = run(package, OWN.replace("long_ones", "rows"), "build", "--json")
    assert (report["rows"], counts(report)["rows"]) == (2, (2, 0))


ARRIVES = """
import pickle, sys
own, settings = pickle.load(sys.stdin.buffer)
print(own.plugin.value.judge({"question": "a b c"}, settings), own.plugin.identity())
"""


def test_a_step_of_a_file_arrives_at_workers_as_its_source(own_file):
    own = own_step("long_ones", str(own_file), "step")
    assert own_step("long_ones", str(own_file), "step") == own
    sent = cloudpickle.dumps((own, own.Settings(most=2)))
    own_file.unlink()
    done = subprocess.run([sys.executable, "-c", ARRIVES], input=sent, cwd=ROOT, capture_output=True, check=True)
    assert b"{'words': 3, 'reason': 'too_many_words', 'removes': True} {'file': 'count.py'" in done.stdout


def test_a_step_of_this_checkout_is_one_function_of_a_row_too_and_changed_code_judges_anew(
    step_world, tmp_path, monkeypatch
):
    file = tmp_path / "count_words_here.py"
    monkeypatch.syspath_prepend(str(tmp_path))

    def judged(code):
        file.write_text(code)
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
        importlib.invalidate_caches()
        step = importlib.import_module(file.stem)
        found = step.run(step_world.context([("a", "one two", [], []), ("b", "one", [], [])]), step.Settings())
        return found.annotations["words"].to_list(), found.computed

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert judged(STEP) == ([2, 1], 2)
    assert judged(STEP) == ([2, 1], 0)
    assert judged(STEP.replace("words = len", "words = 10 * len")) == ([20, 10], 2)
