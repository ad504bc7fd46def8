"""Runs evaluations: asks a checkpoint (or reads outputs made elsewhere), scores, and writes results.

`evaluate_checkpoint` and `evaluate_outputs` return the JSON document of `trainer evaluate`. Greedy pass@1 is the
headline; `samples` adds K drawn answers per item for avg@k and pass@k. Answers are stored as soon as they are known
(`cache.py`) and results after each benchmark.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.benchmark import Item
from shared.code_points import carried_value
from shared.errors import InfiMmrError, UsageError
from shared.progress import Progress
from trainer.evaluation.asking import Settings, ask_items
from trainer.evaluation.cache import StoredAnswer
from trainer.evaluation.items import ItemSet, load_items
from trainer.evaluation.results import output_rows, summarise, write_results
from trainer.evaluation.scoring import Scored, score
from trainer.evaluation.tasks import benchmark_names, task


def evaluate_checkpoint(
    checkpoint: str | Path,
    benchmarks: str | Sequence[str] = "all",
    store: str | None = None,
    *,
    sources: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask `checkpoint` every item and score the answers.

    `sources` maps benchmarks to files or dataset references; others come from the store's newest dataset version.
    With `output`, `evaluation.json` and `outputs.parquet` are written there after each benchmark. The document's keys
    `checkpoint` and `benchmarks` are those of `trainer evaluate --json`.

    Raises:
        UsageError: unknown benchmark or wrong settings.
        InfiMmrError: no items, a checkpoint without its files, an engine that does not start.

    """
    names = benchmark_names(benchmarks)
    settings = settings or Settings.model_validate({})
    # All items first: a missing dataset is told before minutes of asking.
    sets = {
        name: load_items(name, (sources or {}).get(name), store, images=True, limit=settings.limit) for name in names
    }
    progress = progress or Progress()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()  # over all benchmarks
    elsewhere: Counter[str] = Counter()
    document: dict[str, Any] = {"checkpoint": str(checkpoint), "benchmarks": {}}
    for name in names:
        with progress.step(name):
            asked = ask_items(str(checkpoint), task(name), sets[name].items, settings, store=store, progress=progress)
            scored = score(task(name), asked.answers)
        document["benchmarks"][name] = {**summarise(task(name), scored), "source": sets[name].record}
        progress.say(_accuracy_text(name, document["benchmarks"][name]))
        counts.update({key: asked.record[key] for key in ("asked", "from_store")})
        elsewhere.update(asked.record["made_elsewhere"])
        asking = {**asked.record, **counts, "made_elsewhere": dict(elsewhere)}
        document |= {"engine": asked.engine, "asking": asking, "seconds": round(time.monotonic() - started, 3)}
        rows += output_rows(scored)
        if output is not None:
            write_results(output, document, rows)
    return document


def evaluate_outputs(
    file: str | Path,
    benchmarks: str | Sequence[str] | None = None,
    store: str | None = None,
    *,
    sources: Mapping[str, str] | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    r"""Score lines `{"benchmark", "item", "output"}` of a jsonl file; no model is loaded.

    Several lines of one item are samples: the first is the headline, all give avg@k and pass@k. A line that cannot be
    used is counted (`bad_lines`), never fatal; items without a line are counted as `missing_outputs`.

    Raises:
        UsageError: a line names an unknown benchmark.
        InfiMmrError: the file cannot be read or holds nothing for the benchmarks asked, or items are missing.

    """
    asked = benchmark_names(benchmarks) if benchmarks and benchmarks != "all" else []
    lines, bad = read_outputs(Path(file))
    names = [name for name in asked or lines if name in lines]
    if not names:
        held = ", ".join(lines) or "none"
        message = f"{Path(file).name} holds no output for the benchmarks asked (it holds: {held})"
        raise InfiMmrError(message, 'Write lines {"benchmark", "item", "output"}')
    progress = progress or Progress()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    document: dict[str, Any] = {"checkpoint": None, "outputs": Path(file).name, "benchmarks": {}}
    for name in names:
        found = load_items(name, (sources or {}).get(name), store, images=False)
        with progress.step(name):
            scored, counts = _score_lines(name, found, lines[name])
        document["benchmarks"][name] = {**summarise(task(name), scored), **counts, "source": found.record}
        document["seconds"] = round(time.monotonic() - started, 3)
        progress.say(_accuracy_text(name, document["benchmarks"][name]))
        rows += output_rows(scored)
        if output is not None:
            write_results(output, {**document, "bad_lines": bad}, rows)
    document["bad_lines"] = bad
    return document


def _accuracy_text(name: str, result: Mapping[str, Any]) -> str:
    return f"{name}: accuracy {100 * result['accuracy']:.1f} ± {100 * result['stderr']:.1f} %"


def _score_lines(name: str, found: ItemSet, outputs: Mapping[str, list[str]]) -> tuple[list[Scored], dict[str, Any]]:
    items = _item_names(found.items)
    unknown = [key for key in outputs if key not in items]
    if len(unknown) == len(outputs):
        message = f"benchmark {name}: none of the {len(outputs)} items named is in it (for example {unknown[0]!r})"
        example = found.items[0].key if found.items else ""
        raise InfiMmrError(message, f"Name items as the benchmark does, for example {example!r}")
    entries: list[tuple[Item, int, StoredAnswer]] = []
    seen: set[str] = set()
    for key, texts in outputs.items():
        item = items.get(key)
        if item is not None:
            seen.add(item.key)
            entries += [(item, sample, StoredAnswer(text, 0, 0, False)) for sample, text in enumerate(texts)]
    counts = {"missing_outputs": len(found.items) - len(seen), "unknown_items": unknown[:20]}
    return score(task(name), entries), counts


def _item_names(items: Sequence[Item]) -> dict[str, Item]:
    """Items by the benchmark's own key, by row id, and by position where no key looks like one."""
    named = {str(place): item for place, item in enumerate(items)} if not any(i.key.isdigit() for i in items) else {}
    named |= {item.extra["row_id"]: item for item in items if "row_id" in item.extra}
    return named | {item.key: item for item in items}


def read_outputs(file: Path) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Outputs in a file, per benchmark and item, and what is told of lines that cannot be used.

    Raises:
        UsageError: a line names an unknown benchmark.
        InfiMmrError: the file cannot be read.

    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"outputs file {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InfiMmrError(message, 'Name a UTF-8 jsonl file of {"benchmark", "item", "output"} lines') from error
    lines: dict[str, dict[str, list[str]]] = defaultdict(dict)
    bad: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = carried_value(json.loads(line))
            name, item, output = str(record["benchmark"]).strip().lower(), str(record["item"]), record["output"]
        except (ValueError, KeyError, TypeError):
            bad.append(f"line {number}: not an object with benchmark, item and output")
            continue
        try:
            task(name)
        except UsageError as error:
            message = f"{file.name} line {number}: {error.message}"
            raise UsageError(message, error.next_step) from None
        if not isinstance(output, str):
            bad.append(f"line {number}: output is {type(output).__name__}, not text")
            continue
        lines[name].setdefault(item, []).append(output)
    return lines, bad
