"""The example notebooks run from top to bottom in an empty folder, and hold no outputs of anybody's run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "notebooks"
MINUTES = {"build_and_look": 5, "grade_and_evaluate": 5, "train_locally": 30}


def code_of(name):
    book = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_is_run_by_a_test_and_stored_without_outputs():
    assert sorted(MINUTES) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in MINUTES:
        assert [cell for cell in code_of(name) if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("build_and_look", marks=pytest.mark.slow),
        pytest.param("grade_and_evaluate", marks=pytest.mark.slow),
        pytest.param("train_locally", marks=[pytest.mark.nightly, pytest.mark.timeout(1800)]),
    ],
)
def test_a_notebook_runs_from_top_to_bottom_in_an_empty_folder(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the group dev is not installed")
    import nbformat

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("INFI_MMR_STORE", raising=False)
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    client = nbclient.NotebookClient(
        book, timeout=60 * MINUTES[name], kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    text = "".join(out.get("text", "") for cell in book.cells for out in cell.get("outputs", ()))
    assert "Traceback" not in text
    made = {"build_and_look": "bars.html", "grade_and_evaluate": "compared.html", "train_locally": "run/checkpoint"}
    assert (tmp_path / made[name]).exists()
