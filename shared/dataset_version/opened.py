"""Open a dataset version and read it: the one door through which the trainer and other teams come.

    version = open_dataset("virl39k-captioned@prod", store="s3://team/datasets")
    version.scan()                                  # polars.LazyFrame
    version.to_datasets()                           # datasets.Dataset with decoded images
    version.iterate(rank=0, world_size=8, seed=1)   # dicts, for torch's DataLoader

Opening checks the manifest (checksum and fingerprint). A version in a bucket is brought, verified, into a local
folder the first time its files are needed (`shared.caches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.caches import cache_folder
from shared.dataset_version.blobs import has_blob, read_blob
from shared.dataset_version.manifest import Manifest, ManifestDraft
from shared.dataset_version.names import LATEST, is_version, parse_reference, version_number
from shared.dataset_version.publish import load_manifest, manifests, publish_files
from shared.dataset_version.version import StoredVersion, dataset_names, list_tags, read_tag
from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.fingerprint import bytes_hash
from shared.progress import Progress
from shared.store import Store, default_store_url, open_store

if TYPE_CHECKING:
    import datasets
    import polars as pl

    from shared.dataset_version.iterate import Rows
    from shared.dataset_version.verify import Report


class DatasetVersion(StoredVersion):
    """A version that can be read."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        """Take a checked manifest; the files are not touched."""
        super().__init__(store, manifest)
        self._local: DatasetVersion | None = self if store.is_folder else None
        self._split = ""

    def local(self) -> DatasetVersion:
        """This version in a folder: itself, or its verified copy in the cache, brought there the first time."""
        if self._local is None:
            from shared.dataset_version.transfer import copy_version

            # One cache store per origin: equal numbers of different origins are different versions.
            cache = open_store(cache_folder() / bytes_hash(self.store.url.encode())[:16])
            self._local = DatasetVersion(cache, copy_version(self, cache).manifest)
        return self._local

    def files(self) -> list[Path]:
        """Return the local Parquet files of the rows, in order."""
        folder = self.local().path
        return [
            folder / shard.file for shard in self.manifest.shards if self._split in ("", self.manifest.split_of(shard))
        ]

    @property
    def rows(self) -> int:
        """Rows of the version, or of the split that it was narrowed to."""
        return self.manifest.splits[self._split] if self._split else self.manifest.rows

    def of_split(self, split: str) -> DatasetVersion:
        """This version with the rows of one split alone; its manifest tells of all.

        Raises:
            UsageError: it has no such split; names those that it has.
        """
        known = list(self.manifest.splits)
        if split not in known:
            there = f"it has {', '.join(known)}" if known else "its recipe names none"
            hint = did_you_mean(split, known) if known else "Add [splits] to the recipe and build it again"
            raise UsageError(f"dataset {self.label} has no split {split!r} ({there})", hint)
        narrowed = DatasetVersion(self.store, self.manifest)
        narrowed._split = split
        return narrowed

    def scan(self) -> pl.LazyFrame:
        """Return all rows lazily, columns as in `shared.schema.COLUMNS`."""
        import polars as pl

        if not self.manifest.shards:
            from shared.schema import ROW_SCHEMA

            return pl.DataFrame(pl.from_arrow(ROW_SCHEMA.empty_table())).lazy()
        return pl.scan_parquet(self.files())

    def to_datasets(self) -> datasets.Dataset:
        """Return a `datasets.Dataset`, images decoded by it. It keeps its own Arrow copy in the Hugging Face cache.

        Raises `InfiMmrError` for a version without rows.
        """
        import datasets

        if not self.manifest.shards:
            raise InfiMmrError(f"{self.label} has no rows", "Look at its ledger: data-engine show NAME --ledger")
        from shared.dataset_version.image_feature import decoded

        return decoded(datasets.Dataset.from_parquet([str(file) for file in self.files()]))

    def ledger(self) -> pl.DataFrame:
        """Return the removed and near-missed rows, columns as in `shared.schema.LEDGER_COLUMNS`."""
        import polars as pl

        if self.manifest.ledger is None:
            from shared.schema import LEDGER_SCHEMA

            return pl.DataFrame(pl.from_arrow(LEDGER_SCHEMA.empty_table()))
        if self.store.is_folder:
            return pl.read_parquet(self.path / self.manifest.ledger.file)
        # The ledger alone is small: no need to bring the images.
        return pl.read_parquet(read_blob(self.store, self.manifest.ledger.sha256, self.manifest.ledger.bytes))

    def iterate(self, rank: int = 0, world_size: int = 1, seed: int | None = None) -> Rows:
        """Return this rank's rows as dicts; see `shared.dataset_version.iterate.Rows`."""
        from shared.dataset_version.iterate import Rows

        return Rows(self.files(), rank, world_size, seed)

    def verify(self, *, images: bool = False, progress: Progress | None = None) -> Report:
        """Check every byte of this version where it lies; `images` also decodes each image."""
        from shared.dataset_version.verify import verify_version

        return verify_version(self, images=images, progress=progress)


