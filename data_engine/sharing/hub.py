"""Upload a version to the Hugging Face Hub, in one commit: who loads the dataset there meets the old files or the new.

A repository that holds anything else than an export of the same dataset is refused unless its replacement is asked for:
its card and data would be somebody else's.

The files are those of an exported folder. The shards are read where they lie in the store, verified first; files of an
earlier version that the new one lacks are removed in the same commit, which the Hub refuses if somebody else committed
meanwhile. The token comes from where huggingface_hub looks for it (``HF_TOKEN``, ``hf auth login``) and is never shown.

Not covered: pull requests, and the protocol of the upload, which is huggingface_hub's.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.sharing.export import exported_shards, exported_texts
from shared.dataset_version.blobs import hash_blob
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfApi

    from shared.dataset_version import DatasetVersion

MANIFEST = "manifest.json"
OWN_FOLDERS = ("data/", "ledger/")
"""What an export owns in a repository; a file of anybody else beside them stays."""
_REFUSED = {
    401: "Log in again: hf auth login, or set HF_TOKEN",
    403: "Ask for a token that may write there",
    404: "Look at the name: owner/name",
    409: "Somebody else writes there; run it again",
    412: "Somebody else committed there meanwhile; look, then run it again",
    429: "The Hub asks for a pause; run it again later",
}
_QUERY = re.compile(r"\?[^\s\"')]*")
_SHOWN = 200


def upload(version: DatasetVersion, hub_id: str, *, replace: bool = False) -> dict[str, Any]:
    """Upload a version to the dataset repository ``owner/name``, made private where it does not exist yet.

    Raises:
        InfiMmrError: no token, a damaged shard, a repository of something else (unless `replace`), or the Hub refuses
            or cannot be reached; nothing is changed there then.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if token is None:
        raise InfiMmrError(
            f"no token for the Hub, so nothing was sent to {hub_id}", "Set HF_TOKEN, or export to ./FOLDER"
        )
    texts = exported_texts(version.manifest)
    files: dict[str, str | bytes] = dict(_whole_shards(version))
    files |= {name: text.encode() for name, text in texts.items()}
    api = huggingface_hub.HfApi(token=token)
    with _quiet():
        try:
            api.create_repo(hub_id, repo_type="dataset", private=True, exist_ok=True)
            there = api.dataset_info(hub_id)
            names = [file.rfilename for file in there.siblings or []]
            if not replace:
                _refuse_foreign(version, hub_id, names, api, str(there.sha))
            stale = [name for name in names if name.startswith(OWN_FOLDERS) and name not in files]
            done = api.create_commit(
                hub_id,
                [
                    *(huggingface_hub.CommitOperationAdd(name, content) for name, content in files.items()),
                    *(huggingface_hub.CommitOperationDelete(name) for name in stale),
                ],
                commit_message=version.label,
                repo_type="dataset",
                parent_commit=there.sha,
            )
        except InfiMmrError:
            raise
        except Exception as error:  # noqa: BLE001  (httpx's, hf_xet's, the client's own and plain RuntimeErrors)
            # `from None`: the client's words hold signed addresses.
            raise _refusal(hub_id, error, token) from None
    return {
        "dataset": version.name,
        "version": version.version,
        "to": f"hf://{hub_id}",
        "files": list(files),
        "removed": stale,
        "commit": done.oid,
    }


def _refuse_foreign(version: DatasetVersion, hub_id: str, names: list[str], api: HfApi, commit: str) -> None:
    """Refuse a repository whose files no export of this dataset wrote."""
    if set(names) <= {".gitattributes"}:
        return
    if MANIFEST not in names:
        some = ", ".join(name for name in names if name != ".gitattributes")[:_SHOWN]
        held = f"files that no export wrote ({some})"
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = api.hf_hub_download(hub_id, MANIFEST, repo_type="dataset", revision=commit, local_dir=folder)
            try:
                name = json.loads(Path(file).read_bytes())["name"]
            except (ValueError, KeyError, TypeError):
                name = None
        if name == version.name:
            return
        held = f"dataset {name}" if isinstance(name, str) else "a manifest.json of something else"
    raise InfiMmrError(
        f"{hub_id} holds {held}; an upload of {version.name} would replace its card and data",
        "Name a new repository, or add --replace",
    )


def _whole_shards(version: DatasetVersion) -> Iterator[tuple[str, str]]:
    """Yield the name in the repository and the local path of each shard, after its bytes were hashed."""
    local = version.local
    for name, shard, source in exported_shards(local):
        if hash_blob(local.store, shard.sha256) != (shard.sha256, shard.bytes):
            raise InfiMmrError(f"shard {shard.file} of {version.label} is damaged", "Pull the version again")
        yield name, str(source)


def _refusal(hub_id: str, error: Exception, token: str) -> InfiMmrError:
    """Return one line: the Hub's answer where there was one, else what kind of failure it was."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if response is not None:
            said = getattr(cause, "server_message", None) or response.reason_phrase
            words = _QUERY.sub("", " ".join(str(said).split()).replace(token, "***"))[:_SHOWN]
            following = _REFUSED.get(response.status_code, "Run it again later; what was sent is not sent twice")
            return InfiMmrError(f"the Hub refused {hub_id}: {response.status_code} {words}", following)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ValueError):
        words = _QUERY.sub("", " ".join(str(error).split()).replace(token, "***"))[:_SHOWN]
        return InfiMmrError(f"the Hub's client refused {hub_id}: {words}", "Look at the name: owner/name")
    return InfiMmrError(
        f"the upload to {hub_id} failed ({type(error).__name__})", "Check the network and HF_ENDPOINT, then run again"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's warnings off the screen (they hold signed addresses), and its bars where nobody looks."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    verbosity, hidden = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty() and not hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not sys.stderr.isatty() and not hidden:
            enable_progress_bars()
