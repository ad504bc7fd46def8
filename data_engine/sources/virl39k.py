"""ViRL39K rows: `39Krelease.parquet` (or any parquet, json or jsonl with its columns) and the pictures beside it.

Columns read: `question`, `answer` (in a box), `PassRate_32BTrained`, `PassRate_7BBase` (-1 = not annotated),
`category`, `source`, `qid`, `image` (list of relative paths; one path and embedded `{bytes, path}` are taken as
well). Only `question`, `answer` and `image` must be there; `Columns` names others for them. What no role takes is kept
in `extra.columns` where it is short. Pictures lie under the file's folder, or in an `images.zip` there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_engine.sources.base import (
    BytesImage,
    FileImage,
    Rejection,
    SourceRow,
    held_answer,
    pass_rate,
    plain_answer,
    unbox,
)
from data_engine.sources.file_hashes import file_hashes, needed_hashes
from data_engine.sources.folder_listing import list_files, recall, remember
from data_engine.sources.places import Place, files_revision, short_revision, unpacked
from data_engine.sources.records import (
    OTHER_COLUMNS,
    Columns,
    column_names,
    data_files,
    read_records,
    row_count,
    unreadable,
)
from shared.benchmark_golds import mend_gold
from shared.caches import cache_folder
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint
from shared.image_tags import fit_image_tags, words_of
from shared.images import PathRefused, safe_join
from shared.option_lists import choices_in_question
from shared.placeholders import model_tokens

HUB_PATTERNS = ("39Krelease.parquet", "images/*", "images/**", "images.zip")
ROLES = {
    "question": ("question",),
    "answer": ("answer",),
    "image": ("image", "images"),
    "id": ("qid", "id", "unique_id"),
    "category": ("category", "subject"),
    "source": ("source",),
    "pass_rate_large": ("PassRate_32BTrained",),
    "pass_rate_small": ("PassRate_7BBase",),
}
"""Columns that serve each role, best first, unless a recipe names another."""
_NEEDED = ("question", "answer", "image")
_BATCH_ROWS = 256
_CONTENT_VERSION = 1
"""Raised when the fingerprint of a folder is made otherwise from the same files."""


class Virl39k:
    """The source `virl39k` at a place; see `Source` for the attributes."""

    name = "virl39k"

    def __init__(self, place: Place, licence: str = "", columns: Mapping[str, str] | None = None) -> None:
        if place.path is None:
            raise InfiMmrError("source virl39k: mini is drawn, not read", "Use the mini source")
        self._columns = Columns(ROLES, columns, kept=("planted",))
        found = data_files(place.path, self._columns, _NEEDED, prefer="39Krelease.parquet", what="source virl39k")
        self._files = found[0]
        self.notes: Sequence[str] = found[1]
        self._root = self._files[0].parent
        self._hashes = needed_hashes(self._files, "source virl39k: ")
        archive = self._root / "images.zip"
        if archive.is_file() and not (self._root / "images").is_dir():
            self._hashes |= needed_hashes([archive], "source virl39k: ")
            self._root = unpacked(archive, self._hashes[archive], cache_folder())
        self._commit = place.commit
        self._links = place.links
        self.location = place.location
        self.licence = licence
        self._settled = True
        self._fingerprint, short = self._content()
        self.revision = place.commit or short
        names = column_names(self._files[0], "source virl39k")
        self.taken = f"{', '.join(file.name for file in self._files)} with columns {', '.join(sorted(names))}"

    def fingerprint(self) -> str:
        """Hash over the data files and every picture that they name."""
        return self._fingerprint

    def count(self) -> int | None:
        """Rows of the files where they say so without being read."""
        return row_count(self._files, "source virl39k")

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record, in file order."""
        position = 0
        for file in self._files:
            for record in read_records(file, "source virl39k"):
                yield virl_row(self._columns.rename(record), position, self._root, self._links)
                position += 1
        if not self._settled:
            # The folder was too fresh to be remembered when it was opened; its files were hashed again meanwhile.
            self._content()

    def _content(self) -> tuple[str, str]:
        if self._commit:
            # The commit names every byte of the hub's files.
            return files_revision([(self.location, self._commit)])
        named = [(file.name, self._hashes[file]) for file in self._files]
        names = self._picture_names()
        listing = list_files(self._root, names)
        key = fingerprint([_CONTENT_VERSION, named, listing.stamp]) if listing is not None else ""
        if key and (known := recall(key)):
            self._settled = True
            return known, short_revision(known)
        pictures: dict[str, Path] = {}
        for name in names:
            try:
                pictures[name] = safe_join(self._root, name, self._links)
            except PathRefused:
                continue
        hashes = file_hashes(pictures.values())
        content, short = files_revision(
            [*named, *((name, hashes.get(path, "missing")) for name, path in pictures.items())]
        )
        self._settled = listing is None or listing.settled
        if listing is not None and listing.settled and list_files(self._root, names) == listing:
            remember(key, content)
        return content, short

    def _picture_names(self) -> list[str]:
        """Names of the pictures that lie in files, each once."""
        names: dict[str, None] = {}
        for file in self._files:
            names.update(dict.fromkeys(filter(None, self._names_of(file))))
        return list(names)

    def _names_of(self, file: Path) -> Iterator[str]:
        if file.suffix != ".parquet":
            for record in map(self._columns.rename, read_records(file, "source virl39k")):
                yield from map(_file_name, _image_values((record or {}).get("image")))
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(file) as table:
                column = self._columns.of("image", table.schema_arrow.names)
                for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=[column]):
                    values = batch.column(column)
                    # A thousand lists become values one list at a time, but one flat column at once.
                    flat = values.flatten() if isinstance(values, pa.ListArray | pa.LargeListArray) else values
                    yield from map(_file_name, flat.to_pylist())
        except (OSError, ValueError) as error:
            raise unreadable(file, "source virl39k", error) from error


