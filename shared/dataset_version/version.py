"""One version in one store, and the tags that point to versions. Nothing is brought or read here (`opened`)."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from shared.dataset_version.manifest import Manifest
from shared.dataset_version.names import checked_name, checked_tag, is_version, tag_path, version_folder
from shared.errors import InfiMmrError, UsageError
from shared.store import Store


class StoredVersion:
    """One immutable version in one store."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        """Take a checked manifest; the files are not touched."""
        self.store = store
        self.manifest = manifest

    def __repr__(self) -> str:
        """Return the label and where it is."""
        return f"{type(self).__name__}({self.manifest.label!r}, {self.store.url!r})"

    @property
    def name(self) -> str:
        """Dataset name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """``vN``."""
        return self.manifest.version

    @property
    def label(self) -> str:
        """What people say: ``virl39k-captioned@v3 (local)``."""
        return self.manifest.label

    @property
    def place(self) -> str:
        """Where it lies: its folder, or its address in a bucket."""
        folder = version_folder(self.name, self.version)
        return str(self.store.local_path(folder) or f"{self.store.url}/{folder}")

    @property
    def path(self) -> Path:
        """The local folder of the shards. Raises `InfiMmrError` for a version in a bucket, which has none."""
        local = self.store.local_path(version_folder(self.name, self.version))
        if local is None:
            raise InfiMmrError(f"{self.label} lies in {self.store.url}", "Take version.local().path, or pull it first")
        return local


def dataset_names(store: Store) -> list[str]:
    """Return the names of the datasets in a store; folders that are no dataset's name are left out."""
    names = []
    for name in store.folders("datasets"):
        with suppress(UsageError):
            names.append(checked_name(name))
    return names


def read_tag(store: Store, name: str, tag: str) -> str | None:
    """Return the version that a tag points to, or None. Raises `InfiMmrError` for a damaged tag."""
    content = store.find(tag_path(name, tag))
    version = _tagged(content)
    if content is not None and version is None:
        raise InfiMmrError(
            f"the tag {name}@{tag} in {store.url} is damaged", f"Set it again: data-engine tag {name}@vN {tag}"
        )
    return version


def _tagged(content: bytes | None) -> str | None:
    """Return the version that a tag's file names, or None."""
    try:
        version = json.loads(content or b"")["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) and is_version(version) else None


def list_tags(store: Store, name: str) -> dict[str, str]:
    """Return tag -> version of a dataset."""
    tags = sorted(entry.path.rpartition("/")[2].removesuffix(".json") for entry in store.list(f"tags/{name}"))
    found = {tag: read_tag(store, name, tag) for tag in tags}
    return {tag: version for tag, version in found.items() if version is not None}


def set_tag(version: StoredVersion, tag: str) -> str | None:
    """Move a tag to a version by compare-and-set; return where it pointed before.

    Raises:
        InfiMmrError: somebody else moved it meanwhile.
    """
    path = tag_path(version.name, checked_tag(tag))
    before = version.store.find(path)
    content = {"version": version.version, "fingerprint": version.manifest.fingerprint}
    if not version.store.compare_and_set(path, before, (json.dumps(content, sort_keys=True) + "\n").encode()):
        raise InfiMmrError(
            f"somebody else moved the tag {version.name}@{tag} at the same moment", "Look, then tag again"
        )
    return _tagged(before)


def remove_tag(store: Store, name: str, tag: str) -> None:
    """Remove a tag; no error where it is absent."""
    store.delete(tag_path(name, tag))
