"""Pictures as records hold them: names, bytes, `{bytes, path}`, base64, data URLs, and lists of these.

Input: the value of a picture column. Output: its parts, and each part as a `FileImage` or a `BytesImage`, or a typed
reason why it is none. Nothing is read or decoded here beyond base64; `ingest` reads, hashes and checks.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from data_engine.sources.base import BytesImage, FileImage
from shared.option_lists import literal_list

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".jp2")
_DATA_URL = re.compile(r"data:image/[\w.+-]*(?:;[\w=-]+)*;base64,", re.IGNORECASE)
_BASE64_HEADS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK")
"""How PNG, JPEG, GIF, WebP, BMP and TIFF begin in base64."""
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_MIN_BASE64 = 64


class FileBytes(bytes):
    """Bytes that a reader found in a file as they are, from `offset` on."""

    file: Path
    offset: int


class NoPictureError(ValueError):
    """A part that holds no picture; `reason` is one of `base.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the typed reason beside the detail."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def picture_values(value: Any) -> list[Any]:
    """Parts of a column's value: of lists their items, of a list that a CSV holds as text likewise; none for empty."""
    if value is None or value in ("", b""):
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _list_in_text(value)
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def _list_in_text(text: str) -> Any:
    """A list that was written as JSON or as Python writes it; the text itself where it is neither."""
    found = literal_list(text)
    if isinstance(found, str):
        with suppress(ValueError, RecursionError):
            found = json.loads(text.replace("'", '"'))
    return found if isinstance(found, list) else text


def looks_like_picture(part: Any) -> bool:
    """Whether a part may be a picture, from its form alone."""
    if isinstance(part, bytes):
        return True
    if isinstance(part, Mapping):
        return bool({"bytes", "path"} & part.keys()) or "image_url" in part or "url" in part
    if not isinstance(part, str) or not part.strip():
        return False
    return _is_base64(part) or PurePosixPath(part.split("?")[0].strip().lower()).suffix in PICTURE_SUFFIXES


def _is_base64(text: str) -> bool:
    if _DATA_URL.match(text):
        return True
    return len(text) >= _MIN_BASE64 and text.startswith(_BASE64_HEADS) and _BASE64.fullmatch(text[:400]) is not None


def picture(part: Any, find: Callable[[str], FileImage]) -> FileImage | BytesImage:
    """One part as a picture; `find` places a name below the source's folder.

    Raises:
        NoPictureError: an empty part, broken base64, or a value of another kind.

    """
    if isinstance(part, bytes) and part:
        return BytesImage(part, "")
    if isinstance(part, Mapping):
        return _of_mapping(part, find)
    if isinstance(part, str) and part.strip():
        text = part.strip()
        if _is_base64(text):
            return BytesImage(_decoded(text), "")
        return find(text.replace("\\", "/"))
    if part is None or part in ("", b""):
        raise NoPictureError("image_missing", "an empty picture")
    raise NoPictureError("wrong_type", f"a picture is expected and {type(part).__name__} is there")


def _of_mapping(part: Mapping[str, Any], find: Callable[[str], FileImage]) -> FileImage | BytesImage:
    data, path = part.get("bytes"), part.get("path")
    if isinstance(data, bytes) and data:
        if isinstance(data, FileBytes):
            return BytesImage(data, str(path or ""), data.file, data.offset)
        return BytesImage(data, str(path or ""))
    if isinstance(data, str) and data:
        return BytesImage(_decoded(data), str(path or ""))
    inner = path or part.get("image_url") or part.get("url") or part.get("image")
    if not inner:
        raise NoPictureError("image_missing", "neither bytes nor a path")
    return picture(inner, find)


def _decoded(text: str) -> bytes:
    opened = _DATA_URL.match(text)
    try:
        return base64.b64decode("".join(text[opened.end() if opened else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoPictureError("image_missing", f"broken base64 ({error})") from error
