"""Pictures as training reads them: files named by content, made from the bytes of a dataset's rows.

Input: encoded pictures. Output: files that every reader decodes to the pixels that `shared.images` sees. They are a
cache: what is gone is made again from the dataset version, also for a run that is continued (`restore_pictures`).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError

PICTURES = "pictures-2"
"""Folder of the cache; its number rises when the same bytes give other pixels (2: key colours lie on white)."""


def cached_picture(data: bytes, sha256: str, folder: Path, max_pixels: int) -> tuple[Path, tuple[int, int]]:
    """Path of a picture in the cache and its (height, width), writing it if it is new.

    The bytes are kept as they are when every reader sees the same pixels in them (`decode_and_compare`) and they are
    small enough. Otherwise an RGB PNG of what `shared.images` reads is written, reduced to `max_pixels` (0 keeps the
    size).

    Raises:
        ImageRefused: the bytes are no usable picture.

    """
    from PIL import Image

    for suffix in (".img", ".png"):
        path = folder / PICTURES / sha256[:2] / f"{sha256}-{max_pixels}{suffix}"
        with suppress(OSError), Image.open(path) as kept:
            return path, (kept.height, kept.width)
    kept_bytes, suffix, size = picture_file(data, max_pixels)
    path = folder / PICTURES / sha256[:2] / f"{sha256}-{max_pixels}{suffix}"
    keep_file(path, kept_bytes)
    return path, size


def picture_file(data: bytes, max_pixels: int) -> tuple[bytes, str, tuple[int, int]]:
    """Bytes of a picture as training reads it, their suffix (`.img` for the original's), and (height, width).

    Raises:
        ImageRefused: the bytes are no usable picture.

    """
    from shared.images import decode_and_compare, reduced

    picture, alike = decode_and_compare(data)
    small = reduced(picture, max_pixels)
    size = (small.height, small.width)
    if alike and small is picture:
        return data, ".img", size
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return buffer.getvalue(), ".png", size


def keep_file(path: Path, content: bytes) -> None:
    """Write a file of the cache whole or not at all; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def missing_pictures(prompts: Path) -> dict[str, list[Path]]:
    """Pictures that a prompt file names and that are no longer there: paths by the sha256 of the original bytes."""
    gone: dict[str, list[Path]] = {}
    seen: set[str] = set()
    with prompts.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            for name, digest in zip(line["images"], line["image_hashes"], strict=True):
                if name in seen:
                    continue
                seen.add(name)
                if not Path(name).is_file():
                    gone.setdefault(digest, []).append(Path(name))
    return gone


def restore_pictures(
    prompts: Path, dataset: Mapping[str, Any], max_pixels: int, store: str | None, tell: Callable[[str], None]
) -> None:
    """Make pictures that a run's prompt file names and that are gone again, from the version that the run began with.

    `dataset` is the run record's. A resume without them would fail within the training, after minutes of start-up.

    Raises:
        InfiMmrError: the version is not in the store, or another one, or lacks a picture.

    """
    from shared.dataset_version import open_dataset

    gone = missing_pictures(prompts)
    if not gone:
        return
    label = dataset["label"]
    what = f"{len(gone)} images of this run are gone from its cache, and {label}, which they came from,"
    step = "name the store that holds it with --store, or start anew in another --output"
    try:
        version = open_dataset(f"{dataset['name']}@{dataset['version']}", store)
    except InfiMmrError as error:
        raise InfiMmrError(f"{what} cannot be opened: {error.message}", step) from error
    if version.manifest.fingerprint != dataset["fingerprint"]:
        raise InfiMmrError(f"{what} is another one in {version.store.url}", step)
    tell(f"{len(gone)} images are gone from the cache: making them again from {label}")
    left = _written_again(gone, version.files(), max_pixels)
    if left:
        raise InfiMmrError(f"{what} lacks {left} of them", step)


def _written_again(gone: Mapping[str, Sequence[Path]], files: Sequence[Path], max_pixels: int) -> int:
    """Write missing pictures from a dataset's Parquet files; returns how many are not there."""
    from shared.dataset_version.iterate import rows_of

    left = dict(gone)
    for row in rows_of(files, ["images", "image_hashes"]):
        for image, digest in zip(row["images"], row["image_hashes"], strict=True):
            for path in left.pop(digest, ()):
                keep_file(path, picture_file(image["bytes"], max_pixels)[0])
        if not left:
            break
    return len(left)
