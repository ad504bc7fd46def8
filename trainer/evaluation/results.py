"""Results of an evaluation: numbers per benchmark, outputs as Parquet, comparison of two results.

Input: `Scored` outputs. Output: the JSON of `trainer evaluate` and `evaluation.json` + `outputs.parquet` in a folder.
Every accuracy stands beside its n, its standard error and the number of unscored items. `n` is the number of scored
items: the accuracy's denominator. Outputs without an answer, and those whose
answer cannot be read, count as wrong and are told apart; unscored ones are left out and counted.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from shared.answers import Verdict
from shared.benchmark import Item
from shared.binomial import exact_interval
from shared.errors import InfiMmrError
from shared.whole_file import write_whole
from trainer.evaluation.scoring import Scored
from trainer.evaluation.statistics import PairedTest, mcnemar, mean, pass_at_k, standard_error
from trainer.evaluation.task import Status, Task
from trainer.evaluation.tasks import task

RESULT_FILE = "evaluation.json"
OUTPUTS_FILE = "outputs.parquet"


def summarise(task: Task, scored: Sequence[Scored]) -> dict[str, Any]:
    """Numbers of one benchmark. The headline is each item's first output (greedy where a model was asked)."""
    first = [entry for entry in scored if entry.sample == 0]
    counted = [entry for entry in first if entry.scored]
    values = [float(entry.correct) for entry in counted]
    strata = [task.stratum(entry.item) for entry in counted] if task.stratum else None
    clusters = [task.cluster(entry.item) for entry in counted] if task.cluster else None
    accuracy = _headline(values, strata)
    error = standard_error(values, clusters, strata)
    # the exact interval holds for independent items only
    interval = list(exact_interval(round(sum(values)), len(values)))
    if clusters is not None:
        interval = _around(accuracy, error, len(set(clusters)))
    # A scorer's own words behind its error stand beside the item, in the outputs file.
    reasons = Counter((entry.outcome.reason or "unknown").split(": ")[0] for entry in first if not entry.scored)
    subsets = sorted({task.subset(entry.item) or "unknown" for entry in first}) if task.subset else []
    result: dict[str, Any] = {
        **({"subset": ", ".join(subsets)} if subsets else {}),
        "n": len(counted),
        "accuracy": accuracy,
        "stderr": error,
        "interval95": interval,
        "correct": sum(entry.correct for entry in counted),
        "unscored": sum(reasons.values()),
        "unscored_reasons": dict(sorted(reasons.items())),
        "no_answer": sum(entry.outcome.status is Status.NO_ANSWER for entry in counted),
        "unreadable": sum(entry.outcome.status is Status.UNREADABLE for entry in counted),
        "unread_golds": sum(entry.outcome.reason == Verdict.UNPARSABLE_GOLD.value for entry in counted),
        **_lengths(first),
        "by_kind": _groups(task, counted, lambda item: item.kind),
    }
    for name, group in task.groups.items():
        table = _groups(task, counted, group)
        if table:
            result[name] = table
    if task.together:
        result["together"] = {name: _together(counted, group) for name, group in task.together.items()}
    if task.official is not None:
        result["official"] = _official(counted)
    if any(entry.sample for entry in scored):
        result["samples"] = _samples(scored)
    origin = {"task_file": task.origin} if task.origin else {}
    return {**result, "task_version": task.version, **origin, "protocol": task.protocol}


def _together(counted: Sequence[Scored], group: Callable[[Item], str]) -> dict[str, Any]:
    """Share of groups whose items are all right (all variants of a problem, all questions about a picture)."""
    right: dict[str, bool] = {}
    for entry in counted:
        name = group(entry.item)
        right[name] = right.get(name, True) and entry.correct
    return _share([float(value) for value in right.values()])


def _share(values: Sequence[float], clusters: Sequence[str] | None = None) -> dict[str, Any]:
    """Mean of 0 and 1 with its errors; of small groups the exact interval says what a standard error of 0 does not.

    Items of one cluster may all agree: as many independent items as there are clusters is the cautious count.
    """
    accuracy, independent = mean(values), len(values if clusters is None else set(clusters))
    interval = list(exact_interval(round(accuracy * independent), independent))
    return {"n": len(values), "accuracy": accuracy, "stderr": standard_error(values, clusters), "interval95": interval}


def _headline(values: Sequence[float], strata: Sequence[str | None] | None) -> float:
    if strata is None:
        return mean(values)
    groups: dict[str | None, list[float]] = defaultdict(list)
    for value, stratum in zip(values, strata, strict=True):
        groups[stratum].append(value)
    return mean([mean(group) for group in groups.values()])


