"""Safe decoding of images that nobody has vouched for.

The header is read before any pixel: format, size, side ratio and frames are checked against `ImageLimits`, so that a
decompression bomb costs nothing. Pillow's own `MAX_IMAGE_PIXELS` guard is never lifted. What cannot be used raises
`ImageRefused` with a typed reason; nothing else escapes. Original bytes are never rewritten.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import stat
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared.errors import InfiMmrError

if TYPE_CHECKING:
    from PIL import Image as PilImage

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000")
"""Formats that Pillow decodes in process (JPEG brings MPO along).

EPS would start Ghostscript, and the rest have no place in a data set.
"""

Reason = Literal[
    "not_an_image", "unsupported_format", "truncated", "bomb", "too_small", "too_large", "aspect_ratio", "empty"
]


class ImageSource(Protocol):
    """Image bytes by their sha256; small to pickle, so that workers of a cluster read images themselves."""

    def get(self, sha256: str) -> bytes:
        """Original bytes of the image; raises `InfiMmrError` naming the place when they cannot be read."""


@dataclass(frozen=True)
class ImageLimits:
    """What an image must satisfy to be used."""

    min_side: int = 8
    """Pixels; a vision encoder's patch is 14 and sides below 8 hold nothing that resizing could bring back."""
    max_pixels: int = 89_478_485
    """Width times height; Pillow's own bomb guard (a quarter of 1 GiB at 3 bytes a pixel)."""
    max_aspect_ratio: float = 199.0
    """Longer side over shorter; Qwen2.5-VL's image processor refuses 200 and beyond."""
    max_bytes: int = 64 * 1024 * 1024
    """Encoded size."""


DEFAULT_LIMITS = ImageLimits()


class ImageRefused(InfiMmrError):  # noqa: N818 - an outcome with a reason, named as such across all rooms
    """An image that cannot be used; `reason` is one word from a closed list, `detail` says more."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep the typed reason beside the sentence."""
        super().__init__(f"image refused ({reason}): {detail}")
        self.reason: Reason = reason
        self.detail = detail
        self.args = (reason, detail)  # what it is made of again after the trip from a worker process


class PathRefused(InfiMmrError):  # noqa: N818 - as above
    """A relative name that does not stay a plain file inside its folder; `reason` is a typed word, `why` says more."""

    def __init__(self, reason: Literal["path_escape", "remote_url", "image_missing"], name: str, why: str = "") -> None:
        """Keep the typed reason beside the sentence."""
        super().__init__(f"path refused ({reason}): {name!r}{f' ({why})' if why else ''}")
        self.reason = reason
        self.name = name
        self.why = why
        self.args = (reason, name, why)  # as above

    @property
    def detail(self) -> str:
        """The name, and why it is refused where its words do not show it."""
        return f"{self.name}: {self.why}" if self.why else self.name


