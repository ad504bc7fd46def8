r"""Code points that JSON, Parquet or a terminal cannot carry: found, named, or replaced.

Halves of a character (lone surrogates) come out of cut JSON escapes (`"\ud835"`), and out of bytes that are no UTF-8
where text was read with `surrogateescape`; they cannot be written as UTF-8. NUL ends strings in programs written in C.

Input: any text. Output: what is wrong with it in words, or text that every format carries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_BROKEN = re.compile("[\ud800-\udfff]")
_ESCAPED_BYTES = range(0xDC80, 0xDD00)
"""How `surrogateescape` keeps bytes 0x80 to 0xFF (PEP 383)."""


def broken_characters(text: str) -> str:
    """Name what cannot be written as UTF-8, each once; empty where all can: `U+D835 (half of a character)`."""
    if text.isascii():
        return ""
    return ", ".join(_named(ord(found)) for found in dict.fromkeys(_BROKEN.findall(text)))


def carried(text: str) -> str:
    """Return `text` without NUL, and U+FFFD in place of what cannot be written as UTF-8; other text is unchanged."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else _BROKEN.sub("\ufffd", text)


def carried_value(value: Any) -> Any:
    """Return a JSON value with `carried` text throughout, and null in place of numbers that JSON does not have."""
    if isinstance(value, str):
        return carried(value)
    if value is None or value == ():
        return value
    if isinstance(value, Mapping):
        return {carried(str(key)): carried_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(carried_value(item) for item in value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _named(code: int) -> str:
    if code in _ESCAPED_BYTES:
        return f"byte 0x{code - 0xDC00:02X} (no UTF-8)"
    return f"U+{code:04X} (half of a character)"
