"""Pages of the documentation site that the repository's own files are the source of.

    python docs/hooks.py        print every file of the three packages with its first sentence

MkDocs calls `on_config` and `on_files`. Made here: the start page (README), architecture, contributing and changelog,
the list of files, and one reference page per room whose words are the docstrings, read without importing anything.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("data_engine", "trainer", "shared")
COPIED = {
    "index": "README.md",
    "architecture": "ARCHITECTURE.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "examples": "examples/README.md",
}
_DATA_ROOMS = {
    "data_engine/recipes": "One TOML file per dataset.",
    "shared/benchmarks": "Benchmarks whose file needs no Python.",
    "trainer/phases": "One TOML file per phase.",
    "trainer/curricula": "The paper's order, its ablations, and a cold start before it, as lists of phases.",
}
"""Folders of files that are no Python, and what they hold."""


def first_sentence(file: Path) -> str:
    """The first sentence of a module's docstring on one line; empty where it has none."""
    words = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.split(r"(?<=[.?])\s", " ".join(words.split()), maxsplit=1)[0].rstrip(".:")


def rooms() -> dict[str, list[Path]]:
    """Python files of the three packages by folder (relative, with `/`), packages in order, parents before children."""
    found: dict[str, list[Path]] = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.parent.parts, path.name)):
            found.setdefault(file.parent.relative_to(ROOT).as_posix(), []).append(file)
    return found


def files_page() -> str:
    """Every file of the three packages with its first sentence, by room."""
    lines = ["# Where things are", "", "Every file with the first sentence of its docstring."]
    for room, files in rooms().items():
        about = [f"{first_sentence(file)}\n" for file in files if file.name == "__init__.py"]
        lines += ["", f"## {room}/", "", *about, "| file | what it is |", "|---|---|"]
        lines += [
            f"| `{file.name}` | {first_sentence(file).replace('|', chr(92) + '|')} |"
            for file in files
            if file.name != "__init__.py"
        ]
    for room, about in _DATA_ROOMS.items():
        names = ", ".join(f"`{file.name}`" for file in sorted((ROOT / room).glob("*.toml")))
        lines += ["", f"## {room}/", "", about, "", names]
    return "\n".join(lines) + "\n"


def reference_pages() -> dict[str, str]:
    """One page per room, `reference/ROOM.md` -> text that mkdocstrings fills."""
    pages = {}
    for room, files in rooms().items():
        if not (ROOT / room / "__init__.py").is_file():
            continue
        modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
        title = room.replace("/", ".")
        # A room's own names are told where they are defined.
        own = {module: ", members: false" if module == title else "" for module in modules}
        entries = [f"::: {module}\n    options: {{ heading_level: 2{option} }}\n" for module, option in own.items()]
        pages[f"reference/{title}.md"] = f"# {title}\n\n" + "\n".join(entries)
    return pages


def site_links(text: str) -> str:
    """The text of a file of the repository's top with links that hold on the site."""
    text = text.replace("](docs/pages/", "](")
    for page, file in COPIED.items():
        text = text.replace(f"]({file})", f"]({page}.md)")
    return text


def on_config(config: Any) -> Any:
    """Put the reference pages into the navigation."""
    pages = [{page.removeprefix("reference/").removesuffix(".md"): page} for page in sorted(reference_pages())]
    config["nav"] = [*(entry for entry in config["nav"] if "Reference" not in entry), {"Reference": pages}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages made here."""
    from mkdocs.structure.files import File

    made = {f"{page}.md": site_links((ROOT / file).read_text(encoding="utf-8")) for page, file in COPIED.items()}
    made["files.md"] = files_page()
    for name, text in {**made, **reference_pages()}.items():
        files.append(File.generated(config, name, content=text))
    return files


if __name__ == "__main__":
    print(files_page(), end="")
