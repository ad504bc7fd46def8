"""Planted duplicates: copies of items, edited in ways that a decontaminator should see through, to measure its recall.

Input: problems with their pictures. Output: `PlantedDuplicate` rows, chosen and edited the same way every time. They
run through the same rules as real rows, are counted by kind of edit, and never reach the published rows (they are made
inside a step and live as long as it runs).

Kinds: `KINDS`. An edit that cannot be made to an item (no number, no LaTeX, no options, no picture) takes another item.
Not covered: paraphrases and translated questions, which need a model.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices

from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash
from shared.image_tags import NUMBERED_TAG
from shared.images import decode_rgb

if TYPE_CHECKING:
    import polars as pl
    from PIL import Image as PilImage

VERSION = "canaries/1"
"""Seeds which items are copied, so it keeps the word that planted duplicates once had."""
NAMES = AliasChoices("planted_duplicates", "canaries")
"""What recipes call the setting: its name, and the one it had in 0.1.0."""

TEXT_KINDS = (
    "verbatim",
    "embedded",
    "part",
    "numbers_changed",
    "latex_respaced",
    "whitespace",
    "case",
    "options_translated",
)
IMAGE_KINDS = ("image_reencoded", "image_resized", "image_cropped")
KINDS = (*TEXT_KINDS, *IMAGE_KINDS)

CROP = 0.03
"""Part of each side that `image_cropped` takes away, half at each end."""


@dataclass(frozen=True)
class Original:
    """An item that copies are made of.

    Attributes:
        id: Its id; decides which items are chosen.
        question, choices: Its text.
        image_hashes: sha256 of its pictures.

    """

    id: str
    question: str
    choices: tuple[str, ...] = ()
    image_hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: pl.DataFrame) -> list[Original]:
        """Take them from rows in the row schema; null counts as empty."""
        columns = (rows[name].to_list() for name in ("id", "question", "choices", "image_hashes"))
        return [
            cls(identity, question or "", tuple(option or "" for option in choices or ()), tuple(pictures or ()))
            for identity, question, choices, pictures in zip(*columns, strict=True)
        ]


@dataclass(frozen=True)
class PlantedDuplicate:
    """An edited copy.

    Attributes:
        kind: What was edited.
        original: Index of the item.
        question, choices: Text of the copy.
        images: Pictures of the copy as bytes where they were edited; empty where they are the item's own.

    """

    kind: str
    original: int
    question: str
    choices: tuple[str, ...]
    images: tuple[bytes, ...] = ()


def plant(
    originals: Sequence[Original], read_image: Callable[[str], bytes], per_kind: int
) -> Iterator[PlantedDuplicate]:
    """Make up to `per_kind` copies of each kind.

    Args:
        originals: Items to copy.
        read_image: Bytes of a picture by sha256; an item whose pictures cannot be read is no copy of an image kind.
        per_kind: Copies per kind; 0 makes none.

    """
    for kind in KINDS:
        order = sorted(range(len(originals)), key=lambda place: _draw(kind, originals[place].id))
        made = 0
        for place in order:
            if made == per_kind:
                break
            copy = _edit(kind, place, originals[place], read_image)
            if copy is not None:
                made += 1
                yield copy


def draws(
    originals: Sequence[Original], read_image: Callable[[str], bytes], per_kind: int
) -> dict[str, list[tuple[str, int]]]:
    """Which of some items `plant` copies: kind -> (what was drawn, the item's place).

    The first `per_kind` of a kind, by what was drawn, over several parts of all items are those that it copies of all.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for copy in plant(originals, read_image, per_kind):
        found.setdefault(copy.kind, []).append((_draw(copy.kind, originals[copy.original].id).hex(), copy.original))
    return found


def recall(planted: Iterable[tuple[str, bool]]) -> dict[str, dict[str, Any]]:
    """Count (kind, found) pairs: kind -> `planted`, `found`, `recall` (None where nothing could be planted)."""
    counts: dict[str, list[int]] = {}
    for kind, found in planted:
        count = counts.setdefault(kind, [0, 0])
        count[0] += 1
        count[1] += found
    return {kind: {"planted": n, "found": k, "recall": round(k / n, 4)} for kind, (n, k) in sorted(counts.items())}


def _draw(kind: str, name: str) -> bytes:
    return hashlib.sha256(f"{VERSION}:{kind}:{name}".encode()).digest()


def _edit(kind: str, place: int, item: Original, read_image: Callable[[str], bytes]) -> PlantedDuplicate | None:
    if kind in IMAGE_KINDS:
        return _edit_images(kind, place, item, read_image)
    if not item.question.split():
        return None
    if kind == "options_translated":
        if not item.choices:
            return None
        return PlantedDuplicate(kind, place, item.question, tuple(_translate(option) for option in item.choices))
    text = _TEXT_EDITS[kind](item.question)
    if text is None or (text == item.question and kind != "verbatim"):
        return None
    return PlantedDuplicate(kind, place, text, item.choices)


def _embed(text: str) -> str:
    return f"Here is an exercise for practice. {text} Explain every step of your solution before you state the result."


def _part(text: str) -> str | None:
    """The first four fifths of the words: a problem cut off, as extraction often leaves it."""
    words = text.split()
    return " ".join(words[: len(words) * 4 // 5]) if len(words) >= 5 else None


def _change_numbers(text: str) -> str:
    return re.sub(r"[0-9]+", lambda number: str(int(number.group()) + 3), text)


def _respace_latex(text: str) -> str | None:
    """Spaces around operators and braces within formulas, and none inside commands."""
    if "$" not in text and "\\(" not in text:
        return None
    formula = re.compile(r"\$[^$]+\$|\\\(.+?\\\)", re.DOTALL)
    return formula.sub(lambda part: re.sub(r"\s*([=+\-^_{}(),<>])\s*", r" \1 ", part.group()), text)


def _whitespace(text: str) -> str:
    words = text.split()
    return "  ".join(word + ("\n" if index % 7 == 6 else "") for index, word in enumerate(words)) + " \t"


def _case(text: str) -> str:
    return "".join(part if part.startswith("<image") else part.upper() for part in re.split(f"({NUMBERED_TAG})", text))


_TEXT_EDITS: dict[str, Callable[[str], str | None]] = {
    "verbatim": lambda text: text,
    "embedded": _embed,
    "part": _part,
    "numbers_changed": _change_numbers,
    "latex_respaced": _respace_latex,
    "whitespace": _whitespace,
    "case": _case,
}

# Words that options of the paper's benchmarks consist of most often, in Chinese; other words stay as they are.
_CHINESE = {
    "yes": "是", "no": "否", "true": "对", "false": "错", "none": "无", "of": "的", "the": "这", "above": "以上",
    "cannot": "不能", "be": "被", "determined": "确定", "red": "红色", "blue": "蓝色", "green": "绿色",
    "yellow": "黄色", "left": "左", "right": "右", "up": "上", "down": "下", "and": "和", "or": "或", "all": "全部",
    "circle": "圆", "square": "正方形", "triangle": "三角形", "equal": "相等", "larger": "更大", "smaller": "更小",
    "cm": "厘米", "m": "米", "degrees": "度", "one": "一", "two": "二", "three": "三", "four": "四", "five": "五",
}  # fmt: skip


def _translate(option: str) -> str:
    return "选项：" + re.sub(r"[A-Za-z]+", lambda word: _CHINESE.get(word.group().lower(), word.group()), option)


def _edit_images(kind: str, place: int, item: Original, read_image: Callable[[str], bytes]) -> PlantedDuplicate | None:
    if not item.image_hashes:
        return None
    try:
        pictures = [decode_rgb(read_image(sha256)) for sha256 in item.image_hashes]
    except (InfiMmrError, KeyError, OSError):
        return None
    if min(min(picture.size) for picture in pictures) < 32:
        return None
    return PlantedDuplicate(kind, place, item.question, item.choices, tuple(_IMAGE_EDITS[kind](p) for p in pictures))


def _encoded(picture: PilImage.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, **options)
    return out.getvalue()


def _resized(picture: PilImage.Image) -> bytes:
    width, height = picture.size
    return _encoded(picture.resize((max(28, width * 3 // 4), max(28, height * 3 // 4))), format="PNG")


def _cropped(picture: PilImage.Image) -> bytes:
    width, height = picture.size
    x, y = round(width * CROP / 2), round(height * CROP / 2)
    return _encoded(picture.crop((x, y, width - x, height - y)), format="PNG")


_IMAGE_EDITS: dict[str, Callable[[PilImage.Image], bytes]] = {
    "image_reencoded": lambda picture: _encoded(picture, format="JPEG", quality=60),
    "image_resized": _resized,
    "image_cropped": _cropped,
}


def image_hashes(copy: PlantedDuplicate, originals: Sequence[Original]) -> tuple[str, ...]:
    """sha256 of the pictures that a copy shows: its own, or those of its item."""
    if copy.images:
        return tuple(bytes_hash(data) for data in copy.images)
    return originals[copy.original].image_hashes
