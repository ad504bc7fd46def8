"""What is trained when: shares of tasks, learning rates, and the phases of a run.

A run has three phases. "Read": captions, types and look-ups from captions, so that the picture is read before anything
depends on it. "Answer": questions from the picture join, and every `embed_every`-th step is a contrastive one. "Guess":
most answers lose the way there, so that reinforcement has something to bring out. The learning rates are flat after a
short warm-up and fall linearly over the last `decay` of the steps, so that a run can be made shorter or longer at any
point before that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.laptop.problems import PICTURE_KINDS

if TYPE_CHECKING:
    from shared.laptop.problems import Problem


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of tokens by task, and how the pictures are asked."""

    caption: float
    type: float
    picture: float
    picture_caption: float
    caption_only: float
    text: float
    lookalikes: float
    """Share of typing trees whose picture is a lookalike of real ones instead of one of the mini world."""
    augmented: float
    """Share of pictures that are re-encoded, resized or cropped a little."""
    easy: float = 0.5
    """Share of text problems of the easy grade; the others are of any grade."""
    kinds: tuple[float, ...] = (1.0,) * len(PICTURE_KINDS)
    """How often each picture kind is drawn, relative."""
    guess: float = 0.0
    """Share of questions answered without the way there; see `guess_share`."""

    def guess_share(self, problem: Problem) -> float:
        """How often a problem is guessed: pictures and medium texts, half as often hard texts, never easy ones."""
        if problem.image_png is not None:
            return self.guess
        return {"easy": 0.0, "medium": self.guess, "hard": self.guess / 2}[problem.grade]

    def tasks(self) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Names and shares, for a weighted choice."""
        names = ("caption", "type", "picture", "picture_caption", "caption_only", "text")
        return names, tuple(getattr(self, name) for name in names)


# bar, line, table, triangle, rectangle, angles, graph, equation, screen, receipt, scene, landscape: what is read more
# slowly is drawn more often.
_KINDS = (1.0, 1.3, 1.7, 1.0, 0.6, 0.8, 1.2, 1.2, 1.1, 1.2, 1.3, 1.0)

READ = Mix(
    caption=0.58,
    type=0.08,
    picture=0.04,
    picture_caption=0.04,
    caption_only=0.10,
    text=0.16,
    lookalikes=0.35,
    augmented=0.25,
    kinds=_KINDS,
)
ANSWER = Mix(
    caption=0.46,
    type=0.11,
    picture=0.14,
    picture_caption=0.05,
    caption_only=0.07,
    text=0.20,
    lookalikes=0.3,
    augmented=0.2,
    kinds=_KINDS,
)
# The base policy can work an answer out, but mostly guesses: what reinforcement has to bring out (the paper's
# "reasoning activation"), and what a model of 6M weights can learn from rewards in minutes.
GUESS = replace(ANSWER, guess=0.65)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is done at each step, and how strongly."""

    steps: int = 3000
    read_until: float = 0.33
    decay: float = 0.34
    warmup: int = 60
    embed_every: int = 12
    matrix_lr: float = 4e-3
    other_lr: float = 2e-3
    rows: int = 24
    seed: int = 7
    read: Mix = READ
    answer: Mix = ANSWER
    guess_from: float = 0.86
    guess: Mix = GUESS

    def mix(self, step: int) -> Mix:
        """The mixture of a step."""
        if step >= self.guess_from * self.steps:
            return self.guess
        return self.read if step < self.read_until * self.steps else self.answer

    def is_embedding(self, step: int) -> bool:
        """Whether a step is a contrastive one."""
        return step >= self.read_until * self.steps and step % self.embed_every == 0

    def rate(self, step: int) -> float:
        """Factor of the learning rates: warm-up, flat, linear decay to a twentieth."""
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return min(1.0, (step + 1) / self.warmup) * max(0.05, min(1.0, left))

    def glyph_weight(self, step: int) -> float:
        """Weight of the auxiliary loss: 1 while reading is learned, 0.7 after."""
        return 1.0 if step < self.read_until * self.steps else 0.7