def virl_row(
    record: Mapping[str, Any] | None, position: int, root: Path, links: Path | None = None
) -> SourceRow | Rejection:
    """Turn one record with ViRL39K's columns into a row, or say why it cannot be one."""
    if record is None:
        return Rejection(str(position), "unreadable", "not a JSON object")
    source_id = str(record.get("qid") if record.get("qid") not in (None, "") else position)
    question = record.get("question")
    question = question if isinstance(question, str) else ""
    raw = plain_answer(record.get("answer"))
    if not words_of(question):
        return Rejection(source_id, "missing_question", "the question holds no words", question, raw)
    images = tuple(_image(value, root, links) for value in _image_values(record.get("image")))
    try:
        text, tag_mend = fit_image_tags(question, len(images))
    except ValueError as error:
        return Rejection(source_id, "tag_image_mismatch", str(error), question, raw)
    answer, mends = mend_gold(unbox(raw), ())
    answer, taken = held_answer(answer, choices_in_question(text))
    if not answer:
        detail = taken or f"answer is {record.get('answer')!r}"
        return Rejection(source_id, "missing_answer", detail, question, raw)
    if tokens := model_tokens(f"{text} {answer}"):
        return Rejection(source_id, "model_tokens", ", ".join(tokens), question, raw)
    extra: dict[str, Any] = {key: record[key] for key in ("planted", OTHER_COLUMNS) if record.get(key)}
    notes = [f"{mend['why']}: {mend['before']!r}" for mend in mends if mend["before"].strip() != mend["after"]]
    notes += [note for note in (tag_mend, taken) if note]
    if notes:
        extra["mends"] = notes
    return SourceRow(
        source_id=source_id,
        question=mend_text(text),
        answer=answer,
        answer_raw=raw,
        choices=choices_in_question(text, answer),
        images=images,
        category=_text_or_none(record.get("category")),
        source=_text_or_none(record.get("source")),
        pass_rate_large=pass_rate(record.get("PassRate_32BTrained")),
        pass_rate_small=pass_rate(record.get("PassRate_7BBase")),
        extra=extra,
    )


_EATEN = re.compile(r"\x0c(?=rac|orall|lat)")


def mend_text(text: str) -> str:
    r"""Give `\frac` its eaten beginning back (`\x0crac`), and unify line ends."""
    return _EATEN.sub(r"\\f", text).replace("\r\n", "\n")


def _image_values(value: object) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _file_name(value: object) -> str:
    """Name of the file that `_image` would read for this value; empty where it reads none."""
    if isinstance(value, dict):
        return "" if value.get("bytes") else str(value.get("path") or "")
    return value if isinstance(value, str) else ""


def _image(value: object, root: Path, links: Path | None) -> FileImage | BytesImage:
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        if isinstance(data, bytes) and data:
            return BytesImage(data, str(path or ""))
        return FileImage(root, str(path or ""), links)
    if isinstance(value, bytes):
        return BytesImage(value, "")
    return FileImage(root, "" if value is None else str(value), links)


def _text_or_none(value: object) -> str | None:
    return str(value) if value not in (None, "") else None
