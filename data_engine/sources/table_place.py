"""Where the source `table` lies: a folder or file, a bucket or any store URL, a dataset on the hub.

Input: the words of a recipe. Output: a `TablePlace`: a local folder with the files that hold the records, and a way to
bring the pictures that they name. Nothing but what is read is fetched: first the files of one configuration and split,
then the pictures. Bucket files are kept in the cache folder and fetched again when size or time differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data_engine.sources.places import find_place, hub_files, hub_names
from data_engine.sources.table_choice import PICKLED, Chosen, choose_files, kind_of, pick_split
from shared.caches import cache_folder
from shared.errors import InfiMmrError
from shared.images import PathRefused, safe_join
from shared.store import Entry, open_store, path_of, shown_url

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+]+://")
_FETCHERS = 8
CONVERTED = "refs/convert/parquet"
"""The hub's own conversion of every public dataset, for those whose files are of no known format."""


@dataclass
class TablePlace:
    """Files with records under a local folder, and what lineage says about where they came from."""

    root: Path
    chosen: Chosen
    location: str
    commit: str = ""
    links: Path | None = None
    archives: tuple[str, ...] = ()
    """Zip archives beside the files, which may hold the pictures."""
    remote: _Bucket | _Hub | None = None
    fetched: set[str] = field(default_factory=set)

    def files(self) -> list[Path]:
        """The files with records, in order."""
        return [self.root / name for name in self.chosen.names]

    def has(self, name: str) -> bool:
        """Whether a file of this relative name is there, here or where it would be fetched from."""
        return name in self.remote.names if self.remote is not None else holds(self.root, name, self.links)

    @cached_property
    def remote_folders(self) -> Mapping[str, tuple[list[str], list[str]]]:
        """Of a place that files are fetched from: names of the folders and files inside each folder."""
        found: dict[str, tuple[list[str], list[str]]] = {"": ([], [])}
        for name in sorted(self.remote.names) if self.remote is not None else ():
            folder, _, tail = name.rpartition("/")
            parts = folder.split("/") if folder else []
            for end, part in enumerate(parts, 1):
                if (below := "/".join(parts[:end])) not in found:
                    found[below] = ([], [])
                    found["/".join(parts[: end - 1])][0].append(part)
            found[folder][1].append(tail)
        return found

    def inside(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and files in a folder of the place, sorted; hidden ones left out."""
        if self.remote is not None:
            return self.remote_folders.get(folder, ([], []))
        if not (self.root / folder).is_dir():
            return [], []
        with os.scandir(self.root / folder) as entries:
            shown = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
        return [name for name, is_dir in shown if is_dir], [name for name, is_dir in shown if not is_dir]

    def fetch(self, names: Iterable[str]) -> None:
        """Bring those of the named files that exist there."""
        if self.remote is None:
            return
        wanted = [name for name in dict.fromkeys(names) if name in self.remote.names and name not in self.fetched]
        if wanted:
            self.remote.fetch(wanted)
            self.fetched.update(wanted)


def holds(root: Path, name: str, links: Path | None) -> bool:
    """Whether a file of this relative name lies in a folder, or a link in its place that leads out."""
    try:
        return safe_join(root, name, links).is_file()
    except PathRefused as error:
        return bool(error.why) and (root / name).is_file()


def open_table_place(
    words: str, revision: str, *, config: str, split: str, patterns: Sequence[str], what: str, links: str = ""
) -> TablePlace:
    """Find a place and the files of it that hold the records.

    Raises:
        InfiMmrError: nothing there, nothing readable, or several splits and none named.

    """

    def choose(names: Sequence[str], card: Path | None) -> Chosen:
        if len(names) == 1 and (config or split) and card is None:
            raise InfiMmrError(
                f"{what}: {names[0]} is one file, of which split and config say nothing",
                "Leave them out, or name the folder",
            )
        configs = None if patterns else card_configs(card)
        return choose_files(names, what=what, config=config, split=split, patterns=patterns, configs=configs)

    if _URL.match(words) and not words.startswith("file://"):
        return _in_bucket(words, choose, what)
    path = path_of(words)
    if Path(path).expanduser().exists() or words.startswith("file://"):
        return _in_folder(path, choose, split, what, links)
    return _on_hub(words, revision, choose, what)


def _in_folder(words: str, choose: Any, split: str, what: str, links: str) -> TablePlace:
    place = find_place(words, "", (), what=what, links=links)
    path = place.path
    if path is None:
        raise InfiMmrError(f"{what}: mini is drawn, not read as a table", "Name a folder, a file, a URL or a hub id")
    if path.is_file():
        archives = _archives(_listing(path.parent, deep=False)[0])
        chosen = choose([path.name], None)
        return TablePlace(path.parent, chosen, place.location, links=place.links, archives=archives)
    saved = _saved_by_datasets(path, split, what)
    if saved is not None:
        return TablePlace(path, saved, place.location)
    names, outside = _listing(path, place.links)
    card = path / "README.md"
    aside = f"not looked into, since a link leads out of the folder: {', '.join(outside[:5])}"
    if outside and not any(map(kind_of, names)):
        raise InfiMmrError(f"{what}: no file with records; {aside}", "Name where it leads with source.links")
    chosen = choose(names, card)
    chosen = Chosen(chosen.names, (*chosen.told, aside)) if outside else chosen
    return TablePlace(path, chosen, place.location, links=place.links, archives=_archives(names))


def _archives(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if name.lower().endswith(".zip")))


def _listing(root: Path, links: Path | None = None, *, deep: bool = True) -> tuple[list[str], list[str]]:
    """Relative names of the files with records and archives below a folder, and of folders that are links out of it.

    Hidden ones are left out. A link to a folder is followed where it ends in `links`.

    Raises:
        OSError: a folder that cannot be looked into; it is never passed over.

    """

    def refuse(error: OSError) -> None:
        raise error

    def leads(name: str) -> bool:
        """Whether a folder is to be looked into; links that lead out, and to where one has been, are not."""
        path = Path(folder) / name
        if not path.is_symlink():
            return True
        real = path.resolve()
        if real.is_relative_to(root.resolve()):
            return False
        if links is None or not real.is_relative_to(links) or real in been:
            outside.append(str(path.relative_to(root)))
            return False
        been.add(real)
        return True

    found: list[str] = []
    outside: list[str] = []
    been: set[Path] = set()
    for folder, inside, files in os.walk(root, onerror=refuse, followlinks=True):
        inside[:] = sorted(name for name in inside if not name.startswith(".") and leads(name)) if deep else []
        base = os.path.relpath(folder, root)
        if deep and _is_store(Path(folder), inside):
            if base == ".":
                raise InfiMmrError(f"{root} is a store of versions", "Name one: STORE/datasets/NAME/vN")
            inside.clear()
            continue
        if deep and kind_of(base) and not any(any(map(kind_of, names)) for _, _, names in os.walk(folder)):
            raise InfiMmrError(f"{base} is a folder without records, not a file", "Fetch it again, or remove it")
        found += [name if base == "." else f"{base}/{name}" for name in _wanted(Path(folder), files)]
    return found, outside


def _wanted(folder: Path, files: Sequence[str]) -> list[str]:
    """Names of the files of a folder that may hold records, and of archives."""
    wanted = [name for name in files if kind_of(name) or name.lower().endswith((".zip", *PICKLED))]
    wanted = [name for name in wanted if not name.startswith(".")]
    for path in (folder / name for name in wanted):
        if not path.is_file() and path.exists():  # reading would wait for somebody to write
            raise InfiMmrError(f"{path.name} is a pipe or a device, not a file", "Take it out")
    return wanted


def _is_store(folder: Path, inside: Sequence[str]) -> bool:
    """Whether a folder is a store of ours: what builds wrote there is no part of the set beside it."""
    parts = {"datasets": "*/v*/manifest.json", "annotations": "*/*/about.json"}
    return any(name in inside and any((folder / name).glob(files)) for name, files in parts.items())


def _saved_by_datasets(path: Path, split: str, what: str) -> Chosen | None:
    """Files of a folder that `datasets` wrote with `save_to_disk`, or of one split of it; None for other folders."""
    prefix, told = "", tuple[str, ...]()
    try:
        if (path / "dataset_dict.json").is_file():
            splits = [str(name) for name in json.loads((path / "dataset_dict.json").read_text("utf-8"))["splits"]]
            picked, said = pick_split(split, splits, what)
            prefix, told = f"{picked}/", tuple(said)
        state = path / prefix / "state.json"
        if not state.is_file():
            return None
        files = [str(item["filename"]) for item in json.loads(state.read_text("utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfiMmrError(
            f"{what}: {path.name} is not a complete save_to_disk folder ({error})", "Save it again"
        ) from error
    for name in files:
        if "/" in name or not name.endswith(".arrow"):
            raise InfiMmrError(
                f"{what}: state.json names {name!r}, which is not one of its files", "Save the dataset again"
            )
    return Chosen(tuple(f"{prefix}{name}" for name in files), told)


def card_configs(card: Path | None) -> dict[str, dict[str, list[str]]] | None:
    """Patterns by split by configuration, as a dataset's card (README.md) states them; None where it states none."""
    if card is None or not card.is_file():
        return None
    import yaml  # type: ignore[import-untyped]  # a dependency of huggingface_hub

    text = card.read_text("utf-8", errors="replace")
    if not text.startswith("---"):
        return None
    try:
        about = yaml.safe_load(text.split("---", 2)[1])
        found: dict[str, dict[str, list[str]]] = {}
        for entry in about.get("configs") or []:
            files = entry.get("data_files")
            splits: dict[str, list[str]] = {}
            if isinstance(files, str | list) and not (isinstance(files, list) and files and isinstance(files[0], dict)):
                splits["train"] = [files] if isinstance(files, str) else [str(name) for name in files]
            for item in files if isinstance(files, list) and files and isinstance(files[0], dict) else []:
                paths = item["path"]
                splits[str(item["split"])] = [paths] if isinstance(paths, str) else [str(name) for name in paths]
            if splits:
                found[str(entry["config_name"])] = splits
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, IndexError):
        return None
    return found or None


