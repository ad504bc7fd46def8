"""What the sharing commands say to people: tables on stderr, and the ledger's JSON lines on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.number_text import human_bytes, human_seconds

if TYPE_CHECKING:
    from shared.dataset_version.verify import Report

_CELL = 60
_HASH_DIGITS = 12


def _console() -> Console:
    # Where nobody looks at a terminal, 80 columns would fold every table.
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 160)


def _table(title: str, head: list[str], rows: Iterable[list[Any]], right: frozenset[int] = frozenset()) -> None:
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[escape(_short(cell)) for cell in row])
    if table.row_count:
        _console().print(table)


def say_list(url: str, entries: list[dict[str, Any]]) -> None:
    """Say which versions a store has."""
    if not entries:
        _console().print(f"no dataset in {escape(url)}; build one: data-engine build RECIPE")
        return
    rows = [[entry["dataset"], entry["version"], ", ".join(entry["tags"]), *_numbers(entry)] for entry in entries]
    head = ["dataset", "version", "tags", "profile", "rows", "size", "fingerprint", "built"]
    _table(url, head, rows, frozenset({4, 5}))


def _numbers(entry: Mapping[str, Any]) -> list[Any]:
    if "error" in entry:
        return ["", "", "", entry["error"], ""]
    short = entry["fingerprint"][:_HASH_DIGITS]
    return [entry["profile"], entry["rows"], human_bytes(entry["bytes"]), short, entry["created_at"]]


def say_version(found: Mapping[str, Any]) -> None:
    """Say what is in a version."""
    console = _console()
    tags = f", tagged {', '.join(found['tags'])}" if found["tags"] else ""
    console.print(f"[bold]{escape(found['label'])}[/]{escape(tags)}")
    console.print(f"{found['rows']} rows, {found['rejected']} rejected, {found['near_misses']} near misses, ", end="")
    console.print(f"{len(found['shards'])} shards, {human_bytes(found['bytes'])}")
    if found.get("splits"):
        console.print("splits: " + ", ".join(f"{name} {rows}" for name, rows in found["splits"].items()))
    console.print(f"fingerprint {found['fingerprint']}")
    console.print(f"built {found['created_at']} from commit {found['code_commit'] or 'unknown'}")
    console.print(escape(found["path"]), soft_wrap=True)
    head = ["step", "rows in", "rows out", "computed", "reused", "time"]
    keys = ("name", "rows_in", "rows_out", "computed", "reused")
    rows = [[*(step[key] for key in keys), human_seconds(step["seconds"])] for step in found["counts"]]
    _table("", head, rows, frozenset(range(1, 6)))
    head = ["name", "location", "revision", "rows"]
    _table("", ["input", *head[1:]], [[entry[key] for key in head] for entry in found["inputs"]], frozenset({3}))
    for warning in found["warnings"]:
        console.print(f"note: {escape(warning)}")


def print_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON line per row on stdout."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say_ledger(label: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Say which rows were removed or came near, and by which rule."""
    keys = ("source_id", "step", "rule", "removed", "benchmark", "item", "score")
    lines = [[f"{row[key]:.3f}" if isinstance(row[key], float) else row[key] for key in keys] for row in rows]
    _table(f"{label}: removed and near-missed rows", [key.replace("_", " ") for key in keys], lines, frozenset({6}))
    _console().print(f"{len(lines)} rows; --json prints the evidence")


def say_diff(found: Mapping[str, Any]) -> None:
    """Say what changed."""
    console = _console()
    rows = found["rows"]
    console.print(f"[bold]{escape(found['a'])}[/] -> [bold]{escape(found['b'])}[/]")
    console.print(f"{rows['a']} -> {rows['b']} rows: ", end="")
    console.print(f"[green]{rows['added']} added[/], [red]{rows['removed']} removed[/], ", end="")
    console.print(f"[yellow]{rows['changed']} changed[/], {rows['same']} the same")
    for key, title in (("removed_by", "removed by"), ("added_by", "added; in A removed by")):
        _table(title, ["step", "rule", "rows"], [[e["step"], e["rule"], e["rows"]] for e in found[key]], frozenset({2}))
    _table(
        "changed columns", ["column", "rows"], [[*pair] for pair in found["changed_columns"].items()], frozenset({1})
    )
    for kind in ("added", "removed"):
        shown = [[entry["source_id"], entry["question"], entry["answer"]] for entry in found["samples"][kind]]
        _table(f"{kind}, for instance", ["source id", "question", "answer"], shown)
    changes = [
        [entry["source_id"], name, values["a"], values["b"]]
        for entry in found["samples"]["changed"]
        for name, values in entry["columns"].items()
    ]
    _table("changed, for instance", ["source id", "column", "A", "B"], changes)
    moved = [[r["step"], r["rule"], r["removed_a"], r["removed_b"]] for r in found["rules"]]
    _table("removed per rule", ["step", "rule", "A", "B"], [m for m in moved if m[2] != m[3]], frozenset({2, 3}))
    _table("configuration", ["key", "A", "B"], [[e["key"], e["a"], e["b"]] for e in found["configuration"]])


def say_report(report: Report) -> None:
    """Say whether a version is sound, and if not, which file is damaged and what to do."""
    console = _console()
    checked = f"{report.shards} files, {report.rows} rows, {report.images} images, {human_bytes(report.bytes)}"
    console.print(f"{escape(report.label)}: {'sound' if report.ok else 'DAMAGED'} ({checked})")
    for problem in report.problems:
        console.print(f"  {escape(problem.file)}: {escape(problem.problem)}. {escape(problem.next_step)}")


def say_collected(done: Mapping[str, Any]) -> None:
    """Say what gc removed."""
    verb = "would remove" if done["dry_run"] else "removed"
    console = _console()
    console.print(f"{verb} {done['files']} files, {human_bytes(done['bytes'])}, from {escape(done['store'])}")
    if done["too_young"]:
        console.print(f"{len(done['too_young'])} unreached files are too young to be taken (--min-age 0 takes them)")


def say_transfer(done: Mapping[str, Any]) -> None:
    """Say what travelled."""
    size = f"{human_bytes(done['bytes_sent'])} of {human_bytes(done['bytes'])} sent in {human_seconds(done['seconds'])}"
    if done["annotation_files"]:
        size += f", and {human_bytes(done['annotation_bytes'])} of annotations"
    tag = f", as @{done['tag']}" if done["tag"] else ""
    _console().print(f"{escape(done['label'])} is in {escape(done['to'])}{escape(tag)}: {size}")


def _short(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
