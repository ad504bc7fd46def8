"""Records of a source's files: parquet, json (a list, or one record per line) and jsonl, in file order.

Input: one file. Output: its records as dictionaries; None for a line that is no record, so that it is counted. A file
that cannot be read to its end raises and names itself: nothing of it is skipped. Text that is no UTF-8 comes with
`surrogateescape`, so that the row which holds it is told apart from the others (`ingest`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".jsonl", ".json")
OTHER_COLUMNS = "columns"
"""Field of `extra` that keeps what no role takes."""
_NO_RECORDS = (".", "dataset_info", "manifest", "config.")
"""Beginnings of names of files that describe a folder."""
_ROWS = (*SUFFIXES, ".csv", ".tsv", ".arrow", ".feather", ".xlsx", ".ndjson", ".jsonlines", ".json.gz", ".jsonl.gz")
"""Ends of names of files that may hold rows, whether they can be read here or not."""
_MOST_NOTES = 20
_SOLUTIONS = frozenset({"solution", "solutions", "rationale", "explanation"})
"""Worked solutions are no part of a row."""
_SHORT_TEXT = 200
_BATCH_ROWS = 256


class Unreadable(str):
    """Stands for one record that cannot be read; its text says why."""

    __slots__ = ()


class FiledRecord(dict[str, Any]):
    """A record that has a file of its own; its pictures are named from `folder`, that of the file below the source."""

    def __init__(self, record: Mapping[str, Any], folder: str) -> None:
        """Keep the folder beside the fields."""
        super().__init__(record)
        self.folder = folder


Record = Mapping[str, Any] | Unreadable


class Columns:
    """Which column of a file serves which role, and what becomes of the others.

    Args:
        roles: Role -> columns that serve it, best first; the first is the reader's own name for it.
        named: Role -> the file's column, where a recipe names one.
        kept: Columns that the reader reads by their own names.

    """

    def __init__(
        self, roles: Mapping[str, Sequence[str]], named: Mapping[str, str] | None = None, kept: Sequence[str] = ()
    ) -> None:
        for role in named or {}:
            if role not in roles:
                raise UsageError(f"source.columns has no role {role!r}", did_you_mean(role, list(roles)))
        self._roles = {role: ((named or {}).get(role, names[0]), *names) for role, names in roles.items()}
        self._roles |= {role: (name,) for role, name in (named or {}).items()}
        self._own = {role: names[0] for role, names in roles.items()}
        self._kept = kept

    def of(self, role: str, names: Collection[str]) -> str:
        """Column among `names` that serves `role`; empty where none does."""
        return next((name for name in self._roles[role] if name in names), "")

    def words(self, role: str) -> str:
        """Columns that may serve `role`, for an error."""
        return " or ".join(dict.fromkeys(self._roles[role]))

    def rename(self, record: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return the record with the reader's names; short values that no role takes go under `OTHER_COLUMNS`."""
        if record is None:
            return None
        out: dict[str, Any] = {name: record[name] for name in self._kept if name in record}
        taken = {*self._kept, *_SOLUTIONS}
        for role, names in self._roles.items():
            present = [name for name in names if name in record]
            filled = next((name for name in present if record[name] not in (None, "")), "") or next(iter(present), "")
            if filled:
                out[self._own[role]] = record[filled]
                taken.add(filled)
        others = {name: value for name, value in record.items() if name not in taken and is_short(value)}
        return out | ({OTHER_COLUMNS: others} if others else {})


def is_short(value: object) -> bool:
    """Whether a value says something about a row, rather than being a text, a picture or a list of its own."""
    if isinstance(value, str):
        return 0 < len(value) <= _SHORT_TEXT
    return isinstance(value, bool | int | float)


def data_files(
    path: Path, columns: Columns, needed: Sequence[str], *, prefer: str, what: str
) -> tuple[list[Path], list[str]]:
    """Return the files of a folder (or the one file) whose columns serve the `needed` roles, and what was left out.

    `prefer` wins alone; else parquet before jsonl before json, in the folder or its `data`.

    Raises:
        InfiMmrError: none has the columns, or one cannot be read: its rows would be missing without a word.

    """
    files, others = ([path], []) if path.is_file() else _files_in(path, prefer, what)
    if not files or files[0].suffix not in SUFFIXES:
        there = f" (there are {', '.join(file.name for file in others[:5])})" if others else ""
        raise InfiMmrError(
            f"{what}: no parquet, json or jsonl file in {path.name}{there}", f"Expected {prefer}, or any file like it"
        )
    notes = [
        f"{what}: {_named(file, path)} was left out: {files[0].name} is read here" for file in others[:_MOST_NOTES]
    ]
    if len(others) > _MOST_NOTES:
        notes.append(f"{what}: {len(others) - _MOST_NOTES} further files were left out")
    found: list[Path] = []
    lacking: dict[str, None] = {}
    for file in files:
        names = column_names(file, what)
        missing = [columns.words(role) for role in needed if not columns.of(role, names)]
        if not missing or (not names and file.suffix != ".parquet"):  # lines that are no records are counted as such
            found.append(file)
            continue
        lacking |= dict.fromkeys(missing)
        notes.append(f"{what}: {file.name} was left out: it has no column {', '.join(missing)}")
    if not found:
        raise InfiMmrError(
            f"{what}: no file in {path.name} has the columns that are needed (missing {', '.join(lacking)})",
            f"Name yours with --set source.columns.ROLE=NAME (roles: {', '.join(needed)} and others)",
        )
    return found, notes


