"""Fetch files of a dataset or a model from the Hugging Face Hub at one commit, and say in one line what prevents it.

Input: a hub id, a revision, patterns of file names. Output: the folder of that commit in the hub's cache, with every
file that fits; or an `InfiMmrError` with the next thing to do. A branch is resolved once per process: what is fetched
later in it (an engine that starts again, weights after a chat template) comes from the same commit, though the branch
may have moved. Where the hub does not answer, what this machine has fetched serves.
Not covered: what the files mean, and uploads (`hub_upload`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from shared.errors import InfiMmrError, system_error

Kind = Literal["dataset", "model"]
_Fetched = TypeVar("_Fetched")
ASKING_SECONDS = 10.0
"""What the hub gets to answer a question."""
ATTEMPTS = 3
"""Tries of a fetch whose connection is cut; the hub's client goes on within a file by itself where it can."""
_RACES = (RuntimeError, AttributeError)
"""What huggingface_hub 1.33 raises in a thread whose connections another one closed because nothing answered it."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_QUERY = re.compile(r"\?[^\s\"')]*")
_SHOWN_NAMES = 8
_FETCHERS = 8
_UNAUTHORISED, _TOO_MANY, _SERVER_ERROR = 401, 429, 500
_AGAIN = "Use the same command again: fetched files stay, none of them in part"
_resolved: dict[tuple[str, Kind, str, str], str] = {}
"""Commit of each branch that was asked for, by endpoint, kind, id and revision."""


class HubUnansweredError(InfiMmrError):
    """The hub said nothing about what was asked: no network, told to stay offline, or too busy."""


def is_commit(revision: str) -> bool:
    """Whether a revision names one commit for good, rather than a branch or tag that may move."""
    return _COMMIT.fullmatch(revision) is not None


def fetch_snapshot(
    hub_id: str, kind: Kind, revision: str, patterns: Sequence[str], *, what: str = "", needed: bool = True
) -> Path:
    """Folder of `hub_id` at `revision` (empty: main) in the hub's cache, with the files that fit one of `patterns`.

    The folder's name is the commit. Without patterns, every file is fetched; with `needed`, one must fit. `what` stands
    in front of an error.

    Raises:
        InfiMmrError: the hub has no such repository, revision or file, refuses, or cannot be reached.
    """
    with hub_told(hub_id, kind, revision, what):
        folder = _snapshot(hub_id, kind, commit_of(hub_id, kind, revision), list(patterns) or None)
        if needed and not folder.is_dir():  # the client makes no folder where it fetched no file
            names = repository_names(hub_id, kind, folder.name)
            more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            raise InfiMmrError(
                f"{kind} {hub_id} has no file {' or '.join(patterns)} at commit {folder.name}",
                f"It has {', '.join(names[:_SHOWN_NAMES]) or 'none'}{more}: name what is meant, or another revision",
            )
    return folder


def commit_of(hub_id: str, kind: Kind, revision: str) -> str:
    """The commit that a revision (empty: main) was when this process first asked for it.

    Where the hub does not answer, the one that it was when this machine last asked.

    Raises:
        InfiMmrError: the hub has no such repository or revision, or cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    key = (constants.ENDPOINT, kind, hub_id, revision or "main")
    if key not in _resolved:
        with hub_told(hub_id, kind, revision):
            _resolved[key] = str(HfApi().resolve_revision(hub_id, repo_type=kind, revision=key[-1]).resolved)
    return _resolved[key]


def _snapshot(hub_id: str, kind: Kind, commit: str, patterns: list[str] | None) -> Path:
    """`snapshot_download`: from this machine where it has all, else tried again where a connection is cut in a file."""
    from huggingface_hub import errors, snapshot_download

    def fetch(*, local: bool) -> Path:
        return Path(
            snapshot_download(hub_id, repo_type=kind, revision=commit, allow_patterns=patterns, local_files_only=local)
        )

    try:
        repository_names(hub_id, kind, commit)  # only with this list the client knows what a commit should have
        return fetch(local=True)
    except errors.LocalEntryNotFoundError as absent:
        missing = absent
    except errors.CachedRepoTreeNotFoundError:
        missing = None
    try:
        return _insisting(hub_id, kind, commit, lambda: fetch(local=False))
    except Exception as error:
        if not _unanswered(error):
            raise
        if missing is not None:
            raise missing from error
        return fetch(local=True)  # fetched by an older client, or file by file


