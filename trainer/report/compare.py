"""Two results item by item: what each alone got right, a paired test, and a page with pictures and both outputs.

Input: two folders that `trainer evaluate` wrote (a run folder that holds one will do). Output: `Comparison`, its JSON,
and one self-contained page. The test is McNemar's exact one, or a cluster-robust one where items are versions of one
problem. Pictures are read from the dataset version that the results name, or from a file named for it; where they are
not at hand the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.answers import split_thinking
from shared.errors import InfiMmrError
from trainer.evaluation.results import OUTPUTS_FILE, Paired, paired_rows, paired_test, read_result
from trainer.evaluation.task import Status
from trainer.evaluation.tasks import shown_task, task_names
from trainer.report.build import render_page
from trainer.report.pictures import picture_url

COLUMNS = ("choices", "kind", "output", "answer", "reason", "tokens", "truncated")
MOST_SHOWN = 200
"""Items of one kind on the page; the rest is counted."""
ONLY_FIRST, ONLY_SECOND = "only_first", "only_second"
Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Two results on the same items, per benchmark."""

    names: tuple[str, str]
    benchmarks: dict[str, Paired]

    def document(self) -> dict[str, Any]:
        """The JSON of `trainer compare`; `difference` is second minus first, a share of the items."""
        everything = [pair for found in self.benchmarks.values() for pair in found.rows]
        return {
            "first": self.names[0],
            "second": self.names[1],
            **_counts(everything, sum(found.other_items for found in self.benchmarks.values())),
            "benchmarks": {name: _counts(found.rows, found.other_items) for name, found in self.benchmarks.items()},
        }


