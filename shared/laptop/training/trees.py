"""Problems as token trees: one prompt prefix with a picture, and branches that answer.

The chats are exactly those of the data engine and the trainer: typing, caption, question, question with caption, and
the embedding chat. A tree with k questions about one picture costs one picture instead of k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.prompts import prompt, render

if TYPE_CHECKING:
    from shared.laptop.problems import Problem

_DEFAULT_SYSTEM = "You are a helpful assistant."
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@dataclass(slots=True)
class Tree:
    """Tokens of prefix and branches; a branch is (prompt tokens, response tokens).

    `picture` is the index of the picture within the batch, or -1; `weight` is the loss weight of response tokens.
    """

    prefix: list[int]
    branches: list[tuple[list[int], list[int]]]
    picture: int = -1
    weight: float = 1.0
    pair: int = -1
    grid: tuple[int, int] = (4, 4)
    task: str = ""

    def length(self) -> int:
        """Tokens with the image's."""
        extra = self.grid[0] * self.grid[1] - 1 if self.picture >= 0 else 0
        return len(self.prefix) + extra + sum(len(asked) + len(answer) for asked, answer in self.branches)


class TreeMaker:
    """Builds trees with one tokenizer; `encode` gives the ids of a text that may hold special tokens."""

    def __init__(self, encode: Callable[[str], list[int]], image_token: int) -> None:
        """Remember the encoder; prompts are encoded once."""
        self._encode = encode
        self.image_token = image_token
        self._known: dict[str, list[int]] = {}

    def _fixed(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._encode(text)
        return self._known[text]

    def _begin(self, system: str) -> list[int]:
        return self._fixed(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n")

    def _answer(self, text: str) -> list[int]:
        return self._encode(f"{text}<|im_end|>")

    def _ask(self, text: str) -> list[int]:
        return self._encode(f"{text}<|im_end|>\n<|im_start|>assistant\n")

    def typing(self, image_type: str, picture: int) -> Tree:
        """The typing chat."""
        prefix = self._begin(_DEFAULT_SYSTEM) + self._fixed(IMAGE)
        asked = self._fixed(prompt("type_images") + "<|im_end|>\n<|im_start|>assistant\n")
        return Tree(prefix, [(asked, self._answer(image_type))], picture, task="type")

    def caption(self, problem: Problem, picture: int) -> Tree:
        """The caption chat of the picture's type."""
        prefix = self._begin(prompt(f"caption_{problem.image_type}")) + self._fixed(IMAGE)
        return Tree(prefix, [(self._ask(""), self._answer(problem.caption))], picture, task="caption")

    def questions(
        self, problems: Sequence[Problem], picture: int, *, caption: str = "", guessed: Sequence[bool] = ()
    ) -> Tree:
        """The policy chat: questions about one picture (or about none), with its caption where one is given.

        `guessed` says which are answered without the way there; left out, none is.
        """
        prefix = list(self._begin(prompt("reason_system")))
        if picture >= 0:
            prefix += self._fixed(IMAGE)
        if not caption:
            texts = [problem.question for problem in problems]
        else:
            # The text up to the question is the same in all branches and belongs to the prefix.
            mark = "\0"
            head = render("question_with_caption", caption=caption, question=mark).split(mark)[0].rstrip(" ")
            prefix += self._encode(head)
            texts = [" " + problem.question for problem in problems]
        branches = [
            (self._ask(text), self._answer(problem.guess if guess else problem.response))
            for text, problem, guess in zip(texts, problems, guessed or [False] * len(texts), strict=True)
        ]
        task = "caption-only" if caption else "text"
        if picture >= 0:
            task = "picture+caption" if caption else "picture"
        return Tree(prefix, branches, picture, task=task)

    def embedding(self, text: str, picture: int, pair: int) -> Tree:
        """The embedding chat (form of GME); its last token is pooled."""
        prefix = self._begin(_DEFAULT_SYSTEM)
        if picture >= 0:
            prefix = prefix + self._fixed(IMAGE)
        asked = self._encode(f"{text}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>")
        return Tree(prefix, [(asked, [])], picture, pair=pair, task="embed")
