"""Read a benchmark's published file, whatever its format, into fields named as in the row schema.

Input: a parquet, json (list, dict by id, or one item), jsonl, csv or tsv file, or a folder of them as the hub has it
(images inside the rows, or by name beside the file). Output: one `BenchmarkRow` per item, in file order. It knows the
field names of the paper's benchmarks and their common mirrors, and takes any other file that has a question or problem,
and an answer; what one benchmark alone needs stands in its own file (`shared.benchmarks`). Golds are mended by
`shared.benchmark_golds`, each mend recorded.
Bad items are returned with `problem` set, never dropped and never fatal.
Not covered: fetching from the hub (the caller hands a local file or folder).
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from shared.answers.labels import stated_tolerance
from shared.benchmark_golds import EXTRA_FIELDS, mend_gold
from shared.benchmarks import benchmark
from shared.errors import InfiMmrError
from shared.image_tags import place_image_tags, without_tags
from shared.images import file_inside
from shared.option_lists import LETTERS, choices_in_text, literal_list


class BenchmarkImage(TypedDict):
    """An image as the file has it: encoded bytes and its name in the source."""

    bytes: bytes
    path: str


class BenchmarkRow(TypedDict):
    """One item. `question` holds one `<image>` per image named by the file, found or not."""

    source_id: str
    question: str
    answer: str
    answer_raw: str
    choices: list[str]
    images: list[BenchmarkImage]
    missing_images: list[str]
    category: str | None
    extra: dict[str, Any]
    problem: str | None


# Which column serves which role, best first. Names: the hub's datasets and the mirrors seen in public repositories.
QUESTION_FIELDS = ("question", "problem", "Question", "Problem", "query", "prompt")
ANSWER_FIELDS = ("answer", "final_answer", "Answer", "gold", "ground_truth", "expected_answer")
CHOICE_FIELDS = ("options", "choices", "Options", "candidates")
IMAGE_FIELDS = ("images", "decoded_image", "image", "image_path", "img_path")
ID_FIELDS = ("pid", "sample_index", "unique_id", "question_id", "id", "qid", "ID", "index", "idx")
CATEGORY_FIELDS = ("subfield", "subject", "category", "domain")  # OlympiadBench calls every subject "Math"
_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")


def benchmark_files(name: str, path: str | Path) -> list[Path]:
    """Files that `path` stands for: itself, or a folder's files of the benchmark's evaluated split, sorted.

    Raises:
        InfiMmrError: nothing readable there.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            message = f"benchmark {name}: {path.name} is neither parquet, jsonl, json, csv nor tsv"
            how = 'or build it (data-engine inspect writes a recipe) and name the version: location = "NAME@v1"'
            raise InfiMmrError(message, f"Name a file of one of these formats, a folder that holds some, {how}")
        return [path]
    if not path.is_dir():
        raise InfiMmrError(
            f"benchmark {name}: {path} does not exist", f"Correct it in {name}=PATH, or in [source] of the task file"
        )
    every = sorted(file for suffix in _SUFFIXES for file in path.rglob(f"*{suffix}"))
    every = [file for file in every if not file.name.startswith((".", "dataset_info", "manifest"))]
    wanted = benchmark(name).published.splits

    def of_split(file: Path) -> bool:
        parts = (file.stem, *file.relative_to(path).parts)
        return any(part == split or part.startswith(f"{split}-") for split in wanted for part in parts)

    chosen = [file for file in every if of_split(file)] or every
    for suffix in _SUFFIXES:  # one format only: mirrors repeat the same rows as parquet and as json
        same = [file for file in chosen if file.suffix == suffix]
        if same:
            return same
    message = f"benchmark {name}: the folder {path.name} holds no parquet, jsonl, json, csv or tsv file"
    raise InfiMmrError(message, f"Point {name}=PATH at the folder or file with the items")


class OneItem(dict[str, Any]):
    """The item of a file that holds no other, so that what lies beside the file is the item's."""