def compare_runs(first: Path, second: Path, tasks: Sequence[str] = ()) -> Comparison:
    """Compare the results in two folders, of some tasks by name, of all where none is named.

    Raises:
        InfiMmrError: a folder without results, the same folder twice, or no item that both scored.

    """
    folders = [results_folder(place) for place in (first, second)]
    if folders[0].resolve() == folders[1].resolve():
        raise InfiMmrError(f"{first} and {second} are the same results", "Name two evaluations")
    found = paired_rows(folders[0], folders[1], COLUMNS)
    for name in tasks:
        if name not in found:
            message = f"{first} and {second} share no scored item of {name} (they do of {', '.join(found)})"
            raise InfiMmrError(message, f"Evaluate both first: trainer evaluate --checkpoint DIR --benchmarks {name}")
    return Comparison(_names(first, second), {name: found[name] for name in tasks or found})


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The folders as they were named; of absolute paths the last names, as many as tell the two apart."""
    places = (first, second)
    for depth in range(2, max(len(place.parts) for place in places)):
        a, b = (str(Path(*place.parts[-depth:]) if place.is_absolute() else place) for place in places)
        if a != b:
            return a, b
    return str(first), str(second)


def results_folder(place: Path) -> Path:
    """The folder with stored outputs that `place` means: itself, or the run folder of a checkpoint.

    Raises:
        InfiMmrError: no such folder, or none with outputs; what lies below it is named.

    """
    if not place.is_dir():
        message = f"run folder {place} does not exist"
        raise InfiMmrError(message, "Name folders that `trainer evaluate` wrote, or run folders that were evaluated")
    for folder in (place, place.parent):
        if (folder / OUTPUTS_FILE).is_file() and (folder == place or (place / "config.json").is_file()):
            return folder
    below = sorted(str(file.parent) for file in place.glob(f"*/{OUTPUTS_FILE}"))
    step = f"Name one of: {', '.join(below)}" if below else "Evaluate it first: trainer evaluate --checkpoint DIR"
    raise InfiMmrError(f"{place} holds no stored outputs ({OUTPUTS_FILE})", step)


def _outcome(pair: tuple[Row, Row]) -> str:
    first, second = (row["status"] == Status.CORRECT.value for row in pair)
    if first == second:
        return "both" if first else "neither"
    return ONLY_FIRST if first else ONLY_SECOND


def _counts(rows: Sequence[tuple[Row, Row]], other_items: int) -> dict[str, Any]:
    outcomes = [_outcome(pair) for pair in rows]
    counts = {name: outcomes.count(name) for name in ("both", ONLY_FIRST, ONLY_SECOND, "neither")}
    test = asdict(paired_test(rows))
    tested = {key: test[key] for key in ("p_value", "test", "difference", "stderr")}
    return {"items": len(rows), **counts, **tested, "other_items": other_items}


def page(found: Comparison, folder: Path, sources: Mapping[str, str], store: str | None) -> str:
    """The page: counts, then every item that one of the two lost, with pictures and both outputs.

    `folder` is the first result's: its record says where the items come from. `sources` names files instead.
    """
    shown: dict[str, list[Row]] = {ONLY_SECOND: [], ONLY_FIRST: []}
    left_out = dict.fromkeys(shown, 0)
    notes: list[str] = []
    for name, paired in found.benchmarks.items():
        items: dict[str, list[Row]] = {}
        for pair in paired.rows:
            outcome = _outcome(pair)
            if outcome in shown and len(shown[outcome]) >= MOST_SHOWN:
                left_out[outcome] += 1
            elif outcome in shown:
                row = _item(pair)
                items.setdefault(row["item"], []).append(row)
                shown[outcome].append(row)
        if items:
            note = _add_pictures(name, items, folder, sources.get(name), store)
            notes += [note] if note else []
        if paired.other_items:
            notes.append(f"{shown_task(name).title}: {paired.other_items} items were asked otherwise and are left out.")
    document = found.document()
    table = [{"title": shown_task(name).title, **counts} for name, counts in document["benchmarks"].items()]
    titles = {ONLY_SECOND: ("Won", "Only the second is right."), ONLY_FIRST: ("Lost", "Only the first is right.")}
    sections = [
        {"id": key, "title": title, "lead": lead, "items": shown[key], "left_out": left_out[key]}
        for key, (title, lead) in titles.items()
    ]
    return render_page("compare.html", names=found.names, all=document, table=table, sections=sections, notes=notes)


def _item(pair: tuple[Row, Row]) -> Row:
    outputs = []
    for row in pair:
        thinking, rest = (part.strip() for part in split_thinking(row["output"]))
        verdict = "correct" if row["status"] == Status.CORRECT.value else row["status"].replace("_", " ")
        outputs.append({
            "thinking": thinking, "rest": rest, "verdict": verdict, "answer": row["answer"], "tokens": row["tokens"],
            "truncated": row["truncated"],
        })  # fmt: skip
    first = pair[0]
    return {
        "title": shown_task(first["benchmark"]).title, "item": first["item"], "kind": first["kind"],
        "question": first["question"].replace("<image>", "").strip(), "choices": first["choices"] or [],
        "gold": first["gold"], "outputs": outputs, "images": [], "tags": first["question"].count("<image>"),
    }  # fmt: skip


def _add_pictures(name: str, rows: Mapping[str, list[Row]], folder: Path, source: str | None, store: str | None) -> str:
    """Give each item its pictures; a sentence where they are not at hand."""
    from trainer.evaluation.items import load_items

    title = shown_task(name).title
    result = read_result(folder)["benchmarks"].get(name, {})
    if name not in task_names():
        file = str(result.get("task_file") or f"{name}.toml").partition(" ")[0]
        return f"{title}: no images, since its task file was not named: --task {file}, with its path."
    record = result.get("source", {})
    try:
        items = load_items(name, source or record.get("dataset"), store, images=True)
    except InfiMmrError as error:
        return f"{title}: no images ({error.message}). Name the items with --source {name}=PATH."
    if record.get("fingerprint") not in {None, items.record["fingerprint"]}:
        return f"{title}: no images: {source or record.get('dataset') or name} holds other items than were asked."
    for item in items.items:
        for row in rows.get(item.key, ()):
            row["images"] = [picture_url(data) for data in item.images]
    return ""