def _insisting(hub_id: str, kind: Kind, commit: str, fetch: Callable[[], _Fetched]) -> _Fetched:
    """What `fetch` returns, tried again where a connection is cut in the midst of a file."""
    from huggingface_hub import HfApi

    for attempt in range(1, ATTEMPTS + 1):
        # One question first: where nothing answers, the client's threads would ask six times each, for half a minute,
        # and close each other's connections, which then fails as something else (`_RACES`).
        HfApi().repo_info(hub_id, repo_type=kind, revision=commit, timeout=ASKING_SECONDS)
        try:
            return fetch()
        except Exception as error:
            if attempt == ATTEMPTS or not (_was_cut(error) or isinstance(error, _RACES)):
                raise
    raise AssertionError


def fetch_files(hub_id: str, kind: Kind, commit: str, names: Sequence[str], *, what: str = "") -> Path:
    """Fetch files of a commit by their names, those that this machine lacks; its folder in the hub's cache.

    Raises:
        InfiMmrError: the hub has no such thing, refuses, or cannot be reached.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    folder: Path = (
        Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type=kind) / "snapshots" / commit
    )

    def fetch() -> None:
        lacking = [name for name in names if not (folder / name).is_file()]
        with ThreadPoolExecutor(_FETCHERS) as pool:
            list(pool.map(lambda name: hf_hub_download(hub_id, name, repo_type=kind, revision=commit), lacking))

    if not all((folder / name).is_file() for name in names):
        with hub_told(hub_id, kind, commit, what):
            _insisting(hub_id, kind, commit, fetch)
    return folder


def repository_names(hub_id: str, kind: Kind, commit: str) -> list[str]:
    """Names of all files of a repository at a commit of which `fetch_snapshot` has fetched something."""
    from huggingface_hub import get_cached_repo_tree

    return sorted(file.path for file in get_cached_repo_tree(hub_id, repo_type=kind, revision=commit))


def spoken_name(folder: Path) -> str:
    """What a checkpoint's folder is called: its hub id where it lies in the hub's cache (`models--ORG--NAME`)."""
    kept = folder.parent.parent.name
    if folder.parent.name == "snapshots" and kept.startswith("models--"):
        return kept.removeprefix("models--").replace("--", "/", 1)
    return folder.name


@contextmanager
def hub_told(hub_id: str, kind: Kind, revision: str, what: str = "") -> Iterator[None]:
    """Turn what the hub's client raises into one line, with `what` in front; keep signed addresses out of its log.

    Raises:
        InfiMmrError: the hub has no such thing or refuses; `HubUnansweredError` where it says nothing.
    """
    handlers = logging.getLogger("huggingface_hub").handlers
    for handler in handlers:
        handler.addFilter(_without_query)
    front = f"{what}: " if what else ""
    try:
        with bars_for_people():
            yield
    except InfiMmrError as error:
        raise type(error)(f"{front}{error.message}", error.next_step) from error
    except Exception as error:  # noqa: BLE001  (the client lets errors of several HTTP libraries through)
        told = _refusal(error, hub_id, kind, revision or "main")
        # `from None`: the client's words hold signed addresses, and the server's may repeat the token.
        raise type(told)(f"{front}{told.message}", told.next_step) from None
    finally:
        for handler in handlers:
            handler.removeFilter(_without_query)


@contextmanager
def bars_for_people() -> Iterator[None]:
    """Hide the client's bars where nobody looks: in a file they are one long line."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()


def _without_query(record: logging.LogRecord) -> bool:
    record.msg, record.args = _QUERY.sub("", record.getMessage()), ()
    return True


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _unanswered(error: BaseException) -> bool:
    """Whether the hub could not be asked at all."""
    import httpx
    from huggingface_hub.errors import OfflineModeIsEnabled

    silent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, OfflineModeIsEnabled)
    return any(isinstance(cause, silent) for cause in _causes(error))


