"""Hashes and signatures of texts as annotations: made once per text, used again by every later build.

A new row is hashed, the old ones are read; a new benchmark is compared with what is stored. Keys are hashes of the text
itself, so rows and benchmark items share cells, and so do all recipes and teams of a store.

What is missing is made by the build's runner, batch by batch (`hash_batch`, `sign_batch`, `print_batch`): no worker
sees more than a batch, and pictures are read by the worker that prints them.

Not covered: what is compared with what (`benchmark_overlap`, `similar_texts`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from data_engine.annotations import AnnotationTable
from data_engine.decontamination.benchmark_overlap import FORMS, HashedTexts, Problems, hash_problems
from data_engine.duplicates.image_identity import VERSION as PRINT_VERSION
from data_engine.duplicates.image_identity import ImagePrint, read_prints
from data_engine.duplicates.minhash import SCHEME, SEED, Bands, Shingling, TextTable, band_keys, describe
from data_engine.intake.staging import within_reach
from data_engine.runners import Ask
from data_engine.stored_cells import StoredCells
from data_engine.text_hash import VERSION, Windows
from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl
    import pyarrow as pa

    from data_engine.step import StepContext
    from data_engine.text_hash.words import Offsets
    from shared.images import ImageSource

Value = TypeVar("Value")

TEXTS_AT_ONCE = 2048
"""Texts of one batch: about 1 MB, ten milliseconds of hashing, far more than what a batch costs beside it."""

STORED_AT_ONCE = 2**13
"""Cells of texts stored and read together: 3 MB of signatures, and a killed build loses little."""

PRINTS_AT_ONCE = 256
"""Image prints made and stored together, so that a killed build loses at most as many."""


@dataclass(frozen=True)
class Known(Generic[Value]):
    """Values in the asked order, and how many distinct cells were made now or found."""

    value: Value
    computed: int
    reused: int


def text_key(*parts: str) -> str:
    """Sha256 (hex) of texts; lengths keep ("a", "b") and ("ab", "") apart."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def problem_keys(problems: Problems) -> list[str]:
    """Key of each problem's text: question and options."""
    return [text_key(q, *options) for q, options in zip(problems.questions, problems.choices, strict=True)]


def hashed_problems(context: StepContext, problems: Problems, n: int, character_n: int) -> Known[HashedTexts]:
    """`hash_problems`, from the store where known."""
    import pyarrow as pa

    about = {"hashes": VERSION, "windows": "ngram64/1", "n": n, "character_n": character_n, "forms": FORMS}
    schema = pa.schema([*((name, pa.large_binary()) for name in _HASHES), ("tokens", pa.int64())])
    table = StoredCells(context.store, "text_hashes", fingerprint(about), schema, about)
    keys = problem_keys(problems)
    missing = _first_of(keys, table.missing(keys))
    batches = (problem_table(problems, part, key=[keys[row] for row in part]) for part in _parts(missing))
    _store(table, context.runner.map_batches(hash_batch, batches, broadcast=(n, character_n)))
    return Known(hashes_of(_in_order(table, keys)), len(missing), len(set(keys)) - len(missing))


def hash_batch(batch: pa.Table, sizes: tuple[int, int]) -> pa.Table:
    """Hashes of a table with `key`, `question`, `choices`; `sizes` are the tokens of an n-gram in both tokenisers."""
    import pyarrow as pa

    made = hash_problems(problems_of(batch), *sizes)
    return pa.table({"key": batch.column("key"), **hash_columns(made)})


def problem_table(problems: Problems, rows: Sequence[int], **columns: Sequence[object]) -> pa.Table:
    """Some problems as a table with `question`, `choices` and further columns."""
    import pyarrow as pa

    some = problems.take(rows)
    texts = {"question": pa.array(some.questions, pa.large_string())}
    choices = pa.array(some.choices, pa.list_(pa.large_string()))
    return pa.table({**{name: pa.array(value) for name, value in columns.items()}, **texts, "choices": choices})


def problems_of(table: pa.Table) -> Problems:
    """The problems of a `problem_table`."""
    return Problems(table.column("question").to_pylist(), table.column("choices").to_pylist())


