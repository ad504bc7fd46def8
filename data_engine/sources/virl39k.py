"""ViRL39K rows: `39Krelease.parquet` (or any parquet with its columns) and the pictures beside it.

Columns read: `question`, `answer` (in a box), `PassRate_32BTrained`, `PassRate_7BBase` (-1 = not annotated),
`category`, `source`, `qid`, `image` (list of relative paths; one path and embedded `{bytes, path}` are taken as
well). Only `question`, `answer` and `image` must be there. Pictures lie under the parquet's folder, or in an
`images.zip` there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_engine.intake.file_hashes import cache_folder, file_hashes
from data_engine.intake.folder_listing import list_files, recall, remember
from data_engine.sources.base import (
    BytesImage,
    FileImage,
    Rejection,
    SourceRow,
    choices_in_question,
    fit_image_tags,
    pass_rate,
    plain_answer,
    unbox,
    words_of,
)
from data_engine.sources.places import Place, files_revision, short_revision, unpacked
from shared.benchmark_golds import mend_gold
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint
from shared.images import PathRefused, safe_join
from shared.placeholders import model_tokens

HUB_PATTERNS = ("39Krelease.parquet", "images/*", "images/**", "images.zip")
_NEEDED = {"question", "answer", "image"}
_BATCH_ROWS = 256
_CONTENT_VERSION = 1
"""Raised when the fingerprint of a folder is made otherwise from the same files."""


class Virl39k:
    """The source `virl39k` at a place; see `Source` for the attributes."""

    name = "virl39k"

    def __init__(self, place: Place, licence: str = "") -> None:
        if place.path is None:
            raise InfiMmrError("source virl39k: mini is drawn, not read", "Use the mini source")
        self._files = parquet_files(place.path, _NEEDED, prefer="39Krelease.parquet", what="source virl39k")
        self._root = self._files[0].parent
        self._hashes = file_hashes(self._files)
        archive = self._root / "images.zip"
        if archive.is_file() and not (self._root / "images").is_dir():
            self._hashes |= file_hashes([archive])
            self._root = unpacked(archive, self._hashes[archive], cache_folder())
        self._commit = place.commit
        self._links = place.links
        self.location = place.location
        self.licence = licence
        self._settled = True
        self._fingerprint, short = self._content()
        self.revision = place.commit or short
        self.taken = f"{', '.join(file.name for file in self._files)} with columns {', '.join(sorted(self._columns()))}"

    def fingerprint(self) -> str:
        """Hash over the parquet files and every picture that they name."""
        return self._fingerprint

    def count(self) -> int:
        """Rows of the parquet files."""
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(file).num_rows for file in self._files)

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per parquet row, in file order."""
        for position, record in enumerate(self._records()):
            yield virl_row(record, position, self._root, self._links)
        if not self._settled:
            # The folder was too fresh to be remembered when it was opened; its files were hashed again meanwhile.
            self._content()

    def _columns(self) -> set[str]:
        import pyarrow.parquet as pq

        return set(pq.read_schema(self._files[0]).names)

    def _records(self) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        for file in self._files:
            try:
                with pq.ParquetFile(file) as table:
                    for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                        yield from batch.to_pylist()
            except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
                raise _unreadable(file, error) from error

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
        import pyarrow as pa
        import pyarrow.parquet as pq

        names: dict[str, None] = {}
        for file in self._files:
            try:
                with pq.ParquetFile(file) as table:
                    for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=["image"]):
                        column = batch.column("image")
                        # A thousand lists become values one list at a time, but one flat column at once.
                        flat = column.flatten() if isinstance(column, pa.ListArray | pa.LargeListArray) else column
                        names.update(dict.fromkeys(filter(None, map(_file_name, flat.to_pylist()))))
            except (OSError, ValueError) as error:
                raise _unreadable(file, error) from error
        return list(names)


def _unreadable(file: Path, error: Exception) -> InfiMmrError:
    return InfiMmrError(f"source virl39k: {file.name} cannot be read ({error})", "Fetch it again")


def parquet_files(path: Path, needed: set[str], *, prefer: str, what: str) -> list[Path]:
    """Return the parquet files of a folder (or the one file) that have the needed columns; `prefer` wins alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_file():
        files = [path]
    else:
        files = [path / prefer] if (path / prefer).is_file() else sorted(path.glob("*.parquet"))
        files = files or sorted((path / "data").glob("*.parquet"))
    if not files:
        raise InfiMmrError(f"{what}: no parquet file in {path.name}", f"Expected {prefer}, or any parquet like it")
    found: list[Path] = []
    seen: set[str] = set()
    for file in files:
        try:
            columns = set(pq.read_schema(file).names)
        except (OSError, pa.ArrowException) as error:
            if len(files) > 1:
                continue
            raise InfiMmrError(
                f"{what}: {file.name} is not a readable parquet file ({error})", "Fetch it again"
            ) from error
        seen |= columns
        if needed <= columns:
            found.append(file)
    if not found:
        missing = ", ".join(sorted(needed - seen)) or "in one file: " + ", ".join(sorted(needed))
        raise InfiMmrError(
            f"{what}: no parquet file in {path.name} has the columns {', '.join(sorted(needed))} (missing {missing})",
            "Name the folder in the hub's layout, or rename the columns",
        )
    return found


def virl_row(record: Mapping[str, Any], position: int, root: Path, links: Path | None = None) -> SourceRow | Rejection:
    """Turn one record with ViRL39K's columns into a row, or say why it cannot be one."""
    source_id = str(record.get("qid") if record.get("qid") not in (None, "") else position)
    question = record.get("question")
    question = question if isinstance(question, str) else ""
    raw = plain_answer(record.get("answer"))
    if not words_of(question):
        return Rejection(source_id, "missing_question", "the question holds no words", question, raw)
    boxless = unbox(raw)
    answer, mends = mend_gold(boxless, ())
    if not answer:
        return Rejection(source_id, "missing_answer", f"answer is {record.get('answer')!r}", question, raw)
    images = tuple(_image(value, root, links) for value in _image_values(record.get("image")))
    try:
        text, tag_mend = fit_image_tags(question, len(images))
    except ValueError as error:
        return Rejection(source_id, "tag_image_mismatch", str(error), question, raw)
    if tokens := model_tokens(f"{text} {answer}"):
        return Rejection(source_id, "model_tokens", ", ".join(tokens), question, raw)
    extra: dict[str, Any] = {key: record[key] for key in ("planted",) if record.get(key)}
    notes = [f"{mend['why']}: {mend['before']!r}" for mend in mends if mend["before"].strip() != mend["after"]]
    if tag_mend:
        notes.append(tag_mend)
    if notes:
        extra["mends"] = notes
    return SourceRow(
        source_id=source_id,
        question=mend_text(text),
        answer=answer,
        answer_raw=raw,
        choices=choices_in_question(text),
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
    return FileImage(root, str(value), links)


def _text_or_none(value: object) -> str | None:
    return str(value) if value not in (None, "") else None