class _Bucket:
    """Files of a store URL, kept in the cache folder."""

    def __init__(self, url: str, what: str) -> None:
        self._store = open_store(url)
        self._what = what
        digest = hashlib.sha256(shown_url(url).encode()).hexdigest()
        self.root = cache_folder() / "buckets" / digest[:32]
        self.entries: Mapping[str, Entry] = {entry.path: entry for entry in self._store.list()}
        self.names = self.entries.keys()

    def fetch(self, names: Sequence[str]) -> None:
        """Bring files into the cache folder, each whole or not at all."""
        with ThreadPoolExecutor(_FETCHERS) as pool:
            for _ in pool.map(self._fetch, names):
                pass

    def _fetch(self, name: str) -> None:
        entry = self.entries[name]
        target = safe_join(self.root, name)
        try:
            here = target.stat()
            if here.st_size == entry.size and abs(here.st_mtime - entry.modified) < 1e-3:
                return
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as out:
                for view in self._store.views(name):
                    out.write(view)
            os.utime(part, (entry.modified, entry.modified))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _in_bucket(url: str, choose: Any, what: str) -> TablePlace:
    base, _, name = url.rstrip("/").rpartition("/")
    single = bool(kind_of(name)) and not base.endswith(":/")
    bucket = _Bucket(base if single else url, what)
    if single and name not in bucket.names:
        raise InfiMmrError(f"{what}: {shown_url(url)} does not exist", "Check the URL")
    if not bucket.names:
        raise InfiMmrError(f"{what}: nothing lies under {shown_url(url)}", "Check the URL")
    card = bucket.root / "README.md"
    if "README.md" in bucket.names and not single:
        bucket.fetch(["README.md"])
    chosen = choose([name], None) if single else choose(list(bucket.names), card)
    location = name if single else shown_url(url).rstrip("/").rpartition("/")[2]
    place = TablePlace(bucket.root, chosen, location, archives=_archives(bucket.names), remote=bucket)
    place.fetch(chosen.names)
    return place


class _Hub:
    """Files of a hub dataset at one commit."""

    def __init__(self, hub_id: str, commit: str, names: Sequence[str], what: str) -> None:
        self._hub_id, self._commit, self._what = hub_id, commit, what
        self.names = set(names)

    def fetch(self, names: Sequence[str]) -> None:
        """Bring files into the hub's cache."""
        hub_files(self._hub_id, self._commit, names, what=self._what)


def _on_hub(words: str, revision: str, choose: Any, what: str) -> TablePlace:
    commit, names = hub_names(words, revision, what=what)
    if not any(kind_of(name) for name in names):
        commit, names = hub_names(words, CONVERTED, what=what)
    hub = _Hub(words, commit, names, what)
    root, links = hub_files(words, commit, [], what=what)
    chosen = choose(names, root / "README.md")
    place = TablePlace(root, chosen, words, commit, links, _archives(names), hub)
    place.fetch(chosen.names)
    return place