def hash_columns(hashed: HashedTexts) -> dict[str, pa.Array]:
    """Hashes as Arrow columns, one cell per text, without copying."""
    import pyarrow as pa

    forms = np.arange(len(hashed.tokens) + 1) * FORMS
    return {
        "ngrams": _binary(hashed.ngrams.hashes, hashed.ngrams.offsets),
        "characters": _binary(hashed.characters.hashes, hashed.characters.offsets),
        "exact": _binary(hashed.exact.ravel(), forms),
        "numberless": _binary(hashed.numberless.ravel(), forms),
        "tokens": pa.array(hashed.tokens),
    }


def hashes_of(table: pa.Table | pa.RecordBatch) -> HashedTexts:
    """Hashes from the columns of `hash_columns`, without copying where a column is in one piece."""
    ngrams, characters, exact, numberless = (_windows(_whole(table, name)) for name in _HASHES)
    whole = (exact.hashes.reshape(-1, FORMS), numberless.hashes.reshape(-1, FORMS))
    return HashedTexts(ngrams, characters, *whole, _whole(table, "tokens").to_numpy())


_HASHES = ("ngrams", "characters", "exact", "numberless")


def signed_texts(context: StepContext, texts: pl.Series, shingling: Shingling, bands: Bands) -> Known[TextTable]:
    """`describe` with numbers, from the store where known; signatures stay there."""
    import pyarrow as pa

    num_perm = bands.count * bands.rows
    about = {
        "scheme": SCHEME,
        "text": "sum of shingles",
        "tokeniser": shingling.tokeniser,
        "shingle": shingling.size,
        "num_perm": num_perm,
        "seed": SEED,
    }
    schema = pa.schema([("text", pa.uint64()), ("numbers", pa.uint64()), ("signature", pa.binary(num_perm * 4))])
    table = StoredCells(context.store, "minhash_signatures", fingerprint(about), schema, about)
    keys = [text_key(text or "") for text in texts]
    missing = _first_of(keys, table.missing(keys))
    batches = (
        pa.table({"key": [keys[i] for i in part], "text": texts.gather(list(part)).fill_null("").to_arrow()})
        for part in _parts(missing)
    )
    _store(table, context.runner.map_batches(sign_batch, batches, broadcast=(shingling, bands)))
    parts = []
    for start in range(0, len(keys), STORED_AT_ONCE):
        known = _in_order(table, keys[start : start + STORED_AT_ONCE])
        packed = known.column("signature")
        signed = np.frombuffer(packed.buffers()[1], np.uint32).reshape(-1, num_perm)[packed.offset :][: len(packed)]
        columns = [known.column(name).to_numpy() for name in ("text", "numbers")]
        parts.append((*columns, band_keys(np.ascontiguousarray(signed.T), bands)))
    if not parts:
        none = np.empty(0, np.uint64)
        parts.append((none, none, np.empty((bands.count, 0), np.uint64)))
    described = TextTable(*(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)))
    return Known(described, len(missing), len(set(keys)) - len(missing))


def sign_batch(batch: pa.Table, how: tuple[Shingling, Bands]) -> pa.Table:
    """Sums, numbers and signatures of a table with `key` and `text`."""
    import polars as pl
    import pyarrow as pa

    shingling, bands = how
    num_perm = bands.count * bands.rows
    made = describe(pl.Series("text", batch.column("text")), shingling, bands, numbers=True, keep=num_perm)
    assert made.signatures is not None  # noqa: S101  kept, as asked in the line above
    signature = pa.py_buffer(np.ascontiguousarray(made.signatures.T))
    columns = {
        "key": batch.column("key"),
        "text": pa.array(made.text),
        "numbers": pa.array(made.numbers),
        "signature": pa.FixedSizeBinaryArray.from_buffers(pa.binary(num_perm * 4), batch.num_rows, [None, signature]),
    }
    return pa.table(columns)


