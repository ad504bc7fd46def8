"""Text to token hashes in bulk: UTF-8 bytes in, one 64-bit hash per token out, no Python loop over rows or tokens.

Two tokenisers, both pinned (a change of either needs a new `VERSION`, which every record and annotation carries):

- `ascii_words`: the matches of `[a-z0-9]+` in `text.lower()`. The counted reference of decontamination.
- `unicode_words`: every character of a script that is written without spaces (`UNSPACED`) is a token of its own, so
  that n tokens in a row are a character n-gram; of all other text the runs of letters and digits (Unicode categories L
  and N) of `text.lower()` are tokens. For ASCII text both give the same tokens.

Hash of a token (`words64/1`): its UTF-8 bytes are cut into pieces of 8; each piece, padded with zeros in front, is read
as a little-endian integer w; `h = (h ^ w) * C1; h ^= h >> 32`, starting at 0; then `h *= C2; h ^= h >> 29`, all modulo
2**64. Every step is a bijection, so two tokens of at most 8 bytes never collide.

Not covered: Unicode normalisation (full-width letters and decomposed accents are other tokens), stemming, spelling;
characters younger than the Unicode tables of Polars.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Bytes = npt.NDArray[np.uint8]
    Hashes = npt.NDArray[np.uint64]
    Offsets = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

Tokeniser = Literal["ascii_words", "unicode_words"]

VERSION = "words64/1"
"""Name of tokenisation and token hash together; part of every stored key and record."""

CHUNK_BYTES = 2**20
"""Text looked at in one go. 1 MB of bytes and the arrays made from them stay in a core's cache; larger is slower."""

UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003ffff"  # Han, supplementary planes
)
"""Character class (inside of `[...]`) of scripts without spaces between words."""

_C1 = np.uint64(0x9E3779B97F4A7C15)
_C2 = np.uint64(0xD6E8FEB86659FD93)
_S32, _S29 = np.uint64(32), np.uint64(29)
_PIECE = 8
_TENS = np.uint64(0x1010101010101010)
_LETTERS = np.uint64(0x4040404040404040)
_FOREIGN = np.uint64(0x8080808080808080)
_ASCII_END = 128

# The two characters outside ASCII whose lower case holds an ASCII letter: KELVIN SIGN and I WITH DOT ABOVE.
_LOWER_TO_ASCII = {"\u212a": "k", "\u0130": "i\u0307"}


