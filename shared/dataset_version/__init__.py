"""Dataset versions: immutable, named, verified, shared through a store.

What a store holds::

    blobs/sha256/ab/<sha256>.parquet    shards by the hash of their bytes, shared by all versions
    datasets/<name>/<vN>/manifest.json  the manifest, written last; it claims the number
    datasets/<name>/<vN>/*.parquet      on a folder: hard links of the blobs, so that the folder opens with any tool
    tags/<name>/<tag>.json              small pointers, moved by compare-and-set
    annotations/...                     what models said, found again by any later build
    stages/...                          what a build read and judged, for the next one; gone without loss
    leases/*.json                       who is publishing just now; builds/*.json: who is writing findings

The trainer and the data engine meet here and nowhere else.
"""

from shared.dataset_version.manifest import Input, Manifest, ManifestDraft, Prompt, Shard, StepCount
from shared.dataset_version.opened import DatasetVersion, find_by_build_key, list_datasets, open_dataset, publish
from shared.dataset_version.version import list_tags, set_tag

__all__ = [
    "DatasetVersion",
    "Input",
    "Manifest",
    "ManifestDraft",
    "Prompt",
    "Shard",
    "StepCount",
    "find_by_build_key",
    "list_datasets",
    "list_tags",
    "open_dataset",
    "publish",
    "set_tag",
]
