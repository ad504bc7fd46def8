"""Records of the files of the source `table`, one batch at a time.

Input: a file and its format. Output: `Batch`es of records. Formats: Parquet, Arrow (stream or file), text formats
(`table_texts`), tar shards in WebDataset's layout (`table_shards`). A record that cannot be read is `Unreadable`; a
file that cannot be read ends the reading with its name. Nothing is unpickled: other formats are refused by name.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.sources.arrow_texts import arrow, ends_of, is_plain, series, valid
from data_engine.sources.records import Record, records_of
from data_engine.sources.table_shards import shard_records
from data_engine.sources.table_texts import check_names, text_records
from shared.code_points import broken_characters
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 32_768
"""At most; with twice as many, page faults of what is read ahead cost more than fewer batches spare."""
BATCH_BYTES = 16 << 20
"""A batch ends at whichever comes first: a row may be a number or a picture of megabytes."""
_BUFFER = 1 << 20


class Batch:
    """Records of one stretch of a file."""

    checked = False
    """Whether texts of columns are known to be UTF-8."""

    def __init__(self, records: Sequence[Record] | None = None, table: Any = None) -> None:
        self._records = records
        self._table = table

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records) if self._records is not None else int(self._table.num_rows)

    def records(self) -> Sequence[Record]:
        """All records, as Python values."""
        if self._records is None:
            self._records = _records(self._table)
        return self._records

    def at(self, places: Sequence[int]) -> Sequence[Record]:
        """The records at some places, in order; of a columnar batch only these become Python values."""
        if self._records is not None:
            return [self._records[place] for place in places]
        # Stretches, not `take`: its module takes as long to import as much of this.
        found: list[Record] = []
        for _, run in itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
            stretch = [place for _, place in run]
            found += _records(self._table.slice(stretch[0], len(stretch)))
        return found

    def texts(self, name: str, *, numbers: bool = False) -> pa.Array:
        """A column as texts, with `numbers` also whole numbers as their digits; null for what else is there."""
        import polars as pl

        if self._records is None:
            found = self.arrow(name)
            kind = "" if found is None else str(found.type)
            if kind in {"string", "large_string"}:
                return found
            values = pl.Series([None] * len(self), dtype=pl.String)
            if kind == "string_view" or (numbers and kind.lstrip("u").startswith("int")):
                values = series(found).cast(pl.String)
            return arrow(values)
        held = self.values(name)
        try:
            values = pl.Series(name, held, dtype=pl.String)
        except (TypeError, OverflowError, UnicodeEncodeError):  # of several types, long numbers, half a character
            texts = [v if type(v) is str else str(v) if numbers and type(v) is int else None for v in held]
            whole = [None if text and broken_characters(text) else text for text in texts]
            values = pl.Series(name, whole, dtype=pl.String)
        return arrow(values)

    def arrow(self, name: str) -> pa.Array | None:
        """A column of a columnar batch; None where there is none, or it holds text that is no UTF-8."""
        if self._records is not None or name not in self._table.schema.names:
            return None
        column = self._table.column(name)
        if hasattr(column, "combine_chunks"):
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        try:
            column.validate(full=not (self.checked or is_plain(column)))
        except ValueError:
            return None
        return column

    def lists(self, name: str) -> tuple[pa.Array, Any, Any] | None:
        """A column of lists of texts: all texts, and where each list starts and its size; None for other columns."""
        import numpy as np
        import polars as pl
        import pyarrow as pa

        if self._records is not None:
            values = self.values(name)
            if not all(value is None or isinstance(value, list) for value in values):
                return None  # Polars would make a list of a text's letters and of an object's keys
            try:
                held = pl.Series(name, values, dtype=pl.List(pl.String), strict=True)
            except (TypeError, ValueError, pl.exceptions.PolarsError):
                return None
            found = arrow(held)
        else:
            found = self.arrow(name)
        if found is None or str(found.type).partition("<")[0] not in {"list", "large_list"}:
            return None
        if not (pa.types.is_string(found.type.value_type) or pa.types.is_large_string(found.type.value_type)):
            return None
        ends = ends_of(found)
        sizes = np.diff(ends)
        if found.null_count:
            sizes = np.where(valid(found), sizes, 0)
        return found.values, ends[:-1], sizes

    def values(self, name: str) -> list[Any]:
        """A column as Python values; None where it is absent."""
        if self._records is not None:
            try:
                return [record.get(name) for record in self._records]  # type: ignore[union-attr]
            except AttributeError:  # an unreadable record among them
                return [None if isinstance(record, str) else record.get(name) for record in self._records]
        return list(self._table.column(name).to_pylist()) if name in self._table.schema.names else [None] * len(self)


def _records(table: Any) -> list[dict[str, Any]]:
    """Records of a table; numbers of 32 bits as they were written: 0.1 is not 0.10000000149011612."""
    import pyarrow as pa

    records = records_of(table)
    for name in (field.name for field in table.schema if pa.types.is_float32(field.type)):
        for record, text in zip(records, table.column(name).cast(pa.string()).to_pylist(), strict=True):
            record[name] = None if text is None else float(text)
    return records


def read_batches(
    file: Path, kind: str, what: str, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Batches of a file in order, of `rows` at most; `columns` spares columnar formats the others.

    Raises:
        InfiMmrError: the file cannot be read, or holds no records in its format; the message names it.

    """
    with telling(file, what):
        if kind == "parquet":
            yield from (Batch(table=batch) for batch in parquet_batches(file, columns, rows))
        elif kind == "arrow":
            yield from (Batch(table=batch) for batch in arrow_batches(file, columns, rows))
        else:
            yield from some(batched(shard_records(file) if kind == "tar" else text_records(file, kind), rows))


