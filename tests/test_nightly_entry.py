"""`.ci/nightly` keeps one line per nightly test: a run replaces its own, leaves the others, and drops what is gone."""

from __future__ import annotations

import importlib.util
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