@dataclass(frozen=True)
class Tokens:
    """Hashed tokens of some texts.

    Attributes:
        hashes: uint64 [tokens], in text order.
        offsets: int64 [texts + 1]; text i owns `hashes[offsets[i]:offsets[i + 1]]`.
        has_digit: bool [tokens] where asked for, else None: does the token hold an ASCII digit.

    """

    hashes: Hashes
    offsets: Offsets
    has_digit: Flags | None = None

    @property
    def counts(self) -> Offsets:
        """Tokens per text, int64 [texts]."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1


def iterate_words(
    texts: pl.Series | Sequence[str | None],
    tokeniser: Tokeniser = "ascii_words",
    *,
    find_digits: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Tokens]:
    """Hash every token of every text, in pieces: tokens of consecutive texts. Null counts as an empty text.

    Args:
        texts: Strings, [texts].
        tokeniser: Which characters make a token; see the module's docstring.
        find_digits: Also tell which tokens hold an ASCII digit.
        chunk_bytes: Text of a piece, about; at least one text.

    """
    data, offsets = utf8(prepare(texts, tokeniser))
    wide = tokeniser == "unicode_words"
    for first, last in text_chunks(offsets, chunk_bytes):
        begin, end = offsets[first], offsets[last]
        yield _hash_chunk(data[begin:end], offsets[first : last + 1] - begin, wide=wide, find_digits=find_digits)


def prepare(texts: pl.Series | Sequence[str | None], tokeniser: Tokeniser) -> pl.Series:
    """Bring texts into the form whose bytes alone decide the tokens; only rows with non-ASCII characters change.

    `ascii_words`: afterwards the ASCII letters and digits of the bytes, lower-cased, are those of `text.lower()`.
    `unicode_words`: afterwards all but ASCII and token characters is a space, and `UNSPACED` characters stand alone.
    """
    import polars as pl

    series = texts if isinstance(texts, pl.Series) else pl.Series("text", list(texts), dtype=pl.String)
    series = series.cast(pl.String).fill_null("")
    foreign = series.str.len_bytes() != series.str.len_chars()
    if not foreign.any():
        return series
    rows = foreign.arg_true()
    some = series.gather(rows)
    if tokeniser == "ascii_words":
        if not some.str.contains("[\u212a\u0130]").any():
            return series
        changed = some.str.replace_many(list(_LOWER_TO_ASCII), list(_LOWER_TO_ASCII.values()))
    else:
        changed = some.str.to_lowercase().str.replace_all(r"[^\x00-\x7f\p{L}\p{N}]+", " ")
        changed = changed.str.replace_all(f"([{UNSPACED}])", " $1 ")
    return replaced(series, rows, changed)


def replaced(series: pl.Series, rows: pl.Series | Sequence[int], values: pl.Series | Sequence[str]) -> pl.Series:
    """Return a copy of `series` with `values` at `rows` (`Series.scatter` alone would change the caller's)."""
    return series.clone().scatter(rows, values) if len(rows) else series


def utf8(series: pl.Series) -> tuple[Bytes, Offsets]:
    """Bytes of all strings on end, uint8 [bytes], and where each begins, int64 [texts + 1]; no copy where possible."""
    import pyarrow as pa

    array = series.rechunk().to_arrow()
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.type != pa.large_string():
        array = array.cast(pa.large_string())
    if len(array) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, index, content = array.buffers()
    offsets = np.frombuffer(index, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.empty(0, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


def text_chunks(offsets: Offsets, size: int) -> Iterator[tuple[int, int]]:
    """Cut texts into runs [first, last) of at most `size` units each, but of at least one text."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def _hash_chunk(data: Bytes, offsets: Offsets, *, wide: bool, find_digits: bool) -> Tokens:
    padded = np.zeros(len(data) + _PIECE, np.uint8)
    lower = padded[: len(data)]
    np.bitwise_or(data, 0x20, out=lower)  # upper case to lower case; digits have the bit; the rest is no token byte
    is_token = (lower - np.uint8(ord("a"))) < 26
    is_token |= (data - np.uint8(ord("0"))) < 10
    if wide:
        foreign = data >= _ASCII_END
        if foreign.any():
            np.copyto(lower, data, where=foreign)
            is_token |= foreign
    starts, lengths = _token_spans(is_token, offsets)
    pieces = np.ndarray((len(padded) - _PIECE + 1,), "<u8", padded, strides=(1,))  # 8 bytes from any position
    hashes, digits = _hash_spans(pieces, starts, lengths, find_digits=find_digits)
    return Tokens(hashes, np.searchsorted(starts, offsets).astype(np.int64), digits)


def _token_spans(is_token: Flags, offsets: Offsets) -> tuple[Offsets, Offsets]:
    """Start and length of each run of token bytes; runs end where a text ends, though the next begins with a token."""
    edge = np.empty(len(is_token) + 1, bool)
    if len(is_token) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    edge[0], edge[-1] = is_token[0], is_token[-1]
    np.not_equal(is_token[1:], is_token[:-1], out=edge[1:-1])
    bounds = np.flatnonzero(edge)
    inner = np.unique(offsets)
    inner = inner[(inner > 0) & (inner < len(is_token))]
    glued = inner[is_token[inner] & is_token[inner - 1]]
    if len(glued):
        bounds = np.insert(bounds, np.repeat(np.searchsorted(bounds, glued), 2), np.repeat(glued, 2))
    starts = np.ascontiguousarray(bounds[0::2])
    return starts, bounds[1::2] - starts


def _hash_spans(pieces: Hashes, starts: Offsets, lengths: Offsets, *, find_digits: bool) -> tuple[Hashes, Flags | None]:
    hashes = _shift_out(pieces[starts], lengths)
    digits = _with_digit(hashes) if find_digits else None
    hashes *= _C1
    hashes ^= hashes >> _S32
    done = _PIECE
    long = np.flatnonzero(lengths > done)
    while len(long):
        rest = lengths[long] - done
        word = _shift_out(pieces[starts[long] + done], rest)
        if digits is not None:
            digits[long] |= _with_digit(word)
        word ^= hashes[long]
        word *= _C1
        word ^= word >> _S32
        hashes[long] = word
        done += _PIECE
        long = long[rest > _PIECE]
    hashes *= _C2
    hashes ^= hashes >> _S29
    return hashes, digits


def _shift_out(words: Hashes, lengths: Offsets) -> Hashes:
    """Drop the bytes behind the token from 8-byte pieces: shifts them out at the top, zeros come in below."""
    shift = np.subtract(_PIECE, lengths)
    np.maximum(shift, 0, out=shift)
    shift <<= 3
    words <<= shift.view(np.uint64)
    return words


def _with_digit(words: Hashes) -> Flags:
    """Which pieces hold an ASCII digit: the only token bytes with bit 0x10 and neither 0x40 (a letter) nor 0x80."""
    other = ((words & _LETTERS) >> np.uint64(2)) | ((words & _FOREIGN) >> np.uint64(3))
    found: Flags = (words & _TENS & ~other) != 0
    return found
