"""The built wheel in an environment of its own, from an empty folder: nothing of the checkout is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if shutil.which("uv") is None:
        pytest.skip("needs uv")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["uv", "build", "-q", "--wheel", "--out-dir", folder, ROOT], check=True, env=without_checkout())
    return next(folder.glob("*.whl"))


def without_checkout():
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "INFI_MMR_STORE"}}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel, which finds all other packages in this one; runs its commands in a folder."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, symlinks=True)
    packages = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth, the checkout's, do not count
    subprocess.run(["uv", "pip", "install", "-q", "--no-deps", "--python", home / "bin" / "python", wheel], check=True)

    def run(folder, *words):
        ran = subprocess.run(
            [home / "bin" / words[0], *words[1:]],
            cwd=folder,
            env=without_checkout(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout

    return packages, run


def test_the_wheel_holds_every_file_of_the_three_packages(wheel):
    packages = ("data_engine", "trainer", "shared")
    words = ["git", "ls-files", "--", *packages]
    tracked = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if not tracked:
        pytest.skip("needs a git checkout")
    held = zipfile.ZipFile(wheel).namelist()
    assert set(tracked) - set(held) == set()
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_what_is_installed_is_the_wheel_and_knows_its_version(installed, tmp_path):
    packages, run = installed
    code = "import data_engine, shared, trainer; print(*(m.__file__ for m in (data_engine, shared, trainer)))"
    for file in run(tmp_path, "python", "-c", code).split():
        assert Path(file).is_relative_to(packages)
    assert run(tmp_path, "data-engine", "--version") == run(tmp_path, "trainer", "--version") == "infi-mmr 0.1.0\n"


def test_from_an_empty_folder_rows_become_a_dataset_a_page_a_plan_prompts_and_grades(installed, tmp_path):
    _, run = installed
    rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "40" in run(tmp_path, "data-engine", "inspect", "rows.jsonl", "--recipe", "sums.toml", "--json")
    built = json.loads(run(tmp_path, "data-engine", "build", "./sums.toml", "--profile", "local", "--json"))
    assert built["rows"] == 40
    run(tmp_path, "data-engine", "preview", "sums")
    assert "What is 3 + 3?" in next(tmp_path.glob("sums*.html")).read_text()
    own = ("--name", "fra", "--profile", "local", "--set", "data.dataset=sums")
    assert json.loads(run(tmp_path, "trainer", "plan", *own, "--json"))["counts"]["rows"] == 40
    assert "What is" in run(tmp_path, "trainer", "prompts", *own, "--json")
    (tmp_path / "pairs.jsonl").write_text('{"gold": "1/2", "pred": "0.5"}\n')
    assert json.loads(run(tmp_path, "trainer", "grade", "pairs.jsonl", "--json"))["accepted"] == 1
    assert json.loads(run(tmp_path, "data-engine", "plan", "virl39k-captioned", "--profile", "local", "--json"))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_from_an_empty_folder_a_captioned_dataset_is_built_and_a_phase_trained(installed, tmp_path):
    _, run = installed
    run(tmp_path, "data-engine", "build", "virl39k-captioned", "--profile", "local", "--limit", "60")
    words = ("--name", "mre", "--profile", "local", "--max-steps", "2", "--json")
    assert json.loads(run(tmp_path, "trainer", "phase", *words))["steps"] == 2