def _groups(task: Task, counted: Sequence[Scored], group: Callable[[Item], str | None]) -> dict[str, dict[str, Any]]:
    """Accuracy per group of items."""
    tables: dict[str, list[Scored]] = defaultdict(list)
    for entry in counted:
        name = group(entry.item)
        if name is not None:
            tables[str(name)].append(entry)
    rows: dict[str, dict[str, Any]] = {}
    for name, entries in sorted(tables.items()):
        values = [float(entry.correct) for entry in entries]
        rows[name] = _share(values, [_cluster(task, entry.item) for entry in entries])
    return rows


def _lengths(entries: Sequence[Scored]) -> dict[str, Any]:
    answered = [entry.output for entry in entries if not entry.output.failure]
    tokens = [answer.tokens for answer in answered if answer.tokens]
    return {
        "mean_tokens": mean(tokens) if tokens else None,
        "mean_characters": mean([len(answer.text) for answer in answered]),
        "truncation_rate": mean([float(answer.truncated) for answer in answered]),
    }


def _official(counted: Sequence[Scored]) -> dict[str, Any]:
    """The published rule beside the strict one, on the items where it applies."""
    both = [entry for entry in counted if entry.official is not None]
    values = [float(bool(entry.official)) for entry in both]
    return {
        "n": len(both),
        "accuracy": mean(values),
        "stderr": standard_error(values),
        "only_official": sum(bool(entry.official) and not entry.correct for entry in both),
        "only_strict": sum(entry.correct and not entry.official for entry in both),
    }


def _samples(scored: Sequence[Scored]) -> dict[str, Any]:
    """avg@k over the drawn samples and the unbiased pass@k for k = 1, 2, 4, ... up to the samples that every item has.

    Where a model was asked, sample 0 is the greedy answer and samples 1..K are drawn; where outputs came from a file,
    every output counts as drawn.
    """
    drawn_by_model = any(entry.output.tokens for entry in scored)
    by_item: dict[str, list[bool]] = defaultdict(list)
    for entry in scored:
        if entry.scored and (entry.sample > 0 or not drawn_by_model):
            by_item[entry.item.key].append(entry.correct)
    k = min((len(values) for values in by_item.values()), default=0)
    means = [mean([float(value) for value in values]) for values in by_item.values()]
    powers = [2**power for power in range(20) if 2**power <= k]
    sizes = sorted({*powers, k}) if k else []
    passed = {str(size): [pass_at_k(len(values), sum(values), size) for values in by_item.values()] for size in sizes}
    errors = {size: standard_error(values) for size, values in passed.items()}
    return {
        "k": k,
        "n": len(by_item),
        "avg_at_k": mean(means),
        "avg_at_k_stderr": standard_error(means),
        "avg_at_k_interval95": _around(mean(means), standard_error(means), len(means)),
        "pass_at": {size: mean(values) for size, values in passed.items()},
        "pass_at_stderr": errors,
        "pass_at_interval95": {
            size: _around(mean(values), errors[size], len(values)) for size, values in passed.items()
        },
    }


def _around(value: float, error: float, count: int) -> list[float]:
    """95% interval of a mean over `count` items or clusters, within 0 and 1.

    Where they all agree it is the exact one: a standard error of 0 says nothing.
    """
    if error < 1e-9:
        return list(exact_interval(round(value * count), count))
    return [max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)]


