"""MinHash signatures of texts in bulk, and the bands by which similar texts meet.

Similarity of two texts is the Jaccard similarity of their sets of token n-grams (shingles). Signatures equal those of
`datasketch.MinHash(num_perm, seed, scheme="affine32", hashfunc=...)` whose hash function is the upper 32 bits of an
n-gram's (`SCHEME` pins all of it). Signatures only propose pairs; `similar_texts.py` decides on the shingles.

Numbers are never normalised away: "3 apples" and "5 apples" are other tokens.

Not covered: estimating similarity from signatures (every pair is checked exactly instead).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_engine.cell_counts import noted
from data_engine.text_hash import VERSION, Tokeniser, Tokens, iterate_words, ngram_hashes, number_hashes
from data_engine.text_hash.text_cells import STORED_AT_ONCE, Known, first_of, in_order, in_parts, store_cells, text_key
from data_engine.text_hash.windows import sums_per_text
from data_engine.text_hash.words import text_chunks
from shared.annotations import StoredCells
from shared.fingerprint import fingerprint

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl
    import pyarrow as pa

    from data_engine.step import StepContext
    from data_engine.text_hash.words import Hashes, Offsets

    Signatures = npt.NDArray[np.uint32]
    Scores = npt.NDArray[np.float64]

SCHEME = f"{VERSION}+ngram64/1>>32+affine32/1"
"""Tokens, shingle hash and permutations of a signature; another name means that signatures cannot be compared."""

NUM_PERM = 70
"""Values per signature: 14 bands of 5. Pairs are checked exactly, so bands must only find, not estimate; of the choices
that find a pair of Jaccard 0.8 with probability 0.995 (4 x 11, 5 x 14, 6 x 18, 7 x 22) this one is cheapest in all:
fewer rows propose too much (similarity 0.3: 8.6% of pairs with 4 rows, 3.4% with 5, 1.3% with 6), more rows need more
values."""

SEED = 1

_BLOCK = 2**16  # shingles permuted at once: 256 kB and as much again for the result stay in a core's L2 cache
_BAND_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Bands:
    """`count` bands of `rows` signature values; two texts meet where all values of one band are equal."""

    count: int
    rows: int

    def recall_at(self, jaccard: float) -> float:
        """Chance that two texts of this similarity meet in at least one band: 1 - (1 - s**rows)**count."""
        return 1.0 - (1.0 - jaccard**self.rows) ** self.count


def bands_for(threshold: float, recall: float = 0.995, num_perm: int = NUM_PERM) -> Bands:
    """Most selective bands that still find pairs of similarity `threshold` with probability `recall`.

    P(meet) = 1 - (1 - s**r)**b grows with s, so the recall at the threshold bounds the recall of every pair above it.
    The largest r whose b = num_perm // r keeps it is taken. At 0.8 and 70 permutations: r = 5, b = 14,
    1 - (1 - 0.8**5)**14 = 0.9962. With 128: r = 6, b = 21, 0.9983; the usual b = 16, r = 8 gives only 0.9472.

    Raises:
        ValueError: Not even r = 1 reaches the recall, or the threshold is not in (0, 1].

    """
    if not 0.0 < threshold <= 1.0:
        message = f"a Jaccard threshold lies in (0, 1], not at {threshold}"
        raise ValueError(message)
    for rows in range(num_perm, 0, -1):
        bands = Bands(num_perm // rows, rows)
        if bands.recall_at(threshold) >= recall:
            return bands
    message = f"{num_perm} permutations cannot find pairs of Jaccard {threshold} with probability {recall}"
    raise ValueError(message)


def permutations(num_perm: int = NUM_PERM, seed: int = SEED) -> tuple[Signatures, Signatures]:
    """Factors (odd) and summands of h -> a * h + b mod 2**32, uint32 [num_perm] each, as datasketch 2 draws them."""
    generator = np.random.RandomState(seed)
    factors = generator.randint(0, 2**31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return factors, generator.randint(0, 2**32, num_perm, dtype=np.uint32)


def signatures(
    values: npt.NDArray[np.uint32], offsets: Offsets, num_perm: int = NUM_PERM, seed: int = SEED
) -> Signatures:
    """MinHash signatures of sets of 32-bit hashes.

    Args:
        values: uint32 [hashes], what a datasketch `hashfunc` returns for each member.
        offsets: int64 [sets + 1]; set i owns `values[offsets[i]:offsets[i + 1]]`.
        num_perm: Values per signature.
        seed: Draws the permutations.

    Returns:
        uint32 [num_perm, sets], one column a set; an empty set has the largest value everywhere, as in datasketch.

    """
    filled = np.flatnonzero(np.diff(offsets))
    result = np.empty((num_perm, len(filled)), np.uint32)
    factors, summands = permutations(num_perm, seed)
    starts = np.append(offsets[filled], offsets[-1])
    for first, last in text_chunks(starts, _BLOCK):
        block = _mix(values[starts[first] : starts[last]])
        local = starts[first:last] - starts[first]
        work = np.empty_like(block)
        for index in range(num_perm):
            np.multiply(block, factors[index], out=work)
            np.add(work, summands[index], out=work)
            np.minimum.reduceat(work, local, out=result[index, first:last])
    if len(filled) == len(offsets) - 1:
        return result
    whole = np.full((num_perm, len(offsets) - 1), np.uint32(2**32 - 1))
    whole[:, filled] = result
    return whole


def band_keys(signed: Signatures, bands: Bands) -> Hashes:
    """Hash of each band of each signature: uint32 [num_perm, sets] to uint64 [bands, sets]."""
    keys = np.zeros((bands.count, signed.shape[1]), np.uint64)
    for band in range(bands.count):
        key = keys[band]  # a view: filled in place
        for row in signed[band * bands.rows : (band + 1) * bands.rows]:
            np.add(key, row, out=key)
            np.multiply(key, _BAND_PRIME, out=key)
            np.bitwise_xor(key, key >> np.uint64(29), out=key)
    return keys


def _mix(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's 32-bit finaliser, applied once before the permutations (datasketch `affine32`)."""
    mixed = values ^ (values >> np.uint32(16))
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


