"""Publishing: blobs first, the manifest last, and the number claimed by whoever comes first.

On a folder a version is prepared in a hidden folder (manifest and hard links of the blobs) and renamed to ``vN``, which
fails where ``vN`` exists, also over NFS. In a bucket the manifest is created with a conditional put. Who loses the race
reads again: equal content is that version, other content takes the next number. Half a version is never visible.
"""

from __future__ import annotations

import errno
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from shared.dataset_version.blobs import PARALLEL_FILES, has_blob, link_over, put_blob
from shared.dataset_version.leases import Lease, collecting, publishing
from shared.dataset_version.manifest import Manifest, ManifestDraft, Shard, complete, manifest_bytes, read_manifest
from shared.dataset_version.names import (
    LEDGER_FILE,
    blob_path,
    checked_name,
    is_version,
    manifest_path,
    version_folder,
    version_number,
)
from shared.errors import InfiMmrError
from shared.store import NotInStoreError, Store
from shared.store.folder import FolderStore, copy_pieces, sync_folder

_LOST_RACES = 10_000
"""More lost races than builders exist: a store that refuses every number for another reason ends here."""


def publish_files(
    store: Store, draft: ManifestDraft, shard_files: Sequence[Path], ledger_file: Path | None
) -> Manifest:
    """Upload the files and claim a version; return its manifest, or that of an equal version which already exists.

    Args:
        store: where to publish.
        draft: what the build knows.
        shard_files: local Parquet files of rows, in order; their names become the names in the version's folder.
        ledger_file: local Parquet file of removed and near-missed rows.

    Raises:
        InfiMmrError: full disk, no permission, unreachable; the store is left as it was (gc takes loose blobs away).
    """
    names = [file.name for file in shard_files] + [LEDGER_FILE] * (ledger_file is not None)
    files = [*shard_files, *([ledger_file] if ledger_file else [])]
    brought: list[str] = []
    try:
        with publishing(store) as lease:
            with ThreadPoolExecutor(PARALLEL_FILES) as pool:
                done = list(pool.map(lambda name, file: _put_shard(store, name, file, brought), names, files))
            ledger = done.pop() if ledger_file else None
            moment = draft.created_at or datetime.now(UTC).isoformat(timespec="seconds")
            draft = draft.model_copy(update={"created_at": moment})
            return claim(store, complete(draft, done, ledger, "v1"), lease)
    except InfiMmrError:
        take_back(store, brought)
        raise


def take_back(store: Store, brought: Sequence[str]) -> None:
    """After a failure, remove the blobs (by sha256) that this publisher brought, unless somebody needs them.

    While others publish, who may count on these very blobs, they stay for `gc`.
    """
    if not brought:
        return
    with suppress(InfiMmrError), collecting(store):
        reached = {shard.sha256 for manifest in every_manifest(store) for shard in manifest.files()}
        for sha256 in brought:
            if sha256 not in reached:
                store.delete(blob_path(sha256))


def every_manifest(store: Store) -> Iterator[Manifest]:
    """Yield the manifests of all versions.

    Raises:
        InfiMmrError: a manifest cannot be read, so that it is not known what the version reaches.
    """
    for name in store.folders("datasets"):
        for version in store.folders(f"datasets/{name}"):
            if is_version(version):
                yield load_manifest(store, name, version)


def claim(store: Store, manifest: Manifest, lease: Lease, *, keep_number: bool = False) -> Manifest:
    """Give content whose blobs are in the store a number; return the manifest that stands there in the end.

    `keep_number` takes the manifest's own number where it is free (a pushed version keeps its name), else the next one.
    Raises `InfiMmrError` where a blob is missing, or `lease` is lost.
    """
    wanted = version_number(manifest.version) if keep_number else 0
    known: dict[str, Manifest | InfiMmrError] = {}
    with _prepared(store, manifest) as folder:
        for _ in range(_LOST_RACES):
            for version, found in manifests(store, manifest.name, known):
                known[version] = found
                if isinstance(found, Manifest) and found.fingerprint == manifest.fingerprint:
                    return found
            taken = {version_number(version) for version in known}
            number = wanted if wanted and wanted not in taken else max(taken, default=0) + 1
            numbered = manifest.with_version(f"v{number}")
            lease.check()
            if _claimed(store, numbered, folder):
                return numbered
    raise InfiMmrError(f"no number could be claimed for {manifest.name} in {store.url}", "Run it again")


def manifests(store: Store, name: str, known: Container[str] = ()) -> Iterator[tuple[str, Manifest | InfiMmrError]]:
    """Yield each version of a dataset, newest first, with its manifest or with what is wrong with it.

    Versions in `known` are left out: they never change.
    """
    versions = [entry for entry in store.folders(f"datasets/{checked_name(name)}") if is_version(entry)]
    for version in sorted((version for version in versions if version not in known), key=version_number, reverse=True):
        try:
            yield version, load_manifest(store, name, version)
        except InfiMmrError as error:
            yield version, error


def load_manifest(store: Store, name: str, version: str) -> Manifest:
    """Read and check one manifest. Raises `InfiMmrError` where it is absent, damaged or somebody else's."""
    where = f"{name}@{version} in {store.url}"
    data = store.find(manifest_path(name, version))
    if data is None:
        raise NotInStoreError(f"{where} has no manifest", "See data-engine list")
    manifest = read_manifest(data, where)
    if (manifest.name, manifest.version) != (name, version):
        raise InfiMmrError(
            f"{where} holds the manifest of {manifest.name}@{manifest.version}", "Pull the version again"
        )
    return manifest


def _put_shard(store: Store, name: str, file: Path, brought: list[str]) -> Shard:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        rows, groups = parquet.metadata.num_rows, parquet.metadata.num_row_groups
    sha256, size, new = put_blob(store, file)
    if new:
        brought.append(sha256)
    return Shard(file=name, sha256=sha256, bytes=size, rows=rows, row_groups=groups)


@contextmanager
def _prepared(store: Store, manifest: Manifest) -> Iterator[Path | None]:
    """Yield, on a folder, a hidden folder with links of all blobs; a blob that gc removes now stays reachable there."""
    if not isinstance(store, FolderStore):
        missing = [shard.sha256 for shard in manifest.files() if not has_blob(store, shard.sha256, shard.bytes)]
        if missing:
            raise InfiMmrError(f"shard {missing[0][:12]} is not in {store.url}", "Run it again")
        yield None
        return
    with store.temporary_folder(f"datasets/{manifest.name}") as folder:
        for shard in manifest.files():
            link_over(store, store.local_path(blob_path(shard.sha256)), folder / shard.file)
        yield folder


def _claimed(store: Store, manifest: Manifest, folder: Path | None) -> bool:
    if folder is None or not isinstance(store, FolderStore):
        return store.put_new(manifest_path(manifest.name, manifest.version), manifest_bytes(manifest))
    target = store.local_path(version_folder(manifest.name, manifest.version))
    (folder / "manifest.json").write_bytes(b"")
    copy_pieces([manifest_bytes(manifest)], folder / "manifest.json")
    sync_folder(folder)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            return False
        raise
    sync_folder(target.parent)
    return True
