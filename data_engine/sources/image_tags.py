"""Where pictures stand in a text: the conventions of the usual trainers, brought to one `<image>` per picture.

Known: `<image>`, `<image1>`, `<image 1>`, `<image_1>`, `<ImageHere>`, `<image_here>`, `<image_placeholder>`,
`<|image|>`, `<|image_1|>`, Qwen's `<|vision_start|><|image_pad|><|vision_end|>`, InternVL's `<img><IMG_CONTEXT></img>`,
Qwen-VL's `Picture 1: <img>name</img>`, MiniCPM's `(<image>./</image>)`, Gemma's `<start_of_image>`, `[IMG]`, `<img>`,
HTML's `<img src="name">` and Markdown's `![](name)`. The last ones and Qwen-VL's name the picture themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from data_engine.sources.base import fit_image_tags
from shared.placeholders import IMAGE_TAG

Picture = TypeVar("Picture")

_NAMING = re.compile(
    r"(?:Picture \d+:\s*)?<img>\s*(?P<qwen>[^<>\n]{1,300}\.\w{3,4})\s*</img>"
    r"|<img\b[^<>]*?\bsrc\s*=\s*[\"'](?P<html>[^\"'<>]+)[\"'][^<>]*>"
    r"|!\[[^\]\n]{0,200}\]\((?P<markdown>[^()\s]+)\)",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"\(\s*<image>\./</image>\s*\)|<image>\./</image>"
    r"|(?:<\|vision_start\|>)?(?:<\|image_pad\|>)+(?:<\|vision_end\|>)?"
    r"|<img>(?:<IMG_CONTEXT>)+</img>|(?:<IMG_CONTEXT>)+"
    r"|<\|image\|>|<image[_ ]?(?:here|placeholder|pad|token)>|<image_soft_token>|<start_of_image>"
    r"|<img\s*/?>|\[IMG\]|<picture>",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"<\|?\s*(?:image|img)[\s_-]*(\d{1,2})\s*\|?>", re.IGNORECASE)
_SIGN = re.compile(r"<|\[IMG\]|!\[", re.IGNORECASE)


def plain_tags(text: str) -> tuple[str, list[str]]:
    """The text with every unnumbered convention as `<image>`, and the names of pictures that stood inside it."""
    if _SIGN.search(text) is None:
        return text, []
    names: list[str] = []

    def name_it(found: re.Match[str]) -> str:
        names.append(next(value for value in found.groups() if value))
        return IMAGE_TAG

    return _PLAIN.sub(IMAGE_TAG, _NAMING.sub(name_it, text)), names


def place_tags(text: str, pictures: Sequence[Picture]) -> tuple[str, list[Picture], str]:
    """Text with one `<image>` per picture, the pictures in the order of their tags, and the mend made.

    Numbered tags tell which picture they mean: at its first mention a picture stands, later mentions become words;
    pictures that are never mentioned come first.

    Raises:
        ValueError: more tags than pictures.

    """
    ordered = list(pictures)
    if "<" not in text:
        fitted, mend = fit_image_tags(text, len(ordered))
        return fitted, ordered, mend
    numbers = [int(number) for number in _NUMBERED.findall(text)]
    named = list(dict.fromkeys(numbers))
    plain = text.count(IMAGE_TAG)
    if named and not plain and all(1 <= number <= len(ordered) for number in named):
        seen: set[int] = set()

        def stand(found: re.Match[str]) -> str:
            number = int(found[1])
            if number in seen:
                return f"image {number}"
            seen.add(number)
            return IMAGE_TAG

        text = _NUMBERED.sub(stand, text)
        rest = [picture for number, picture in enumerate(ordered, start=1) if number not in seen]
        ordered = rest + [ordered[number - 1] for number in named]
        fitted, mend = fit_image_tags(text, len(ordered))
        return fitted, ordered, mend or "numbered image tags renamed"
    if named and plain != len(ordered):
        text = _NUMBERED.sub(IMAGE_TAG, text)
    fitted, mend = fit_image_tags(text, len(ordered))
    return fitted, ordered, mend
