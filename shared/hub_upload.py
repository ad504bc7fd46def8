"""Upload files to the Hugging Face Hub in one commit: who loads a repository meets the old files or the new.

Datasets and checkpoints are uploaded by this one function. A repository of somebody else's is refused by whoever
uploads, who sees its files first; where somebody else committed meanwhile, the Hub refuses. The token comes from where
huggingface_hub looks for it (``HF_TOKEN``, ``hf auth login``) and is never shown.

Not covered: pull requests, and the protocol of the upload, which is huggingface_hub's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from shared.errors import InfiMmrError, UsageError
from shared.hub_download import bars_for_people

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

Read = Callable[[str], bytes]
Stale = Callable[[Sequence[str], Read], Iterable[str]]
"""From the names in a repository, and a way to read one of them: the files that the upload replaces by nothing.

It raises what the command says where the repository is somebody else's."""


class Uploaded(NamedTuple):
    """What a commit did."""

    removed: list[str]
    commit: str


def hub_token(hub_id: str, instead: str) -> str:
    """The token of this user.

    Raises:
        InfiMmrError: there is none; `instead` says what else can be done.
    """
    import huggingface_hub

    token: str | None = huggingface_hub.get_token()
    if token is None:
        raise InfiMmrError(f"no token for the Hub, so nothing was sent to {hub_id}", f"Set HF_TOKEN, or {instead}")
    return token


def commit_files(  # noqa: PLR0917 - one upload
    hub_id: str,
    kind: Literal["dataset", "model"],
    files: Mapping[str, str | bytes],
    stale: Stale,
    message: str,
    token: str,
) -> Uploaded:
    """Upload `files` (name in the repository to bytes, or to a path here) to ``owner/name``, made private if new.

    Raises:
        InfiMmrError: what `stale` raises, or the Hub refuses or cannot be reached; nothing is changed there then.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token)
    with _quiet():
        try:
            api.create_repo(hub_id, repo_type=kind, private=True, exist_ok=True)
            there = api.dataset_info(hub_id) if kind == "dataset" else api.model_info(hub_id)
            names = [file.rfilename for file in there.siblings or []]

            def read(name: str) -> bytes:
                with tempfile.TemporaryDirectory() as folder:
                    return Path(
                        api.hf_hub_download(hub_id, name, repo_type=kind, revision=str(there.sha), local_dir=folder)
                    ).read_bytes()

            removed = list(stale(names, read))
            done = api.create_commit(
                hub_id,
                [
                    *(huggingface_hub.CommitOperationAdd(name, content) for name, content in files.items()),
                    *(huggingface_hub.CommitOperationDelete(name) for name in removed),
                ],
                commit_message=message,
                repo_type=kind,
                parent_commit=there.sha,
            )
        except InfiMmrError:
            raise
        except Exception as error:  # noqa: BLE001  (httpx's, hf_xet's, the client's own and plain RuntimeErrors)
            # `from None`: the client's words hold signed addresses.
            raise _refusal(hub_id, error, token) from None
    return Uploaded(removed, done.oid)


def check_hub_id(hub_id: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UsageError: not ``owner/name``.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(hub_id)
        known = hub_id.count("/") == 1
    except HFValidationError:
        known = False
    if not known:
        raise UsageError(f"{hub_id!r} is not a repository on the Hub", "Name it OWNER/NAME")


def foreign_files(names: Iterable[str], writer: str) -> str:
    """What a repository holds that no `writer` wrote, in words; empty where it is a new one."""
    found = sorted(set(names) - {".gitattributes"})
    return f"files that no {writer} wrote ({', '.join(found)[:_SHOWN]})" if found else ""


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
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with bars_for_people():
            yield
    finally:
        logging.set_verbosity(verbosity)
