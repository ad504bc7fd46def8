"""Bring a version from one store to another: every byte once, verified on arrival, visible only when whole.

Blobs that the target has (right size, right hash) stay; the others travel in parallel, and of those only the ranges
that no older version of the dataset brought before (`shared.dataset_version.delta`). A transfer that was cut off goes
on with the missing blobs when it is run again. The version keeps its number where that is free and takes the next one
otherwise; equal content that already exists under any number is the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shared.dataset_version.blobs import PARALLEL_FILES, copy_blob, has_blob, hash_pieces, send_blob
from shared.dataset_version.delta import BLOB, NEW, DeltaPlan, Run, joined_pieces, mapped_pieces, read_map, write_map
from shared.dataset_version.leases import publishing
from shared.dataset_version.manifest import Manifest, Shard
from shared.dataset_version.names import blob_path, pack_path
from shared.dataset_version.publish import claim, manifests, take_back
from shared.dataset_version.version import StoredVersion
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.progress import Progress, Task
from shared.store import Store, StoreFullError
from shared.store.folder import FolderStore, file_views

_HEX_DIGITS = 64
_BASES = 2
"""Older versions of the dataset in which known bytes are looked for; the newest share the most."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer did: the manifest as it stands in the target, and counts of files and bytes."""

    manifest: Manifest
    bytes_total: int
    bytes_sent: int
    files_sent: int
    files_there: int


def copy_version(
    version: StoredVersion, target: Store, *, whole: bool = False, deep: bool = False, progress: Progress | None = None
) -> Transfer:
    """Copy a version into `target`.

    Args:
        version: what to copy.
        target: where to.
        whole: send whole shards, also where the target has most of their bytes (other tools then read the bucket).
        deep: in a bucket too, read each shard that is there and replace it if its bytes are damaged.
        progress: is told how many bytes have arrived.

    Raises:
        InfiMmrError: a shard arrived damaged, the disk is full, a store cannot be reached. Nothing becomes visible.
    """
    brought: list[str] = []
    progress = progress or Progress()
    progress.stage("looking at what is there")
    try:
        with publishing(target) as lease, ThreadPoolExecutor(PARALLEL_FILES) as pool:
            files = list({shard.sha256: shard for shard in version.manifest.files()}.values())
            check = True if deep else None
            there = list(pool.map(lambda s: has_blob(target, s.sha256, s.bytes, check_bytes=check), files))
            missing = [shard for shard, found in zip(files, there, strict=True) if not found]
            plan = None if whole or deep else _delta_plan(version, target, missing)
            size, known = (sum(shard.bytes for shard in some) for some in (missing, files))
            progress.stage("")
            task = progress.task(version.label, size, unit="bytes", known=known - size)
            sent = list(pool.map(lambda shard: _send(version.store, target, shard, plan, brought, task), missing))
            task.done()
            manifest = claim(target, version.manifest, lease, keep_number=True)
    except StoreFullError:
        # Any other failure keeps what arrived, so that the next run goes on from there.
        take_back(target, brought)
        raise
    return Transfer(manifest, version.manifest.bytes, sum(sent), len(missing), len(files) - len(missing))


def copy_annotations(source: Store, target: Store, progress: Progress | None = None) -> tuple[int, int]:
    """Copy the annotation files that `target` lacks, in parallel; return how many there were and their bytes.

    A segment's name is the sha256 of its bytes: one that arrives damaged is refused. What was set aside stays where it
    is, and what another builder merges meanwhile is brought as it lies then.
    """
    progress, files, size = progress or Progress(), 0, 0
    gone: set[str] = set()
    while True:
        there = {entry.path for entry in target.list("annotations")}
        listed = [entry for entry in source.list("annotations") if "/damaged/" not in entry.path]
        wanted = [entry for entry in listed if entry.path not in there]
        task = progress.task("annotations", sum(entry.size for entry in wanted), unit="bytes")

        def bring(path: str, task: Task = task) -> int | None:
            # Listed twice and never there: no merge explains that.
            data = source.get(path) if path in gone else source.find(path)
            if data is None:
                return None
            stem = path.rpartition("/")[2].removesuffix(".parquet")
            if path.endswith(".parquet") and len(stem) == _HEX_DIGITS and bytes_hash(data) != stem:
                raise InfiMmrError(f"{path} in {source.url} is damaged", "Remove it there; its cells are asked again")
            target.put_new(path, data)
            task.advance(len(data))
            return len(data)

        with ThreadPoolExecutor(PARALLEL_FILES) as pool:
            sizes = list(pool.map(bring, [entry.path for entry in wanted]))
        task.done()
        files, size = files + len(sizes) - sizes.count(None), size + sum(filter(None, sizes))
        if None not in sizes:
            return files, size
        gone.update(entry.path for entry, found in zip(wanted, sizes, strict=True) if found is None)


