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

Picture = TypeVar("Picture")

IMAGE_TAG = "<image>"
"""Where a picture stands in a question."""
NUMBERED_TAG = r"<image\d*>"
"""Pattern of a tag, numbered or not, as decontamination leaves it out of a question's words."""
_TAG = re.compile(r"<\s*image\s*\d*\s*>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<\s*(?:image|img)[ _]?\d*\s*>", re.IGNORECASE)
"""What benchmarks write as well."""
PICTURE_MARK = re.compile(
    r"(?:<\|vision_start\|>)?(?:<\|image_pad\|>)+(?:<\|vision_end\|>)?|<\s*image\s?here\s*>", re.IGNORECASE
)
"""Where a picture stands, in other words than `<image>`: Qwen's placeholder (one or more pads of one picture), or
`<ImageHere>`. Unlike `<image1>` it never is a reference in words."""
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


def fit_image_tags(question: str, images: int) -> tuple[str, str]:
    """Give a question one `<image>` per image; returns the text and the mend made (empty for none).

    Where the plain tags are as many as the images, numbered ones (`<image1>`) are references in words and stay; else
    they count as tags and are renamed. Marks that are never references (`<ImageHere>`, Qwen's own placeholder) become
    tags; where the tags in front are as many, the marks say better where the pictures stand, and where tags are enough
    without them, they go. Too few tags: the missing ones go in front, which keeps the order that the source lists its
    images in. More tags than images means that a picture is missing: that is no mend, see `ValueError`.

    Raises:
        ValueError: more tags than images.
    """
    question, moved = _fit_marks(question, images)
    if question.count(IMAGE_TAG) == images:
        return question, moved
    tags = len(_TAG.findall(question))
    if tags > images:
        raise ValueError(f"{tags} image tags and {images} images")
    text = _TAG.sub(IMAGE_TAG, question)
    if tags == images:
        return text, moved or "numbered image tags renamed"
    return IMAGE_TAG * (images - tags) + "\n" + text.lstrip(), f"{images - tags} of {images} image tags put in front"


def _fit_marks(question: str, images: int) -> tuple[str, str]:
    """Turn marks of pictures into tags, or take them out where the tags are enough; with the mend made."""
    marks = len(PICTURE_MARK.findall(question))
    if not marks:
        return question, ""
    tags = question.count(IMAGE_TAG)
    bare = re.sub(rf"^\s*(?:{IMAGE_TAG}\s*)+", "", question)
    if tags == images == marks and IMAGE_TAG not in bare:
        return PICTURE_MARK.sub(IMAGE_TAG, bare), "image tags put where the question marks its pictures"
    if tags == images:
        return PICTURE_MARK.sub("", question), "marks of pictures beside the image tags taken out"
    return PICTURE_MARK.sub(IMAGE_TAG, question), "marks of pictures renamed to image tags"


def words_of(question: str) -> str:
    """The question without image tags and outer blanks."""
    return _TAG.sub("", PICTURE_MARK.sub("", question)).strip()


def without_tags(text: str) -> str:
    """Text of a benchmark without tags; MathVision draws its picture options in the one image, with their letters."""
    return _ANY_TAG.sub("", text).strip()


def place_image_tags(text: str, count: int) -> str:
    """`text` with exactly `count` tags `<image>`: numbered ones renamed, surplus ones dropped, missing ones put first.

    MathVision writes one tag per part of its single picture (0 to 8 of them), MathVista and MathVerse write none.
    """
    seen = 0

    def rename(_match: re.Match[str]) -> str:
        nonlocal seen
        seen += 1
        return IMAGE_TAG if seen <= count else ""

    text = _ANY_TAG.sub(rename, text)
    front = f"{IMAGE_TAG}\n" * max(count - seen, 0)
    return (front + re.sub(r"[ \t]+\n", "\n", text)).strip()


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
    named = list(dict.fromkeys(int(number) for number in _NUMBERED.findall(text)))
    plain = text.count(IMAGE_TAG)
    renamed = ""
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
        renamed = "numbered image tags renamed"
    elif named and plain != len(ordered):
        text = _NUMBERED.sub(IMAGE_TAG, text)
    fitted, mend = fit_image_tags(text, len(ordered))
    return fitted, ordered, mend or renamed
