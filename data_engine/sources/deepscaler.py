"""DeepScaleR rows: text problems with golds, from json (the hub's `deepscaler.json`), jsonl or parquet.

Fields read: `problem` (or `question`, `prompt`), `answer` (text, number, or list: the first item is the gold, the rest
are noted as alternatives), `id`/`unique_id` as key where there is one, else the position; `difficulty`, `source`,
`origin` and `level` are kept as they are in `extra`, other short values in `extra.columns`. Worked solutions are left
out: they are no part of a row, unless a recipe names their column (`columns.trace`, then `extra.trace`). A record with
pictures is refused: this reader would lose them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_engine.sources.base import Rejection, SourceRow, held_answer, plain_answer, unbox
from data_engine.sources.conversations import given_trace
from data_engine.sources.file_hashes import needed_hashes
from data_engine.sources.places import Place, files_revision
from data_engine.sources.records import OTHER_COLUMNS, Columns, data_files, read_records, row_count
from data_engine.sources.virl39k import mend_text
from shared.benchmark_golds import mend_gold
from shared.errors import InfiMmrError
from shared.option_lists import choices_in_question
from shared.placeholders import harmless, model_tokens

HUB_PATTERNS = ("*.json", "*.jsonl", "*.parquet", "data/*")
ROLES = {
    "question": ("problem", "question", "prompt"),
    "answer": ("answer", "final_answer", "ground_truth"),
    "id": ("unique_id", "id", "qid"),
    "source": ("source", "origin"),
}
"""Columns that serve each role, best first, unless a recipe names another."""
_EXTRA_FIELDS = ("difficulty", "level", "origin", "origin_idx", "year", "planted")
_PICTURES = ("image", "images", "image_path", "img_path", "decoded_image")


class DeepScaler:
    """The source `deepscaler` at a place; see `Source` for the attributes."""

    name = "deepscaler"

    def __init__(self, place: Place, licence: str = "", columns: Mapping[str, str] | None = None) -> None:
        if place.path is None:
            raise InfiMmrError("source deepscaler: mini is drawn, not read", "Use the mini source")
        roles = ROLES | ({"trace": ("trace",)} if "trace" in (columns or {}) else {})
        self._columns = Columns(roles, columns, kept=(*_EXTRA_FIELDS, *_PICTURES))
        found = data_files(place.path, self._columns, ("question",), prefer="deepscaler.json", what="source deepscaler")
        self._files = found[0]
        self.notes: Sequence[str] = found[1]
        hashes = needed_hashes(self._files, "source deepscaler: ")
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
        return row_count(self._files, "source deepscaler")

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in file order."""
        position = 0
        for file in self._files:
            for record in read_records(file, "source deepscaler"):
                yield text_row(self._columns.rename(record), position)
                position += 1


def text_row(record: Mapping[str, Any] | None, position: int) -> SourceRow | Rejection:
    """Turn one text record into a row, or say why it cannot be one."""
    if record is None:
        return Rejection(str(position), "unreadable", "not a JSON object")
    source_id = next((str(record[key]) for key in ROLES["id"] if record.get(key) not in (None, "")), str(position))
    question = record["problem"] if isinstance(record.get("problem"), str) else ""
    given: Any = record.get("answer")
    several = isinstance(given, list | tuple) and len(given) > 1
    raw = json.dumps(given, ensure_ascii=False) if several else plain_answer(given)
    if not question.strip():
        return Rejection(source_id, "missing_question", "the problem holds no words", question, raw)
    if pictures := [name for name in _PICTURES if record.get(name)]:
        detail = f"{', '.join(pictures)}: this reader takes text alone; take a recipe whose reader is virl39k"
        return Rejection(source_id, "has_pictures", detail, question, raw)
    listed = choices_in_question(question)
    answer, mends = mend_gold(unbox(plain_answer(given)), listed)
    answer, taken = held_answer(answer, listed)
    if not answer:
        detail = taken or f"answer is {record.get('answer')!r}"
        return Rejection(source_id, "missing_answer", detail, question, raw)
    if tokens := model_tokens(f"{question} {answer}"):
        return Rejection(source_id, "model_tokens", ", ".join(tokens), question, raw)
    extra = {key: record[key] for key in (*_EXTRA_FIELDS, OTHER_COLUMNS) if record.get(key) is not None}
    if trace := given_trace(record.get("trace")):
        extra["trace"] = trace
    if several:
        extra["alternatives"] = [plain_answer(item) for item in given[1:]]
    notes = [f"{mend['why']}: {mend['before']!r}" for mend in mends if mend["before"].strip() != mend["after"]]
    notes += [taken] * bool(taken)
    notes += ["control character where a backslash letter was, in the question"] * ("\x0c" in question)
    extra |= {"mends": notes} if notes else {}
    source = record.get("source")
    return SourceRow(
        source_id=source_id,
        question=harmless(mend_text(question.strip())),
        answer=answer,
        answer_raw=raw,
        choices=choices_in_question(question, answer),
        source=str(source) if source else None,
        extra=extra,
    )
