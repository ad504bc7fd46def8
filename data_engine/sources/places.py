"""Where a source lies: a folder or file on this machine, a dataset on the hub, or the project's own `mini` sets.

Input: the words of a recipe or of `--source`. Output: a local folder or file, with the name and revision that lineage
records. Hub files come through huggingface_hub at one commit, resolved before anything is fetched.
Not covered: what the files mean (the readers).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.code_points import carried
from shared.errors import InfiMmrError, nearest
from shared.fingerprint import canonical_json
from shared.hub_download import fetch_files, fetch_snapshot, repository_names
from shared.images import PathRefused, safe_join
from shared.store import path_of

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_FILE_SUFFIXES = (".parquet", ".json", ".jsonl", ".csv", ".zip")


@dataclass(frozen=True)
class Place:
    """A source's place: `path` here (None for `mini`), what lineage calls it, the hub commit (empty for folders)."""

    path: Path | None
    location: str
    commit: str = ""
    links: Path | None = None
    """Where links of its files may end: the blobs of the hub's cache, of which a snapshot is made, or as told."""


def find_place(words: str, revision: str, patterns: Sequence[str], *, what: str, links: str = "") -> Place:
    """Resolve `mini`, a path, or a hub id; fetch hub files that match `patterns` at `revision`.

    `links` names a folder in which links of a path's files may end besides itself.

    Raises:
        InfiMmrError: no such path, no such dataset, or the hub cannot be reached.

    """
    if words == "mini":
        return Place(None, "mini")
    words = path_of(words)
    path = Path(words).expanduser()
    if path.exists():
        ends = Path(links).expanduser().resolve() if links else None
        if ends is not None and not ends.is_dir():
            raise InfiMmrError(f"{what}: links = {links!r} is no folder", "Name the folder where its links end")
        return Place(path.resolve(), carried(path.resolve().name), links=ends)
    if not _HUB_ID.match(words) or words.endswith(_FILE_SUFFIXES):
        raise InfiMmrError(f"{what}: {words} does not exist", "Name a folder, a file, a hub id OWNER/NAME, or mini")
    return _from_hub(words, revision, patterns, what=what)


def _from_hub(hub_id: str, revision: str, patterns: Sequence[str], *, what: str) -> Place:
    with _or_a_missing_folder(hub_id, what):
        snapshot = fetch_snapshot(hub_id, "dataset", revision, patterns, what=what)
    return Place(snapshot, hub_id, snapshot.name, links=snapshot.parent.parent / "blobs")


@contextmanager
def _or_a_missing_folder(words: str, what: str) -> Iterator[None]:
    """Where the hub does not give `a/b` and a folder `a` is here, say so first: a mistyped path looks like a hub id."""
    try:
        yield
    except InfiMmrError as error:
        folder, name = Path(words).parent, Path(words).name
        if not folder.is_dir():
            raise
        near = nearest(name, [path.name for path in folder.iterdir()])
        hint = f"Did you mean {folder / near}?" if near else f"Correct the path, or as a hub id: {error.next_step}"
        raise InfiMmrError(f"{what}: the folder {folder} has no {name}, and the hub gives no {words}", hint) from error


def hub_names(hub_id: str, revision: str, *, what: str) -> tuple[str, list[str]]:
    """The commit that `revision` of a hub dataset is, and the names of its files; its README.md is fetched.

    Raises:
        InfiMmrError: no hub id, no such dataset, or the hub cannot be reached.

    """
    if not _HUB_ID.match(hub_id) or hub_id.endswith(_FILE_SUFFIXES):
        raise InfiMmrError(f"{what}: {hub_id} does not exist", "Name a folder, a file, a URL, or a hub id OWNER/NAME")
    with _or_a_missing_folder(hub_id, what):
        commit = fetch_snapshot(hub_id, "dataset", revision, ["README.md"], what=what, needed=False).name
    return commit, repository_names(hub_id, "dataset", commit)


def hub_files(hub_id: str, commit: str, names: Sequence[str], *, what: str) -> tuple[Path, Path]:
    """Fetch files of a hub dataset at a commit by their names; returns its folder in the cache and that of the blobs.

    Raises:
        InfiMmrError: the hub cannot be reached or refuses.

    """
    folder = fetch_files(hub_id, "dataset", commit, names, what=what)
    return folder, folder.parent.parent / "blobs"


def unpacked(archive: Path, digest: str, cache: Path) -> Path:
    """Return a folder with the pictures of a zip archive, unpacked once per content (`digest`) and whole or not at all.

    Raises:
        InfiMmrError: a broken archive, a member that leaves the folder, or no space.

    """
    done = cache / "unpacked" / digest[:32]
    if done.is_dir():
        return done
    done.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=done.parent, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
                    continue
                target = safe_join(scratch, member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        try:
            scratch.rename(done)
        except OSError:
            if not done.is_dir():
                raise
    except (
        zipfile.BadZipFile,
        PathRefused,
        EOFError,
        zlib.error,
        RuntimeError,
    ) as error:  # RuntimeError: encrypted, or packed otherwise
        raise InfiMmrError(f"{archive.name} cannot be unpacked: {error}", "Fetch it again") from error
    except OSError as error:
        raise InfiMmrError(
            f"{archive.name} cannot be unpacked: {os.strerror(error.errno or 0)}", "Free space"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return done


def files_revision(names_and_hashes: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the fingerprint (64 digits) over relative names and content hashes, and the short form for lineage."""
    digest = pairs_fingerprint(sorted(names_and_hashes))
    return digest, short_revision(digest)


def pairs_fingerprint(pairs: Iterable[tuple[str, str]]) -> str:
    """`fingerprint` of a list of pairs, which come one after the other."""
    digest = hashlib.sha256(b"[")
    for number, pair in enumerate(pairs):
        digest.update(("," * bool(number) + canonical_json(list(pair))).encode("utf-8", "surrogatepass"))
    digest.update(b"]")
    return digest.hexdigest()


def short_revision(digest: str) -> str:
    """Return the form of a content's fingerprint that lineage shows."""
    return f"sha256:{digest[:16]}"
