"""Lines of JSON and rows of CSV read by Arrow as columns, for who looks at millions of records and keeps few of them.

Input: a text file, and the types that the wanted columns of a JSON file have (`column_types` of a sample). Output:
batches with those columns as an Arrow table; a record becomes a Python value where it is asked for. Arrow reads a
stretch only where it must read it as `json` and `csv` do: every line is one object and no column changes its type;
every quote opens or closes a field. Any other stretch is read by these, as a build reads it (tests hold both to the
same records). A JSON list is cut into lines where an object ends and the next one begins as the first two do.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_engine.sources.arrow_texts import BLOCK
from data_engine.sources.conversations import message_keys
from data_engine.sources.records import Record, records_of
from data_engine.sources.table_files import Batch, batched, some, telling
from data_engine.sources.table_texts import CsvRows, JsonLines, csv_head, json_records, opened_bytes

CHUNK_BYTES = 8 << 20
HELD_BYTES = 64 << 20
"""Of a CSV in which no row seems to end: beyond, its rows are read one by one."""
_FIRST_ITEM = re.compile(rb'\s*\[\s*(\{\s*"(?:[^"\\]|\\.)*")')
"""A list, and how its first object begins: up to the name of its first field."""
_LINE_ENDS = bytes.maketrans(b"\n\r", b"\t\t")
_NEWLINE, _QUOTE, _OPENING, _CLOSING = 10, 34, 123, 125
Places = np.ndarray[Any, Any]


def column_types(sample: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    """Arrow types of columns by the values of a sample; None where one has values of several or of other types."""
    import pyarrow as pa

    types: dict[str, Any] = {}
    for name in names:
        values = [value for record in sample if (value := record.get(name)) is not None]
        kinds = {type(value) for value in values}
        if kinds <= {str}:
            types[name] = pa.string()
        elif kinds == {int}:
            types[name] = pa.int64()
        elif kinds == {list} and all(type(item) is str for value in values for item in value):
            types[name] = pa.list_(pa.string())
        elif kinds == {list} and (keys := message_keys(values[0])) is not None:
            types[name] = pa.list_(pa.struct([(key, pa.string()) for key in keys]))
        else:
            return None
    return types


def column_batches(file: Path, kind: str, what: str, types: Mapping[str, Any]) -> Iterator[Batch]:
    """Batches of a file of `kind` jsonl, json, csv or tsv, with columns where that loses nothing; see the module.

    Raises:
        InfiMmrError: as `read_batches`.

    """
    with telling(file, what), opened_bytes(file) as stream:
        if kind in {"csv", "tsv"}:
            yield from some(_csv_batches(stream, file))
        else:
            yield from some((_json_batches if kind == "jsonl" else _list_batches)(stream, types))


class _Lines(Batch):
    """Lines of JSON: the wanted columns as a table, the records from their lines."""

    checked = True

    def __init__(self, table: Any, data: bytearray, ends: Places) -> None:
        super().__init__(table=table)
        self._data, self._ends = data, ends

    def records(self) -> Sequence[Record]:
        """All records, as Python values."""
        return self.at(range(len(self)))

    def at(self, places: Sequence[int]) -> Sequence[Record]:
        """The records at some places, in order."""
        starts = (0 if place == 0 else self._ends[place - 1] + 1 for place in places)
        return [json.loads(self._data[start : self._ends[place]]) for start, place in zip(starts, places, strict=True)]


class _Rows(Batch):
    """Rows of a CSV: a table of all columns, null where a field is empty, as `csv` readers here have it."""

    checked = True

    def records(self) -> Sequence[Record]:
        """All records, as Python values."""
        return records_of(self._table)


def _json_batches(stream: IO[bytes], types: Mapping[str, Any]) -> Iterator[Batch]:
    lines = JsonLines()
    while True:
        chunk = _chunk(stream)
        chunk += stream.readline()
        if chunk[-1:] != b"\n":
            break
        if (batch := _whole_lines(chunk, types)) is not None:
            lines.count(len(batch))
            yield batch
        else:
            yield from batched(lines.records(_lines_of(chunk)))
    yield from batched(lines.records(_lines_of(chunk)))
    lines.end()


def _chunk(stream: IO[bytes], held: bytes | memoryview = b"") -> bytearray:
    """What is held and the next bytes of a stream."""
    chunk = bytearray(len(held) + CHUNK_BYTES)
    chunk[: len(held)] = held
    with memoryview(chunk)[len(held) :] as rest:
        size = stream.readinto(rest)  # type: ignore[attr-defined]  # every opened file has it
    del chunk[len(held) + size :]
    return chunk


def _list_batches(stream: IO[bytes], types: Mapping[str, Any]) -> Iterator[Batch]:
    chunk = _chunk(stream)
    first = _FIRST_ITEM.match(chunk)
    second = re.search(rb"\}(\s*,\s*)" + re.escape(first[1]), chunk) if first else None
    if first is None or second is None:
        yield from batched(json_records(_Rest(chunk, stream).text()))
        return
    between, opening = (part.translate(_LINE_ENDS) for part in (second[1], first[1]))
    del chunk[: first.start(1)]
    while True:
        data = np.frombuffer(chunk, np.uint8)
        for sign in b"\n\r":  # in a text they are written in another way; as tabs they stay what no text may hold
            if sign in chunk:
                np.putmask(data, data == sign, ord("\t"))
        places = _places_of(data, b"}" + between + opening)
        table = None
        if len(places):
            ends = places + len(between)
            for behind, sign in enumerate(b" " * (len(between) - 1) + b"\n", 1):
                data[places + behind] = sign
            table = _parsed(memoryview(chunk)[: ends[-1] + 1], len(ends), types)
        if table is None:  # the last one, or others than the first two: from here on, only `json` tells them apart
            for behind, sign in enumerate(between, 1):
                data[places + behind] = sign
            yield from batched(json_records(_Rest(b"[" + chunk, stream).text()))
            return
        yield _Lines(table, chunk, ends)
        chunk = _chunk(stream, memoryview(chunk)[ends[-1] + 1 :])


def _places_of(data: Places, mark: bytes) -> Places:
    """Where some bytes stand."""
    found = np.concatenate(
        [np.flatnonzero(data[at : at + BLOCK] == mark[0]) + at for at in range(0, len(data), BLOCK)] or [data[:0]]
    )
    found = found[found < len(data) - len(mark)]
    for behind in range(len(mark) - 1, 0, -1):
        found = found[data[found + behind] == mark[behind]]
    return found


class _Rest(io.RawIOBase):
    """What is held of a stream, and the rest of it."""

    def __init__(self, held: bytes | bytearray, stream: IO[bytes]) -> None:
        self._held, self._stream = io.BytesIO(held), stream

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill the target as far as one read goes."""
        return self._held.readinto(target) or self._stream.readinto(target)  # type: ignore[attr-defined]

    def text(self) -> io.TextIOWrapper:
        """All of it as a text file has it."""
        return io.TextIOWrapper(io.BufferedReader(self), "utf-8", "surrogateescape", "")