def output_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Rows of `outputs.parquet`, one per output."""
    return [
        {
            "benchmark": entry.item.benchmark,
            "item": entry.item.key,
            "sample": entry.sample,
            "question": entry.item.question,
            "choices": list(entry.item.choices),
            "gold": entry.item.answer,
            "kind": entry.outcome.kind,
            "output": entry.output.text,
            "answer": entry.answer,
            "status": entry.outcome.status.value,
            "rule": entry.outcome.rule,
            "reason": entry.outcome.reason,
            "official": entry.official,
            "tokens": entry.output.tokens,
            "truncated": entry.output.truncated,
            "subject": entry.item.category,
            "level": entry.item.level,
            "cluster": _cluster(task(entry.item.benchmark), entry.item),
        }
        for entry in scored
    ]


def _cluster(task: Task, item: Item) -> str:
    return task.cluster(item) if task.cluster else item.key


def write_results(folder: Path, document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `outputs.parquet`, then `evaluation.json`, each whole or not at all.

    Raises:
        InfiMmrError: the folder cannot be written.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{OUTPUTS_FILE}.{os.getpid()}"
        pq.write_table(pa.Table.from_pylist(list(rows), schema=_outputs_schema()), partial, compression="zstd")
        partial.replace(folder / OUTPUTS_FILE)
        save_document(folder, document)
    except OSError as error:
        message = f"results cannot be written to {folder}: {error.strerror or error}"
        raise InfiMmrError(message, "Name another folder with --output") from error


def save_document(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `evaluation.json`; by itself where the outputs are written and only the document has grown."""
    write_whole(folder / RESULT_FILE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def other_items(name: str, source: Mapping[str, Any]) -> str:
    """What was scored under a benchmark's name where it is not that benchmark's dataset version; empty where it is.

    `source` is the record of `items.load_items`.
    """
    if source.get("from") == "file":
        files, known = ", ".join(source.get("files", ())), str(source.get("fingerprint", ""))[:12]
        return f"file {files}, {source.get('rows', '?')} rows, sha256 {known}"
    if source.get("from") == "task file's dataset version":
        return ""
    dataset = str(source.get("dataset", name))
    return "" if dataset.partition("@")[0] == name else f"dataset {dataset}, {source.get('rows', '?')} rows"


def _outputs_schema() -> Any:
    import pyarrow as pa

    text, flag, number = pa.string(), pa.bool_(), pa.int64()
    return pa.schema(
        [
            ("benchmark", text), ("item", text), ("sample", number), ("question", text), ("choices", pa.list_(text)),
            ("gold", text), ("kind", text), ("output", text), ("answer", text), ("status", text), ("rule", text),
            ("reason", text), ("official", flag), ("tokens", number), ("truncated", flag), ("subject", text),
            ("level", text), ("cluster", text),
        ]
    )  # fmt: skip


def read_result(folder: Path) -> dict[str, Any]:
    """`evaluation.json` of a folder.

    Raises:
        InfiMmrError: absent or unreadable.

    """
    path = folder / RESULT_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{folder} holds no {RESULT_FILE}"
        raise InfiMmrError(message, "Evaluate it first: trainer evaluate --checkpoint DIR --output FOLDER") from error
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read: {error}"
        raise InfiMmrError(message, "Evaluate again") from error
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), dict):
        message = f"{path} is not a result of `trainer evaluate`"
        raise InfiMmrError(message, "Evaluate again")
    return document


def compare(first: Path, second: Path) -> dict[str, dict[str, Any]]:
    """Paired test of two results, per benchmark, on the items that both scored (first outputs).

    Raises:
        InfiMmrError: a folder without results, or no item in common.

    """
    tests: dict[str, dict[str, Any]] = {}
    for benchmark, found in paired_rows(first, second).items():
        test = paired_test(found.rows)
        tests[benchmark] = {**asdict(test), "other_items": found.other_items}
    return tests


class Paired(NamedTuple):
    """Outputs of two results about the same items of one benchmark."""

    rows: list[tuple[dict[str, Any], dict[str, Any]]]
    other_items: int
    """Items that share a key but not their question and gold (another version of the benchmark): no pairs."""


def paired_rows(first: Path, second: Path, more: Sequence[str] = ()) -> dict[str, Paired]:
    """Rows of `outputs.parquet` that two results have of the same items, by benchmark; `more` names further columns.

    Raises:
        InfiMmrError: a folder without results, or no item in common.

    """
    tables = [_first_outputs(folder, more) for folder in (first, second)]
    found: dict[str, Paired] = {}
    for benchmark in sorted({key[0] for key in tables[0]} & {key[0] for key in tables[1]}):
        shared = sorted(key for key in tables[0].keys() & tables[1].keys() if key[0] == benchmark)
        pairs = [(tables[0][key], tables[1][key]) for key in shared]
        same = [(a, b) for a, b in pairs if (a["question"], a["gold"]) == (b["question"], b["gold"])]
        if same:
            found[benchmark] = Paired(same, len(pairs) - len(same))
    if not found:
        message = f"{first} and {second} share no scored item"
        raise InfiMmrError(message, "Compare evaluations of the same benchmarks")
    return found


def paired_test(rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> PairedTest:
    """The paired test of rows about the same items; items of one problem are known by benchmark and `cluster`."""
    sides = [[pair[side]["status"] == Status.CORRECT.value for pair in rows] for side in (0, 1)]
    return mcnemar(sides[0], sides[1], [(first["benchmark"], first["cluster"]) for first, _ in rows])


def _first_outputs(folder: Path, more: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Scored first outputs by benchmark and item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / OUTPUTS_FILE
    if not path.is_file():
        message = f"{folder} holds no {OUTPUTS_FILE}"
        raise InfiMmrError(message, "Name a folder that `trainer evaluate` wrote")
    columns = ["benchmark", "item", "sample", "status", "cluster", "question", "gold", *more]
    try:
        table = pq.read_table(path, columns=columns).to_pylist()
    except pa.ArrowInvalid as error:
        raise InfiMmrError(f"{path} is not a file of `trainer evaluate`", "Evaluate again") from error
    return {
        (row["benchmark"], row["item"]): row
        for row in table
        if row["sample"] == 0 and row["status"] != Status.UNSCORED.value
    }
