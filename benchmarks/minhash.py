"""How fast and how right is near-duplicate search, against the libraries that people use for it?

Data: drawn texts of 69 words, 15% of them near copies. Truth: all pairs with exact Jaccard >= 0.8 on word 5-grams,
found by a prefix filter without MinHash. Every method starts from the same texts in memory and ends with pairs, in a
process of its own. The peers propose pairs with 128 permutations in 16 bands of 8, as is usual; ours uses the bands it
chooses and checks every pair. Slow peers get fewer texts; compare documents per CPU-second.

    python benchmarks/minhash.py [--texts 80000] [--methods ours,datasketch,...]

Peers that are not installed in the running Python are named as absent. Writes results/minhash.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from drawn_texts import RESULTS, draw, measured, timed
from machine import machine

if TYPE_CHECKING:
    import polars as pl

THRESHOLD, SIZE = 0.8, 5
PERMUTATIONS, BANDS, ROWS = 128, 16, 8
FEWER = {"datasketch_update": 10_000, "datatrove": 5_000}
METHODS = ("ours", "datasketch", "datasketch_update", "rensa", "rensa_rho", "gaoya", "polars_daft", "datatrove")
Pairs = np.ndarray


def shingles(text: str) -> set[str]:
    """Word 5-grams of the lower-cased text."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {" ".join(words[i : i + SIZE]) for i in range(max(1, len(words) - SIZE + 1))}


def true_pairs(texts: list[str]) -> Pairs:
    """All pairs at the threshold, by prefix filter: such sets share one of the rarest |x| - ceil(t |x|) + 1."""
    sets = [shingles(text) for text in texts]
    counts: dict[str, int] = {}
    for members in sets:
        for member in members:
            counts[member] = counts.get(member, 0) + 1
    places: dict[str, list[int]] = {}
    found = set()
    for index, members in enumerate(sets):
        prefix = len(members) - int(np.ceil(THRESHOLD * len(members) - 1e-9)) + 1
        candidates = set()
        for member in sorted(members, key=lambda one: (counts[one], one))[:prefix]:
            if counts[member] > 1:
                candidates.update(places.setdefault(member, []))
                places[member].append(index)
        for other in candidates:
            shared = len(members & sets[other])
            if shared / (len(members) + len(sets[other]) - shared) >= THRESHOLD:
                found.add((other, index))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def ours(texts: pl.Series) -> Pairs:
    """Our kernels: verified pairs, and pairs of texts with equal tokens."""
    from data_engine.duplicates.minhash import Shingling, bands_for, describe
    from data_engine.duplicates.similar_texts import similar_pairs

    shingling = Shingling("ascii_words", SIZE)
    table = describe(texts, shingling, bands_for(THRESHOLD))
    found = similar_pairs(texts, table, threshold=THRESHOLD, shingling=shingling)
    return spread(found.like, np.stack((found.left, found.right), axis=1))


def spread(like: np.ndarray, pairs: Pairs) -> Pairs:
    """Pairs of first texts to pairs of all texts that are like them."""
    order = np.argsort(like, kind="stable")
    members = {int(like[part[0]]): part for part in np.split(order, np.flatnonzero(np.diff(like[order])) + 1)}
    several = {key for key, part in members.items() if len(part) > 1}
    out = [np.array([(a, b) for k in several for i, a in enumerate(members[k]) for b in members[k][i + 1 :]])]
    touched = np.array([int(a) in several or int(b) in several for a, b in pairs], bool)
    out += [pairs[~touched]]
    out += [np.array([(x, y) for x in members[int(a)] for y in members[int(b)]]) for a, b in pairs[touched]]
    return np.concatenate([part.reshape(-1, 2) for part in out])


def banded(signatures: np.ndarray) -> Pairs:
    """Pairs that agree in a band of a [texts, permutations] matrix; the quickest way we know, for peers without one."""
    found = []
    low = np.uint64(2**20 - 1)
    place = np.arange(len(signatures), dtype=np.uint64)
    columns = np.ascontiguousarray(signatures.T).astype(np.uint64)
    for band in range(BANDS):
        key = np.zeros(len(signatures), np.uint64)
        for row in columns[band * ROWS : (band + 1) * ROWS]:
            key = (key + row) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        packed = np.sort((key & ~low) | place)
        for apart in range(1, 200):
            same = ((packed[apart:] ^ packed[:-apart]) & ~low) == 0
            if not same.any():
                break
            found.append(np.stack(((packed[:-apart] & low)[same], (packed[apart:] & low)[same]), axis=1))
    pairs = np.concatenate(found).astype(np.int64) if found else np.empty((0, 2), np.int64)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def datasketch(texts: pl.Series) -> Pairs:
    """Datasketch 2, its bulk generator with xxh32."""
    from datasketch import MinHash
    from xxhash import xxh32_intdigest

    sets = ([shingle.encode() for shingle in shingles(text)] for text in texts.to_list())
    made = MinHash.generator(sets, num_perm=PERMUTATIONS, seed=1, scheme="affine32", hashfunc=xxh32_intdigest)
    return banded(np.stack([one.hashvalues for one in made]))


