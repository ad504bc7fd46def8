"""A 5 x 7 dot font drawn by hand, so that pictures do not depend on the fonts of a machine."""

from __future__ import annotations

from functools import cache

from PIL import Image

WIDTH, HEIGHT = 5, 7

# Five columns per character, lowest bit = top row.
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
    image = Image.new("1", (WIDTH, HEIGHT))
    for x, bits in enumerate(columns):
        for y in range(HEIGHT):
            if bits >> y & 1:
                image.putpixel((x, y), 1)
    return image.resize((WIDTH * scale, HEIGHT * scale), Image.Resampling.NEAREST)
