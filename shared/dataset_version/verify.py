"""Verify a version: is every byte what the manifest says, and can it be read?

Checked for each file: it is there, its size, its sha256 (of the blob and of the version's own link), rows and row
groups, the schema, that ids occur once, and with `images` that each picture decodes and is the one its hash names.
Damage is reported, never healed: the report names the file and what to do.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.dataset_version.blobs import blob_pieces, hash_pieces
from shared.dataset_version.manifest import Shard
from shared.dataset_version.names import LEDGER_FILE, blob_path, version_folder
from shared.dataset_version.version import StoredVersion
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.images import ImageRefused, decode_rgb
from shared.progress import Progress
from shared.schema import LEDGER_SCHEMA, row_schema
from shared.store.folder import copy_pieces

_PARALLEL = 4
_BATCH_ROWS = 64
_NEXT = "Pull the version again from another store, or build it again"
_NEXT_BUCKET = "Push it again with --check, which replaces damaged files"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, what, and what to do about it."""

    file: str
    sha256: str
    problem: str
    next_step: str


@dataclass
class Report:
    """The outcome of a verification. `ok` is true where `problems` is empty."""

    label: str
    shards: int = 0
    rows: int = 0
    bytes: int = 0
    images: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"ok": self.ok, **asdict(self)}


def verify_version(version: StoredVersion, *, images: bool = False, progress: Progress | None = None) -> Report:
    """Check every file of a version where it lies. The manifest itself was checked when the version was opened."""
    manifest = version.manifest
    report = Report(manifest.label, rows=manifest.rows, bytes=manifest.bytes)
    seen: set[str] = set()
    files = manifest.files()
    task = (progress or Progress()).task(manifest.label, sum(shard.bytes for shard in files), unit="bytes")
    with ThreadPoolExecutor(_PARALLEL) as pool:
        looked = pool.map(lambda shard: _file(version, shard, images=images), files)
        for shard, (found, images_read, ids) in zip(files, looked, strict=True):
            task.advance(shard.bytes)
            report.problems += found
            report.images += images_read
            report.shards += 1
            twice = seen & ids
            seen |= ids
            if twice:
                problem = f"{len(twice)} ids occur in two shards, such as {min(twice)}"
                report.problems.append(Problem("", "", problem, "Build it again"))
    task.done()
    return report


def _file(version: StoredVersion, shard: Shard, *, images: bool) -> tuple[list[Problem], int, set[str]]:
    problems: list[Problem] = []
    next_step = _NEXT if version.store.is_folder else _NEXT_BUCKET

    def wrong(problem: str, file: str = shard.file) -> None:
        problems.append(Problem(file, shard.sha256, problem, next_step))

    with tempfile.TemporaryDirectory(prefix="infi-mmr-verify-") as scratch:
        try:
            blob = version.store.local_path(blob_path(shard.sha256))
            if blob is None:
                blob = Path(scratch, shard.file)
                blob.touch()
                found = copy_pieces(blob_pieces(version.store, shard.sha256), blob)
            else:
                found = hash_pieces(version.store.views(blob_path(shard.sha256)))
                link = f"{version_folder(version.name, version.version)}/{shard.file}"
                linked = version.store.local_path(link)
                if linked is None or not linked.is_file():
                    wrong("the version's folder lacks it")
                elif not linked.samefile(blob) and hash_pieces(version.store.views(link)) != (
                    shard.sha256,
                    shard.bytes,
                ):
                    wrong("the file in the version's folder has other bytes than the manifest says")
        except InfiMmrError as error:
            wrong(error.message)
            return problems, 0, set()
        if found != (shard.sha256, shard.bytes):
            wrong(f"damaged: {found[1]} of {shard.bytes} bytes, sha256 {found[0][:12]} instead of {shard.sha256[:12]}")
            return problems, 0, set()
        images_read, ids = _content(blob, shard, wrong, images=images)
    return problems, images_read, ids


def _content(file: Path, shard: Shard, wrong: Any, *, images: bool) -> tuple[int, set[str]]:
    """Compare a whole file with the manifest and the schema; return how many images were decoded, and the ids."""
    ledger = shard.file == LEDGER_FILE
    try:
        with pq.ParquetFile(file) as parquet:
            metadata = parquet.metadata
            if (metadata.num_rows, metadata.num_row_groups) != (shard.rows, shard.row_groups):
                wrong(f"{metadata.num_rows} rows in {metadata.num_row_groups} groups; the manifest says {shard.rows}")
            found = parquet.schema_arrow
            differs = _difference(found, LEDGER_SCHEMA if ledger else row_schema(found.names))
            if differs:
                wrong(f"schema: {differs}")
            elif not ledger:
                ids = parquet.read(columns=["id"]).column("id").to_pylist()
                if len(set(ids)) != len(ids):
                    wrong(f"{len(ids) - len(set(ids))} ids occur twice")
                return _images(parquet, wrong) if images else 0, set(ids)
    except (pa.ArrowException, OSError) as error:
        wrong(f"cannot be read as Parquet: {str(error).splitlines()[0]}")
    return 0, set()


def _difference(found: Any, wanted: Any) -> str:
    """Return the first difference in columns or types; nullability and metadata are the writer's affair."""
    if found.names != wanted.names:
        missing = [name for name in wanted.names if name not in found.names]
        return f"columns {missing} are missing" if missing else f"columns are {found.names}"
    for name in wanted.names:
        have, want = found.field(name).type, wanted.field(name).type
        # A list's element is called `item` by Arrow and `element` by Parquet; `equals` looks past that.
        if not have.equals(want):
            return f"column {name} is {have} instead of {want}"
    return ""


def _images(parquet: Any, wrong: Any) -> int:
    count = 0
    known: set[str] = set()
    for batch in parquet.iter_batches(_BATCH_ROWS, columns=["id", "images", "image_hashes"]):
        for row in batch.to_pylist():
            hashes = row["image_hashes"]
            if len(hashes) != len(row["images"]):
                wrong(f"row {row['id']} has {len(row['images'])} images and {len(hashes)} hashes")
            for image, expected in zip(row["images"], hashes, strict=False):
                count += 1
                data = image["bytes"] or b""
                if bytes_hash(data) != expected:
                    wrong(f"row {row['id']} holds another image than its hash names")
                elif expected not in known:
                    known.add(expected)
                    try:
                        decode_rgb(data)
                    except ImageRefused as error:
                        wrong(f"row {row['id']} holds an image that cannot be decoded: {error.message}")
    return count