def _whole_lines(chunk: bytearray, types: Mapping[str, Any]) -> _Lines | None:
    """Lines of JSON as columns where each is one object and has these types; None elsewhere."""
    data = np.frombuffer(chunk, np.uint8)
    blocks = [np.flatnonzero(data[at : at + BLOCK] == _NEWLINE) + at for at in range(0, len(data), BLOCK)]
    ends = np.concatenate(blocks)
    # Lines that begin and end an object hold at least one object each: where rows are as many, each is one.
    bare = b"\r" not in chunk and data[0] == _OPENING and ends[0] > 0
    if bare and (data[ends - 1] == _CLOSING).all() and (data[ends[:-1] + 1] == _OPENING).all():
        table = _parsed(chunk, len(ends), types)
        return None if table is None else _Lines(table, chunk, ends)
    return None


def _parsed(lines: bytearray | memoryview, count: int, types: Mapping[str, Any]) -> Any:
    """Lines that hold an object or more each as a table; None where they hold more, or values of other types."""
    import pyarrow as pa
    import pyarrow.json as pj

    parsing = pj.ParseOptions(explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore")
    reading = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    try:
        table = pj.read_json(pa.BufferReader(lines), read_options=reading, parse_options=parsing)
        table.validate(full=True)
    except (ValueError, NotImplementedError):  # ArrowInvalid, ArrowNotImplementedError
        return None
    return table.combine_chunks() if table.num_rows == count else None


def _csv_batches(stream: IO[bytes], file: Path) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.csv as pc

    head = csv_head(stream)
    if b"\r" in head.rstrip(b"\r\n"):  # lines may end with it alone
        text = _Rest(head, stream).text()
        yield from batched(CsvRows(text, file).records(text))
        return
    rows = CsvRows((head.decode("utf-8", "surrogateescape"),), file)
    parsing = pc.ParseOptions(delimiter=rows.mark, newlines_in_values=True)
    converting = pc.ConvertOptions(
        column_types=dict.fromkeys(rows.names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    held, ended = b"", False
    while not ended:
        data = stream.read(CHUNK_BYTES)
        ended = not data
        held += data if data or held.endswith(b"\n") or not held else b"\n"
        cut = _whole_rows(held, rows.mark.encode())
        endless = not cut and len(held) > HELD_BYTES
        if cut < 0 or endless or (ended and cut < len(held)):  # from here on, only `csv` tells where a row ends
            yield from batched(rows.records(_lines_of(held, stream)))
            return
        if cut:
            yield from _csv_chunk(held[:cut], rows, parsing, converting)
            held = held[cut:]


def _csv_chunk(chunk: bytes, rows: CsvRows, parsing: Any, converting: Any) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.csv as pc

    marked = chunk.startswith(codecs.BOM_UTF8)  # Arrow would take it for no part of the first row's text
    try:
        reading = pc.ReadOptions(use_threads=False, column_names=rows.names, block_size=len(chunk) + 1)
        table = None if marked else pc.read_csv(pa.BufferReader(chunk), reading, parsing, converting)
    except ValueError:
        table = None
    if table is None:
        yield from batched(rows.records(_lines_of(chunk)))
        return
    rows.count(table.num_rows)
    yield _Rows(table=table.combine_chunks())


def _lines_of(held: bytes | bytearray, stream: IO[bytes] | None = None) -> Iterator[str]:
    """Lines of what is held and of the rest of the stream, as a text file gives them."""
    whole, newline, tail = held.rpartition(b"\n")
    with io.TextIOWrapper(io.BytesIO(whole + newline), "utf-8", "surrogateescape", "") as text:
        yield from text
    tail += stream.readline() if stream is not None else b""
    with io.TextIOWrapper(io.BytesIO(tail), "utf-8", "surrogateescape", "") as text:
        yield from text
    if stream is not None:
        with io.TextIOWrapper(stream, "utf-8", "surrogateescape", "") as text:
            yield from text


def _whole_rows(data: bytes, mark: bytes) -> int:
    """Where the last whole row of a CSV ends, 0 for nowhere; -1 where a quote stands inside a field's words."""
    codes = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(codes == _QUOTE)
    place = data.rfind(b"\n")
    before = int(np.searchsorted(quotes, place))
    while place >= 0 and before % 2:
        opening = int(quotes[before - 1])
        if opening and data[opening - 1] not in mark + b'\n"':
            return -1
        place = data.rfind(b"\n", 0, opening)
        before = int(np.searchsorted(quotes, place))
    if place < 0:
        return 0
    cut = place + 1
    opened, closed = quotes[:before:2], quotes[1:before:2]
    ahead = codes[opened[opened > 0] - 1]
    behind = codes[closed + 1]
    chunk = data[:cut]
    clean = b"\0" not in chunk and (b"\r" not in chunk or chunk.count(b"\r") == chunk.count(b"\r\n"))
    good = np.isin(ahead, list(mark + b'\n"')).all() and np.isin(behind, list(mark + b'\r\n"')).all()
    return cut if clean and good else -1
