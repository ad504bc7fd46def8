"""Rough lookalikes of real pictures, for typing only: busy charts, wide tables, dense text, photographs of colours.

The mini world is neat and small; real pictures are neither. These are drawn large, at any shape, with antialiased
fonts, and shrunk as the processor shrinks real ones, so that typing learns layout rather than our own drawing style.
No real picture is used.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.laptop.problems import Rgb

# left, top, right, bottom in pixels
Box: TypeAlias = tuple[int, int, int, int]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def lookalike(image_type: str, rng: random.Random) -> NDArray[np.uint8]:
    """A picture of one of the eight types, uint8 [height, width, 3], 140 to 420 pixels a side."""
    width, height = rng.randint(140, 420), rng.randint(140, 420)
    if rng.random() < 0.6:  # most pictures are wider than high
        width, height = max(width, height), min(width, height)
    image = _PAINTERS[image_type](width, height, rng)
    return np.asarray(image.convert("RGB"))


def _colour(rng: random.Random, low: int = 0, high: int = 255) -> Rgb:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choices(_LETTERS, k=rng.randint(2, 9))) for _ in range(count)).capitalize()


def _sheet(width: int, height: int, rng: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), (255, 255, 255) if rng.random() < 0.7 else _colour(rng, 225, 255))
    return image, ImageDraw.Draw(image)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(6, size))


def _number(rng: random.Random) -> str:
    return rng.choice((str(rng.randint(0, 100)), f"{rng.uniform(0, 50):.1f}", f"{rng.randint(1, 99)}%", "1,234"))


def _chart(width: int, height: int, rng: random.Random) -> Image.Image:
    image, pen = _sheet(width, height, rng)
    size = rng.randint(8, 14)
    pen.text((width // 8, 3), _words(rng, rng.randint(2, 6)), fill=_colour(rng, 0, 90), font=_font(size + 2))
    box = int(width * 0.12), int(height * 0.16), int(width * 0.95), int(height * 0.85)
    style = rng.choice((_bars, _bars, _lying_bars, _lying_bars, _lines, _lines, _pie))
    if style is _pie:
        _pie(pen, box, rng, size)
        return image
    left, top, right, bottom = box
    for number in range(rng.randint(0, 7)):
        y = top + (bottom - top) * number // 6
        pen.line((left, y, right, y), fill=(215, 215, 215))
        pen.text((2, y - 5), _number(rng), fill=(90, 90, 90), font=_font(size))
    style(pen, box, rng, size)
    pen.line((left, bottom, right, bottom), fill=(60, 60, 60))
    for number in range(rng.randint(3, 8)):
        x = left + (right - left) * number // 8
        pen.text((x, bottom + 3), _words(rng, 1)[:6], fill=(60, 60, 60), font=_font(size))
    return image


def _pie(pen: ImageDraw.ImageDraw, box: Box, rng: random.Random, size: int) -> None:
    left, top, right, bottom = box
    radius = min(right - left, bottom - top) * 0.45
    x, y, angle = (left + right) / 2, (top + bottom) / 2, 0.0
    while angle < 360:
        step = rng.uniform(20, 110)
        place = (x - radius, y - radius, x + radius, y + radius)
        pen.pieslice(place, angle, min(360, angle + step), fill=_colour(rng, 20, 230))
        angle += step
    pen.text((3, bottom), _words(rng, 3), fill=(60, 60, 60), font=_font(size))


def _lines(pen: ImageDraw.ImageDraw, box: Box, rng: random.Random, _: int) -> None:
    left, top, right, bottom = box
    points = rng.randint(4, 12)
    for _series in range(rng.randint(1, 4)):
        colour, level, line = _colour(rng, 20, 230), rng.uniform(0.1, 0.9), []
        for number in range(points):
            level = min(1, max(0, level + rng.uniform(-0.2, 0.2)))
            line.append((left + (right - left) * number / (points - 1), bottom - (bottom - top) * level))
        pen.line(line, fill=colour, width=rng.randint(1, 4))
        for x, y in line:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)


def _bars(pen: ImageDraw.ImageDraw, box: Box, rng: random.Random, _: int) -> None:
    left, top, right, bottom = box
    series, count = rng.choice((1, 1, 2, 3)), rng.randint(3, 12)
    colours = [_colour(rng, 20, 230) for _series in range(series)]
    pitch = (right - left) / count
    for number in range(count):
        for part, colour in enumerate(colours):
            x = left + pitch * (number + 0.1 + 0.8 * part / series)
            y = bottom - (bottom - top) * rng.uniform(0.05, 1)
            pen.rectangle((x, y, x + 0.75 * pitch / series, bottom), fill=colour)


def _lying_bars(pen: ImageDraw.ImageDraw, box: Box, rng: random.Random, size: int) -> None:
    left, top, right, bottom = box
    series, count = rng.choice((1, 1, 2, 3)), rng.randint(3, 12)
    colours = [_colour(rng, 20, 230) for _ in range(series)]
    start = left + int(right * rng.uniform(0.1, 0.3))
    pitch = (bottom - top) / count
    for number in range(count):
        for part, colour in enumerate(colours):
            y = top + pitch * (number + 0.1 + 0.8 * part / series)
            end = start + (right - start) * rng.uniform(0.05, 1)
            pen.rectangle((start, y, end, y + 0.75 * pitch / series), fill=colour)
            pen.text((2, y), _words(rng, 1), fill=(50, 50, 50), font=_font(size))
            pen.text((end + 2, y), _number(rng), fill=(50, 50, 50), font=_font(size))


def _table(width: int, height: int, rng: random.Random) -> Image.Image:
    image, pen = _sheet(width, height, rng)
    rows, columns = rng.randint(3, 9), rng.randint(2, 6)
    top = rng.randint(0, height // 6)
    row, column = (height - top) / rows, width / columns
    ruled, striped = rng.random() < 0.75, rng.random() < 0.4
    head = _colour(rng, 150, 250) if rng.random() < 0.6 else None
    size = max(7, int(min(row * 0.6, column * 0.22, 22)))
    shade, line = _colour(rng, 225, 250), _colour(rng, 40, 190)
    for number in range(rows):
        y = top + row * number
        if number == 0 and head:
            pen.rectangle((0, y, width, y + row), fill=head)
        elif striped and number % 2:
            pen.rectangle((0, y, width, y + row), fill=shade)
        for place in range(columns):
            text = _words(rng, 1) if number == 0 or place == 0 else _number(rng)
            pen.text((column * place + 5, y + row * 0.25), text, fill=(20, 20, 20), font=_font(size))
        if ruled or number == 1:
            pen.line((0, y, width, y), fill=line)
    if ruled:
        pen.rectangle((0, top, width - 1, height - 1), outline=line)
        if rng.random() < 0.8:
            for place in range(1, columns):
                pen.line((column * place, top, column * place, height), fill=line)
    if top > 12:
        pen.text((width // 4, 1), _words(rng, 3), fill=(20, 20, 20), font=_font(12))
    return image


def _mathgeo(width: int, height: int, rng: random.Random) -> Image.Image:
    image, pen = _sheet(width, height, rng)
    ink = _colour(rng, 0, 60)
    stroke = rng.randint(1, 3)
    points = [(rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height) for _ in range(rng.randint(3, 7))]
    style = rng.choice(("polygon", "circle", "box", "axes", "lines"))
    x, y, radius = width / 2, height / 2, min(width, height) * rng.uniform(0.25, 0.42)
    if style == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=stroke)
        pen.line([*points[:3], points[0]], fill=ink, width=stroke)
    elif style == "box":
        shift = radius * 0.5
        pen.rectangle((x - radius, y - radius * 0.6, x + shift, y + shift), outline=ink, width=stroke)
        pen.rectangle((x - radius + shift, y - radius, x + 2 * shift, y + shift * 0.4), outline=ink, width=stroke)
        for corner in ((x - radius, y - radius * 0.6), (x + shift, y - radius * 0.6), (x + shift, y + shift)):
            pen.line((*corner, corner[0] + shift, corner[1] - radius * 0.4), fill=ink, width=stroke)
    elif style == "axes":
        pen.line((x, 0, x, height), fill=ink, width=stroke)
        pen.line((0, y, width, y), fill=ink, width=stroke)
        bend, shift = rng.uniform(-0.03, 0.03), rng.uniform(-40, 40)
        curve = [(px, y + shift - bend * (px - x) ** 2) for px in range(0, width, 4)]
        pen.line(curve, fill=_colour(rng, 0, 200), width=stroke + 1)
    else:
        pen.line([*points, points[0]] if style == "polygon" else points, fill=ink, width=stroke)
        if rng.random() < 0.5:
            pen.line((*points[0], *points[-1 if style == "lines" else len(points) // 2]), fill=ink, width=stroke)
    for px, py in points:
        pen.text((px + 3, py - 12), rng.choice("ABCDEFOPQ"), fill=ink, font=_font(rng.randint(12, 20)))
    for _ in range(rng.randint(0, 4)):
        pen.text(
            (rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height), _number(rng), fill=ink, font=_font(14)
        )
    return image


def _equation(width: int, height: int, rng: random.Random) -> Image.Image:
    height = max(60, height // rng.randint(1, 4))
    image, pen = _sheet(width, height, rng)
    size = int(min(height * 0.4, width / 10))
    for line in range(max(1, int(height / size / 1.8))):
        left = "".join(rng.choices("xyzabn234567", k=rng.randint(1, 3)))
        right = "".join(rng.choices("xyabn0123456789+-", k=rng.randint(2, 5)))
        y = size * 0.4 + line * size * 1.8
        if y + size > height:
            break
        pen.text(
            (width * 0.1, y), f"{left}{rng.choice('+-=')}{right}={rng.randint(1, 99)}", fill=(0, 0, 0), font=_font(size)
        )
        if rng.random() < 0.4:
            pen.line((width * 0.1, y + size * 1.25, width * 0.1 + size * 2, y + size * 1.25), fill=(0, 0, 0), width=2)
    return image


def _ocr(width: int, height: int, rng: random.Random) -> Image.Image:
    dark = rng.random() < 0.25
    image = Image.new("RGB", (width, height), _colour(rng, 0, 120) if dark else _colour(rng, 215, 255))
    pen = ImageDraw.Draw(image)
    size = rng.randint(9, 30)
    y = rng.randint(2, 14)
    while y + size < height:
        text = _words(rng, rng.randint(1, max(1, int(width / size / 2.4))))
        pen.text(
            (rng.choice((6, 6, 14)), y),
            text,
            fill=_colour(rng, 220, 255) if dark else _colour(rng, 0, 70),
            font=_font(size),
        )
        y += int(size * rng.choice((1.3, 1.3, 1.5, 2.2)))
    return image


def _gui(width: int, height: int, rng: random.Random) -> Image.Image:
    dark = rng.random() < 0.3
    ground, ink = (_colour(rng, 20, 60), (225, 225, 225)) if dark else (_colour(rng, 228, 255), (40, 40, 40))
    image = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    accent = _colour(rng, 20, 220)
    bar = rng.randint(12, 34)
    pen.rectangle((0, 0, width, bar), fill=accent)
    pen.text((6, bar // 4), _words(rng, 2), fill=(255, 255, 255), font=_font(bar // 2))
    side = int(width * 0.25) if rng.random() < 0.5 else 0
    if side:
        pen.rectangle((0, bar, side, height), fill=_colour(rng, 40, 90) if dark else _colour(rng, 200, 235))
    y = bar + 8
    while y < height - 20:
        style = rng.choice(("box", "field", "button", "icons", "text"))
        x = side + 8
        if side:
            pen.text((6, y), _words(rng, 1), fill=ink, font=_font(10))
        if style == "box":
            pen.rectangle((x, y, x + 12, y + 12), outline=ink, fill=accent if rng.random() < 0.5 else None)
            pen.text((x + 18, y), _words(rng, 2), fill=ink, font=_font(11))
        elif style == "field":
            pen.rounded_rectangle((x, y, width - 12, y + 18), 4, outline=(150, 150, 150))
        elif style == "button":
            pen.rounded_rectangle((x, y, x + 70, y + 20), 5, fill=accent)
            pen.text((x + 10, y + 4), _words(rng, 1), fill=(255, 255, 255), font=_font(11))
        elif style == "icons":
            for place in range(rng.randint(3, 6)):
                left = x + place * 34
                pen.rounded_rectangle((left, y, left + 24, y + 24), 6, fill=_colour(rng, 30, 230))
        else:
            pen.text((x, y), _words(rng, 4), fill=ink, font=_font(11))
        y += rng.randint(22, 36)
    return image


def _clouds(width: int, height: int, rng: random.Random, coarse: int) -> Image.Image:
    """Smooth colour noise of a given coarseness."""
    base = rng.randbytes(coarse * coarse * 3)
    image = Image.frombytes("RGB", (coarse, coarse), base)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _natural(width: int, height: int, rng: random.Random) -> Image.Image:
    sky = Image.new("RGB", (width, height), _colour(rng, 60, 230))
    image = Image.blend(sky, _clouds(width, height, rng, rng.choice((3, 4, 6))), 0.5)
    fine = _clouds(width, height, rng, rng.choice((24, 48, 80)))
    image = Image.blend(image, fine, rng.uniform(0.12, 0.35))
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.6:
        ground = Image.blend(
            _clouds(width, height, rng, 60), Image.new("RGB", (width, height), _colour(rng, 30, 150)), 0.7
        )
        line = int(height * rng.uniform(0.4, 0.8))
        image.paste(ground.crop((0, line, width, height)), (0, line))
    for _ in range(rng.randint(1, 4)):
        x, y, size = rng.uniform(0, width), rng.uniform(0.3, 1) * height, rng.uniform(0.1, 0.35) * height
        colour = _colour(rng, 20, 170)
        for _ in range(12):
            dx, dy = rng.gauss(0, size / 2), rng.gauss(0, size / 2)
            shade = tuple(max(0, min(255, part + rng.randint(-30, 30))) for part in colour)
            pen.ellipse((x + dx - size / 3, y + dy - size / 3, x + dx + size / 3, y + dy + size / 3), fill=shade)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))


def _aigc(width: int, height: int, rng: random.Random) -> Image.Image:
    first, second = _colour(rng, 0, 130), _colour(rng, 60, 255)
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180))).resize((width, height))
    if rng.random() < 0.4:
        ramp = Image.radial_gradient("L").resize((width, height))
    image = Image.composite(Image.new("RGB", (width, height), first), Image.new("RGB", (width, height), second), ramp)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 9)):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.25) * min(width, height)
        colour = tuple(rng.choice((rng.randint(0, 90), rng.randint(170, 255))) for _ in range(3))
        shape = rng.choice(("ellipse", "square", "triangle"))
        if shape == "ellipse":
            pen.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        elif shape == "square":
            pen.rectangle((x - size, y - size, x + size, y + size), fill=colour)
        else:
            pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))


_PAINTERS = {
    "chart": _chart,
    "table": _table,
    "mathgeo": _mathgeo,
    "equation": _equation,
    "ocr": _ocr,
    "gui": _gui,
    "natural": _natural,
    "aigc": _aigc,
}
