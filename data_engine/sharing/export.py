"""Export a version: to a new folder, or to the Hugging Face Hub in one commit (`shared.hub_upload`).

The files are the same (`export_files`). For the Hub the shards are read where they lie in the store, verified first;
files of an earlier version that the new one lacks are removed in the same commit. A repository that holds anything else
than an export of the same dataset is refused unless its replacement is asked for: its card and data would be somebody
else's.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_engine.sharing.export_files import exported_shards, exported_texts, write_folder
from shared.dataset_version import DatasetVersion
from shared.dataset_version.blobs import hash_blob
from shared.errors import InfiMmrError, UsageError
from shared.hub_upload import Read, commit_files, foreign_files, hub_token
from shared.store.folder import folder_told

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MANIFEST = "manifest.json"
OWN_FOLDERS = ("data/", "ledger/")
"""What an export owns in a repository; a file of anybody else beside them stays."""


def is_hub_id(to: str) -> bool:
    """Whether `to` means the Hub: ``hf://owner/name``, or ``owner/name`` where no folder ``owner`` exists here."""
    if to.startswith("hf://"):
        return True
    return bool(_HUB_ID.fullmatch(to)) and not Path(to).parent.exists()


def export(version: DatasetVersion, to: str, *, replace: bool = False) -> dict[str, Any]:
    """Write a version to a new folder, or upload it to the Hub when a token is there.

    `replace` takes a repository of the Hub over, whatever it holds.

    Raises:
        InfiMmrError: the folder has files already, the disk is full, no token, or the Hub refuses.
    """
    if is_hub_id(to):
        return upload(version, to.removeprefix("hf://"), replace=replace)
    if not to.strip():
        raise UsageError("--to names no folder", "Name a new folder, or owner/name on the Hub")
    target = Path(to).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InfiMmrError(f"{target} is not empty", "Export to a new folder")
    beside = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        with folder_told(target.parent, "folder", "--to"):
            target.parent.mkdir(parents=True, exist_ok=True)
            beside.mkdir()
            files = write_folder(version, beside)
            if target.exists():
                target.rmdir()
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return {"dataset": version.name, "version": version.version, "to": str(target), "files": files}


def upload(version: DatasetVersion, hub_id: str, *, replace: bool = False) -> dict[str, Any]:
    """Upload a version to the dataset repository ``owner/name``, made private where it does not exist yet.

    Raises:
        InfiMmrError: no token, a damaged shard, a repository of something else (unless `replace`), or the Hub refuses
            or cannot be reached; nothing is changed there then.
    """
    token = hub_token(hub_id, "export to ./FOLDER")
    texts = exported_texts(version.manifest)
    files: dict[str, str | bytes] = dict(_whole_shards(version))
    files |= {name: text.encode() for name, text in texts.items()}

    def stale(names: Sequence[str], read: Read) -> list[str]:
        if not replace:
            _refuse_foreign(version, hub_id, names, read)
        return [name for name in names if name.startswith(OWN_FOLDERS) and name not in files]

    done = commit_files(hub_id, "dataset", files, stale, version.label, token)
    return {
        "dataset": version.name,
        "version": version.version,
        "to": f"hf://{hub_id}",
        "files": list(files),
        "removed": done.removed,
        "commit": done.commit,
    }


def _refuse_foreign(version: DatasetVersion, hub_id: str, names: Sequence[str], read: Read) -> None:
    """Refuse a repository whose files no export of this dataset wrote."""
    held = foreign_files(names, "export")
    if held and MANIFEST in names:
        try:
            name = json.loads(read(MANIFEST))["name"]
        except (ValueError, KeyError, TypeError):
            name = None
        if name == version.name:
            return
        held = f"dataset {name}" if isinstance(name, str) else "a manifest.json of something else"
    if held:
        raise InfiMmrError(
            f"{hub_id} holds {held}; an upload of {version.name} would replace its card and data",
            "Name a new repository, or add --replace",
        )


def _whole_shards(version: DatasetVersion) -> Iterator[tuple[str, str]]:
    """Yield the name in the repository and the local path of each shard, after its bytes were hashed."""
    local = version.local()
    for name, shard, source in exported_shards(local):
        if hash_blob(local.store, shard.sha256) != (shard.sha256, shard.bytes):
            raise InfiMmrError(f"shard {shard.file} of {version.label} is damaged", "Pull the version again")
        yield name, str(source)