def _was_cut(error: BaseException) -> bool:
    """Whether a connection ended in the midst of an answer."""
    import httpx

    cut = (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout)
    return any(isinstance(cause, cut) or "Consistency check" in str(cause) for cause in _causes(error))


def _refusal(error: Exception, hub_id: str, kind: Kind, revision: str) -> InfiMmrError:
    """Find out what happened among the causes of the client's error."""
    from huggingface_hub import constants, errors

    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, OSError) and (told := system_error(cause)) is not None:
            return InfiMmrError(f"{kind} {hub_id} cannot be fetched: {told.message}", told.next_step)
    at = f"{kind} {hub_id} at revision {revision}"
    answers = [cause for cause in causes if isinstance(cause, errors.HfHubHTTPError)]
    if answers and answers[-1].response.status_code < _SERVER_ERROR:
        return _answered(answers, f"{kind} {hub_id}", revision)
    if constants.HF_HUB_OFFLINE or _unanswered(error):
        partly = any(isinstance(cause, errors.IncompleteSnapshotError) for cause in causes)
        return _absent(at, hub_id, kind, revision, partly=partly)
    if answers:
        status = answers[-1].response.status_code
        return HubUnansweredError(f"the hub failed ({status}), asked for {at}", _AGAIN)
    if _was_cut(error):
        return HubUnansweredError(f"the connection was cut {ATTEMPTS} times while {at} was fetched", _AGAIN)
    return InfiMmrError(
        f"{at} cannot be fetched ({type(error).__name__})", "Check the network, or name a folder with its files"
    )


def _answered(answers: Sequence[Exception], name: str, revision: str) -> InfiMmrError:
    """What the hub refused; `name` is a kind and an id."""
    from huggingface_hub import constants, errors

    def met(one: type[Exception]) -> bool:
        return any(isinstance(answer, one) for answer in answers)

    status = answers[-1].response.status_code  # type: ignore[attr-defined]
    page = f"{constants.ENDPOINT}/{name.removeprefix('model ').replace('dataset ', 'datasets/')}"
    if met(errors.GatedRepoError):
        return InfiMmrError(
            f"{name} is gated, and this machine has no access to its files ({status})",
            f"Accept its terms at {page}, then set HF_TOKEN (or hf auth login) to a token of that account",
        )
    if met(errors.RepositoryNotFoundError):
        return InfiMmrError(
            f"the hub has no {name} at revision {revision}, or keeps it from you ({status})",
            "Check the id, set HF_TOKEN for a private one, or name a folder",
        )
    if met(errors.RevisionNotFoundError):
        return InfiMmrError(f"{name} has no revision {revision}", f"Take one of {page}/commits/main, or main itself")
    if status == _UNAUTHORISED:
        return InfiMmrError(
            f"the hub does not accept this machine's token ({status}), asked for {name}",
            "Set HF_TOKEN (or hf auth login) to a valid one; public files need none: unset HF_TOKEN, hf auth logout",
        )
    if status == _TOO_MANY:
        return HubUnansweredError(
            f"the hub asks for a pause ({status}), asked for {name}",
            "Wait some minutes, then use the same command: fetched files stay; with HF_TOKEN more is allowed",
        )
    return InfiMmrError(f"the hub refused {name} at revision {revision} ({status})", f"Look at {page} and HF_TOKEN")


def _absent(at: str, hub_id: str, kind: Kind, revision: str, *, partly: bool) -> HubUnansweredError:
    """What is not on this machine, or only in part, while the hub cannot be asked."""
    from huggingface_hub import constants

    here = f"{at} is on this machine only in part" if partly else f"{at} is not on this machine"
    fetch = f"`hf download {hub_id}{' --repo-type dataset' if kind == 'dataset' else ''} --revision {revision}`"
    if constants.HF_HUB_OFFLINE:
        return HubUnansweredError(
            f"{here}, and HF_HUB_OFFLINE keeps it from the hub",
            f"Unset HF_HUB_OFFLINE, run {fetch} where there is a network, or name a folder with its files",
        )
    return HubUnansweredError(
        f"{here}, and the hub does not answer at {constants.ENDPOINT}",
        "Check the network and HF_ENDPOINT, or name a folder with its files",
    )