def datasketch_update(texts: pl.Series) -> Pairs:
    """Datasketch as its first page shows it: one `update` per shingle, and its own index."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    found = set()
    for number, text in enumerate(texts.to_list()):
        made = MinHash(PERMUTATIONS)
        for shingle in shingles(text):
            made.update(shingle.encode())
        found.update((other, number) for other in index.query(made))
        index.insert(number, made)
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def rensa(texts: pl.Series) -> Pairs:
    """Rensa's bulk matrix."""
    from rensa import RMinHash

    sets = [list(shingles(text)) for text in texts.to_list()]
    return banded(np.array(RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, 1).to_rows(), np.uint32))


def rensa_rho(texts: pl.Series) -> Pairs:
    """Rensa's quicker Rho sketch."""
    from rensa import RMinHash

    sets = [list(shingles(text)) for text in texts.to_list()]
    return banded(np.array(RMinHash.digest_matrix_from_token_sets_rho(sets, PERMUTATIONS, 1).to_rows(), np.uint32))


def gaoya(texts: pl.Series) -> Pairs:
    """Gaoya's index, which tokenises in Rust."""
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(
        hash_size=32,
        jaccard_threshold=THRESHOLD,
        num_bands=BANDS,
        band_size=ROWS,
        num_hashes=PERMUTATIONS,
        analyzer="word",
        lowercase=True,
        ngram_range=(SIZE, SIZE),
    )
    content = texts.to_list()
    index.par_bulk_insert_docs(list(range(len(content))), content)
    near = index.par_bulk_query(content)
    found = {(min(i, j), max(i, j)) for i, others in enumerate(near) for j in others if i != j}
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def polars_daft(texts: pl.Series) -> Pairs:
    """Polars normalises, Daft signs."""
    import daft

    plain = texts.str.to_lowercase().str.replace_all(r"[^a-z0-9]+", " ").str.strip_chars()
    frame = daft.from_pydict({"text": plain.to_arrow()})
    column = daft.col("text")
    made = frame.select(column.minhash(num_hashes=PERMUTATIONS, ngram_size=SIZE, seed=1, hash_function="xxhash32"))
    rows = made.to_arrow().column(0).combine_chunks()
    return banded(rows.flatten().to_numpy(zero_copy_only=False).reshape(-1, PERMUTATIONS))


def datatrove(texts: pl.Series) -> Pairs:
    """Datatrove's first two stages, in this process, numbers kept."""
    import shutil
    import struct

    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig

    folder = Path(tempfile.mkdtemp())
    config = MinhashConfig(
        n_grams=SIZE,
        num_buckets=BANDS,
        hashes_per_bucket=ROWS,
        hash_config=HashConfig(precision=64),
        norm_config=TextNormConfig(norm_numbers=False),
    )
    documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts.to_list()))
    MinhashDedupSignature(str(folder / "signatures"), config).run(documents, 0, 1)
    for rank in range(BANDS):
        MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config).run(None, rank, BANDS)
    found = set()
    for file in (folder / "buckets").rglob("*.dups"):
        found.update((min(a, b), max(a, b)) for _, a, _, b in struct.iter_unpack("<4I", file.read_bytes()))
    shutil.rmtree(folder)
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def run_one(method: str, data: str, out: str) -> None:
    """Measure one method in this process."""
    import polars as pl

    texts = pl.read_parquet(data)["text"].head(FEWER.get(method, 10**9))
    globals()[method](texts.head(50))  # imports and first calls are not what is measured
    pairs, cost = timed(lambda: globals()[method](texts))
    np.save(out, pairs)
    print(json.dumps({"documents": len(texts), **cost}))


def rated(result: dict[str, Any], pairs: Pairs, truth: Pairs) -> dict[str, Any]:
    """Add documents per CPU-second, recall and precision."""
    few = truth[(truth < result["documents"]).all(axis=1)]
    known, found = ({(int(a), int(b)) for a, b in np.sort(some, axis=1)} for some in (few, pairs))
    return {
        **result,
        "documents_per_cpu_second": round(result["documents"] / result["cpu_seconds"]),
        "pairs": len(found),
        "recall": round(len(known & found) / max(1, len(known)), 5),
        "precision": round(len(known & found) / max(1, len(found)), 5),
    }


def main() -> None:
    """Draw texts, find the truth, measure every method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=80_000)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "DATA", "OUT"))
    options = parser.parse_args()
    if options.one:
        run_one(*options.one)
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data, out = str(Path(folder) / "texts.parquet"), str(Path(folder) / "pairs.npy")
        texts = draw(options.texts)
        texts.to_frame().write_parquet(data)
        truth = true_pairs(texts.to_list())
        for method in options.methods.split(","):
            cost = measured(__file__, "--one", method, data, out)
            results[method] = rated(cost, np.load(out), truth) if "documents" in cost else cost
            print(method, results[method], file=sys.stderr)
    rates = {name: one["documents_per_cpu_second"] for name, one in results.items() if "documents" in one}
    peers = {name: rate for name, rate in rates.items() if name != "ours"}
    report = {
        "machine": machine(),
        "texts": options.texts,
        "true_pairs": len(truth),
        "results": results,
        "ours_over": {name: round(rates["ours"] / rate, 2) for name, rate in peers.items()} if "ours" in rates else {},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "minhash.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
