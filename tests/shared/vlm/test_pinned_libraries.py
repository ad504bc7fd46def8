"""What the pinned libraries really do where this project does otherwise or works around them.

A failing test here is no fault of this project: an upgrade changed a library, and the place named in the test can go.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shared.images import decode_rgb
from shared.vlm.checkpoint import BUNDLED_FOLDER


@pytest.fixture(scope="module")
def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(BUNDLED_FOLDER)


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def turned() -> bytes:
    """A JPEG, left half black, whose EXIF block says: turn me by a quarter (orientation 6)."""
    pixels = np.zeros((112, 112, 3), np.uint8)
    pixels[:, 56:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels), "JPEG", exif=exif.tobytes(), quality=95)


def see_through() -> bytes:
    """A PNG of black pixels that are all transparent."""
    return encoded(Image.new("RGBA", (112, 112), (0, 0, 0, 0)), "PNG")


def pixels_of(processor: Any, data: bytes) -> np.ndarray:
    """What a processor makes of a picture as Pillow opens it: values before any model, float."""
    picture = Image.open(io.BytesIO(data))
    return np.asarray(processor.image_processor(images=[picture], return_tensors="np")["pixel_values"])


def test_max_pixels_alone_is_ignored_at_a_call_and_size_is_not(processor: Any) -> None:
    """`shared.vlm.pooling._size` speaks in `size` for this reason."""
    picture = Image.new("RGB", (224, 224), (9, 90, 30))

    def tokens(**options: Any) -> int:
        grid = processor.image_processor(images=[picture], return_tensors="np", **options)["image_grid_thw"]
        return int(np.prod(grid))

    least = 4 * 28 * 28
    assert tokens(max_pixels=least) == tokens()
    assert tokens(size={"shortest_edge": least, "longest_edge": least}) < tokens()


def test_transformers_turns_no_picture_and_puts_none_on_white(processor: Any) -> None:
    """`shared.images.decode_rgb` does both before a processor sees a picture."""
    upright = encoded(decode_rgb(turned()), "PNG")
    assert not np.allclose(pixels_of(processor, turned()), pixels_of(processor, upright), atol=0.2)
    white = encoded(Image.new("RGB", (112, 112), (255, 255, 255)), "PNG")
    np.testing.assert_array_equal(decode_rgb(see_through()), decode_rgb(white))
    black = encoded(Image.new("RGB", (112, 112)), "PNG")
    assert np.array_equal(pixels_of(processor, see_through()), pixels_of(processor, black))


@pytest.mark.slow
def test_vllm_turns_pictures_and_puts_transparent_ones_on_white() -> None:
    """So that an endpoint of vLLM sees what `decode_rgb` shows the engine in this process."""
    from vllm.multimodal.media.image import ImageMediaIO

    for data in (turned(), see_through()):
        seen = ImageMediaIO().load_bytes(data).media
        np.testing.assert_allclose(np.asarray(seen, int), np.asarray(decode_rgb(data), int), atol=2)


def first_page_bytes(file: Path, column: int) -> int:
    """Uncompressed bytes of a column's first page, from its header in Thrift's compact protocol."""
    chunk = pq.read_metadata(file).row_group(0).column(column)
    data = file.read_bytes()[chunk.data_page_offset :][:32]
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    found = []
    for _ in range(2):  # fields 1 (type) and 2 (uncompressed size), both i32
        assert data[place] == 0x15
        place += 1
        found.append(varint())
    return found[1]


def test_pyarrow_writes_one_page_of_pictures_whatever_size_is_asked_for(tmp_path: Path) -> None:
    """A reader of single pictures meets whole row groups of them; a smaller `write_batch_size` bounds a page."""
    rng = np.random.default_rng(0)
    pictures = [rng.bytes(200_000) for _ in range(100)]
    table = pa.table({"bytes": pa.array(pictures, pa.binary())})
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "data_page_size": 1 << 20}
    pq.write_table(table, tmp_path / "asked.parquet", **options)
    pq.write_table(table, tmp_path / "bounded.parquet", **options, write_batch_size=4)
    assert first_page_bytes(tmp_path / "asked.parquet", 0) > 19_000_000
    assert first_page_bytes(tmp_path / "bounded.parquet", 0) < 2_000_000