def publish(
    store: Store | str | Path, draft: ManifestDraft, shard_files: Sequence[Path], ledger_file: Path | None = None
) -> DatasetVersion:
    """Publish local Parquet files as the next version of ``draft.name``; equal content returns the version that has it.

    Raises `InfiMmrError` for a full disk, missing permission or an unreachable store, which stay as they were.
    """
    opened = open_store(store)
    return DatasetVersion(opened, publish_files(opened, draft, shard_files, ledger_file))


def open_dataset(reference: str, store: Store | str | Path | None = None) -> DatasetVersion:
    """Open ``name``, ``name@v3`` or ``name@tag`` (a plain name means ``@latest``).

    `latest` is the highest number, unless somebody set a tag of that name. `store` is a store, its address, or None for
    ``$INFI_MMR_STORE``, else ``./store``.

    Raises:
        UsageError: no such dataset, version or tag; the nearest right name is given.
        InfiMmrError: the manifest is damaged, or the store cannot be reached.
    """
    opened = open_store(store if store is not None else default_store_url())
    wanted = parse_reference(reference)
    versions = sorted(filter(is_version, opened.folders(f"datasets/{wanted.name}")), key=version_number)
    if not versions:
        known = did_you_mean(wanted.name, opened.folders("datasets")) or "Build it: data-engine build " + wanted.name
        raise UsageError(f"no dataset {wanted.name!r} in {opened.url}", known)
    version = wanted.selector
    if not wanted.is_version:
        tagged = read_tag(opened, wanted.name, wanted.selector)
        if tagged is None and wanted.selector != LATEST:
            known = did_you_mean(wanted.selector, [*list_tags(opened, wanted.name), LATEST, *versions])
            raise UsageError(f"{wanted.name} has no tag {wanted.selector!r} in {opened.url}", known)
        version = tagged or versions[-1]
    if version not in versions:
        raise UsageError(f"{wanted.name} has no version {version} in {opened.url}", f"Known: {', '.join(versions)}")
    return DatasetVersion(opened, load_manifest(opened, wanted.name, version))


def list_datasets(store: Store | str | Path) -> list[DatasetVersion]:
    """Return every version whose manifest is sound, by name and number. The catalogue also lists the damaged."""
    opened = open_store(store)
    found = [
        DatasetVersion(opened, manifest)
        for name in dataset_names(opened)
        for _, manifest in manifests(opened, name)
        if isinstance(manifest, Manifest)
    ]
    return sorted(found, key=lambda version: (version.name, version_number(version.version)))


def find_by_build_key(store: Store | str | Path, name: str, build_key: str) -> DatasetVersion | None:
    """Return the newest version that was built from this key and whose files are all there, or None."""
    opened = open_store(store)
    for _, manifest in manifests(opened, name) if build_key else ():
        if (
            isinstance(manifest, Manifest)
            and manifest.build_key == build_key
            and all(has_blob(opened, shard.sha256, shard.bytes, check_bytes=False) for shard in manifest.files())
        ):
            return DatasetVersion(opened, manifest)
    return None
