"""Near-duplicate texts: bands propose pairs, the exact Jaccard similarity of their shingles decides.

Cost: linear in the text. Texts with the same shingles are one text from the start. A bucket of more than `BUCKET_PAIRS`
texts is not compared all with all but with a few leaders (`_large_buckets`), so that no input is quadratic.

Across row blocks, `linked` puts rows that share a band into groups that can be judged alone: rows in different groups
are never compared by `find_duplicates`, so that each group gives the same alone as among all rows. One band of all rows
is in a worker's memory at once (24 bytes a row); the driver holds 8 bytes a row.

Not covered: images (`steps/dedup_minhash.py` joins text and image identity), paraphrases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.blocks import Parts, over
from data_engine.duplicates.minhash import Shingling, TextTable
from data_engine.text_hash import iterate_words

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from data_engine.runners.protocol import Runner
    from data_engine.text_hash.words import Hashes, Offsets

    Scores = npt.NDArray[np.float64]

BUCKET_PAIRS = 48
"""Buckets up to this size are compared all with all: at most 24 pairs a text, while real clusters stay far below."""

LEADERS = 64
"""Texts of one larger bucket that the others are compared with, one after the other; a bucket of m texts costs at most
64 m comparisons."""

_PAIRS_AT_ONCE = 1024  # 10 bits name the pair, 1 the side; 53 bits of each shingle's hash are left
_DROPPED_BITS, _PAIR_SHIFT, _SIDE = np.uint64(11), np.uint64(54), np.uint64(1)
PRIME = np.uint64(0x9E3779B97F4A7C15)
_BAND_PRIME = 0xD6E8FEB86659FD93


@dataclass(frozen=True)
class Pairs:
    """Verified pairs of distinct texts.

    Attributes:
        like: int64 [texts], for every text the first one with the same shingles (itself, where there is none before).
        left, right: int64 [pairs], texts that are first of their like, left < right.
        score: float64 [pairs], exact Jaccard similarity.
        proposed: Candidates checked.
        cut_buckets: Buckets too large and too mixed to compare in full.

    """

    like: Offsets
    left: Offsets
    right: Offsets
    score: Scores
    proposed: int = 0
    cut_buckets: int = 0


def similar_pairs(
    texts: pl.Series,
    table: TextTable,
    *,
    threshold: float = 0.8,
    shingling: Shingling | None = None,
    groups: Hashes | None = None,
) -> Pairs:
    """Find pairs of texts whose exact Jaccard similarity reaches `threshold`.

    Args:
        texts: Strings, [texts].
        table: Of the same texts, from `describe` or from the store.
        threshold: Smallest Jaccard similarity of a pair.
        shingling: What `table` was made with.
        groups: uint64 [texts]; only texts of equal value are compared (their numbers, the count of their images).

    Returns:
        Texts of equal shingles (and group) as `like`; the pairs between first ones of their like, each once. Texts
        without tokens are like nothing. Of a bucket larger than `BUCKET_PAIRS` enough pairs to connect it, not all.

    """
    shingling = shingling or Shingling()
    like = _like(table.text if groups is None else table.text ^ (groups * PRIME))
    empty = table.text == 0
    everyone = np.arange(len(like))
    like[empty] = everyone[empty]
    index = everyone[(like == everyone) & ~empty]
    small, large = _buckets(table.keys, index, groups)
    checker = _Checker(texts, shingling)
    score = checker.jaccard(*small)
    good = score >= threshold
    left, right, score = small[0][good], small[1][good], score[good]
    proposed, cut = len(small[0]), 0
    if large:
        more, checked, cut = _large_buckets(large, checker, threshold, clusters(len(texts), left, right))
        left, right, score = (np.concatenate(both) for both in zip((left, right, score), more, strict=True))
        proposed += checked
    return Pairs(like, left, right, score, proposed, cut)


def _like(key: Hashes) -> Offsets:
    """For every value the index of its first occurrence."""
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return first[place]


def clusters(count: int, left: Offsets, right: Offsets) -> Offsets:
    """Connected components of pairs: int64 [count], the smallest member's index of each text's component.

    Union-find on whole arrays: hook the larger root to the smaller, shorten all paths, until nothing changes.
    """
    root = np.arange(count)
    while True:
        a, b = root[left], root[right]
        open_ = a != b
        if not open_.any():
            return root
        left, right = left[open_], right[open_]
        a, b = a[open_], b[open_]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:
            higher = root[root]
            if np.array_equal(higher, root):
                break
            root = higher


def _buckets(keys: Hashes, index: Offsets, groups: Hashes | None) -> tuple[tuple[Offsets, Offsets], list[Offsets]]:
    """Pairs from small buckets, each once, and the members of each large bucket; only texts of `index` take part."""
    count = len(index)
    low = np.uint64(2 ** max(1, count.bit_length()) - 1)  # bits that number the texts
    number = np.arange(count, dtype=np.uint64)
    mixed = np.uint64(0) if groups is None else groups[index] * PRIME
    bands = np.empty((len(keys), count), np.uint64)
    for band, key in enumerate(keys):
        # Hash above, text below: one sort of plain integers orders buckets and the texts in them. Bands never meet.
        bands[band] = (((key[index] ^ mixed) + np.uint64(band * _BAND_PRIME % 2**64)) & ~low) | number
    packed = bands.reshape(-1)
    packed.sort()
    members, starts, sizes = _runs(packed, low)
    big = sizes > BUCKET_PAIRS
    pairs = np.unique(np.concatenate([np.empty(0, np.uint64), *_all_pairs(members, starts[~big], sizes[~big], count)]))
    left, right = np.divmod(pairs.astype(np.int64), max(count, 1))
    crowds = [index[members[start : start + size]] for start, size in zip(starts[big], sizes[big], strict=True)]
    return (index[left], index[right]), crowds


def _runs(packed: Hashes, low: np.uint64) -> tuple[Offsets, Offsets, Offsets]:
    """Members, starts and sizes of the runs of equal upper bits that have at least two members."""
    same = ((packed[1:] ^ packed[:-1]) & ~low) == 0
    if not same.any():
        none = np.empty(0, np.int64)
        return none, none, none
    edges = np.diff(np.concatenate(([0], same.view(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return (packed & low).astype(np.int64), starts, ends - starts + 1


def _all_pairs(members: Offsets, starts: Offsets, sizes: Offsets, count: int) -> Iterator[Hashes]:
    """All pairs within runs, as left * count + right; one array for each distance of the two in their run."""
    for apart in range(1, int(sizes.max(initial=0))):
        wide = sizes > apart
        starts, sizes = starts[wide], sizes[wide]
        per = sizes - apart
        begin = np.repeat(starts, per) + np.arange(per.sum()) - np.repeat(np.cumsum(per) - per, per)
        yield (members[begin] * count + members[begin + apart]).astype(np.uint64)


def _large_buckets(
    buckets: list[Offsets], checker: _Checker, threshold: float, root: Offsets
) -> tuple[tuple[Offsets, Offsets, Scores], int, int]:
    """Connect large buckets: compare all with a leader, drop those connected to it, go on with the next leader.

    A bucket of m texts that are alike costs m comparisons; one of k groups costs at most k m. After `LEADERS` rounds
    the rest is left (counted as cut): texts that share a band and yet are not alike.
    """
    lefts, rights, scores = [], [], []
    checked = 0
    for _ in range(LEADERS):
        buckets = [bucket for bucket in buckets if len(bucket) > 1]
        if not buckets:
            break
        sizes = np.array([len(bucket) - 1 for bucket in buckets])
        leader = np.repeat([bucket[0] for bucket in buckets], sizes)
        other = np.concatenate([bucket[1:] for bucket in buckets])
        apart = np.flatnonzero(root[leader] != root[other])
        low, high = np.minimum(leader, other)[apart], np.maximum(leader, other)[apart]
        score = checker.jaccard(low, high)
        checked += len(low)
        good = score >= threshold
        lefts.append(low[good])
        rights.append(high[good])
        scores.append(score[good])
        everyone = np.arange(len(root))
        root = clusters(len(root), np.append(low[good], root), np.append(high[good], everyone))
        buckets = [bucket[1:][root[bucket[1:]] != root[bucket[0]]] for bucket in buckets]
    cut = sum(len(bucket) > 1 for bucket in buckets)
    return (np.concatenate(lefts), np.concatenate(rights), np.concatenate(scores)), checked, cut


class _Checker:
    """Exact Jaccard similarity of pairs.

    Shingles are made again for the texts that are in a pair: few of all, and so memory stays bounded.
    """

    def __init__(self, texts: pl.Series, shingling: Shingling) -> None:
        self.texts = texts
        self.shingling = shingling

    def jaccard(self, left: Offsets, right: Offsets) -> Scores:
        """Similarity of each pair, float64 [pairs]."""
        scores = [np.empty(0)]
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            wanted, place = np.unique(np.concatenate((left[part], right[part])), return_inverse=True)
            scores.append(_scores(self.texts.gather(wanted), place, self.shingling))
        return np.concatenate(scores)


def _scores(distinct: pl.Series, place: Offsets, shingling: Shingling) -> Scores:
    """Exact Jaccard similarity of n pairs, float64 [n]: texts `distinct[place]` [2 n], left ones first."""
    count = len(place) // 2
    parts = [shingling.shingles(part) for part in iterate_words(distinct, shingling.tokeniser)]
    hashes = np.concatenate([part[0] for part in parts])
    counts = np.concatenate([np.diff(part[1]) for part in parts])
    sizes = counts[place]
    source = np.repeat((np.cumsum(counts) - counts)[place] - (np.cumsum(sizes) - sizes), sizes)
    source += np.arange(len(source))
    # Pair above, hash, side of the pair below: sorted, repeated shingles of a text are equal neighbours, and those
    # that both texts have differ in the side alone.
    pair = np.tile(np.arange(count, dtype=np.uint64) << _PAIR_SHIFT, 2)
    pair[count:] |= _SIDE
    packed = (hashes[source] >> _DROPPED_BITS) << _SIDE
    packed |= np.repeat(pair, sizes)
    packed.sort()
    packed = packed[np.append(True, packed[1:] != packed[:-1])]
    both = packed[1:][(packed[1:] ^ packed[:-1]) == _SIDE] >> _PAIR_SHIFT
    shared = np.bincount(both.astype(np.int64), minlength=count)
    members = np.bincount((packed >> _PAIR_SHIFT).astype(np.int64), minlength=count)
    return shared / (members - shared)


def linked(runner: Runner, keys: Parts, blocks: int, bands: int, count: int) -> Offsets:
    """Smallest row that each of `count` rows is linked with, by chains of equal bands: int64 [rows].

    `keys` holds a part for each row block with `like`, `text`, `group` and the bands' keys `k0`, `k1` ... (uint64).
    """
    root = np.arange(count)
    edges = Parts(keys.store, "edges")
    for band, _ in enumerate(over(runner, _link_band, range(bands + 1), (keys, edges, blocks))):
        found = edges.read(band)
        left, right = (root[found[name].to_numpy()] for name in ("left", "right"))
        apart = left != right
        if apart.any():
            root = clusters(count, left[apart], right[apart])[root]
        edges.delete([band])
    return root


def _link_band(band: int, job: tuple[Parts, Parts, int]) -> dict[str, Any]:
    """Link the rows of each bucket of one band with its first row; band 0 is that of whole texts."""
    import polars as pl

    keys, edges, blocks = job
    key = _band(keys, blocks, "like" if band == 0 else f"k{band - 1}", mixed=band > 0)
    rows = np.arange(len(key))
    if band:
        rows = np.flatnonzero(_band(keys, blocks, "text", mixed=False))  # rows without words have no bands
        key = key[rows]
    order = np.argsort(key, kind="stable")
    key, rows = key[order], rows[order]
    first = np.ones(len(key), bool)
    first[1:] = key[1:] != key[:-1]
    start = np.maximum.accumulate(np.where(first, np.arange(len(key)), 0))
    pairs = np.flatnonzero(~first)
    edges.write(band, pl.DataFrame({"left": rows[start[pairs]], "right": rows[pairs]}))
    return {}


def _band(keys: Parts, blocks: int, name: str, *, mixed: bool) -> Hashes:
    """One column of all rows; where `mixed`, other groups have other keys."""
    parts = [np.empty(0, np.uint64)]
    for block in range(blocks):
        frame = keys.read(block, [name, "group"] if mixed else [name])
        part = frame[name].to_numpy()
        parts.append(part ^ (frame["group"].to_numpy() * PRIME) if mixed else part)
    return np.concatenate(parts)
