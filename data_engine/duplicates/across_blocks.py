"""Which rows could repeat each other, across blocks: rows that share a band, put into groups that can be judged alone.

Input: for each row block a part with `like`, `text`, `group` and the bands' keys `k0`, `k1` ... (uint64). Output: for
every row the smallest row that it is linked with, by chains of equal bands. Rows in different groups are never compared
by `find_duplicates`, so that each group gives the same alone as among all rows.

One band of all rows is in a worker's memory at once (24 bytes a row); the driver holds 8 bytes a row.
Not covered: what is compared in a group (`groups`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.blocks import Parts, over
from data_engine.duplicates.similar_texts import clusters

if TYPE_CHECKING:
    from data_engine.runners.protocol import Runner
    from data_engine.text_hash.words import Hashes, Offsets

PRIME = np.uint64(0x9E3779B97F4A7C15)


def linked(runner: Runner, keys: Parts, blocks: int, bands: int, count: int) -> Offsets:
    """Smallest row that each of `count` rows is linked with: int64 [rows]."""
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
