"""Records of the files of the source `table`, one batch at a time.

Input: a file and its format. Output: `Batch`es of records. Formats: Parquet, Arrow (stream or file), JSON lines,
JSON (a list, a dict by id, or a list under one key), CSV and TSV, tar shards in WebDataset's layout (`table_shards`);
text formats also as .gz, .bz2 or .zst. A record that cannot be read is `Unreadable`; a file that cannot be read ends
the reading with its name. Nothing is unpickled: other formats are refused by name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data_engine.sources.records import records_of
from shared.code_points import broken_characters
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 32_768
BATCH_BYTES = 16 << 20
"""A batch ends at whichever comes first: a row may be a number or a picture of megabytes."""
_CHUNK = 1 << 20
_MAX_VALUE = 256 << 20
"""Characters of one JSON record: what is longer is taken as broken, so that no file is read whole into memory."""
_HEADS = 16


class Unreadable(str):
    """Stands for one record that cannot be read; its text says why."""

    __slots__ = ()


Record = Mapping[str, Any] | Unreadable


class Batch:
    """Records of one stretch of a file."""

    def __init__(self, records: Sequence[Record] | None = None, table: Any = None) -> None:
        self._records = records
        self._table = table

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records) if self._records is not None else int(self._table.num_rows)

    def records(self) -> Sequence[Record]:
        """All records, as Python values."""
        if self._records is None:
            self._records = records_of(self._table)
        return self._records

    def at(self, places: Sequence[int]) -> Sequence[Record]:
        """The records at some places, in order; of a columnar batch only these become Python values."""
        if self._records is not None:
            return [self._records[place] for place in places]
        return records_of(self._table.take(places)) if len(places) else []

    def texts(self, name: str, *, numbers: bool = False) -> pl.Series:
        """A column as texts, with `numbers` also whole numbers as their digits; null for what else is there."""
        import polars as pl

        if self._records is not None:
            values = self.values(name)
            try:
                return pl.Series(name, values, dtype=pl.String)
            except (TypeError, UnicodeEncodeError):  # values of several types, or half a character: no plain text
                texts = [v if type(v) is str else str(v) if numbers and type(v) is int else None for v in values]
                whole = [None if text and broken_characters(text) else text for text in texts]
                return pl.Series(name, whole, dtype=pl.String)
        if name in self._table.schema.names:
            try:
                column = self._table.column(name)
                column.validate(full=True)
            except ValueError:  # text that is no UTF-8
                return pl.Series(name, [None] * len(self), dtype=pl.String)
            found = pl.Series(name, pl.from_arrow(column))
            if found.dtype == pl.String or (numbers and found.dtype.is_integer()):
                return found.cast(pl.String)
        return pl.Series(name, [None] * len(self), dtype=pl.String)

    def values(self, name: str) -> list[Any]:
        """A column as Python values; None where it is absent."""
        if self._records is not None:
            try:
                return [record.get(name) for record in self._records]  # type: ignore[union-attr]
            except AttributeError:  # an unreadable record among them
                return [None if isinstance(record, str) else record.get(name) for record in self._records]
        return list(self._table.column(name).to_pylist()) if name in self._table.schema.names else [None] * len(self)


def read_batches(file: Path, kind: str, what: str, columns: Sequence[str] | None = None) -> Iterator[Batch]:
    """Batches of a file in order; `columns` spares columnar formats the others.

    Raises:
        InfiMmrError: the file cannot be read, or holds no records in its format; the message names it.

    """
    with telling(file, what):
        if kind == "parquet":
            yield from _parquet(file, columns)
        elif kind == "arrow":
            yield from _arrow(file, columns)
        elif kind == "tar":
            from data_engine.sources.table_shards import shard_records

            yield from _batched(shard_records(file))
        else:
            reader = {"jsonl": _json_lines, "json": _json, "csv": _csv, "tsv": _csv}[kind]
            with _opened(file) as text:
                yield from _batched(reader(text, file))


def count_rows(file: Path, kind: str, what: str) -> int | None:
    """Rows of a file that says so without being read; None for others."""
    if kind != "parquet":
        return None
    import pyarrow.parquet as pq

    with telling(file, what):
        return int(pq.read_metadata(file).num_rows)


def column_names(file: Path, kind: str, what: str) -> list[str] | None:
    """Columns of a file that states them without being read; None for others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with telling(file, what):
        if kind == "parquet":
            return list(pq.read_schema(file).names)
        if kind == "arrow":
            with pa.OSFile(str(file)) as opened:
                return list(_arrow_reader(opened)[0].schema.names)
    return None


