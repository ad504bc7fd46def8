"""Which split a row belongs to: the same in every build, and never apart from rows that show the same.

Input: kept rows, fractions by split (`[splits] train = 0.95`). Rows that share a picture, of which `dedup_minhash`
found that one repeats the other (where a threshold keeps both), or that ask the same words without pictures form one
group, also across others. A group's split follows from the smallest hash of its rows' contents: it does not depend on
the order of rows, nor on rows of other groups.
Not covered: pictures that look alike and are other bytes, where the recipe runs no `dedup_minhash`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from data_engine.step import StepResult

Array = np.ndarray[Any, Any]
_WORD = re.compile(r"\w+")


def links_of(rows: pl.DataFrame, results: Mapping[str, StepResult]) -> pl.DataFrame:
    """What ties rows to others: (row: place in `rows`, key: 64-bit hash), one or more per row."""
    import polars as pl

    repeats: dict[str, Sequence[str]] = {}
    dedup = results.get("dedup_minhash")
    if dedup is not None:
        found = dedup.annotations.select("id", "duplicate_of", "cluster")
        repeats = {row: others for row, *others in found.iter_rows()}
    places, keys = [], []
    columns = rows.select("id", "question", "choices", "image_hashes").iter_rows()
    for place, (identity, question, choices, hashes) in enumerate(columns):
        tied = [f"picture {sha256}" for sha256 in hashes]
        if not tied:
            tied = [" ".join(["words", *_WORD.findall(question.casefold()), "\x1f", *choices])]
        if dedup is not None:  # a row that others repeat has no finding, so each is tied to its own id as well
            tied += [f"cluster {other}" for other in (identity, *repeats.get(identity, ()))]
        places += [place] * len(tied)
        keys += [_hash(words) for words in tied]
    return pl.DataFrame({"row": places, "key": keys}, schema={"row": pl.Int64, "key": pl.UInt64})


def contents_of(rows: pl.DataFrame) -> pl.Series:
    """First 64 bits of the hash of each row's content."""
    import polars as pl

    hashes = [int(digest[:16], 16) for digest in rows["row_hash"].to_list()]
    return pl.Series("content", hashes, dtype=pl.UInt64)


def split_of_rows(contents: Array, link_rows: Array, link_keys: Array, fractions: Sequence[float]) -> Array:
    """Number of each row's split: int64 [rows].

    Args:
        contents: uint64 [rows], see `contents_of`.
        link_rows: int64 [links], the row of each link.
        link_keys: uint64 [links], what it is tied to.
        fractions: Share of each split; they add up to 1.

    """
    group = _groups(len(contents), link_rows, np.unique(link_keys, return_inverse=True)[1])
    smallest = np.full(len(contents), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, group, contents)
    # The smallest of many is small: mixed again, groups of any size fall evenly.
    drawn = _mixed(smallest[group]).astype(np.float64) / 2.0**64
    return np.searchsorted(np.cumsum(fractions)[:-1], drawn, side="right").astype(np.int64)


def _groups(rows: int, link_rows: Array, link_keys: Array) -> Array:
    """For each row the smallest row that it is tied to, over any number of others."""
    root = np.arange(rows)
    keys = int(link_keys.max()) + 1 if len(link_keys) else 0
    while True:
        least = np.full(keys, rows)
        np.minimum.at(least, link_keys, root[link_rows])
        found = root.copy()
        np.minimum.at(found, link_rows, least[link_keys])
        found = found[found]
        if np.array_equal(found, root):
            return root
        root = found


def _mixed(values: Array) -> Array:
    """SplitMix64's finalizer: every bit of the input reaches every bit of the output."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed


def _hash(words: str) -> int:
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")
