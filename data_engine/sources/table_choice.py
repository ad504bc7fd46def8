"""Which files of a place hold the records of the source `table`: one configuration, one split, one format.

Input: relative names of a folder, a bucket or a hub dataset, and what the recipe and the dataset's card say. Output:
the chosen names, and what was left aside, in words. Not covered: what stands in the files (`table_files`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from shared.errors import InfiMmrError, did_you_mean

KINDS = {
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tar": "tar", ".tgz": "tar",
}  # fmt: skip
"""Format by suffix; of several formats in one folder the first one here is taken (mirrors repeat the same rows)."""
PICKLED = (".pk", ".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib")
PACKED = (".gz", ".bz2", ".zst")
_DESCRIPTIONS = re.compile(r"(^|/)(dataset_infos?|dataset_dict|state|config|package|croissant|_\w+)\.json$|(^|/)\.")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "testmini": "testmini", "minitest": "testmini",
}  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """Relative names of the files to read, in order, and what was left aside, in words."""

    names: tuple[str, ...]
    told: tuple[str, ...] = ()


def kind_of(name: str) -> str:
    """Format of a file by its name; empty for names that hold no records."""
    path = PurePosixPath(name.lower())
    suffix = PurePosixPath(path.stem).suffix if path.suffix in PACKED else path.suffix
    kind = KINDS.get(suffix, "")
    return "" if path.suffix in PACKED and kind in {"parquet", "arrow"} else kind


def choose_files(
    names: Sequence[str],
    *,
    what: str,
    config: str = "",
    split: str = "",
    patterns: Sequence[str] = (),
    configs: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> Chosen:
    """Pick the files that hold the records of one split, all of one format.

    `configs` is what a hub dataset's card says: patterns by split by configuration. Else folders and name parts are
    read as `datasets` reads them (`CONFIG/SPLIT-00000-of-00002.parquet`). Without `split` the training split is taken.

    Raises:
        InfiMmrError: nothing there to read, no such configuration or split, or several of which none is named.

    """
    found = [name for name in sorted(names) if kind_of(name) and not _DESCRIPTIONS.search(name)]
    if patterns:
        found = [name for name in found if any(PurePosixPath(name).match(pattern) for pattern in patterns)]
    pickled = [name for name in sorted(names) if name.lower().endswith(PICKLED)]
    if pickled and not found:
        problem = f"{what}: {_some(pickled)} may be pickled: such files can run any code, and are never opened"
        raise InfiMmrError(problem, "Write their records as .jsonl once, where they may be trusted, and read that file")
    if not found:
        raise InfiMmrError(
            f"{what}: no file with records{' among ' + ', '.join(patterns) if patterns else ''}",
            f"Known endings: {' '.join(KINDS)}, text formats also packed ({' '.join(PACKED)})",
        )
    told: list[str] = []
    if configs:
        found, said = _by_card(found, configs, config, split, what)
    else:
        if config:
            found = _of_config(found, config, what)
        found, said = _of_split(found, split, what)
    told += said
    kinds = [kind for kind in dict.fromkeys(KINDS.values()) if any(kind_of(name) == kind for name in found)]
    taken = tuple(name for name in found if kind_of(name) == kinds[0])
    left = [name for name in found if kind_of(name) != kinds[0]]
    if left:
        told.append(f"not read, because {kinds[0]} is there: {_some(left)}")
    return Chosen(taken, tuple(told))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _by_card(
    names: list[str], configs: Mapping[str, Mapping[str, Sequence[str]]], config: str, split: str, what: str
) -> tuple[list[str], list[str]]:
    told = []
    if not config:
        config = "default" if "default" in configs else next(iter(configs))
        if len(configs) > 1:
            others = [name for name in configs if name != config]
            told.append(f"configuration {config} taken; also there: {_some(others)} (config = ...)")
    if config not in configs:
        raise InfiMmrError(f"{what}: no configuration {config!r}", did_you_mean(config, configs))
    splits = configs[config]
    split, said = pick_split(split, list(splits), what)
    patterns = splits[split]
    found = [name for name in names if any(_matches(name, pattern) for pattern in patterns)]
    if not found:
        raise InfiMmrError(f"{what}: no file fits {', '.join(patterns)}, which the card names", "Name files = [...]")
    return found, [*told, *said]


def _matches(name: str, pattern: str) -> bool:
    """As the hub's cards write patterns: `data/train-*`, `**/x.json`, whole names."""
    pattern = pattern.removeprefix("./")
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    glob = {"**/": r"(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.fullmatch("".join(glob.get(part, re.escape(part)) for part in parts), name) is not None


def _of_config(names: list[str], config: str, what: str) -> list[str]:
    found = [name for name in names if config in PurePosixPath(name).parts[:-1]]
    found = found or [name for name in names if re.split(r"[-.]", PurePosixPath(name).name)[0] == config]
    if not found:
        folders = {part for name in names for part in PurePosixPath(name).parts[:-1]}
        raise InfiMmrError(f"{what}: no configuration {config!r}", did_you_mean(config, folders))
    return found


def _of_split(names: list[str], split: str, what: str) -> tuple[list[str], list[str]]:
    if split:
        found = [name for name in names if split in _tokens(name)]
        if not found:
            found = [name for name in names if _SPLIT_WORDS.get(split, split) == _split_word(name)]
        if not found:
            known = {word for name in names for word in [_split_word(name)] if word}
            raise InfiMmrError(f"{what}: no split {split!r}", did_you_mean(split, known) or "Its files name no split")
        return found, []
    words = {name: _split_word(name) for name in names}
    picked, told = pick_split("", list(dict.fromkeys(words.values())), what)
    return [name for name in names if words[name] == picked], told


def pick_split(split: str, splits: list[str], what: str) -> tuple[str, list[str]]:
    """The split to read, as named or the training split, and what to tell about others.

    Raises:
        InfiMmrError: no such split, or several of which none is named.

    """
    if split:
        if split not in splits:
            raise InfiMmrError(f"{what}: no split {split!r}", did_you_mean(split, splits))
        return split, []
    if len(splits) == 1:
        return splits[0], []
    named = [word for word in splits if word]
    if "train" in splits:
        others = [word or "files that name no split" for word in splits if word != "train"]
        return "train", [f"split train taken; also there: {_some(others)} (split = ...)"]
    if len(named) == 1:
        return "", [f"files that name no split taken; also there: {named[0]} (split = ...)"]
    raise InfiMmrError(f"{what}: several splits and none is train: {', '.join(named)}", "Name one with split = ...")


def _tokens(name: str) -> set[str]:
    return {token for part in PurePosixPath(name).parts for token in (part, *re.split(r"[-_. ]", part))}


def _split_word(name: str) -> str:
    """The split that a name's last telling part names; empty for none."""
    for part in reversed(PurePosixPath(name).parts):
        for token in re.split(r"[-_. ]", part.lower()):
            if token in _SPLIT_WORDS:
                return _SPLIT_WORDS[token]
    return ""
