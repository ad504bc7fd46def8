"""Pieces of the files of the source `table`, each read where it lies without what stands before it.

Input: a file and its format. Output: `TablePiece`s (see `Piece` in `base`). Parquet is cut by row groups, plain JSON
lines by bytes: a piece begins and ends where a line does. Who counts the records of plain CSV (`csv_pieces`), of tar
shards and of Arrow files says where these can be cut. Files of one record each are many to a piece. Every other file is
one piece: a packed one has no middle.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO

from data_engine.sources.base import Count, FileImage, Rejection, SourceRow
from data_engine.sources.csv_pieces import row_stretches, told_of
from data_engine.sources.record_files import RecordFiles
from data_engine.sources.table_choice import PACKED
from data_engine.sources.table_files import (
    Batch,
    arrow_batches,
    arrow_sizes,
    batched,
    empty,
    parquet_batches,
    read_batches,
    telling,
)
from data_engine.sources.table_place import TablePlace
from data_engine.sources.table_rows import Reading, table_row
from data_engine.sources.table_shards import shard_pieces, shard_records
from data_engine.sources.table_texts import CsvRows, JsonLines, csv_head, opened_bytes, text_records
from shared.errors import InfiMmrError

PIECE_ROWS, PICTURED_ROWS = 2**16, 2**11
"""Rows that one worker reads at most where files can be cut, of text and with pictures: some seconds of work."""

LEAST_BYTES, MOST_BYTES = 1 << 20, 128 << 20
"""Bytes of a piece; rows may be numbers, or pictures of megabytes."""

_MOST_CUTS = 4
"""Pieces of one row group of many bytes."""

_PICTURE_BYTES = 1 << 16
"""Of a picture beside the file, about."""

_STRETCH = 1 << 16

Where = tuple[int, ...]
"""Where a piece lies. Parquet and Arrow: first row group (or batch), first row in it, group after the last, rows. JSON
lines: byte from which and byte up to which lines begin. CSV and tar: first byte, the one behind the last (0 for a
shard's end), rows. Before it is placed, bytes that are looked at of a CSV, most rows of a piece of a shard or an Arrow
file. Empty: the whole file."""

_ROWS_OF_TEXT = {"csv", "tsv"}
_CUT_LATER = {"tar", "arrow", *_ROWS_OF_TEXT}


@dataclass(frozen=True)
class TablePiece:
    """Some consecutive records of a file.

    Attributes:
        what: The source, for errors.
        reading: How records become rows.
        file: The file.
        kind: Its format.
        where: Where in it they stand.
        place: From where pictures are fetched; None where they lie beside the file.
        height: Records; None where they must be counted.
        size: Bytes to read, about.
        first: Position of the first of them among all records.
        lines: Lines of the file before it, of a CSV rows.
        each: Files below `file` that hold one record each, instead of the file.

    """

    what: str
    reading: Reading
    file: Path
    kind: str
    where: Where
    place: TablePlace | None = None
    height: int | None = None
    size: int = 0
    first: int = 0
    lines: int = 0
    each: RecordFiles | None = None

    def count(self) -> Count:
        """Count the records, hardly looking at them.

        Raises:
            InfiMmrError: the file cannot be read.

        """
        with telling(self.file, self.what):
            if self.kind == "jsonl":
                with _text(self.file, self.where) as text:
                    return _count_lines(text)
            if self.kind in _ROWS_OF_TEXT and self.where:
                return Count(0, told=told_of(self.file, *self.where[:2]))
            if self.kind == "tar":
                records, places = shard_pieces(self.file, self.where[0], MOST_BYTES)
                return Count(records, told=places)
            if self.kind == "arrow":
                sizes = arrow_sizes(self.file)
                return Count(sum(rows for rows, _ in sizes), told=_together(sizes, self.where[0], mapped=True))
            return Count(sum(1 for _ in text_records(self.file, self.kind)))

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per record.

        Raises:
            InfiMmrError: the file cannot be read.

        """
        position = self.first
        for batch in self.batches():
            for record in batch.records():
                self._check(position - self.first < (self.height or 0))
                row = table_row(record, position, self.reading)
                position += 1
                if self.place is not None and isinstance(row, SourceRow) and row.images:
                    self.place.fetch(image.name for image in row.images if isinstance(image, FileImage))
                yield row
        self._check(position - self.first == self.height)

    def _check(self, unchanged: bool) -> None:  # what it checks
        if not unchanged:
            message = f"{self.what}: {self.file.name} changed while it was being read"
            raise InfiMmrError(message, "Build again when it is at rest")

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """Batches of the records; `columns` spares columnar formats the others."""
        if self.each is not None:
            yield from self.each.batches(self.what)
            return
        if not self.where:
            yield from read_batches(self.file, self.kind, self.what, columns)
            return
        with telling(self.file, self.what):
            if self.kind in {"parquet", "arrow"}:
                yield from _read_groups(self.file, self.kind, self.where, columns)
                return
            if self.kind == "tar":
                yield from batched(shard_records(self.file, *self.where[:2]))
                return
            if self.kind in _ROWS_OF_TEXT:
                yield from _read_rows(self.file, self.where, self.lines)
                return
            with _text(self.file, self.where) as text:
                yield from batched(JsonLines(self.lines).records(text))


@dataclass(frozen=True)
class Cutter:
    """Cuts files.

    Attributes:
        what: The source, for errors.
        reading: How records become rows.
        place: From where pictures are fetched, if from elsewhere.
        pictured: Whether records have pictures.
        beside: Whether these lie in files of their own.
        record_bytes: Of a record, about.

    """

    what: str
    reading: Reading
    place: TablePlace | None
    pictured: bool
    beside: bool
    record_bytes: float

    def cut(self, file: Path, kind: str) -> list[TablePiece]:
        """Pieces of a file in order; none of its records is read.

        Raises:
            InfiMmrError: the file cannot be read.

        """
        rows = PICTURED_ROWS if self.pictured else PIECE_ROWS
        wanted = min(max(int(rows * self.record_bytes), LEAST_BYTES), MOST_BYTES)
        with telling(file, self.what):
            whole = TablePiece(self.what, self.reading, file, kind, (), self.place, size=file.stat().st_size)
            if kind == "parquet":
                places = _row_groups(file, rows)
            elif kind in {"tar", "arrow"}:
                places = [(rows,)]
            elif kind not in {"jsonl", *_ROWS_OF_TEXT} or file.suffix.lower() in PACKED:
                places = [()]
            else:
                parts = max(-(-whole.size // wanted), 1)  # of one size: none is done long before the others
                places = list(pairwise(whole.size * number // parts for number in range(parts + 1)))
            beside = whole.size / self.record_bytes * _PICTURE_BYTES if self.beside else 0
            size = int((whole.size + beside) / len(places)) if places else 0
            heights = [where[3] if kind == "parquet" else None for where in places]
            return [
                replace(whole, where=at, height=height, size=size) for at, height in zip(places, heights, strict=True)
            ]

    def share(self, each: RecordFiles) -> list[TablePiece]:
        """Pieces of files that hold one record each, many of them together."""
        most = PICTURED_ROWS if self.pictured else PIECE_ROWS
        some = [replace(each, names=each.names[at : at + most]) for at in range(0, len(each.names), most)]
        size = self.record_bytes + (_PICTURE_BYTES if self.beside else 0)
        whole = TablePiece(self.what, self.reading, each.root, "json", (), self.place)
        return [replace(whole, each=one, height=len(one.names), size=int(size * len(one.names))) for one in some]


def _row_groups(file: Path, most: int) -> list[Where]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        about = table.metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        return _together([(group.num_rows, group.total_byte_size) for group in groups], most)


def _together(sizes: Sequence[tuple[int, int]], most: int, *, mapped: bool = False) -> list[Where]:
    """Row groups by rows and bytes, together up to the limits of a piece, larger ones apart."""
    found: list[Where] = []
    first = rows = held = 0
    for number, (height, size) in enumerate(sizes):
        if rows and (rows + height > most or held + size > MOST_BYTES):
            found.append((first, 0, number, rows))
            rows = held = 0
        if height > most:
            # Who reads a piece of a group, if not mapped, reads what stands before: pictures not more often than that.
            step = max(most, -(-height // _MOST_CUTS)) if size > MOST_BYTES and not mapped else most
            found += [(number, start, number + 1, min(step, height - start)) for start in range(0, height, step)]
            continue
        if not rows:
            first = number
        rows, held = rows + height, held + size
    return [*found, (first, 0, len(sizes), rows)] if rows else found


def cut_where_told(pieces: Sequence[tuple[TablePiece, Count]]) -> list[tuple[TablePiece, Count]] | None:
    """Pieces of a file and what they hold, cut where that says; None where it is one and must be counted as such."""
    piece, count = pieces[0]
    if piece.kind not in _CUT_LATER or piece.height is not None or not piece.where:
        return list(pieces)
    found: Sequence[Sequence[int]] | None = count.told
    if piece.kind in _ROWS_OF_TEXT:
        found = row_stretches([stretch.told for _, stretch in pieces], pieces[-1][0].where[1])
    elif not found:
        return [(replace(piece, where=()), count)]
    if found is None:
        return None
    return [(replace(piece, where=tuple(at)), Count(at[-1], at[-1])) for at in found]


def check_records(file: Path, kind: str, counts: Sequence[Count], what: str) -> None:
    """Refuse a file without records, or none of whose lines is one, as readers of whole files do.

    Raises:
        InfiMmrError: it is such a file.

    """
    held = [count for count in counts if count.records]
    if not held and kind not in {"parquet", "arrow"}:
        with telling(file, what):
            raise empty()
    if held and all(count.why for count in held):
        lines = sum(count.records for count in held)
        said = f"{what}: {file.name} holds no JSON object on any of its {lines} lines ({held[0].why})"
        raise InfiMmrError(said, "Fetch it again")


def _count_lines(text: IO[str]) -> Count:
    lines = records = 0
    probe = JsonLines()
    for line in text:
        lines += 1
        if not line.isspace():
            records += 1
            if not probe.good:
                next(probe.records((line,)))
    return Count(records, lines, "" if probe.good else probe.first)


def _read_groups(file: Path, kind: str, where: Where, columns: Sequence[str] | None) -> Iterator[Batch]:
    first, start, end, height = where
    done = 0  # what stands before the piece in its group is read past, a batch at a time
    for batch in (arrow_batches if kind == "arrow" else parquet_batches)(file, columns, groups=range(first, end)):
        low, high = max(start - done, 0), min(start + height - done, batch.num_rows)
        done += batch.num_rows
        if low < high:
            yield Batch(table=batch.slice(low, high - low))
        if done >= start + height:
            return


def _read_rows(file: Path, where: Where, before: int) -> Iterator[Batch]:
    with opened_bytes(file) as stream:
        rows = CsvRows((csv_head(stream).decode("utf-8", "surrogateescape"),), file)
        rows.count(before)
        stream.seek(where[0])
        whole = io.BufferedReader(_Stretch(stream, where[1] - where[0]), _STRETCH)
        with io.TextIOWrapper(whole, "utf-8", "surrogateescape", "") as text:
            yield from batched(rows.records(text))


@contextmanager
def _text(file: Path, where: Where) -> Iterator[IO[str]]:
    """Text of the lines that begin at a place; every line end is one as for readers of whole files."""
    with opened_bytes(file) as stream:
        whole = stream if not where or where == (0, file.stat().st_size) else _between(stream, *where)
        with io.TextIOWrapper(whole, "utf-8", "surrogateescape", "") as text:
            yield text


def _between(stream: IO[bytes], start: int, end: int) -> IO[bytes]:
    begin, stop = (_line_start(stream, at) for at in (start, end))
    if start > 0:
        stream.seek(begin)
    else:  # behind a mark of byte order
        stream.seek(0)
        begin = len(b"\xef\xbb\xbf") if stream.read(3) == b"\xef\xbb\xbf" else 0
        stream.seek(begin)
    return io.BufferedReader(_Stretch(stream, stop - begin), _STRETCH)


def _line_start(stream: IO[bytes], at: int) -> int:
    """The first byte from `at` on with which a line begins."""
    if at == 0:
        return 0
    stream.seek(at - 1)
    while part := stream.readline(_STRETCH):
        if part.endswith(b"\n"):
            break
    return stream.tell()


class _Stretch(io.RawIOBase):
    """So many bytes of a stream from where it stands."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__()
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
        """Read into `buffer` what is left at most."""
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)
