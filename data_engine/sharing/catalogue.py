"""The catalogue of a store: which versions there are, what is in them, their tags, and how they travel.

Thin functions between the command line and `shared.dataset_version`; each returns plain JSON values.
"""

from __future__ import annotations

import time
from typing import Any

from shared.dataset_version import DatasetVersion, Manifest, list_tags, open_dataset, set_tag
from shared.dataset_version.names import LATEST, checked_tag, parse_reference, version_number
from shared.dataset_version.publish import manifests
from shared.dataset_version.transfer import copy_annotations, copy_version
from shared.dataset_version.version import dataset_names, read_tag, remove_tag
from shared.errors import UsageError
from shared.progress import Progress
from shared.store import Store


def list_versions(store: Store) -> list[dict[str, Any]]:
    """Return one entry per version, by name and number; a damaged one has `error` in place of its numbers."""
    entries = []
    for name in dataset_names(store):
        tags = list_tags(store, name)
        found = sorted(manifests(store, name), key=lambda pair: version_number(pair[0]))
        newest = tags.get(LATEST) or (found[-1][0] if found else "")
        for version, manifest in found:
            here = {tag for tag, tagged in tags.items() if tagged == version}
            if version == newest:
                here.add(LATEST)
            entry: dict[str, Any] = {"dataset": name, "version": version, "tags": sorted(here)}
            entry |= summary(manifest) if isinstance(manifest, Manifest) else {"error": str(manifest)}
            entries.append(entry)
    return entries


def summary(manifest: Manifest) -> dict[str, Any]:
    """Return the few numbers by which a version is known."""
    return {
        "label": manifest.label,
        "profile": manifest.profile,
        "rows": manifest.rows,
        "rejected": manifest.rejected,
        "bytes": manifest.bytes,
        "shards": len(manifest.shards),
        "fingerprint": manifest.fingerprint,
        "created_at": manifest.created_at,
    }


def describe(version: DatasetVersion) -> dict[str, Any]:
    """Return the whole manifest, with the tags that point to the version and the folder where it lies."""
    tags = [tag for tag, tagged in list_tags(version.store, version.name).items() if tagged == version.version]
    told = {"dataset": version.name, "tags": tags, "path": version.place}
    splits = {"splits": version.manifest.splits} if version.manifest.splits else {}
    return version.manifest.model_dump(mode="json") | told | splits


def tag(reference: str, name_of_tag: str, store: Store) -> dict[str, Any]:
    """Point a tag to a version (compare-and-set). `reference` may itself name a tag: the version behind it is taken."""
    version = open_dataset(reference, store)
    before = set_tag(version, name_of_tag)
    return {"dataset": version.name, "tag": name_of_tag, "version": version.version, "before": before}


def untag(reference: str, name_of_tag: str, store: Store) -> dict[str, Any]:
    """Remove a tag of a dataset. Raises `UsageError` where there is none of that name."""
    name = parse_reference(reference).name
    before = read_tag(store, name, checked_tag(name_of_tag))
    if before is None:
        known = ", ".join(list_tags(store, name))
        raise UsageError(
            f"{name} has no tag {name_of_tag!r} in {store.url}", f"Known: {known}" if known else "See data-engine list"
        )
    remove_tag(store, name, name_of_tag)
    return {"dataset": name, "tag": name_of_tag, "version": None, "before": before}


def transfer(
    reference: str,
    source: Store,
    target: Store,
    *,
    annotations: bool = False,
    whole: bool = False,
    check: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Bring a version from one store to another (`push` and `pull` are this with the stores exchanged).

    The version keeps its number where that is free in the target or holds equal content, and takes the next number
    otherwise; content that stands there under another number is not copied again. A reference by tag (`NAME@prod`)
    takes the tag along.
    """
    started = time.monotonic()
    version = open_dataset(reference, source)
    done = copy_version(version, target, whole=whole, deep=check, progress=progress)
    files, size = copy_annotations(source, target, progress) if annotations else (0, 0)
    asked = parse_reference(reference)
    carried_tag = None if asked.is_version or asked.selector == LATEST else asked.selector
    if carried_tag is not None:
        set_tag(DatasetVersion(target, done.manifest), carried_tag)
    return {
        "dataset": done.manifest.name,
        "version": done.manifest.version,
        "label": done.manifest.label,
        "fingerprint": done.manifest.fingerprint,
        "from": source.url,
        "to": target.url,
        "bytes": done.bytes_total,
        "bytes_sent": done.bytes_sent,
        "files_sent": done.files_sent,
        "files_there": done.files_there,
        "annotation_files": files,
        "annotation_bytes": size,
        "tag": carried_tag,
        "seconds": round(time.monotonic() - started, 3),
    }
