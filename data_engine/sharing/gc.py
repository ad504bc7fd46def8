"""Remove from a store what no version reaches, and never what is being written.

Reached are the files that a manifest names and, in a bucket, what their maps name. While somebody publishes nothing is
removed (`shared.dataset_version.leases`), and a publisher that starts meanwhile waits. An unreached file younger than
`MINIMUM_AGE_SECONDS` stays as well, since it may come from a tool that knows no leases, unless a publisher is known to
have died while it was written. What killed builds left on scratch goes, too (`data_engine.scratch`), stages that no
build used for two weeks (`data_engine.kept_stages`), and findings of builds of which no version came
(`data_engine.findings`). Other annotations, tags and versions are never removed.
"""

from __future__ import annotations

import time
from typing import Any

from data_engine.findings import unneeded_findings
from data_engine.kept_stages import unused_stages
from data_engine.scratch import remove_dead_scratch
from shared.dataset_version.blobs import blob_is_mapped
from shared.dataset_version.delta import read_map, run_path
from shared.dataset_version.leases import builders, collecting, remove_dead_leases
from shared.dataset_version.names import blob_path, map_path
from shared.dataset_version.publish import every_manifest
from shared.store import Entry, Store
from shared.store.folder import FolderStore

MINIMUM_AGE_SECONDS = 3600.0
_SLACK_SECONDS = 5.0
"""A file system's clock may run behind the publisher's by this much."""


def collect(store: Store, *, dry_run: bool = False, minimum_age: float = MINIMUM_AGE_SECONDS) -> dict[str, Any]:
    """Remove unreached blobs and what killed writers left; return what was (or would be) removed and what stays why.

    Raises:
        InfiMmrError: somebody publishes or collects now, or a manifest is damaged, so that it is not known what it
            reaches.
    """
    with collecting(store) as dead:
        running = builders(store)  # before versions are read: a build that ends in between is a version then
        reached, keys = _reached(store)
        unreached = [entry for entry in store.list("blobs") if entry.path not in reached]
        young = [entry for entry in unreached if not _removable(entry, dead, minimum_age)]
        findings, new = unneeded_findings(store, keys, running, minimum_age)
        removed = [*(entry for entry in unreached if entry not in young), *unused_stages(store), *findings]
        scratch = remove_dead_scratch(store, minimum_age=minimum_age, dry_run=dry_run)
        temporaries = store.dead_temporaries() if isinstance(store, FolderStore) else []
        if not dry_run:
            for entry in removed:
                store.delete(entry.path)
            if isinstance(store, FolderStore):
                store.remove_dead_temporaries()
                store.prune("blobs")
                store.prune("stages")
                store.prune("datasets")
                for entry in findings:
                    store.prune("/".join(entry.path.split("/")[:3]))
            if not young:
                # While some file stays for its age, the dead leases that will prove its writer's end stay as well.
                remove_dead_leases(store)
        return {
            "store": store.url,
            "dry_run": dry_run,
            "files": len(removed) + len(scratch) + len(temporaries),
            "bytes": sum(entry.size for entry in (*removed, *scratch)) + sum(size for _, size in temporaries),
            "removed": sorted(entry.path for entry in (*removed, *scratch)),
            "temporaries": len(temporaries),
            "too_young": sorted(entry.path for entry in (*young, *new)),
        }


def _reached(store: Store) -> tuple[set[str], set[str]]:
    """Paths of the files that versions need, and the keys of their builds."""
    paths, blobs, keys = set(), set(), set()
    for manifest in every_manifest(store):
        blobs |= {shard.sha256 for shard in manifest.files()}
        keys.add(manifest.build_key)
    for sha256 in blobs:
        paths.add(blob_path(sha256))
        if blob_is_mapped(store, sha256):
            paths.add(map_path(sha256))
            paths |= {run_path(run) for run in read_map(store, sha256)}
    return paths, keys


def _removable(entry: Entry, dead: list[dict[str, float]], minimum_age: float) -> bool:
    if entry.modified < time.time() - minimum_age:
        return True
    return any(lease["started"] - _SLACK_SECONDS <= entry.modified <= lease["expires"] for lease in dead)