@contextmanager
def telling(file: Path, what: str) -> Iterator[None]:
    """Turn what readers raise into one line that names the file."""
    try:
        yield
    except InfiMmrError as error:
        raise InfiMmrError(f"{what}: {file.name} {error.message}", error.next_step) from error
    except (OSError, ValueError, EOFError, csv.Error) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise InfiMmrError(f"{what}: {file.name} cannot be read ({str(error)[:200]})", "Fetch it again") from error


def _batched(records: Iterator[tuple[Record, int]]) -> Iterator[Batch]:
    """Batches of records that come with their size in bytes."""
    held: list[Record] = []
    size = 0
    for record, length in records:
        held.append(record)
        size += length
        if len(held) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield Batch(held)
            held, size = [], 0
    if held:
        yield Batch(held)


def _parquet(file: Path, columns: Sequence[str] | None) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, pre_buffer=False, buffer_size=_CHUNK) as table:
        about = table.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        rows = min(BATCH_ROWS, max(16, BATCH_BYTES * about.num_rows // max(size, 1)))
        names = None if columns is None else [name for name in table.schema_arrow.names if name in set(columns)]
        labels = _class_labels(table.schema_arrow)
        for batch in table.iter_batches(batch_size=rows, columns=names):
            yield Batch(table=_named(batch, labels))


def _arrow(file: Path, columns: Sequence[str] | None) -> Iterator[Batch]:
    import pyarrow as pa

    with pa.OSFile(str(file)) as opened:
        reader, is_file = _arrow_reader(opened)
        labels = _class_labels(reader.schema)
        batches = (reader.get_batch(place) for place in range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            wanted = batch if columns is None else batch.select([n for n in batch.schema.names if n in set(columns)])
            step = min(BATCH_ROWS, max(16, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)))
            for start in range(0, wanted.num_rows, step):
                yield Batch(table=_named(wanted.slice(start, step), labels))


def _arrow_reader(opened: Any) -> tuple[Any, bool]:
    """A reader of Arrow's file or stream form, and whether it is the former."""
    import pyarrow as pa

    is_file = opened.read(6) == b"ARROW1"
    opened.seek(0)
    return (pa.ipc.open_file(opened) if is_file else pa.ipc.open_stream(opened)), is_file


def _class_labels(schema: Any) -> dict[str, list[str]]:
    """Words behind the numbers of columns that `datasets` calls class labels, from the schema's metadata."""
    about = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(about)["info"]["features"] if about else {}
    except (ValueError, KeyError, TypeError):
        return {}
    found = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
            found[str(name)] = [str(word) for word in feature["names"]]
    return found


def _named(batch: Any, labels: Mapping[str, list[str]]) -> Any:
    import pyarrow as pa

    for name in labels.keys() & set(batch.schema.names):
        words = labels[name]
        place = batch.schema.get_field_index(name)
        numbers = batch.column(place).to_pylist()
        texts = [words[n] if isinstance(n, int) and 0 <= n < len(words) else None for n in numbers]
        batch = batch.set_column(place, name, pa.array(texts, pa.string()))
    return batch


@contextmanager
def _opened(file: Path) -> Iterator[IO[str]]:
    """A text file, unpacked on the way; bytes that are no UTF-8 become half characters, so that their row is told."""
    import pyarrow as pa

    packing = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(file.suffix.lower())
    if packing is None:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield text
        return
    with (
        pa.input_stream(str(file), compression=packing) as packed,
        io.TextIOWrapper(packed, "utf-8-sig", "surrogateescape", "") as text,
    ):
        yield text


def _json_lines(text: IO[str], file: Path) -> Iterator[tuple[Record, int]]:
    del file
    good = lines = 0
    first = ""
    loads = json.loads
    for number, line in enumerate(text, start=1):
        try:
            record = loads(line)
            why = "" if isinstance(record, dict) else "no JSON object"
        except (ValueError, RecursionError) as error:
            if not line.strip():
                continue
            why = f"no JSON ({str(error)[:80]})"
        lines += 1
        if why:
            first = first or why
            yield Unreadable(f"line {number}: {why}"), len(line)
            continue
        good += 1
        yield record, len(line)
    if lines and not good:
        raise InfiMmrError(f"holds no JSON object on any of its {lines} lines ({first})", "Fetch it again")


def _json(text: IO[str], file: Path) -> Iterator[tuple[Record, int]]:
    """Records of a list, of a dict by id, or of the first list under a key; read piece by piece, never as a whole."""
    stream = _JsonStream(text)
    opening = stream.peek()
    if opening == "[":
        yield from stream.items()
        return
    if opening == "{" and stream.holds_lines():
        yield from stream.values()
        return
    if opening != "{":
        raise InfiMmrError("holds neither a list nor an object of records", "Write one record per line as .jsonl")
    held: list[tuple[Record, int]] = []
    lists = records = 0
    for key, value, size in stream.members():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield from ((item, size // len(value)) for item in value)
            lists += 1
        elif isinstance(value, dict) and not lists:
            # A few objects may be a head (`info`, `licenses`) before the list of records: wait before taking them.
            held.append(({"__key__": key, **value}, size))
            records += 1
            if records > _HEADS:
                yield from held
                held = []
    if not lists:
        yield from held
    if not lists and not records:
        raise InfiMmrError("holds no list of records", "Write one record per line as .jsonl")
    del file


class _JsonStream:
    """Values of one long JSON document, decoded one at a time from a buffer that holds little more than one."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._buffer = ""
        self._place = 0
        self._ended = False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._place < len(self._buffer):
                if not self._buffer[self._place].isspace():
                    return self._buffer[self._place]
                self._place += 1
            if not self._more():
                return ""

    def holds_lines(self) -> bool:
        """Whether another object follows the first: many `.json` files are lines of records."""
        try:
            _, end = self._decoder.raw_decode(self._buffer, self._place)
        except ValueError:
            return False
        return self._buffer[end : end + 64].lstrip()[:1] == "{"

    def values(self) -> Iterator[tuple[Record, int]]:
        """All values to the end, one after the other."""
        while self.peek():
            value, size = self._value()
            yield (value if isinstance(value, dict) else Unreadable("no JSON object")), size

    def items(self) -> Iterator[tuple[Record, int]]:
        """Items of the list that begins here."""
        self._place += 1
        while (mark := self.peek()) != "]":
            if mark == ",":
                self._place += 1
                continue
            value, size = self._value()
            yield (value if isinstance(value, dict) else Unreadable("no JSON object")), size

    def members(self) -> Iterator[tuple[str, Any, int]]:
        """Keys and values of the object that begins here."""
        self._place += 1
        while (mark := self.peek()) != "}":
            if mark == ",":
                self._place += 1
                continue
            key, _ = self._value()
            if self.peek() != ":":
                raise InfiMmrError("is no valid JSON: a colon is missing", "Fetch it again")
            self._place += 1
            self.peek()
            value, size = self._value()
            yield str(key), value, size

    def _value(self) -> tuple[Any, int]:
        wanted = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except ValueError as error:
                value, end = None, -1
                problem: ValueError = error
            # A number that ends where the buffer ends may go on.
            if end >= 0 and (end < len(self._buffer) or self._ended):
                size = end - self._place
                self._place = end
                return value, size
            if len(self._buffer) - self._place > _MAX_VALUE or not self._more(wanted):
                if end >= 0:
                    self._ended = True
                    continue
                raise InfiMmrError(f"is cut off or no valid JSON ({str(problem)[:100]})", "Fetch it again")
            wanted *= 2

    def _more(self, wanted: int = _CHUNK) -> bool:
        piece = self._text.read(wanted)
        if not piece:
            self._ended = True
            return False
        self._buffer = self._buffer[self._place :] + piece
        self._place = 0
        return True


def _csv(text: IO[str], file: Path) -> Iterator[tuple[Record, int]]:
    csv.field_size_limit(1 << 30)  # base64 pictures stand in one field
    head = text.readline()
    while head and not head.strip():
        head = text.readline()
    tabs = ".tsv" in file.name.lower()
    mark = "\t" if tabs else max(",;\t", key=head.count)
    names = next(csv.reader([head], delimiter=mark), [])
    if not names:
        raise InfiMmrError("is empty", "Name a file with a header line and rows")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InfiMmrError(f"names the column {twice!r} twice", "Rename one of them")
    for number, fields in enumerate(csv.reader(text, delimiter=mark, strict=True), start=1):
        if not fields:
            continue
        size = sum(map(len, fields))
        if len(fields) != len(names):
            yield Unreadable(f"row {number} has {len(fields)} fields, the header names {len(names)}"), size
        else:
            yield {name: value or None for name, value in zip(names, fields, strict=True)}, size