def file_records(file: Path) -> Iterator[dict[str, Any] | None]:
    """Records of one file; None for a line that cannot be read. Raises `InfiMmrError` for a file that cannot be."""
    shown = f"benchmark file {file.parent.name}/{file.name}"  # many may be called alike
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=64):
                    yield from batch.to_pylist()
            return
        data = _parsed(file.read_text(encoding="utf-8-sig"), file.suffix)
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's ArrowInvalid is a ValueError
        message = f"{shown} cannot be read: {str(error).splitlines()[0]}"
        raise InfiMmrError(message, "Fetch it again, or name another file") from error
    if isinstance(data, dict) and all(isinstance(value, dict) for value in data.values()):
        data = [{**value, "pid": value.get("pid", key)} for key, value in data.items()]
    elif isinstance(data, dict) and not any(_is_list_of_items(value) for value in data.values()):
        data = [OneItem(data if any(field in data for field in ID_FIELDS) else {**data, "pid": file.parent.name})]
    if not isinstance(data, list):
        message = f"{shown} is neither a list of items nor a dict of them by id"
        raise InfiMmrError(message, "Write one item per line as jsonl")
    if not any(isinstance(item, dict) for item in data):
        raise InfiMmrError(f"{shown} holds no item", "Fetch it again, or name another file")
    for item in data:
        yield item if isinstance(item, dict) else None


def _is_list_of_items(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def _parsed(text: str, suffix: str) -> Any:
    """What a file of text holds; None in place of a line that cannot be read."""
    if suffix == ".jsonl":
        return [*map(_json_line, filter(str.strip, text.split("\n")))]
    if suffix in {".csv", ".tsv"}:
        csv.field_size_limit(1 << 30)  # base64 pictures stand in one field
        lines = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",")
        # A line with more cells than the head names cannot be told apart.
        return [None if None in line else {name: cell or None for name, cell in line.items()} for line in lines]
    return json.loads(text)


def _json_line(line: str) -> Any:
    with suppress(ValueError):
        return json.loads(line)
    return None


def unreadable_row(file: Path, index: int) -> BenchmarkRow:
    """What stands for a record of `file` that cannot be read."""
    return {
        "source_id": f"{file.stem}-line-{index + 1}", "question": "", "answer": "", "answer_raw": "",
        "choices": [], "images": [], "missing_images": [], "category": None, "extra": {}, "problem": "unreadable",
    }  # fmt: skip


def read_record(
    name: str, record: Mapping[str, Any], file: Path, index: int = 0, *, images: bool = True
) -> BenchmarkRow:
    """The item that one record of `file` is; `index` is its place there, and its id where the record names none.

    Raises:
        InfiMmrError: the record has no question field.
    """
    source_id = _first_text(record, ID_FIELDS) or str(index)
    question_field = next((field for field in QUESTION_FIELDS if field in record), None)
    if question_field is None and "Body" not in record:
        message = f"benchmark {name}: {file.name} has no question field (its fields: {', '.join(map(str, record))})"
        raise InfiMmrError(message, f"Rename one of them to one of {', '.join(QUESTION_FIELDS[:2])}")
    text = _text(record.get(question_field)) if question_field else ""
    if isinstance(record.get("Body"), str):  # SVAMP keeps the story apart from the question
        text = f"{record['Body'].strip()} {text}".strip()
    context = record.get("context")
    if isinstance(context, str) and context.strip() and context.strip() not in text:  # OlympiadBench's shared premise
        text = f"{context.strip()}\n{text}"
    values = _image_values(record)
    pictures = [_image_bytes(value, file.parent) for value in values] if images else []
    extra = _extra(name, record, file)
    choices = [without_tags(option) or LETTERS[place % 26] for place, option in enumerate(_choices(record))]
    inside = choices_in_text(extra.get("question_for_eval") or text)
    extra["choices_in_question"] = bool(choices_in_text(text))
    choices = choices or inside
    question = place_image_tags(text, len(values))
    raw = _answer(record)
    lettered = benchmark(name).lettered
    named = lettered is not False and "choice" in str(extra.get("question_type", ""))
    answer, mends = mend_gold(raw, choices, multiple_choice=named or (bool(choices) and lettered is True))
    if mends:
        extra["mends"] = mends
    told = record["metadata"] if isinstance(record.get("metadata"), dict) else {}
    return {
        "source_id": source_id,
        "question": question,
        "answer": answer,
        "answer_raw": raw,
        "choices": choices,
        "images": [{"bytes": data, "path": path} for data, path in pictures if data is not None],
        "missing_images": [path for data, path in pictures if data is None],
        "category": _first_text(record, CATEGORY_FIELDS) or _first_text(told, ("subject", "task", "category")),
        "extra": extra,
        "problem": _problem(name, question, answer, extra),
    }