def inspect_image(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> None:
    """Decode an image's first frame completely: a file that is cut off shows nowhere else.

    Raises:
        ImageRefused: its header does not pass the limits (nothing is decoded then), or it cannot be decoded.
    """
    with _opened(data, limits) as image:
        # Decoding at an eighth of the size still reads a JPEG to its end, at a third of the time.
        image.draft(None, (image.width // 8, image.height // 8))
        with _pillow_told("truncated"):
            image.load()


def decode_rgb(data: bytes) -> PilImage.Image:
    """Return the first frame as an RGB image [height, width, 3], EXIF orientation applied, transparency on white.

    Raises:
        ImageRefused: as `inspect_image` does.
    """
    return decode_and_compare(data)[0]


def decode_and_compare(data: bytes) -> tuple[PilImage.Image, bool]:
    """Return `decode_rgb`'s picture, and whether other readers see the same pixels in the bytes as they are.

    They do where the bytes are RGB, upright, without a key colour, and with metadata that can be read: `datasets` asks
    for EXIF unguarded, and neither transformers nor OpenRLHF turns pictures or puts transparency on white.

    Raises:
        ImageRefused: as `inspect_image` does.
    """
    from PIL import Image, ImageOps

    with _opened(data, DEFAULT_LIMITS) as image:
        with _pillow_told("truncated"):
            image.load()
        try:
            alike = image.mode == "RGB" and "transparency" not in image.info and image.getexif().get(0x0112, 1) == 1
            turned = ImageOps.exif_transpose(image)
        except Exception:  # noqa: BLE001 - a broken EXIF block says nothing about the pixels
            turned, alike = image, False
        if turned.mode in {"I;16", "I;16B", "I;16L", "I", "F"}:
            turned = _scaled_to_8_bits(turned)
        if turned.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in turned.info:
            solid = Image.new("RGBA", turned.size, (255, 255, 255, 255))
            return Image.alpha_composite(solid, turned.convert("RGBA")).convert("RGB"), alike
        # `convert` copies when the mode differs only; a copy frees the file behind the image in every case.
        return (turned.convert("RGB") if turned.mode != "RGB" else turned.copy()), alike


def reduced(picture: PilImage.Image, max_pixels: int) -> PilImage.Image:
    """Return a picture of at most `max_pixels` pixels (0: as it is), its sides within the largest ratio allowed."""
    from PIL import Image

    size = reduced_size(picture.width, picture.height, max_pixels)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def reduced_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Width and height that `reduced` gives a picture.

    Rounding the shorter side down may lift the ratio of a strip; its longer side then gives way.
    """
    if not max_pixels or width * height <= max_pixels:
        return width, height
    scale = (max_pixels / (width * height)) ** 0.5
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    longest = max(1, int(DEFAULT_LIMITS.max_aspect_ratio * min(width, height)))
    return min(width, longest), min(height, longest)


SMALL_PIXELS = 320
_SMALL_QUALITY = 80


def small_jpeg(data: bytes | None, pixels: int = SMALL_PIXELS) -> bytes | None:
    """Return a copy of at most `pixels` a side for people to look at; None where the picture cannot be decoded."""
    from PIL import Image

    try:
        picture = decode_rgb(data or b"")
    except ImageRefused:
        return None
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_SMALL_QUALITY)
    return out.getvalue()


def pixel_hash(data: bytes) -> str:
    """Return the sha256 (64 hex digits) of size and decoded RGB pixels: equal for one picture in two encodings."""
    image = decode_rgb(data)
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def perceptual_hash(data: bytes) -> int:
    """Return a 64-bit perceptual hash: sign of the low 8x8 DCT-II coefficients of the 32x32 grey image, median apart.

    Near pictures differ in few bits (Hamming distance); the method is pHash as Zauner (2010) describes it.
    """
    import numpy as np
    from PIL import Image

    grey = decode_rgb(data).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=np.float64)
    basis = _dct_basis()
    low = (basis @ pixels @ basis.T).ravel()
    # The first coefficient is the mean brightness: it takes no part in the median.
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


@functools.cache
def _hush_libtiff() -> None:
    """Stop libtiff and Pillow from complaining on stderr; Pillow raises the errors anyway, and the ledger has them."""
    import ctypes
    import logging

    import PIL

    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what nobody handles
    for library in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*.so*"):
        try:
            # Pillow's extension has this very file loaded, so that its handlers are the ones replaced.
            tiff = ctypes.CDLL(str(library))
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                setter = getattr(tiff, name)
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)
        except (OSError, AttributeError):
            return


@functools.cache
def _dct_basis() -> Any:
    """Rows 0 to 7 of the 32-point DCT-II, [8, 32]."""
    import numpy as np

    frequency = np.arange(8)[:, None]
    place = np.arange(32)[None, :]
    return np.cos(np.pi * (place + 0.5) * frequency / 32)


LINKED_OUT = "a link leads out of the folder (source.links names a folder where links may end)"
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:|^//")


def safe_join(root: Path | str, relative: str, links: Path | None = None) -> Path:
    r"""Return `root/relative` where that stays inside `root`, symlinks followed; the file need not exist.

    `links` names another folder in which symlinks may end: the blobs of the hub's cache, whose snapshots are links, or
    what a recipe allows. A file that is there in Unicode's other normal form is meant (archives of macOS have NFD).

    Raises:
        PathRefused: `image_missing` for an empty name, `remote_url` for anything with a scheme, `path_escape` for
            absolute names, `..`, backslashes, NUL bytes, and symlinks that lead out of `root`.
    """
    if not relative:
        raise PathRefused("image_missing", relative)
    if _URL.match(relative):
        raise PathRefused("remote_url", relative)
    parts = [part for part in relative.split("/") if part not in {"", "."}]
    if not parts or "\0" in relative or "\\" in relative or relative.startswith("/") or ".." in parts:
        raise PathRefused("path_escape", relative)
    base = _real_folder(str(root))
    place = base
    for part in parts:
        place = f"{place}/{part}"
        try:
            linked = stat.S_ISLNK(os.lstat(place).st_mode)
        except FileNotFoundError:
            return _in_other_form(base, relative, links) or Path("/".join([base, *parts]))
        except (OSError, ValueError) as error:
            raise PathRefused("path_escape", relative) from error
        if linked:
            found = _followed(base, relative, links)
            return found if found.exists() else _in_other_form(base, relative, links) or found
    return Path("/".join([base, *parts]))


def _in_other_form(base: str, relative: str, links: Path | None) -> Path | None:
    """The file whose name is `relative` in another normal form; None where there is none."""
    forms = () if relative.isascii() else (unicodedata.normalize(form, relative) for form in ("NFC", "NFD"))
    other = next((name for name in forms if name != relative and os.path.lexists(f"{base}/{name}")), None)
    return safe_join(base, other, links) if other is not None else None


def file_inside(root: Path, relative: str) -> Path | None:
    """Return the file `root/relative`; None where there is none, or where the name would lead out (`safe_join`)."""
    try:
        path = safe_join(root, relative)
    except PathRefused:
        return None
    return path if path.is_file() else None


@functools.cache
def _real_folder(root: str) -> str:
    """Return the folder with its own symlinks followed; once per folder, since a source asks for each of its files."""
    return os.path.realpath(root)


def _followed(base: str, relative: str, links: Path | None) -> Path:
    """Follow the symlinks of a name and look where it ends."""
    real = os.path.realpath(f"{base}/{relative}")
    homes = [base] if links is None else [base, _real_folder(str(links))]
    if real != base and not any(real.startswith(home.rstrip("/") + "/") for home in homes):
        raise PathRefused("path_escape", relative, LINKED_OUT)
    return Path(real)


def _opened(data: bytes, limits: ImageLimits) -> PilImage.Image:
    """Open by header alone and check it."""
    # Naming the plugins registers them: `formats=` knows only what is registered.
    from PIL import Image, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin

    del Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin
    _hush_libtiff()
    _guard()

    if not data:
        raise ImageRefused("empty", "no bytes")
    if len(data) > limits.max_bytes:
        raise ImageRefused("too_large", f"{len(data)} bytes, limit {limits.max_bytes}")
    Image.preinit()
    with _pillow_told(_why_unidentified(data)):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    try:
        _check_size(image.width, image.height, limits)
    except ImageRefused:
        image.close()
        raise
    return image


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageRefused("bomb", f"{width}x{height} pixels, limit {limits.max_pixels}")
    if min(width, height) < limits.min_side:
        raise ImageRefused("too_small", f"{width}x{height} pixels, limit {limits.min_side} a side")
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise ImageRefused("aspect_ratio", f"{width}x{height} pixels, limit {limits.max_aspect_ratio:g} to 1")


@contextmanager
def _pillow_told(otherwise: Reason) -> Iterator[None]:
    """Turn what Pillow raises into `ImageRefused`, `otherwise` where it does not say itself why."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except MemoryError:  # says nothing about the picture, and must not be remembered as if it did
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("bomb", str(error)) from error
    except UnidentifiedImageError as error:
        raise ImageRefused(otherwise, "no known image header, or a broken one") from error
    except Exception as error:
        # Pillow refuses text chunks that unpack to more than it allows with a `ValueError` of its own.
        chunk = isinstance(error, ValueError) and ("too large" in str(error) or "Too much memory" in str(error))
        raise ImageRefused("bomb" if chunk else otherwise, f"{type(error).__name__}: {error}") from error


_UNSUPPORTED = (b"%PDF", b"%!PS", b"\xc5\xd0\xd3\xc6", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\1\0", b"8BPS")
"""PDF, EPS (plain, and with a preview), JPEG XL (bare, and boxed), ICO, PSD."""
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ")


def _why_unidentified(data: bytes) -> Reason:
    if data.startswith(_UNSUPPORTED) or data[4:8] == b"ftyp" or b"<svg" in data[:512].lower():  # ftyp: HEIC, AVIF
        return "unsupported_format"
    known = data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    return "truncated" if known else "not_an_image"


def _scaled_to_8_bits(image: PilImage.Image) -> PilImage.Image:
    """Map 16-bit and float grey onto 0 to 255 (`convert` alone would clip everything above 255 to white)."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
    top = max(top, float(values.max(initial=0.0)))
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).astype(np.uint8))


def _guard() -> None:
    """Make Pillow's bomb warning an error and hush its other warnings, for the process (threads share the filters).

    `_check_size` refuses bombs by itself; this holds for whatever Pillow opens inside an image.
    """
    from PIL import Image

    if not any(kept[2] is Image.DecompressionBombWarning for kept in warnings.filters):
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
