"""Pictures for the page: decoded, reduced and encoded anew, so that only pixels of true images get in.

Input: an image file. Output: a `data:` URL, or None where the file is absent or no image.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from shared.images import ImageRefused, decode_rgb

LONGEST_SIDE = 360
"""Pixels; enough to read a drawing beside its question."""
LARGEST_FILE = 64 * 2**20


def data_url(file: Path) -> str | None:
    """The picture at most `LONGEST_SIDE` pixels wide and high: PNG where that is small (drawings), else JPEG."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_FILE:
            return None
        return picture_url(file.read_bytes())
    except OSError:
        return None


def picture_url(data: bytes) -> str | None:
    """Likewise of encoded bytes."""
    try:
        image = decode_rgb(data)
    except ImageRefused:
        return None
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    best: tuple[str, bytes] | None = None
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 82})):
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        if best is None or buffer.tell() < 0.6 * len(best[1]):
            best = (kind, buffer.getvalue())
    kind, data = best or ("png", b"")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
