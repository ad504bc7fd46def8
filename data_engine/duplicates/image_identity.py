"""When two pictures are the same picture: equal bytes, equal decoded pixels, or nearly equal by two measures.

Input: image bytes. Output: an `ImagePrint` per image (three hashes and a thumbnail), stored per sha256 and compared
without decoding again.

Thresholds, measured on 300 images of a ViRL39K-shaped slice and on 1,700 pairs of different pictures under the same
question: re-encoding (JPEG quality 40) and resizing (half, 1.5 times) change at most 4 of the 64 bits of the perceptual
hash in 99% of cases, a centred crop by 3% at most 12. But drawings that differ in one shape or one number may differ by
0 to 10 bits as well; on 32 x 32 colour thumbnails those differ by at least 50 of 255 in some cell, where re-encoded and
resized copies stay below 32 in 95% (resized) to 99%.

Not covered: rotated or mirrored copies, cuts beyond a few per cent, the same figure drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_engine.cell_counts import noted
from data_engine.intake.staging import within_reach
from data_engine.runners import Ask
from data_engine.text_hash.text_cells import Known
from shared.annotations import AnnotationTable
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint
from shared.images import ImageSource, decode_rgb, perceptual_hash, pixel_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from data_engine.step import StepContext

VERSION = "image_print/1"
PRINTS_AT_ONCE = 256
"""Image prints made and stored together, so that a killed build loses at most as many."""

SIDE = 32
"""Cells per side of the thumbnail; 3 bytes a cell."""

MAX_BITS = 8
"""Of the 64 bits of the perceptual hash, as many may differ between copies of one picture."""

MAX_CELL = 32
"""Largest difference (of 255) of any thumbnail cell between copies of one picture."""

SAME_BITS, DIFFERENT_BITS = 10, 20
"""For decontamination, where a doubt counts as the same: up to 10 bits the same picture, from 20 on another one."""

Relation = Literal["same", "different", "unclear", "unknown", "none"]


@dataclass(frozen=True)
class ImagePrint:
    """What identifies a picture.

    Attributes:
        sha256: Of the original bytes, hex.
        pixels: sha256 of the decoded RGB pixels, hex; empty where the image cannot be decoded.
        bits: 64-bit perceptual hash.
        thumbnail: `SIDE` x `SIDE` x 3 bytes.

    """

    sha256: str
    pixels: str = ""
    bits: int = 0
    thumbnail: bytes = b""


def image_print(sha256: str, data: bytes | None) -> ImagePrint:
    """Compute the print of an image; of one that cannot be read or decoded only its sha256 is known."""
    from PIL import Image

    if not data:
        return ImagePrint(sha256)
    try:
        small = decode_rgb(data).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return ImagePrint(sha256, pixel_hash(data), perceptual_hash(data), small.tobytes())
    except InfiMmrError:
        return ImagePrint(sha256)


def distance(left: ImagePrint, right: ImagePrint) -> int:
    """Differing bits of the perceptual hashes, 0 to 64."""
    return (left.bits ^ right.bits).bit_count()


def same_picture(left: ImagePrint, right: ImagePrint, max_bits: int = MAX_BITS, max_cell: int = MAX_CELL) -> bool:
    """Strict identity, for duplicates: a wrong yes would lose a problem."""
    if left.sha256 == right.sha256:
        return True
    if not left.pixels or not right.pixels:
        return False
    if left.pixels == right.pixels:
        return True
    if distance(left, right) > max_bits:
        return False
    one, two = (np.frombuffer(item.thumbnail, np.uint8).astype(np.int16) for item in (left, right))
    return int(np.abs(one - two).max()) <= max_cell


def relation(left: Sequence[ImagePrint], right: Sequence[ImagePrint]) -> tuple[Relation, int | None]:
    """Lenient comparison of two problems' pictures, for decontamination: the nearest pair of pictures decides.

    Returns:
        `same`, `different` or `unclear` and the smallest bit distance; `none` where neither has pictures, `unknown`
        where only one has them or some cannot be decoded (a benchmark that ships without its pictures).

    """
    if not left and not right:
        return "none", None
    if {item.sha256 for item in left} & {item.sha256 for item in right}:
        return "same", 0
    if not left or not right or not all(item.pixels for item in (*left, *right)):
        return "unknown", None
    near = min(distance(one, two) for one in left for two in right)
    if near <= SAME_BITS:
        return "same", near
    return ("different" if near >= DIFFERENT_BITS else "unclear"), near


def image_prints(context: StepContext, hashes: Iterable[str], images: ImageSource) -> Known[dict[str, ImagePrint]]:
    """Prints of images by sha256, from the store where known. What cannot be read now is not stored."""
    import pyarrow as pa
    import pyarrow.compute as pc

    about = {"print": VERSION}
    schema = pa.schema([("pixels", pa.string()), ("bits", pa.uint64()), ("thumbnail", pa.binary())])
    table = AnnotationTable(context.store, "image_prints", fingerprint(about), schema, about)
    wanted = sorted(set(hashes))
    found = table.lookup(wanted)
    prints = {key: ImagePrint(key, cell["pixels"], cell["bits"], cell["thumbnail"]) for key, cell in found.items()}
    missing = context.missing(table, wanted)
    if missing:
        images = within_reach(context, images, [Ask("prints", "", images=tuple(missing))])
    batches = (pa.table({"key": missing[i : i + PRINTS_AT_ONCE]}) for i in range(0, len(missing), PRINTS_AT_ONCE))
    for made in context.runner.map_batches(print_batch, batches, broadcast=images):
        table.append_table(made.filter(pc.not_equal(made.column("pixels"), "")))
        prints.update({cell["key"]: ImagePrint(*cell.values()) for cell in made.to_pylist()})
    return Known(prints, noted(wanted, missing, "prints"))


def print_batch(batch: pa.Table, images: ImageSource) -> pa.Table:
    """Prints of the pictures of a table with `key` (sha256); `pixels` is empty where one cannot be read."""
    import pyarrow as pa

    made = []
    for sha256 in batch.column("key").to_pylist():
        try:
            data: bytes | None = images.get(sha256)
        except (InfiMmrError, KeyError, OSError):
            data = None
        made.append(image_print(sha256, data))
    columns = {
        "key": batch.column("key"),
        "pixels": pa.array([one.pixels for one in made], pa.string()),
        "bits": pa.array([one.bits for one in made], pa.uint64()),
        "thumbnail": pa.array([one.thumbnail for one in made], pa.binary()),
    }
    return pa.table(columns)