@dataclass(frozen=True)
class Shingling:
    """How a text becomes a set: tokeniser and tokens per shingle; a shorter text is one shingle of all its tokens."""

    tokeniser: Tokeniser = "unicode_words"
    size: int = 5

    def shingles(self, tokens: Tokens) -> tuple[Hashes, Offsets]:
        """uint64 hashes of the shingles (repeated ones repeat) and the texts' offsets into them."""
        windows = ngram_hashes(tokens, self.size, short=True)
        return windows.hashes, windows.offsets


@dataclass(frozen=True)
class TextTable:
    """What the search needs of each text; 8 * (2 + bands) bytes a text, whatever its length.

    Attributes:
        text: uint64 [texts], sum of the shingles' hashes, equal for texts of the same shingles; 0 without tokens.
        numbers: uint64 [texts], hash of the numbers in it; all 0 where not asked for.
        keys: uint64 [bands, texts], hashes of the bands.

    """

    text: Hashes
    numbers: Hashes
    keys: Hashes


def describe(
    texts: pl.Series | Sequence[str | None], shingling: Shingling, bands: Bands, *, numbers: bool = False
) -> TextTable:
    """Hash and sign texts in chunks.

    Args:
        texts: Strings, [texts].
        shingling: How a text becomes a set.
        bands: From `bands_for`.
        numbers: Also hash the numbers of each text.

    """
    signed = signed_chunks(texts, shingling, bands.count * bands.rows, numbers=numbers)
    return TextTable(*_joined((text, number, band_keys(values, bands)) for text, number, values in signed))


def signed_chunks(
    texts: pl.Series | Sequence[str | None], shingling: Shingling, num_perm: int, *, numbers: bool, seed: int = SEED
) -> Iterator[tuple[Hashes, Hashes, Signatures]]:
    """`text` and `numbers` of a `TextTable`, and signatures (uint32 [num_perm, texts]), chunk by chunk."""
    yield np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty((num_perm, 0), np.uint32)
    for tokens in iterate_words(texts, shingling.tokeniser, find_digits=numbers):
        hashes, offsets = shingling.shingles(tokens)
        signed = signatures((hashes >> np.uint64(32)).astype(np.uint32), offsets, num_perm, seed)
        number = number_hashes(tokens) if numbers else np.zeros(len(tokens), np.uint64)
        yield sums_per_text(hashes, offsets), number, signed


def _joined(chunks: Iterable[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    return [np.concatenate(column, axis=-1) for column in zip(*chunks, strict=True)]


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
    wanted = context.missing(table, keys)
    missing = first_of(keys, wanted)
    batches = (
        pa.table({"key": [keys[i] for i in part], "text": texts.gather(list(part)).fill_null("").to_arrow()})
        for part in in_parts(missing)
    )
    store_cells(table, context.runner.map_batches(sign_batch, batches, broadcast=(shingling, bands)))
    none = np.empty(0, np.uint64)
    parts = [(none, none, np.empty((bands.count, 0), np.uint64))]
    for start in range(0, len(keys), STORED_AT_ONCE):
        known = in_order(table, keys[start : start + STORED_AT_ONCE])
        packed = known.column("signature")
        signed = np.frombuffer(packed.buffers()[1], np.uint32).reshape(-1, num_perm)[packed.offset :][: len(packed)]
        text, numbers = (known.column(name).to_numpy() for name in ("text", "numbers"))
        parts.append((text, numbers, band_keys(np.ascontiguousarray(signed.T), bands)))
    return Known(TextTable(*_joined(parts)), noted(keys, wanted))


def sign_batch(batch: pa.Table, how: tuple[Shingling, Bands]) -> pa.Table:
    """Sums, numbers and signatures of a table with `key` and `text`."""
    import polars as pl
    import pyarrow as pa

    shingling, bands = how
    num_perm = bands.count * bands.rows
    texts = pl.Series("text", batch.column("text"))
    text, numbers, signed = _joined(signed_chunks(texts, shingling, num_perm, numbers=True))
    signature = pa.py_buffer(np.ascontiguousarray(signed.T))
    columns = {
        "key": batch.column("key"),
        "text": pa.array(text),
        "numbers": pa.array(numbers),
        "signature": pa.FixedSizeBinaryArray.from_buffers(pa.binary(num_perm * 4), batch.num_rows, [None, signature]),
    }
    return pa.table(columns)
