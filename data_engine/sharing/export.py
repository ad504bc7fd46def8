"""Export a version: to a new folder, or to the Hugging Face Hub (`hub`); the files are the same (`export_files`)."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.sharing.export_files import write_folder
from data_engine.sharing.hub import upload
from shared.errors import InfiMmrError
from shared.store.folder import folder_told

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
    target = Path(to).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InfiMmrError(f"{target} is not empty", "Export to a new folder")
    beside = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        with folder_told(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            beside.mkdir()
            files = write_folder(version, beside)
            if target.exists():
                target.rmdir()
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return {"dataset": version.name, "version": version.version, "to": str(target), "files": files}