def _problem(name: str, question: str, answer: str, extra: Mapping[str, Any]) -> str | None:
    """Why an item cannot be scored: a reason of its benchmark's, or that gold or question are missing; else None."""
    refused = benchmark(name).refused
    if refused is not None and (reason := refused(answer, extra)):
        return reason
    return "answer_missing" if not answer else question_problem(question, extra)


def question_problem(question: str, extra: Mapping[str, Any]) -> str | None:
    """Why an item cannot be asked, whatever is known of its gold; None where it can."""
    vision_only = bool(extra.get("question_for_eval")) or extra.get("problem_version") == "Vision Only"
    return "question_missing" if not without_tags(question) and not vision_only and "<image>" not in question else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _first_text(record: Mapping[str, Any], fields: Iterable[str]) -> str | None:
    for field in fields:
        value = record.get(field)
        if isinstance(value, (str, int)) and str(value).strip():
            return str(value).strip()
    return None


def _answer(record: Mapping[str, Any]) -> str:
    """The gold as text: floats without a needless `.0`, lists joined by commas, what follows `####` in GSM8K."""
    value = next((record[field] for field in ANSWER_FIELDS if record.get(field) is not None), None)
    if isinstance(value, str) and value.startswith("[") and value.endswith("]") and "final_answer" in record:
        value = literal_list(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(part).strip() for part in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = _text(value)
    return text.rsplit("####", 1)[1].strip() if "####" in text else text


def _choices(record: Mapping[str, Any]) -> list[str]:
    value = next((record[field] for field in CHOICE_FIELDS if record.get(field)), None)
    if isinstance(value, str):
        parsed = literal_list(value) if value.startswith("[") else value
        value = parsed if isinstance(parsed, list) else [part.strip() for part in value.split(";")]
    return [_text(part) for part in value if _text(part).strip()] if isinstance(value, (list, tuple)) else []


def _image_values(record: Mapping[str, Any]) -> list[Any]:
    """What the record says about its images: structs, bytes or names."""
    for field in IMAGE_FIELDS:
        value = record.get(field)
        if value:
            return list(value) if isinstance(value, (list, tuple)) else [value]
    return [record[field] for field in (f"image_{number}" for number in range(1, 10)) if record.get(field)]


def _image_bytes(value: object, root: Path) -> tuple[bytes | None, str]:
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, dict):
        path = _text(value.get("path")).replace("\\", "/")
        if isinstance(value.get("bytes"), bytes) and value["bytes"]:
            return value["bytes"], path
        value = path
    if isinstance(value, str) and len(value) > 255:  # longer than a file's name may be: base64, as VLMEvalKit's tables
        with suppress(ValueError):
            return base64.b64decode(value.partition(";base64,")[2] or value, validate=True), ""
    path = _text(value).replace("\\", "/")
    file = file_inside(root, path) or file_inside(root, f"images/{path}")
    return (file.read_bytes(), path) if file is not None else (None, path)


def _extra(name: str, record: Mapping[str, Any], file: Path) -> dict[str, Any]:
    extra = {field: record[field] for field in EXTRA_FIELDS if record.get(field) not in (None, "", [])}
    extra.pop("context", None)  # part of the question
    if isinstance(extra.get("is_multiple_answer"), str):
        extra["is_multiple_answer"] = extra["is_multiple_answer"].strip().lower() == "true"
    if fields := benchmark(name).fields:
        extra |= fields(record, file)
    tolerance = stated_tolerance(extra)
    return extra if tolerance is None else {**extra, "tolerance": tolerance}