def _delta_plan(version: StoredVersion, target: Store, missing: list[Shard]) -> DeltaPlan | None:
    """Return the known pieces of older versions in the target, as far as a local file has the same bytes."""
    if not missing or not version.store.is_folder:
        return None
    bases: dict[str, tuple[Shard, Path]] = {}
    older = [found for _, found in manifests(target, version.name) if isinstance(found, Manifest)]
    for manifest in older[:_BASES]:
        for shard in manifest.shards:
            if not has_blob(target, shard.sha256, shard.bytes, check_bytes=False):
                continue
            for store in (target, version.store):
                path = store.local_path(blob_path(shard.sha256))
                if path is not None and path.is_file() and path.stat().st_size == shard.bytes:
                    bases.setdefault(shard.sha256, (shard, path))
    return DeltaPlan(bases.values()) if bases else None


def _send(  # noqa: PLR0917 - one shard of a transfer, and what all of them share
    source: Store, target: Store, shard: Shard, plan: DeltaPlan | None, brought: list[str], task: Task
) -> int:
    """Bring one shard; return the bytes that travelled."""
    file = source.local_path(blob_path(shard.sha256))
    runs = plan.runs(file) if plan is not None and file is not None and file.is_file() else None
    travelled = shard.bytes
    if runs is not None and file is not None:
        travelled = sum(run.length for run in runs if run.kind == NEW)
        if target.is_folder:
            send_blob(target, _counted(joined_pieces(file, runs, target), task), shard.sha256, shard.bytes)
        else:
            _send_map(file, target, shard, runs)
            task.advance(shard.bytes)
    elif not source.is_folder and not source.exists(blob_path(shard.sha256)):
        runs = read_map(source, shard.sha256)
        here = {run.sha256 for run in runs if run.kind == BLOB and target.is_folder}
        near = {sha256 for sha256 in here if target.exists(blob_path(sha256))}
        travelled = sum(run.length for run in runs if run.sha256 not in near)
        send_blob(target, _counted(mapped_pieces(source, shard.sha256, target), task), shard.sha256, shard.bytes)
    elif isinstance(source, FolderStore) and isinstance(target, FolderStore):
        copy_blob(source, target, shard.sha256, shard.bytes)
        task.advance(shard.bytes)
    else:
        path = blob_path(shard.sha256)
        pieces = source.views(path) if target.is_folder else source.pieces(path)
        send_blob(target, _counted(pieces, task), shard.sha256, shard.bytes)
    brought.append(shard.sha256)
    return travelled


def _counted(pieces: Iterable[bytes | memoryview], task: Task) -> Iterator[bytes | memoryview]:
    """Pass pieces on and count them."""
    for piece in pieces:
        yield piece
        task.advance(len(piece))


def _send_map(file: Path, target: Store, shard: Shard, runs: list[Run]) -> None:
    """Bring a shard into a bucket as its new bytes and a map."""
    if hash_pieces(file_views(file)) != (shard.sha256, shard.bytes):
        raise InfiMmrError(f"shard {shard.sha256[:12]} is damaged in the source", "Verify the version that is pushed")
    pack, size = hash_pieces(joined_pieces(file, runs, None))
    if size:
        target.put_pieces(pack_path(pack), joined_pieces(file, runs, None))
        arrived = target.head(pack_path(pack))
        if arrived is None or arrived.size != size:
            raise InfiMmrError(f"the new bytes of shard {shard.sha256[:12]} did not arrive intact", "Push again")
    write_map(target, shard, runs, pack)
