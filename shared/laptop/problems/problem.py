"""What the mini world hands out: one problem with its picture, its answer and how to get there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["easy", "medium", "hard"]

IMAGE_TYPES: tuple[str, ...] = ("aigc", "natural", "mathgeo", "chart", "table", "equation", "ocr", "gui")


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to be read at a place of the picture: a character, or a word such as "red" or "ticked".

    `x`, `y` are the centre in pixels of the 112 x 112 picture.
    """

    label: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Problem:
    """One drawn problem; equal arguments of `draw` give equal problems, bytes of the picture included."""

    key: str
    """Name of the problem, unique over all splits: `SPLIT-INDEX`."""
    split: str
    index: int
    kind: str
    """What was drawn: a picture kind such as `bar`, or a text kind such as `sum`."""
    form: str
    """How it is asked: `KIND/FORM`, e.g. `bar/add`; a multiple choice form ends in `-choice`."""
    grade: Grade
    stem: str
    """The question without its options."""
    question: str
    """The question with its options, without any `<image>` tag."""
    answer: str
    """Bare gold answer: number, word, `yes`/`no`, fraction `3/4`, point `(0, 3)`, or the letter of an option."""
    choices: tuple[str, ...]
    """Values of the options A, B, C, D; empty for an open question."""
    thinking: str
    """A short correct chain of thought that ends before the boxed answer."""
    image_png: bytes | None
    """The picture as PNG (112 x 112, palette), or None for a text problem."""
    image_type: str | None
    """One of IMAGE_TYPES, None for a text problem."""
    caption: str
    """All facts of the picture in canonical order, empty for a text problem."""
    facts: tuple[str, ...]
    """The sentences of the caption."""
    marks: tuple[Mark, ...]
    """What can be read where, for the auxiliary loss of the vision tower."""

    @property
    def response(self) -> str:
        r"""A correct response in the form the policy is asked for: `<think>...</think>` and `\boxed{}`."""
        return f"<think>{self.thinking}</think>\n\\boxed{{{self.answer}}}"

    @property
    def guess(self) -> str:
        """The same answer without the way to it, which is often wrong when a model tries it."""
        return f"<think>Guess: {self.answer}.</think>\n\\boxed{{{self.answer}}}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question about a content, before a wording is chosen: fields of the wording, the answer, the way to it."""

    fields: dict[str, str]
    answer: str
    thinking: str
    options: tuple[str, ...] = ()
    """Wrong but plausible values, for the multiple choice form; empty where that form makes no sense."""
