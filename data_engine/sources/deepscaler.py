"""DeepScaleR rows: text problems with golds, from json (the hub's `deepscaler.json`), jsonl or parquet.

Fields read: `problem` (or `question`), `answer` (text, number, or list: the first item is the gold, the rest are
noted as alternatives), `id`/`unique_id` as key where there is one, else the position; `difficulty`, `source`,
`origin` and `level` are kept as they are in `extra`. Worked solutions are left out: they are no part of a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_engine.intake.file_hashes import file_hashes
from data_engine.sources.base import Rejection, SourceRow, choices_in_question, plain_answer, unbox
from data_engine.sources.places import Place, files_revision
from data_engine.sources.virl39k import mend_text
from shared.benchmark_golds import mend_gold
from shared.errors import InfiMmrError
from shared.placeholders import harmless, model_tokens

HUB_PATTERNS = ("*.json", "*.jsonl", "*.parquet", "data/*")
_SUFFIXES = (".json", ".jsonl", ".parquet")
_QUESTION_FIELDS = ("problem", "question", "prompt")
_ID_FIELDS = ("unique_id", "id", "qid")
_EXTRA_FIELDS = ("difficulty", "level", "origin", "origin_idx", "year", "planted")


class DeepScaler:
    """The source `deepscaler` at a place; see `Source` for the attributes."""

    name = "deepscaler"

    def __init__(self, place: Place, licence: str = "") -> None:
        if place.path is None:
            raise InfiMmrError("source deepscaler: mini is drawn, not read", "Use the mini source")
        self._files = _data_files(place.path)
        hashes = file_hashes(self._files)
        named = [(self.name, place.commit)] if place.commit else [(file.name, hashes[file]) for file in self._files]
        self._fingerprint, short = files_revision(named)
        self.location = place.location
        self.licence = licence
        self.revision = place.commit or short
        self.taken = ", ".join(file.name for file in self._files)

    def fingerprint(self) -> str:
        """Hash over the files' contents."""
        return self._fingerprint

    def count(self) -> int | None:
        """Rows where the files say so without being read."""
        import pyarrow.parquet as pq

        if any(file.suffix != ".parquet" for file in self._files):
            return None
        return sum(int(pq.read_metadata(file).num_rows) for file in self._files)

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in file order."""
        position = 0
        for file in self._files:
            for record in read_records(file, "source deepscaler"):
                yield text_row(record, position)
                position += 1


def _data_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise InfiMmrError(f"source deepscaler: {path.name} is no json, jsonl or parquet", "Name such a file")
        return [path]
    for folder in (path, path / "data"):
        for suffix in _SUFFIXES:
            files = sorted(folder.glob(f"*{suffix}"))
            if files:
                return files
    raise InfiMmrError(f"source deepscaler: no json, jsonl or parquet in {path.name}", "Expected deepscaler.json")


def read_records(file: Path, what: str) -> Iterator[Mapping[str, Any] | None]:
    """Yield a file's records; None stands for one that cannot be read."""
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=1024):
                    yield from batch.to_pylist()
        elif file.suffix == ".jsonl":
            with file.open(encoding="utf-8-sig", errors="replace") as lines:
                for line in lines:
                    if line.strip():
                        yield _json_record(line)
        else:
            items = json.loads(file.read_text(encoding="utf-8-sig"))
            if not isinstance(items, list):
                raise InfiMmrError(
                    f"{what}: {file.name} holds no list of records", "Write one record per line as jsonl"
                )
            for item in items:
                yield item if isinstance(item, dict) else None
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise InfiMmrError(f"{what}: {file.name} cannot be read ({error})", "Fetch it again") from error


def _json_record(line: str) -> Mapping[str, Any] | None:
    try:
        item = json.loads(line)
    except ValueError:
        return None
    return item if isinstance(item, dict) else None


def text_row(record: Mapping[str, Any] | None, position: int) -> SourceRow | Rejection:
    """Turn one text record into a row, or say why it cannot be one."""
    if record is None:
        return Rejection(str(position), "unreadable", "not a JSON object")
    source_id = next((str(record[key]) for key in _ID_FIELDS if record.get(key) not in (None, "")), str(position))
    question = next((record[key] for key in _QUESTION_FIELDS if isinstance(record.get(key), str)), "")
    given = record.get("answer")
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    raw = json.dumps(given, ensure_ascii=False) if isinstance(given, list | tuple) else plain_answer(given)
    if not question.strip():
        return Rejection(source_id, "missing_question", "the problem holds no words", question, raw)
    choices = choices_in_question(question)
    answer, mends = mend_gold(unbox(plain_answer(given)), choices)
    if not answer:
        return Rejection(source_id, "missing_answer", f"answer is {record.get('answer')!r}", question, raw)
    if tokens := model_tokens(f"{question} {answer}"):
        return Rejection(source_id, "model_tokens", ", ".join(tokens), question, raw)
    extra = {key: record[key] for key in _EXTRA_FIELDS if record.get(key) is not None}
    if isinstance(given, list | tuple) and len(given) > 1:
        extra["alternatives"] = [plain_answer(item) for item in given[1:]]
    notes = [f"{mend['why']}: {mend['before']!r}" for mend in mends if mend["before"].strip() != mend["after"]]
    text = mend_text(question.strip())
    if "\x0c" in question:
        notes.append("control character where a backslash letter was, in the question")
    if notes:
        extra["mends"] = notes
    source = record.get("source") or record.get("origin")
    return SourceRow(
        source_id=source_id,
        question=harmless(text),
        answer=answer,
        answer_raw=raw,
        choices=choices,
        source=str(source) if source else None,
        extra=extra,
    )
