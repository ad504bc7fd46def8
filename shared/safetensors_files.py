"""What a safetensors file says of itself, without reading a weight: names, shapes, types, and whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError
from shared.hub_download import spoken_name


def safetensors_header(file: Path) -> dict[str, Any]:
    """Names, shapes and types of a file's tensors: its JSON header.

    Raises:
        ValueError: no safetensors, such as a pointer left by an interrupted download, or not all of its bytes.
        OSError, TypeError, LookupError: it cannot be read; its header is none.

    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"no safetensors, or cut off: {size:,} bytes")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise TypeError("no safetensors: its header is no table")
    header.pop("__metadata__", None)
    wanted = 8 + length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    if wanted > size:
        raise ValueError(f"cut off: {size:,} of {wanted:,} bytes")
    return header


def headers(folder: Path) -> dict[str, dict[str, Any]]:
    """Headers of all safetensors of a checkpoint folder, by file name.

    Raises:
        InfiMmrError: one of them cannot be read or is not whole; names it.

    """
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            found[file.name] = safetensors_header(file)
        except (OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError) as error:
            reason = str(error) if type(error) is ValueError else type(error).__name__
            message = f"{spoken_name(folder)}/{file.name} cannot be read ({reason})"
            raise InfiMmrError(message, "Fetch or save it again") from error
    return found
