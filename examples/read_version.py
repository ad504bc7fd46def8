"""Read a built version in Python: filter it, read it for training, look at what was removed.

uv run data-engine build examples/own-rows.toml --profile local
uv run python examples/read_version.py [STORE]
"""

import sys

import polars as pl

from shared.dataset_version import open_dataset

version = open_dataset("own-rows", store=sys.argv[1] if len(sys.argv) > 1 else "./store")
print(version.label, "by", version.manifest.fingerprint[:12])

# A lazy frame: only the columns and rows that are asked for are read, also from a bucket.
products = version.scan().filter(pl.col("category") == "products").select("question", "answer", "answer_kind").collect()
print(products)

# For training: this rank's share, in the same order every time for a seed; images come as bytes.
for row in version.iterate(rank=0, world_size=1, seed=1):
    print(row["id"], row["answer"], len(row["images"] or []), "images")

# What is not in it, and why.
print(version.ledger().select("id", "step", "rule"))
