"""A row's whole story: where it came from, what each step found, and why it was kept or removed, in every version.

Input: a row's id, or its key in the source (a qid). Output: JSON values. The story is what the build kept beside its
annotations; the ledger and the shards of the version are read as well, so that a version pulled from elsewhere, whose
findings stayed behind, still tells what it knows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion
    from shared.store import Store

_SOURCE = ("source_name", "source_id", "source_location", "source_revision")
_SHOWN = ("question", "answer", "answer_kind", "choices", "image_types", "captions", "source_name", "source_id")


def tell(words: str, store_url: str, dataset: str | None = None) -> dict[str, Any]:
    """Tell the story of a row.

    Args:
        words: The row's id, or its key in the source.
        store_url: Where to look.
        dataset: `NAME[@V]` to look at one version only; else the newest version of every dataset.

    Raises:
        InfiMmrError: no version here knows such a row.

    """
    from shared.store import open_store

    store = open_store(store_url)
    versions = _versions(store, dataset)
    told: list[dict[str, Any]] = []
    identity = words
    for version in versions:
        for found in _row_ids(version, words):
            identity = found
            told.append(_tell_version(store, version, found))
    if not told:
        where = dataset or (", ".join(version.label for version in versions) or "an empty store")
        raise InfiMmrError(f"no row {words} in {where}", "Give a row's id or its key in the source; see show --ledger")
    return {"id": identity, "versions": told}


def _versions(store: Store, dataset: str | None) -> list[DatasetVersion]:
    from shared.dataset_version import list_datasets, open_dataset

    if dataset is not None:
        return [open_dataset(dataset, store)]
    versions = sorted(list_datasets(store), key=lambda one: (one.name, int(one.version[1:])))
    return list({version.name: version for version in versions}.values())


def _row_ids(version: DatasetVersion, words: str) -> list[str]:
    """Ids of the version's rows, kept or removed, that the words mean."""
    import polars as pl

    wanted = (pl.col("id") == words) | (pl.col("source_id") == words)
    kept = version.scan().select("id", "source_id").filter(wanted).collect()["id"].to_list()
    removed = version.ledger().filter(wanted)["id"].to_list()
    return list(dict.fromkeys([*kept, *removed]))


def _tell_version(store: Store, version: DatasetVersion, identity: str) -> dict[str, Any]:
    import polars as pl

    from data_engine.findings import findings_table

    ledger = [
        {**entry, "evidence": json.loads(entry["evidence"])}
        for entry in version.ledger().filter(pl.col("id") == identity).iter_rows(named=True)
    ]
    story: dict[str, Any] = {"label": version.label, "fingerprint": version.manifest.fingerprint}
    story["kept"] = not any(entry["removed"] for entry in ledger)
    known = findings_table(store, version.manifest.build_key).lookup([identity])
    if identity in known:
        story |= json.loads(known[identity]["story"])
    else:
        story["note"] = "the findings of this build are not in this store: shards and ledger only"
    if story["kept"]:
        rows = version.scan().filter(pl.col("id") == identity).select({*_SHOWN, *_SOURCE}).collect()
        row = rows.row(0, named=True) if rows.height else {}
        story |= {name: row[name] for name in _SHOWN if row}
        story.setdefault("source", {name: row.get(name) for name in _SOURCE})
    known_source = {key: value for key, value in story.get("source", {}).items() if value is not None}
    story["source"] = _source(version, ledger, identity) | known_source
    story["ledger"] = ledger
    return story


def _source(version: DatasetVersion, ledger: list[dict[str, Any]], identity: str) -> dict[str, Any]:
    """Where a row comes from: the manifest names its source first, or the merged ones, with which ids begin."""
    source: dict[str, Any] = {"source_id": ledger[0]["source_id"]} if ledger else {}
    inputs = version.manifest.inputs
    if inputs:
        merged = version.manifest.recipe.get("sources") or {}
        its = [one for one in inputs if one.name in merged and identity.startswith(f"{one.name}-")]
        place = max(its, key=lambda one: len(one.name), default=inputs[0])
        source |= {"source_name": place.name, "source_location": place.location, "source_revision": place.revision}
    return source
