"""Hashes and signatures of texts as annotations: made once per text, used again by every later build.

A new row is hashed, the old ones are read; a new benchmark is compared with what is stored. Keys are hashes of the text
itself, so rows and benchmark items share cells, and so do all recipes and teams of a store.

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
from data_engine.text_hash import VERSION, Windows
from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl
    import pyarrow as pa

    from data_engine.steps.base import ImageSource
    from data_engine.text_hash.words import Offsets
    from shared.store import Store

Value = TypeVar("Value")

PRINTS_AT_ONCE = 256
"""Image prints stored together, so that a killed build loses at most as many."""


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


def hashed_problems(store: Store, problems: Problems, n: int, character_n: int) -> Known[HashedTexts]:
    """`hash_problems`, from the store where known."""
    import pyarrow as pa

    about = {"hashes": VERSION, "windows": "ngram64/1", "n": n, "character_n": character_n, "forms": FORMS}
    names = ("ngrams", "characters", "exact", "numberless")
    schema = pa.schema([*((name, pa.large_binary()) for name in names), ("tokens", pa.int64())])
    table = AnnotationTable(store, "text_hashes", fingerprint(about), schema, about)
    keys = problem_keys(problems)
    missing = _first_of(keys, table.missing(keys))
    if missing:
        some = Problems([problems.questions[i] for i in missing], [problems.choices[i] for i in missing])
        made = hash_problems(some, n, character_n)
        columns = {
            "key": pa.array([keys[i] for i in missing], pa.string()),
            "ngrams": _binary(made.ngrams.hashes, made.ngrams.offsets),
            "characters": _binary(made.characters.hashes, made.characters.offsets),
            "exact": _binary(made.exact.ravel(), np.arange(len(some) + 1) * FORMS),
            "numberless": _binary(made.numberless.ravel(), np.arange(len(some) + 1) * FORMS),
            "tokens": pa.array(made.tokens),
        }
        table.append_table(pa.table(columns))
    known = _in_order(table, keys)
    exact, numberless = (_windows(known.column(name)).hashes.reshape(-1, FORMS) for name in ("exact", "numberless"))
    hashed = HashedTexts(
        _windows(known.column("ngrams")),
        _windows(known.column("characters")),
        exact,
        numberless,
        known.column("tokens").to_numpy(),
    )
    return Known(hashed, len(missing), len(set(keys)) - len(missing))


def signed_texts(store: Store, texts: pl.Series, shingling: Shingling, bands: Bands) -> Known[TextTable]:
    """`describe` with numbers, from the store where known."""
    import polars as pl
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
    table = AnnotationTable(store, "minhash_signatures", fingerprint(about), schema, about)
    content = ["" if text is None else text for text in texts.to_list()]
    keys = [text_key(text) for text in content]
    missing = _first_of(keys, table.missing(keys))
    if missing:
        some = pl.Series("text", [content[i] for i in missing], dtype=pl.String)
        made = describe(some, shingling, bands, numbers=True, keep=num_perm)
        assert made.signatures is not None  # noqa: S101  kept, as asked in the line above
        signature = np.ascontiguousarray(made.signatures.T)
        columns = {
            "key": pa.array([keys[i] for i in missing], pa.string()),
            "text": pa.array(made.text),
            "numbers": pa.array(made.numbers),
            "signature": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(num_perm * 4), len(missing), [None, pa.py_buffer(signature)]
            ),
        }
        table.append_table(pa.table(columns))
    known = _in_order(table, keys)
    packed = known.column("signature")
    signed = np.frombuffer(packed.buffers()[1], np.uint32).reshape(-1, num_perm)[packed.offset :][: len(keys)]
    signed = np.ascontiguousarray(signed.T)
    described = TextTable(
        known.column("text").to_numpy(), known.column("numbers").to_numpy(), band_keys(signed, bands), signed
    )
    return Known(described, len(missing), len(set(keys)) - len(missing))


def image_prints(store: Store, hashes: Iterable[str], images: ImageSource) -> Known[dict[str, ImagePrint]]:
    """Prints of images by sha256, from the store where known. What cannot be read now is not stored."""
    import pyarrow as pa

    about = {"print": PRINT_VERSION}
    schema = pa.schema([("pixels", pa.string()), ("bits", pa.uint64()), ("thumbnail", pa.binary())])
    table = AnnotationTable(store, "image_prints", fingerprint(about), schema, about)
    wanted = sorted(set(hashes))
    found = table.lookup(wanted)
    prints = {key: ImagePrint(key, cell["pixels"], cell["bits"], cell["thumbnail"]) for key, cell in found.items()}
    missing = [key for key in wanted if key not in prints]
    for start in range(0, len(missing), PRINTS_AT_ONCE):
        made = read_prints(missing[start : start + PRINTS_AT_ONCE], images)
        cells = [{"key": p.sha256, "pixels": p.pixels, "bits": p.bits, "thumbnail": p.thumbnail} for p in made]
        table.append([cell for cell in cells if cell["pixels"]])
        prints.update({p.sha256: p for p in made})
    return Known(prints, len(missing), len(wanted) - len(missing))


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
    columns = [pa.concat_arrays(picked.column(name).chunks or [_none(picked, name)]) for name in picked.column_names]
    return pa.RecordBatch.from_arrays(columns, names=picked.column_names)


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
