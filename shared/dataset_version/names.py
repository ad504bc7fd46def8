"""Names that people say: datasets, versions, tags, and the paths that they have in a store.

``virl39k-captioned@v3`` is a version, ``virl39k-captioned@prod`` a tag, ``virl39k-captioned`` means ``@latest``.
Everything that becomes a path passes through here, so that a crafted name cannot leave the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import UsageError

LATEST = "latest"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHARD_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.(parquet|pq)")
LEDGER_FILE = "_ledger.pq"
"""The ledger's name in a version's folder: no reader that takes ``*.parquet`` mistakes it for rows."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A dataset name and what stood behind the ``@``: a version, a tag, or ``latest``."""

    name: str
    selector: str = LATEST

    @property
    def is_version(self) -> bool:
        """Whether the selector is a version (``v3``) and not a tag."""
        return _VERSION.fullmatch(self.selector) is not None

    def __str__(self) -> str:
        """Return the spoken form."""
        return f"{self.name}@{self.selector}"


def parse_reference(text: str) -> Reference:
    """Read ``name``, ``name@v3`` or ``name@tag``. Raises `UsageError` where it is none of these."""
    name, at, selector = text.partition("@")
    checked_name(name)
    if at and not (_VERSION.fullmatch(selector) or _NAME.fullmatch(selector)):
        raise UsageError(f"{text!r} names no version", "Write NAME, NAME@v3 or NAME@TAG")
    return Reference(name, selector or LATEST)


def checked_name(name: str) -> str:
    """Return a dataset name unchanged, or raise `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a dataset name", "Use lower-case letters, digits and . _ - (at most 100)")
    return name


def checked_tag(tag: str) -> str:
    """Return a tag unchanged, or raise `UsageError`: same letters as a name, and it must not look like a version."""
    if not _NAME.fullmatch(tag) or re.fullmatch(r"v[0-9]+", tag):
        raise UsageError(f"{tag!r} is not a tag", "Use lower-case letters, digits and . _ -, not in the form v3")
    return tag


def checked_sha256(text: str) -> str:
    """Return 64 hex digits unchanged, or raise ValueError."""
    if not _SHA256.fullmatch(text):
        raise ValueError(f"{text!r} is not a sha256")
    return text


def checked_shard_file(name: str) -> str:
    """Return a shard's file name unchanged, or raise ValueError: a plain name, so that it stays in its folder."""
    if name != LEDGER_FILE and not _SHARD_FILE.fullmatch(name):
        raise ValueError(f"{name!r} is not a shard's file name")
    return name


def checked_version(version: str) -> str:
    """Return ``vN`` unchanged, or raise ValueError."""
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is not a version")
    return version


def version_number(version: str) -> int:
    """Return 3 for ``v3``."""
    return int(checked_version(version)[1:])


def is_version(text: str) -> bool:
    """Whether `text` has the form ``vN``."""
    return _VERSION.fullmatch(text) is not None


def version_folder(name: str, version: str) -> str:
    """Return the folder of one version in a store."""
    return f"datasets/{checked_name(name)}/{checked_version(version)}"


def manifest_path(name: str, version: str) -> str:
    """Return the path of a version's manifest in a store."""
    return f"{version_folder(name, version)}/manifest.json"


def tag_path(name: str, tag: str) -> str:
    """Return the path of a tag in a store."""
    return f"tags/{checked_name(name)}/{checked_tag(tag)}.json"


def blob_path(sha256: str) -> str:
    """Return the path of a content-addressed shard in a store."""
    return f"blobs/sha256/{checked_sha256(sha256)[:2]}/{sha256}.parquet"


def map_path(sha256: str) -> str:
    """Return the path of a shard that a bucket keeps as ranges of other files (see `shared.dataset_version.delta`)."""
    return f"blobs/sha256/{checked_sha256(sha256)[:2]}/{sha256}.map.json"


def pack_path(sha256: str) -> str:
    """Return the path of the new bytes of such shards."""
    return f"blobs/sha256/{checked_sha256(sha256)[:2]}/{sha256}.pack"
