"""Every command of README and docs runs, in the site's order, in one fresh folder: what lies fails.

Commands stand in fenced blocks tagged `bash`, one per line. A block that cannot run here (a cluster, CUDA, a hub) is
tagged `text`, and the page says beside it what it needs. Two things differ from what a user types: training stops
after two steps, and `uv run` is left out because the environment is already the right one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared.benchmarks import declared

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^ *```bash\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
THIS_SUITE = "uv run pytest"
OURS = re.compile(r"`((?:data_engine|trainer|shared|tests|benchmarks|docs|examples|findings)/[\w./-]*)`")
OPTIONS = """
import json
from typer.main import get_command
import data_engine.cli, trainer.cli
trainer.cli._mount_rooms([])
print(json.dumps({
    name: {
        command: ["--help", *(one for p in found.params for one in (*p.opts, *p.secondary_opts))]
        for command, found in get_command(program.app).commands.items()
    }
    for name, program in (("data-engine", data_engine.cli), ("trainer", trainer.cli))
}))
"""
"""Prints the options of every command of both programs."""
LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]*)?\)")


@pytest.fixture(scope="module")
def site():
    """The script that makes the site's pages, as a module."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents() -> list[Path]:
    """README, the pages in the order of the site's navigation, and what a contributor reads."""
    pages = re.findall(r"^ +- ([\w-]+\.md)$", (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    own = [path for page in pages if (path := ROOT / "docs" / "pages" / page).is_file()]
    return [ROOT / "README.md", *own, ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]


def commands(*files: Path) -> list[str]:
    """Shell lines of documents in order, each once."""
    text = "\n".join(block for file in files for block in FENCE.findall(file.read_text(encoding="utf-8")))
    return list(dict.fromkeys(s.strip() for s in text.splitlines() if s.strip() and not s.strip().startswith("#")))


def test_the_readme_leads_with_the_two_commands():
    assert commands(ROOT / "README.md")[:2] == [
        "uv run data-engine build virl39k-captioned",
        "uv run trainer phase --name mre",
    ]


def test_every_command_of_readme_and_docs_can_be_pasted():
    assert [c for c in commands(*documents()) if not c.startswith("uv run ")] == []


def test_no_command_of_the_documents_reads_a_file_that_a_clone_lacks():
    words = [word for command in commands(*documents()) for word in shlex.split(command)]
    assert [word for word in words if word.startswith("../")] == []
    assert [word for word in words if word.startswith("examples/") and not (ROOT / word).is_file()] == []


def test_every_option_that_the_documents_show_is_one_of_its_command():
    """Also in blocks that are not run here, and within a sentence."""
    done = subprocess.run([sys.executable, "-c", OPTIONS], capture_output=True, text=True, check=True)
    options = json.loads(done.stdout)
    shown = re.compile(r"(?:^ *|`)(?:uv run )?(data-engine|trainer) ([a-z-]+)([^`\n]*)", re.MULTILINE)
    wrong, seen = [], 0
    for document in documents():
        for program, name, rest in shown.findall(document.read_text(encoding="utf-8")):
            known = options[program].get(name)
            given = {word.split("=")[0] for word in rest.split("#")[0].split() if word.startswith("--")}
            wrong += [f"{document.name}: {program} {name} {word}" for word in sorted(given - set(known or given))]
            wrong += [f"{document.name}: {program} has no command {name}"] if known is None else []
            seen += 1
    assert seen > 60
    assert wrong == []


def test_every_page_is_in_the_navigation_and_in_reach_of_the_readme():
    pages = sorted(path.name for path in (ROOT / "docs" / "pages").glob("*.md"))
    assert pages == sorted(path.name for path in documents() if path.parent == ROOT / "docs" / "pages")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in pages if f"docs/pages/{page}" not in readme] == []


def test_every_file_and_page_that_the_documents_name_is_there():
    gone = []
    for document in documents():
        text = document.read_text(encoding="utf-8")
        named = [ROOT / path for path in OURS.findall(text) if "NAME" not in path]
        linked = [document.parent / path for path in LINK.findall(text)]
        paths = [path for path in (*named, *linked) if not (path.exists() or path.with_suffix(".py").exists())]
        gone += [f"{document.name}: {path}" for path in paths]
    assert gone == []


def test_the_page_on_evaluation_names_every_benchmark():
    page = (ROOT / "docs" / "pages" / "evaluate.md").read_text(encoding="utf-8").partition("## Benchmarks included")[2]
    assert [name for name in declared() if f"`{name}`" not in page] == []


def test_every_name_that_the_documents_place_in_a_file_is_in_it():
    placed = re.compile(r"`(\w+)` (?:in|of) `([\w/]+\.py)`")
    found = [
        (document.name, name, file)
        for document in documents()
        for name, file in placed.findall(document.read_text(encoding="utf-8"))
    ]
    assert len(found) > 5
    assert [one for one in found if not re.search(rf"\b{one[1]}\b", (ROOT / one[2]).read_text(encoding="utf-8"))] == []


def test_the_list_of_files_says_of_every_file_of_the_three_packages_what_it_is(site):
    lines = site.files_page().splitlines()
    for package in ("shared", "data_engine", "trainer"):
        for file in (ROOT / package).rglob("*.py"):
            room = lines.index(f"## {file.parent.relative_to(ROOT).as_posix()}/")
            if file.name != "__init__.py":
                entry = next((line for line in lines[room:] if line.startswith(f"| `{file.name}` | ")), "")
                assert len(entry) > len(f"| `{file.name}` |  |"), f"{file}: no first sentence"


def test_every_module_with_a_public_name_has_its_place_in_the_reference(site):
    text = "\n".join(site.reference_pages().values())
    for name in ("shared.dataset_version.version", "trainer.rewards", "data_engine.recipe", "shared.answers.grade"):
        assert f"::: {name}\n" in text


@pytest.mark.nightly
@pytest.mark.timeout(2700)
def test_every_command_of_readme_and_docs_runs(tmp_path):
    workplace = tmp_path / "checkout"
    workplace.mkdir()
    shutil.copytree(ROOT / "examples", workplace / "examples")
    environment = {key: value for key, value in os.environ.items() if key != "INFI_MMR_STORE"}
    environment["INFI_MMR_CACHE"] = str(tmp_path / "cache")
    for command in commands(*documents()):
        if command.startswith(THIS_SUITE):
            continue
        words = shlex.split(command.removeprefix("uv run "))
        if words[:2] == ["trainer", "phase"]:
            words += ["--max-steps", "2"]
        words[0] = str(Path(sys.executable).parent / words[0])
        done = subprocess.run(words, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"$ {command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert (workplace / "report.html").stat().st_size > 10_000
