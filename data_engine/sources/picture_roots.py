"""Where the names of pictures lead: folders of a place that they start from, and zip archives that hold them.

Input: a `TablePlace` and names of a sample. Output: `PictureRoots`, small to pickle, which places any name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_engine.sources.base import FileImage
from data_engine.sources.file_hashes import needed_hashes
from data_engine.sources.places import unpacked
from data_engine.sources.table_place import TablePlace, holds
from shared.caches import cache_folder
from shared.images import file_inside

PROBED_NAMES = 64
_FOLDERS = ("images", "image", "imgs", "img", "pictures", "png", "figures")
"""Where sets keep pictures whose names do not say it."""
_Root = tuple[Path, Path | None, str | None]
"""Folder, where links may end besides it, and what stands in front of names; None: the folder of the record's file."""


@dataclass(frozen=True)
class PictureRoots:
    """Folders that pictures' names start from, best first.

    Attributes:
        root: Folder of the place.
        roots: The folders.
        names: What lies at a place from which pictures are fetched; None where the folder itself is asked.

    """

    root: Path
    roots: tuple[_Root, ...]
    names: frozenset[str] | None = None

    def __call__(self, name: str, folder: str = "") -> FileImage:
        """The file that a picture's name means; of several roots the first that has it.

        `folder`: where the file of a record lies that has one of its own.
        """
        for root, links, prefix in self.roots[:-1]:
            below = _below(name, folder, prefix)
            if root != self.root:
                there = file_inside(root, below) is not None
            else:
                there = below in self.names if self.names is not None else holds(root, below, links)
            if there:
                return FileImage(root, below, links)
        root, links, prefix = self.roots[-1]
        plain = name.startswith("/") or ":" in name.partition("/")[0]
        return FileImage(root, name if plain else _below(name, folder, prefix), links)


def _below(name: str, folder: str, prefix: str | None) -> str:
    """A picture's name behind what stands in front of it."""
    if prefix is not None:
        return f"{prefix}{name}"
    if not folder or name.startswith("/") or ":" in name.partition("/")[0]:
        return name
    return posixpath.normpath(f"{folder}/{name}") if ".." in name else f"{folder}/{name}"


def picture_roots(
    place: TablePlace,
    names: Sequence[str],
    *,
    files: Sequence[str] = (),
    told: str = "",
    folders_of: Sequence[str] = (),
) -> tuple[PictureRoots, str]:
    """Where `names` of pictures lie beside `files`, or where `told` says; and what to tell about it.

    Records that have a file of their own (`folders_of` names each its folder) begin with the folder of that file.
    """
    remote = frozenset(place.remote.names) if place.remote is not None else None
    plain: _Root = (place.root, place.links, "")
    if told or not names:
        prefix = told.strip("/") + "/" if told else ""
        return PictureRoots(place.root, ((place.root, place.links, prefix),), remote), ""
    roots: list[_Root] = []
    if folders_of:
        plain = (place.root, place.links, None)
        at_home = sum(place.has(_below(*pair, None)) for pair in zip(names, folders_of, strict=True))
        roots += [plain] if at_home else []
        if at_home == len(names):
            return PictureRoots(place.root, (plain,), remote), ""
    homes = {name.rpartition("/")[0] for name in files}
    above = {str(folder) for home in homes for folder in PurePosixPath(home).parents} - {"."}
    folders = ["", *(sorted(above - homes) if folders_of else dict.fromkeys(n.rpartition("/")[0] for n in files))]
    folders = list(dict.fromkeys([*folders, *_FOLDERS]))
    few = {base: place.inside(base)[0][: PROBED_NAMES if remote is None else None] for base in folders}
    beside = [f"{base}/{name}" if base else name for base, inner in few.items() for name in inner]
    prefixes = [f"{folder}/" if folder else "" for folder in dict.fromkeys([*folders, *beside])]
    if folders_of:  # what lies in the folder of one record is no other's
        prefixes = [prefix for prefix in prefixes if prefix[:-1] not in homes]
    hits = {prefix: sum(place.has(f"{prefix}{name}") for name in names) for prefix in prefixes}
    roots += [(place.root, place.links, prefix) for prefix in sorted(prefixes, key=lambda p: -hits[p]) if hits[prefix]]
    said = f"images' names start from {roots[0][2]}" if roots and roots[0][2] else ""
    if place.archives and max(hits.values()) < len(names):
        unzipped = _unzipped(place, names)
        roots += unzipped
        said = said or (f"images taken from {', '.join(place.archives)}" if unzipped else "")
    return PictureRoots(place.root, tuple(roots or [plain]), remote), said


def _unzipped(place: TablePlace, names: Sequence[str]) -> list[_Root]:
    """Roots within the zip archives that hold some of the names."""
    place.fetch(place.archives)
    roots: list[tuple[int, Path, str]] = []
    for archive in place.archives:
        file = place.root / archive
        folder = unpacked(file, needed_hashes([file])[file], cache_folder())
        inside = sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())
        for prefix in ("", *inside):
            hits = sum(file_inside(folder, f"{prefix}{name}") is not None for name in names)
            if hits:
                roots.append((hits, folder, prefix))
    return [(folder, None, prefix) for _, folder, prefix in sorted(roots, key=lambda root: -root[0])]
