"""A palette picture of 112 x 112 pixels, its drawing tools and font, and a PNG writer whose bytes never change.

The pixel data of the PNG is stored, not compressed: compressors differ between machines and versions, stored bytes
do not (about 13 kB a picture; Parquet compresses them well). Only integer drawing without antialiasing is used.
"""

from __future__ import annotations

import random
import struct
import zlib
from functools import cache
from typing import TypeAlias

from PIL import Image, ImageDraw

from shared.laptop.problems.problem import Mark

SIZE = 112

Rgb: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "green": (40, 150, 60),
    "blue": (45, 80, 220),
    "yellow": (240, 205, 40),
    "purple": (140, 50, 170),
    "orange": (245, 135, 25),
}
INKS: tuple[Rgb, ...] = ((0, 0, 0), (30, 30, 90), (90, 20, 20), (20, 70, 40))
PAPERS: tuple[Rgb, ...] = ((255, 255, 255), (248, 248, 240), (238, 244, 250), (250, 240, 240), (235, 235, 235))

GLYPH_WIDTH, GLYPH_HEIGHT = 5, 7

# A 5 x 7 dot font drawn by hand, so that pictures do not depend on the fonts of a machine: five columns per character,
# lowest bit = top row.
_COLUMNS = {
    "0": "3E5149453E", "1": "00427F4000", "2": "4261514946", "3": "2141454B31", "4": "1814127F10",
    "5": "2745454539", "6": "3C4A494930", "7": "0171090503", "8": "3649494936", "9": "064949291E",
    "A": "7E1111117E", "B": "7F49494936", "C": "3E41414122", "D": "7F4141221C", "E": "7F49494941",
    "F": "7F09090901", "G": "3E4149497A", "H": "7F0808087F", "I": "00417F4100", "J": "2040413F01",
    "K": "7F08142241", "L": "7F40404040", "M": "7F020C027F", "N": "7F0408107F", "O": "3E4141413E",
    "P": "7F09090906", "Q": "3E4151215E", "R": "7F09192946", "S": "4649494931", "T": "01017F0101",
    "U": "3F4040403F", "V": "1F2040201F", "W": "3F4038403F", "X": "6314081463", "Y": "0708700807",
    "Z": "6151494543", "x": "4428102844", "y": "0C5050503C", "+": "08083E0808", "-": "0808080808",
    "=": "1414141414", "/": "2010080402", "?": "0201510906", "*": "221C3E1C22", "(": "001C224100",
    ")": "0041221C00", ".": "0060600000", ":": "0036360000",
}  # fmt: skip


@cache
def glyph(character: str, scale: int) -> Image.Image:
    """Bitmap (mode "1", 5*scale x 7*scale) of one character.

    Raises:
        KeyError: the font has no such character.
    """
    columns = bytes.fromhex(_COLUMNS[character])
    image = Image.new("1", (GLYPH_WIDTH, GLYPH_HEIGHT))
    for x, bits in enumerate(columns):
        for y in range(GLYPH_HEIGHT):
            if bits >> y & 1:
                image.putpixel((x, y), 1)
    return image.resize((GLYPH_WIDTH * scale, GLYPH_HEIGHT * scale), Image.Resampling.NEAREST)


class Canvas:
    """A picture under construction, with the marks of what was drawn."""

    def __init__(self, paper: Rgb) -> None:
        """Begin with a sheet of one colour."""
        self._palette: dict[Rgb, int] = {paper: 0}
        self.image = Image.new("P", (SIZE, SIZE), 0)
        self.pen = ImageDraw.Draw(self.image)
        self.marks: list[Mark] = []

    def ink(self, colour: Rgb) -> int:
        """Palette index of a colour (at most 256 different ones)."""
        return self._palette.setdefault(colour, len(self._palette))

    def text(self, centre_x: float, centre_y: float, text: str, colour: Rgb, scale: int = 2) -> None:
        """Write `text` centred at a point and mark each character; kept inside the picture."""
        pitch = (GLYPH_WIDTH + 1) * scale
        width = len(text) * pitch - scale
        left = min(max(round(centre_x - width / 2), 1), SIZE - 1 - width)
        top = min(max(round(centre_y - GLYPH_HEIGHT * scale / 2), 1), SIZE - 1 - GLYPH_HEIGHT * scale)
        index = self.ink(colour)
        for number, character in enumerate(text):
            if character == " ":
                continue
            x = left + number * pitch
            self.image.paste(index, (x, top), glyph(character, scale))
            self.marks.append(Mark(character, x + GLYPH_WIDTH * scale / 2, top + GLYPH_HEIGHT * scale / 2))

    def clear(self, box: tuple[int, int, int, int]) -> None:
        """Paint a box in the paper's colour."""
        self.pen.rectangle(box, fill=0)

    def mark(self, label: str, x: float, y: float) -> None:
        """Note that `label` is seen at a point."""
        self.marks.append(Mark(label, x, y))

    def noise(self, box: tuple[int, int, int, int], colours: tuple[Rgb, ...], rng: random.Random) -> None:
        """Fill a box (left, top, right, bottom; right and bottom excluded) with grains of up to 16 colours."""
        width, height = box[2] - box[0], box[3] - box[1]
        indices = [self.ink(colour) for colour in colours]
        table = bytes(indices[value % len(indices)] for value in range(256))
        grains = rng.randbytes(width * height).translate(table)
        self.image.paste(Image.frombytes("P", (width, height), grains), box[:2])

    def png(self) -> bytes:
        """The finished picture as PNG, the same bytes everywhere."""
        colours = b"".join(bytes(colour) for colour in self._palette)
        pixels = self.image.tobytes()
        rows = b"".join(b"\0" + pixels[start : start + SIZE] for start in range(0, SIZE * SIZE, SIZE))
        # One stored deflate block: zlib header, final-block flag, length, its complement, data, checksum.
        stored = b"\x78\x01\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF) + rows
        stored += struct.pack(">I", zlib.adler32(rows))
        header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 3, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", stored), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )


def sheet(rng: random.Random) -> Canvas:
    """A light sheet of paper."""
    return Canvas(rng.choice(PAPERS))
