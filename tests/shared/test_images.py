from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from shared.images import (
    ImageLimits,
    ImageRefused,
    PathRefused,
    decode_rgb,
    inspect_image,
    perceptual_hash,
    pixel_hash,
    safe_join,
)


def encoded(mode="RGB", size=(40, 30), colour=None, form="PNG", **options):
    out = io.BytesIO()
    image = Image.new(mode, size, colour) if colour is not None else Image.new(mode, size)
    image.save(out, form, **options)
    return out.getvalue()


def with_text_chunk(length):
    """A small picture whose comment unpacks to more than Pillow takes."""
    packed = b"comment\0\0" + zlib.compress(b"a" * length)
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    data = encoded(size=(64, 64))
    return data[:33] + chunk + data[33:]


def bomb_png(side):
    """A header that promises `side` x `side` pixels over a few bytes of data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, world", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00", "unsupported_format"),
        (b"%PDF-1.7 of a figure", "unsupported_format"),
        (encoded(size=(5, 100)), "too_small"),
        (encoded(size=(4000, 10)), "aspect_ratio"),
        (bomb_png(60_000), "bomb"),
        (bomb_png(12_000), "bomb"),
        (encoded(size=(300, 300), form="JPEG")[:-200], "truncated"),
        (encoded(size=(300, 300), colour=(9, 8, 7))[:-60], "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (encoded(size=(300, 300), form="WEBP")[:-60], "truncated"),
        (encoded(size=(300, 300), form="JPEG2000")[:60], "truncated"),
        (with_text_chunk(2_000_000), "bomb"),
    ],
)
def test_what_cannot_be_used_has_a_typed_reason(data, reason):
    with pytest.raises(ImageRefused) as caught:
        inspect_image(data)
    assert caught.value.reason == reason
    with pytest.raises(ImageRefused):
        decode_rgb(data)


def test_limits_are_the_callers():
    with pytest.raises(ImageRefused, match="too_large"):
        inspect_image(encoded(), limits=ImageLimits(max_bytes=10))
    inspect_image(encoded(size=(5, 5)), limits=ImageLimits(min_side=1))
    with pytest.raises(ImageRefused, match="too_small"):
        inspect_image(encoded(size=(5, 5)))
    with pytest.raises(ImageRefused, match=r"bomb.*40x30 pixels, limit 1000"):
        inspect_image(encoded(size=(40, 30)), limits=ImageLimits(max_pixels=1000))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "TIFF"])
def test_whole_pictures_of_any_format_can_be_used(form):
    inspect_image(encoded("L", (40, 30), form=form))


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_rgb(encoded(size=(40, 30), form="JPEG", exif=exif)).size == (30, 40)


def test_transparency_lies_on_white():
    assert decode_rgb(encoded("RGBA", colour=(0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert decode_rgb(encoded("RGBA", colour=(10, 20, 30, 255))).getpixel((0, 0)) == (10, 20, 30)


def test_sixteen_bits_are_scaled_and_not_clipped():
    image = Image.new("I;16", (20, 20), 40_000)
    out = io.BytesIO()
    image.save(out, "PNG")
    assert decode_rgb(out.getvalue()).getpixel((0, 0))[0] == pytest.approx(40_000 / 65_535 * 255, abs=1)


def test_cmyk_and_palette_become_rgb():
    for data in (encoded("CMYK", form="JPEG"), encoded("P"), encoded("1")):
        assert decode_rgb(data).mode == "RGB"


def test_pixel_hash_sees_through_encodings_and_not_through_sizes():
    png, bmp = encoded(colour=(1, 2, 3)), encoded(colour=(1, 2, 3), form="BMP")
    assert pixel_hash(png) == pixel_hash(bmp)
    assert pixel_hash(png) != pixel_hash(encoded(size=(30, 40), colour=(1, 2, 3)))


def test_perceptual_hash_survives_recompression():
    gradient = Image.linear_gradient("L").resize((120, 90))
    gradient.paste(0, (20, 20, 60, 70))
    png, jpeg = io.BytesIO(), io.BytesIO()
    gradient.save(png, "PNG")
    gradient.save(jpeg, "JPEG", quality=40)
    other = encoded("L", (120, 90), 200)
    near = (perceptual_hash(png.getvalue()) ^ perceptual_hash(jpeg.getvalue())).bit_count()
    far = (perceptual_hash(png.getvalue()) ^ perceptual_hash(other)).bit_count()
    assert near <= 6 < far


def test_odd_real_images_either_decode_or_have_a_reason(real_data, capfd):
    files = sorted((real_data / "odd_images").iterdir())
    assert len(files) == 205
    outcomes = Counter()

    def judge(file):
        data = file.read_bytes()
        try:
            inspect_image(data)
        except ImageRefused as refused:
            return refused.reason
        picture = decode_rgb(data)
        assert picture.mode == "RGB"
        with Image.open(io.BytesIO(data)) as header:
            assert sorted(picture.size) == sorted(header.size)
        return "decoded"

    with ThreadPoolExecutor(4) as pool:
        outcomes = Counter(pool.map(judge, files))
    assert outcomes["decoded"] >= 165, outcomes
    assert outcomes["bomb"] >= 1
    assert sum(outcomes.values()) == 205
    assert "TIFF" not in capfd.readouterr().err, "libtiff must not write over the progress bars"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "path_escape"),
        ("a/../../secret.png", "path_escape"),
        ("/etc/passwd", "path_escape"),
        ("a\\b.png", "path_escape"),
        ("a\0b", "path_escape"),
        ("", "image_missing"),
        ("http://host/x.png", "remote_url"),
        ("https://host/x.png", "remote_url"),
        ("s3://bucket/x.png", "remote_url"),
        ("file:///etc/passwd", "remote_url"),
        ("data:image/png;base64,AAAA", "remote_url"),
        ("//host/share/x.png", "remote_url"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name, reason):
    with pytest.raises(PathRefused) as caught:
        safe_join(tmp_path, name)
    assert caught.value.reason == reason


def test_symlinks_may_not_lead_out(tmp_path):
    (tmp_path / "outside.png").write_bytes(b"x")
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (root / "images" / "real.png").write_bytes(b"x")
    (root / "images" / "out.png").symlink_to(tmp_path / "outside.png")
    (root / "up").symlink_to(tmp_path)
    (root / "inside.png").symlink_to(root / "images" / "real.png")
    for name in ("images/out.png", "up/outside.png"):
        with pytest.raises(PathRefused, match="path_escape"):
            safe_join(root, name)
    assert safe_join(root, "inside.png") == (root / "images" / "real.png").resolve()
    assert safe_join(root, "images/real.png").is_file()