def _files_in(path: Path, prefer: str, what: str) -> tuple[list[Path], list[Path]]:
    """Files that are read, and other files of rows that lie there: beside them, in folders below, in other formats."""
    below = [folder for folder in _entries(path, what) if folder.is_dir() and folder.name not in {"images", "data"}]
    places = [path, path / "data", *below]
    found = {folder: [file for file in _entries(folder, what) if _may_hold_rows(file)] for folder in places}
    every = [file for files in found.values() for file in files]
    for folder in (path, path / "data"):
        rows = [file for file in found[folder] if file.suffix in SUFFIXES]
        preferred = [file for file in rows if file.name == prefer]
        for chosen in (preferred, *([file for file in rows if file.suffix == suffix] for suffix in SUFFIXES)):
            if chosen:
                return chosen, [file for file in every if file not in chosen]
    return [], every


def _named(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name


def _entries(folder: Path, what: str) -> list[Path]:
    """Entries of a folder by name; none where there is no such folder.

    Raises:
        InfiMmrError: the folder is there and cannot be read.

    """
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        message = f"{what}: the folder {folder} cannot be read ({error.strerror})"
        raise InfiMmrError(message, "Make it readable, or name another") from error


def _may_hold_rows(file: Path) -> bool:
    return file.name.lower().endswith(_ROWS) and not file.name.startswith(_NO_RECORDS)


def read_records(file: Path, what: str) -> Iterator[Mapping[str, Any] | None]:
    """Yield a file's records; None stands for one that cannot be read.

    Raises:
        InfiMmrError: the file cannot be read, or is no list of records.

    """
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                    yield from records_of(batch)
        elif file.suffix == ".jsonl":
            yield from _json_lines(file)
        else:
            yield from _json_items(file, what)
    except (OSError, ValueError, LookupError, RecursionError, NotImplementedError) as error:
        # pyarrow's errors are all of these; for a type or encoding that it lacks ArrowNotImplementedError
        raise unreadable(file, what, error) from error


def unreadable(file: Path, what: str, error: Exception) -> InfiMmrError:
    """Return the error of a file that cannot be read."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InfiMmrError(f"{what}: {file.name} cannot be read ({said})", "Fetch it again, or take it out of the folder")


def row_count(files: Sequence[Path], what: str) -> int | None:
    """Rows of parquet files; None where a file must be read to know."""
    import pyarrow.parquet as pq

    if any(file.suffix != ".parquet" for file in files):
        return None
    count = 0
    for file in files:
        try:
            count += int(pq.read_metadata(file).num_rows)
        except (OSError, ValueError) as error:
            raise unreadable(file, what, error) from error
    return count


def column_names(file: Path, what: str) -> list[str]:
    """Columns of a parquet file, or fields of the first record that is one."""
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(file).names)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(file, what, error) from error
    return next((list(record) for record in read_records(file, what) if record is not None), [])


def records_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Records of a batch; text that is no UTF-8 comes with `surrogateescape`."""
    try:
        records: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        values = {name: _decoded(batch.column(name)) for name in batch.schema.names}
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return records


def _decoded(column: pa.Array) -> list[Any]:
    """Values of one column, text that is no UTF-8 with `surrogateescape`."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        kept = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in kept]
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        lists = column.cast(pa.list_(pa.binary())).to_pylist()
        return [row and [item and item.decode("utf-8", "surrogateescape") for item in row] for row in lists]
    values: list[Any] = column.to_pylist()
    return values


def is_cut_off(line: str, error: Exception) -> bool:
    """Whether a line that is no JSON begins an object and ends, without a line's end, before the object does."""
    if not isinstance(error, json.JSONDecodeError) or line.endswith(("\n", "\r")) or line.lstrip()[:1] != "{":
        return False
    return error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated string")


def _json_lines(file: Path) -> Iterator[Mapping[str, Any] | None]:
    good = False
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if line.strip():
                record = _json_record(line, whole=False)
                good = good or record is not None
                yield record
    if not good:
        raise ValueError("no line of it holds a JSON object")


def _json_items(file: Path, what: str) -> Iterator[Mapping[str, Any] | None]:
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    try:
        items = json.loads(text)
    except ValueError:
        # Many `.json` files are lines of records.
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2 or any(_json_record(line) is None for line in lines[:2]):
            raise
        items = [_json_record(line) for line in lines]
    if not isinstance(items, list):
        raise InfiMmrError(f"{what}: {file.name} holds no list of records", "Write one record per line as jsonl")
    for item in items:
        yield item if isinstance(item, dict) else None


def _json_record(line: str, *, whole: bool = True) -> Mapping[str, Any] | None:
    """The object on a line; None for what holds none. Raises where a line that may not be `whole` is cut off."""
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not whole and is_cut_off(line, error):
            raise ValueError("it is cut off within its last line") from error
        return None
    return item if isinstance(item, dict) else None