def count_rows(file: Path, kind: str, what: str) -> int | None:
    """Rows of a file that says so without being read; None for others."""
    if kind != "parquet":
        return None
    import pyarrow.parquet as pq

    with telling(file, what):
        return int(pq.read_metadata(file).num_rows)


def arrow_sizes(file: Path) -> list[tuple[int, int]]:
    """Rows and bytes of each batch of an Arrow file; its columns stay on disk."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as opened:
        return [(batch.num_rows, batch.nbytes) for batch in _arrow_stretch(opened)]


def column_names(file: Path, kind: str, what: str) -> list[str] | None:
    """Columns of a file that states them without being read; None for others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with telling(file, what):
        names: list[str] | None = None
        if kind == "parquet":
            names = list(pq.read_schema(file).names)
        elif kind == "arrow":
            with pa.OSFile(str(file)) as opened:
                names = list(_arrow_reader(opened)[0].schema.names)
        check_names(names or ())
    return names


@contextmanager
def telling(file: Path, what: str, name: str = "") -> Iterator[None]:
    """Turn what readers raise into one line that names the file, by `name` where many are called alike."""
    name = name or file.name
    try:
        yield
    except InfiMmrError as error:
        raise InfiMmrError(f"{what}: {name} {error.message}", error.next_step) from error
    except (OSError, ValueError, EOFError, csv.Error) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise InfiMmrError(f"{what}: {name} cannot be read ({str(error)[:200]})", "Fetch it again") from error


def batched(records: Iterator[tuple[Record, int]], rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Batches of records that come with their size in bytes."""
    held: list[Record] = []
    size = 0
    for record, length in records:
        held.append(record)
        size += length
        if len(held) >= rows or size >= BATCH_BYTES:
            yield Batch(held)
            held, size = [], 0
    if held:
        yield Batch(held)


def some(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches of a file that does not state what is in it: where there is nothing, something got lost."""
    first = next(batches, None)
    if first is None:
        raise empty()
    yield first
    yield from batches


def empty() -> InfiMmrError:
    """What is said of a file without records."""
    return InfiMmrError("holds no record", "Fetch it again, or leave it out: files = [...] names those to read")


def parquet_batches(
    file: Path, columns: Sequence[str] | None = None, most: int = BATCH_ROWS, groups: Sequence[int] | None = None
) -> Iterator[Any]:
    """Record batches of a Parquet file, of some of its row groups where they are named; class labels are words."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER) as table:
        about = table.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        rows = min(most, max(16, BATCH_BYTES * about.num_rows // max(size, 1)))
        names = None if columns is None else [name for name in table.schema_arrow.names if name in set(columns)]
        labels = _class_labels(table.schema_arrow)
        for batch in table.iter_batches(batch_size=rows, row_groups=groups, columns=names, use_threads=False):
            yield _named(batch, labels)


def arrow_batches(
    file: Path, columns: Sequence[str] | None = None, most: int = BATCH_ROWS, groups: range | None = None
) -> Iterator[Any]:
    """As `parquet_batches`, of an Arrow file or stream and its batches; what stands before them stays on disk."""
    import pyarrow as pa

    with pa.OSFile(str(file)) if groups is None else pa.memory_map(str(file)) as opened:
        for batch in _arrow_stretch(opened, groups):
            labels = _class_labels(batch.schema)
            wanted = batch if columns is None else batch.select([n for n in batch.schema.names if n in set(columns)])
            step = min(most, max(16, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)))
            for start in range(0, wanted.num_rows, step):
                yield _named(wanted.slice(start, step), labels)


def _arrow_stretch(opened: Any, groups: range | None = None) -> Iterator[Any]:
    reader, is_file = _arrow_reader(opened)
    if is_file:
        return map(reader.get_batch, groups or range(reader.num_record_batches))
    return itertools.islice(reader, groups.start, groups.stop) if groups else iter(reader)


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
