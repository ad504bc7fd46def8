"""`.ci/nightly` keeps one line per nightly test: a run replaces its own, leaves the others, and drops what is gone."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def nightly():
    spec = importlib.util.spec_from_file_location("nightly", ROOT / ".ci" / "nightly.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_table_of_nightly_results_is_read_back_as_it_was_written(nightly):
    lines = {
        "tests/a.py::test_one[x-1]": ("passed", "3.4", "2026-01-31", "0123456789", "a processor, 2 cores"),
        "tests/b.py::test_two": nightly.NEVER,
    }
    assert nightly.known(nightly.table(lines)) == lines


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("<testcase/>", "passed"),
        ('<testcase><failure message="x"/></testcase>', "failed"),
        ('<testcase><error message="x"/></testcase>', "failed"),
        ('<testcase><skipped message="needs uv"/></testcase>', "skipped: needs uv"),
        ("", "failed"),
    ],
)
def test_a_nightly_test_that_did_not_pass_is_never_told_as_passed(nightly, tmp_path, inner, said):
    (tmp_path / "report.xml").write_text(f"<testsuites><testsuite>{inner}</testsuite></testsuites>")
    assert nightly.outcome(tmp_path / "report.xml") == said


def test_a_result_on_changed_files_says_so_beside_the_commit_while_its_table_may_change(nightly, tmp_path, monkeypatch):
    monkeypatch.setattr("shared.provenance.ROOT", tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "code.py").write_text("1")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b.example commit -q -m one"):
        subprocess.run(["git", "-C", tmp_path, *words.split()], check=True)
    (tmp_path / "benchmarks" / "results" / "nightly.md").write_text("2")
    assert "+" not in nightly.commit_of_code()
    (tmp_path / "code.py").write_text("2")
    assert re.fullmatch("[0-9a-f]{10}[+]changes", nightly.commit_of_code())


def test_a_run_beside_another_keeps_the_lines_of_the_other(nightly, tmp_path, monkeypatch):
    nightly.TABLE = tmp_path / "nightly.md"
    other, mine = ("passed", "1.0", "2026-01-31", "0123456789", "here"), ("failed", "2.0", "2026-01-31", "01", "here")

    def run(test):
        nightly.TABLE.write_text(nightly.table({"tests/b.py::test_two": other}), encoding="utf-8")
        return mine

    monkeypatch.setattr(nightly, "collected", lambda paths: paths or ["tests/a.py::test_one", "tests/b.py::test_two"])
    monkeypatch.setattr(nightly, "run", run)
    monkeypatch.setattr("sys.argv", ["nightly.py", "tests/a.py::test_one"])
    assert nightly.main() == 1
    found = nightly.known(nightly.TABLE.read_text(encoding="utf-8"))
    assert found == {"tests/a.py::test_one": mine, "tests/b.py::test_two": other}
