"""Text formats of the source `table`: JSON lines, JSON (a list, a dict by id, or a list under one key), CSV and TSV.

Input: a file, plain or as .gz, .bz2 or .zst. Output: records one by one with their size. A record that cannot be read
is `Unreadable`; a file that cannot be read raises. Nothing is read as a whole, and bytes that are no UTF-8 become half
characters, so that their row is told.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_engine.sources.records import Record, Unreadable, is_cut_off
from shared.errors import InfiMmrError

_CHUNK = 1 << 20
_MAX_VALUE = 256 << 20
"""Characters of one JSON record: what is longer is taken as broken, so that no file is read whole into memory."""
_HEADS = 16


def text_records(file: Path, kind: str) -> Iterator[tuple[Record, int]]:
    """Records of a file of `kind` jsonl, json, csv or tsv, with their sizes in characters."""
    with opened_bytes(file) as stream, io.TextIOWrapper(stream, "utf-8", "surrogateescape", "") as text:
        if kind == "jsonl":
            lines = JsonLines()
            yield from lines.records(text)
            lines.end()
        elif kind == "json":
            yield from json_records(text)
        else:
            yield from CsvRows(text, file).records(text)


@contextmanager
def opened_bytes(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a text file, unpacked on the way, without a mark of byte order.

    Raises `InfiMmrError` for UTF-16 and for a pointer of Git LFS.
    """
    import pyarrow as pa

    packing = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(file.suffix.lower())
    raw: Any = file.open("rb") if packing is None else pa.input_stream(str(file), compression=packing)
    with raw, io.BufferedReader(raw, _CHUNK) if packing else raw as stream:
        begins = stream.peek(len(codecs.BOM_UTF8))
        if begins.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        if begins.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InfiMmrError("is UTF-16, not UTF-8", "Save it as UTF-8")
        if begins.startswith(b"version https://git-lfs"):
            raise InfiMmrError("is a pointer of Git LFS, not the file itself", "Fetch it with git lfs pull")
        yield stream


class JsonLines:
    """Lines of JSON, counted over several stretches of a file.

    Attributes:
        good: How many hold an object.
        first: Why the first that holds none does not.

    """

    def __init__(self, before: int = 0) -> None:
        """Begin; `before` lines stand in front."""
        self._lines, self._read, self.good = before, 0, 0
        self.first = ""

    def records(self, text: Iterable[str]) -> Iterator[tuple[Record, int]]:
        """Records of a stretch."""
        loads = json.loads
        for line in text:
            self._lines += 1
            try:
                record = loads(line)
                why = "" if isinstance(record, dict) else "no JSON object"
            except (ValueError, RecursionError) as error:
                if not line.strip():
                    continue
                if is_cut_off(line, error):
                    raise InfiMmrError("is cut off within its last line", "Fetch it again") from error
                why = f"no JSON ({str(error)[:80]})"
            self._read += 1
            if why:
                self.first = self.first or why
                yield Unreadable(f"line {self._lines}: {why}"), len(line)
                continue
            self.good += 1
            yield record, len(line)

    def count(self, lines: int) -> None:
        """Take note of a stretch of so many records, one a line, that was read elsewhere."""
        self._lines += lines
        self._read += lines
        self.good += lines

    def end(self) -> None:
        """Raise where lines were there and none held an object."""
        if self._read and not self.good:
            said = f"holds no JSON object on any of its {self._read} lines ({self.first})"
            raise InfiMmrError(said, "Fetch it again")


def json_records(text: IO[str]) -> Iterator[tuple[Record, int]]:
    """Records of a list, of a dict by id, or of the first list under a key; read piece by piece, never as a whole.

    Raises `InfiMmrError` where the text holds neither, ends early or is no JSON.
    """
    stream = _JsonStream(text)
    opening = stream.peek()
    if opening == "[":
        yield from stream.items()
        return
    if opening == "{" and stream.holds_lines():
        yield from stream.values()
        return
    if opening and opening != "{":
        raise InfiMmrError("holds neither a list nor an object of records", "Write one record per line as .jsonl")
    held: list[tuple[Record, int]] = []
    lists = records = 0
    for key, value, size in stream.members() if opening else ():
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
    if opening and not lists and not records:
        hint = "Write one record per line as .jsonl, or leave it out: files = [...] names those to read"
        raise InfiMmrError("holds no list of records", hint)


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
                raise InfiMmrError("is not valid JSON: a colon is missing", "Fetch it again")
            self._place += 1
            self.peek()
            value, size = self._value()
            yield str(key), value, size

    def _value(self) -> tuple[Any, int]:
        wanted, problem = _CHUNK, ""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except json.JSONDecodeError as error:
                value, end, problem = None, -1, error.msg  # its place is one of the buffer
            # A number that ends where the buffer ends may go on.
            if end >= 0 and (end < len(self._buffer) or self._ended):
                size = end - self._place
                self._place = end
                return value, size
            if len(self._buffer) - self._place > _MAX_VALUE or not self._more(wanted):
                if end >= 0:
                    self._ended = True
                    continue
                raise InfiMmrError(f"is truncated or not valid JSON ({problem})", "Fetch it again")
            wanted *= 2

    def _more(self, wanted: int = _CHUNK) -> bool:
        piece = self._text.read(wanted)
        if not piece:
            self._ended = True
            return False
        self._buffer = self._buffer[self._place :] + piece
        self._place = 0
        return True


def check_names(names: Sequence[str]) -> None:
    """Refuse columns of one name, of which records could hold but one.

    Raises:
        InfiMmrError: a name stands there twice.

    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        if not twice:
            raise InfiMmrError("has several columns without a name", "Name each in its header, or drop them")
        raise InfiMmrError(f"names the column {twice!r} twice", "Rename one of them")


def csv_head(stream: IO[bytes]) -> bytes:
    """The header of a CSV, the first line that is not blank, where lines end with a newline."""
    lines = iter(lambda: stream.readline(_MAX_VALUE), b"")
    return next((line for line in lines if line.decode("utf-8", "surrogateescape").strip()), b"")


class CsvRows:
    """Rows of a CSV, counted over several stretches of a file; begins with the header, the first line of `text`.

    Attributes:
        names: Columns of the header.
        mark: What stands between fields.

    """

    def __init__(self, text: Iterable[str], file: Path) -> None:
        csv.field_size_limit(1 << 30)  # base64 pictures stand in one field
        head = next((line for line in text if line.strip()), "")
        self.mark = "\t" if ".tsv" in file.name.lower() else max(",;\t", key=head.count)
        self.names = next(csv.reader([head], delimiter=self.mark), [])
        self._rows = 0
        if not self.names:
            raise InfiMmrError("is empty", "Name a file with a header line and rows")
        check_names(self.names)

    def records(self, text: Iterable[str]) -> Iterator[tuple[Record, int]]:
        """Records of a stretch; a field without text is None."""
        for fields in csv.reader(text, delimiter=self.mark, strict=True):
            if not fields:
                continue
            self._rows += 1
            size = sum(map(len, fields))
            if len(fields) != len(self.names):
                said = f"row {self._rows} has {len(fields)} fields, the header names {len(self.names)}"
                yield Unreadable(said), size
            else:
                yield {name: value or None for name, value in zip(self.names, fields, strict=True)}, size

    def count(self, rows: int) -> None:
        """Take note of a stretch of so many rows that was read elsewhere."""
        self._rows += rows