def image_prints(context: StepContext, hashes: Iterable[str], images: ImageSource) -> Known[dict[str, ImagePrint]]:
    """Prints of images by sha256, from the store where known. What cannot be read now is not stored."""
    import pyarrow as pa
    import pyarrow.compute as pc

    about = {"print": PRINT_VERSION}
    schema = pa.schema([("pixels", pa.string()), ("bits", pa.uint64()), ("thumbnail", pa.binary())])
    table = AnnotationTable(context.store, "image_prints", fingerprint(about), schema, about)
    wanted = sorted(set(hashes))
    found = table.lookup(wanted)
    prints = {key: ImagePrint(key, cell["pixels"], cell["bits"], cell["thumbnail"]) for key, cell in found.items()}
    missing = [key for key in wanted if key not in prints]
    if missing:
        images = within_reach(context, images, [Ask("prints", "", images=tuple(missing))])
    batches = (pa.table({"key": missing[i : i + PRINTS_AT_ONCE]}) for i in range(0, len(missing), PRINTS_AT_ONCE))
    for made in context.runner.map_batches(print_batch, batches, broadcast=images):
        table.append_table(made.filter(pc.not_equal(made.column("pixels"), "")))
        prints.update({cell["key"]: ImagePrint(*cell.values()) for cell in made.to_pylist()})
    return Known(prints, len(missing), len(wanted) - len(missing))


def print_batch(batch: pa.Table, images: ImageSource) -> pa.Table:
    """Prints of the pictures of a table with `key` (sha256); `pixels` is empty where one cannot be read."""
    import pyarrow as pa

    made = read_prints(batch.column("key").to_pylist(), images)
    columns = {
        "key": batch.column("key"),
        "pixels": pa.array([one.pixels for one in made], pa.string()),
        "bits": pa.array([one.bits for one in made], pa.uint64()),
        "thumbnail": pa.array([one.thumbnail for one in made], pa.binary()),
    }
    return pa.table(columns)


def _parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Rows in batches."""
    return (rows[start : start + TEXTS_AT_ONCE] for start in range(0, len(rows), TEXTS_AT_ONCE))


def _store(table: AnnotationTable, made: Iterable[pa.Table]) -> None:
    """Append cells as they come, many at once."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for cells in made:
        waiting.append(cells)
        if sum(some.num_rows for some in waiting) >= STORED_AT_ONCE:
            table.append_table(pa.concat_tables(waiting))
            waiting = []
    if waiting:
        table.append_table(pa.concat_tables(waiting))


def _first_of(keys: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Place of the first occurrence of each wanted key."""
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    return [first[key] for key in wanted]


def _in_order(table: AnnotationTable, keys: Sequence[str]) -> pa.RecordBatch:
    """One row per key, repeated keys repeat; every column in one piece."""
    import pyarrow as pa

    distinct = list(dict.fromkeys(keys))
    known = table.columns(distinct)
    assert known is not None  # noqa: S101  the table was opened with its schema
    place = {key: index for index, key in enumerate(distinct)}
    picked = known.take(pa.array([place[key] for key in keys], pa.int64()))
    columns = [_whole(picked, name) for name in picked.column_names]
    return pa.RecordBatch.from_arrays(columns, names=picked.column_names)


def _whole(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """A column in one piece."""
    import pyarrow as pa

    column = table.column(name)
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [_none(table, name)])


def _none(table: pa.Table, name: str) -> pa.Array:
    import pyarrow as pa

    return pa.array([], table.schema.field(name).type)


def _binary(values: np.ndarray, offsets: Offsets) -> pa.Array:
    """Consecutive uint64 values as one large_binary cell per row, without copying."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets * 8)), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _windows(column: pa.Array) -> Windows:
    if len(column) == 0:
        return Windows(np.empty(0, np.uint64), np.zeros(1, np.int64))
    _, index, content = column.buffers()
    offsets = np.frombuffer(index, np.int64)[column.offset : column.offset + len(column) + 1] // 8
    values = np.empty(0, np.uint64) if content is None else np.frombuffer(content, np.uint64)
    return Windows(values[offsets[0] : offsets[-1]], offsets - offsets[0])
