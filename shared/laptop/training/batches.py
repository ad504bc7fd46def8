"""Batches drawn on the fly: problems become trees, trees are packed into rows, pictures into arrays.

Input: a step number. Output: a `Batch` of numpy arrays, the same for the same seed and step: training can stop and go
on anywhere. Drawing runs in a process of its own (`stream`), about 0.1 s a batch.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import queue as queue_module
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared.laptop.problems import IMAGE_TYPES, PICTURE_KINDS, Problem, draw, draw_family
from shared.laptop.training.lookalikes import lookalike
from shared.laptop.training.schedule import Mix, Schedule
from shared.laptop.training.trees import Tree, TreeMaker

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROW_TOKENS = 256

LABELS: tuple[str, ...] = (
    *"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZxy+-=?/()*",
    "red", "green", "blue", "yellow", "purple", "orange",
    "circle", "square", "triangle", "star", "on", "off", "dot", "crossing", "sun", "bird", "tree", "house",
)  # fmt: skip
_LABEL_INDEX = {label: index for index, label in enumerate(LABELS)}


@dataclass(slots=True)
class Batch:
    """One packed batch. B rows of L tokens; pictures grouped by size.

    `pictures[g]` is uint8 [n, height, width, 3] and `marks[g]` float32 [n, tokens, 4 * labels], groups in order, so
    that the features of all groups one after the other are numbered by `slots`.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    tree: NDArray[np.int32]
    branch: NDArray[np.int32]
    slots: NDArray[np.int64]
    weights: NDArray[np.float32]
    tasks: NDArray[np.int8]
    pictures: list[NDArray[np.uint8]]
    marks: list[NDArray[np.uint8]]
    pooled: NDArray[np.int64]
    """[pairs, 2, 2]: row and column of both last tokens of each pair of an embedding batch, else empty."""
    texts_of_pairs: list[str]


TASKS: tuple[str, ...] = ("caption", "type", "picture", "picture+caption", "caption-only", "text", "embed")
_TYPE_WEIGHT = 5.0
_EASY, _EASY_SHARES = ("sum", "difference", "product", "larger", "even"), (3.0, 3.0, 2.0, 1.0, 0.5)


def decode(png: bytes) -> NDArray[np.uint8]:
    """PNG to uint8 [height, width, 3]."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def smart_size(height: int, width: int) -> tuple[int, int]:
    """Size in pixels to which Qwen's processor brings a picture, with the bounds of tiny-vl."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    from shared.laptop.training.architecture import MAX_PIXELS, MIN_PIXELS

    rows, columns = smart_resize(height, width, factor=28, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    return int(rows), int(columns)


def fit(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a picture to the size that the processor would bring it to, bicubic as there."""
    from PIL import Image

    height, width = smart_size(*pixels.shape[:2])
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def augment(pixels: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """A near copy: JPEG, another size, up to 3% cropped at each side, or slightly other brightness."""
    from PIL import Image

    image = Image.fromarray(pixels)
    width, height = image.size
    if rng.random() < 0.5:
        image = image.crop(
            (rng.randint(0, 3), rng.randint(0, 3), width - rng.randint(0, 3), height - rng.randint(0, 3))
        )
    if rng.random() < 0.5:
        scale = rng.choice((0.75, 0.9, 1.25, 1.5, 2.0, 3.0))
        image = image.resize((round(image.width * scale), round(image.height * scale)), rng.choice((2, 3)))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(60, 95))
        image = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    if rng.random() < 0.2:
        gain = rng.uniform(0.9, 1.08)
        image = image.point(lambda value: min(255, int(value * gain)))
    return np.asarray(image)


def mark_array(problem: Problem, size: tuple[int, int]) -> NDArray[np.uint8]:
    """[tokens, 4 * labels]: which labels lie in each of the four patches under each image token."""
    rows, columns = size[0] // 28, size[1] // 28
    found = np.zeros((rows, columns, 2, 2, len(LABELS)), dtype=np.uint8)
    for mark in problem.marks:
        y = min(max(int(mark.y * rows * 2 / 112), 0), rows * 2 - 1)
        x = min(max(int(mark.x * columns * 2 / 112), 0), columns * 2 - 1)
        found[y // 2, x // 2, y % 2, x % 2, _LABEL_INDEX[mark.label]] = 1
    return found.reshape(rows * columns, -1)


class BatchMaker:
    """Makes the batch of any step."""

    def __init__(self, trees: TreeMaker, rows: int, seed: int) -> None:
        """`rows` of ROW_TOKENS tokens a batch."""
        self._trees, self._rows, self._seed = trees, rows, seed

    def training(self, step: int, mix: Mix) -> Batch:
        """The mixed batch of a step."""
        rng = random.Random(f"{self._seed}/{step}")  # sampling
        packer = Packer(self._rows, self._trees.image_token)
        while not packer.full:
            self._add_unit(packer, mix, rng)
        return packer.finish()

    def embedding(self, step: int, mix: Mix) -> Batch:
        """Pairs of near copies with hard negatives: the same words about another picture, and near numbers."""
        rng = random.Random(f"{self._seed}/embed/{step}")  # sampling
        packer = Packer(self._rows, self._trees.image_token)
        texts: list[str] = []
        while not packer.full:
            for problem in self._confusable(rng):
                self._add_pair(packer, problem, texts, mix, rng)
        return packer.finish(texts)

    def _confusable(self, rng: random.Random) -> list[Problem]:
        """A few problems that are easily taken for each other."""
        index = rng.randrange(1 << 40)
        if rng.random() < 0.2:
            kind = draw("train", index, text_only=True).kind
            return [draw("train", index + number, kind=kind) for number in range(2)]
        kind = rng.choice(PICTURE_KINDS).name
        family = draw_family("train", index, 2, kind=kind)
        other = draw("train", index + 1, kind=kind)
        # The first words about the second picture: equal text, other picture.
        return [*family[: rng.choice((1, 2))], replace(other, question=family[0].question, key=f"{other.key}-same")]

    def _add_pair(self, packer: Packer, problem: Problem, texts: list[str], mix: Mix, rng: random.Random) -> None:
        pair = len(texts)
        for copy in range(2):
            picture, grid = -1, (4, 4)
            if problem.image_png:
                pixels = decode(problem.image_png)
                if copy or rng.random() < mix.augmented:
                    pixels = augment(pixels, rng)
                picture, grid = packer.picture(fit(pixels), problem)
            tree = self._trees.embedding(problem.question, picture, pair * 2 + copy)
            tree.grid = grid
            if not packer.add(tree):
                return
        texts.append(f"{problem.caption}|{problem.question}")

    def _add_unit(self, packer: Packer, mix: Mix, rng: random.Random) -> None:
        names, shares = mix.tasks()
        task = rng.choices(names, shares)[0]
        index = rng.randrange(1 << 40)
        if task == "text":
            kinds = rng.choices(_EASY, _EASY_SHARES, k=4) if rng.random() < mix.easy else [None] * 4
            problems = [draw("train", index + n, text_only=True, kind=kind) for n, kind in enumerate(kinds)]
            packer.add(self._trees.questions(problems, -1, guessed=_guessed(problems, mix, rng)))
            return
        kind = rng.choices(PICTURE_KINDS, mix.kinds)[0].name
        if task == "caption_only":
            family = draw_family("train", index, 3, kind=kind, choice_share=0.35)
            guessed = _guessed(family, mix, rng)
            packer.add(self._trees.questions(family, -1, caption=family[0].caption, guessed=guessed))
            return
        if task == "type" and rng.random() < mix.lookalikes:
            image_type = rng.choice(IMAGE_TYPES)
            picture, grid = packer.picture(fit(lookalike(image_type, rng)), None)
            self._add_typing(packer, image_type, picture, grid)
            return
        family = draw_family("train", index, 4, kind=kind, choice_share=0.3)
        pixels = decode(family[0].image_png or b"")
        if rng.random() < mix.augmented:
            pixels = augment(pixels, rng)
        picture, grid = packer.picture(fit(pixels), family[0])
        if task == "type":
            self._add_typing(packer, family[0].image_type or "", picture, grid)
            return
        if task == "caption":
            tree = self._trees.caption(family[0], picture)
        elif task == "picture":
            tree = self._trees.questions(family, picture, guessed=_guessed(family, mix, rng))
        else:
            family = family[:3]
            guessed = _guessed(family, mix, rng)
            tree = self._trees.questions(family, picture, caption=family[0].caption, guessed=guessed)
        tree.grid = grid
        packer.add(tree)

    def _add_typing(self, packer: Packer, image_type: str, picture: int, grid: tuple[int, int]) -> None:
        tree = self._trees.typing(image_type, picture)
        tree.grid, tree.weight = grid, _TYPE_WEIGHT
        packer.add(tree)


def _guessed(problems: list[Problem], mix: Mix, rng: random.Random) -> list[bool]:
    """Which questions are answered without the way there."""
    return [rng.random() < mix.guess_share(problem) for problem in problems] if mix.guess else []


class Packer:
    """Fills rows with trees, first fit; full after several trees in a row found no room."""

    def __init__(self, rows: int, image_token: int) -> None:
        shape = (rows, ROW_TOKENS)
        self.tokens = np.zeros(shape, np.int64)
        self.positions = np.zeros((3, *shape), np.int64)
        self.tree = -np.arange(1, rows * ROW_TOKENS + 1, dtype=np.int32).reshape(shape)
        self.branch = np.zeros(shape, np.int32)
        self.picture_of = np.full(shape, -1, np.int64)
        self.offset_of = np.zeros(shape, np.int64)
        self.weights = np.zeros(shape, np.float32)
        self.tasks = np.full(shape, -1, np.int8)
        self.used = [0] * rows
        self.pictures: list[tuple[NDArray[np.uint8], Problem | None]] = []
        self.ends: dict[int, tuple[int, int]] = {}
        self.misses = 0
        self.trees = 0
        self.image_token = image_token

    @property
    def full(self) -> bool:
        """Whether hardly any tree still finds room."""
        return self.misses >= 6

    def picture(self, pixels: NDArray[np.uint8], problem: Problem | None) -> tuple[int, tuple[int, int]]:
        """Take a picture; returns its number and its size in image tokens."""
        self.pictures.append((pixels, problem))
        return len(self.pictures) - 1, (pixels.shape[0] // 28, pixels.shape[1] // 28)

    def add(self, tree: Tree) -> bool:
        """Write a tree into the first row with room; branches that make it longer than a row are dropped."""
        length = tree.length()
        while length > ROW_TOKENS:
            tree.branches.pop()
            length = tree.length()
        row = next((number for number, used in enumerate(self.used) if used + length <= ROW_TOKENS), None)
        if row is None:
            self.misses += 1
            return False
        self.trees += 1
        start = self._place_prefix(tree, row)
        for number, (asked, answer) in enumerate(tree.branches, 1):
            self._place_branch(tree, row, number=number, start=start, asked=asked, answer=answer)
        return True

    def _span(self, row: int, length: int, branch: int, task: int) -> slice:
        span = slice(self.used[row], self.used[row] + length)
        self.tree[row, span] = self.trees
        self.branch[row, span] = branch
        self.tasks[row, span] = task
        self.used[row] += length
        return span

    def _place_prefix(self, tree: Tree, row: int) -> int:
        """Write the prefix; returns the position after it."""
        position = 0
        task = TASKS.index(tree.task)
        for token in tree.prefix:
            if token != self.image_token:
                at = self._span(row, 1, 0, task)
                self.tokens[row, at] = token
                self.positions[:, row, at] = position
                position += 1
                continue
            rows, columns = tree.grid
            at = self._span(row, rows * columns, 0, task)
            self.tokens[row, at] = token
            self.picture_of[row, at] = tree.picture
            self.offset_of[row, at] = np.arange(rows * columns)
            self.positions[0, row, at] = position
            self.positions[1, row, at] = position + np.repeat(np.arange(rows), columns)
            self.positions[2, row, at] = position + np.tile(np.arange(columns), rows)
            position += max(rows, columns)
        return position

    def _place_branch(
        self, tree: Tree, row: int, *, number: int, start: int, asked: list[int], answer: list[int]
    ) -> None:
        length = len(asked) + len(answer)
        at = self._span(row, length, number, TASKS.index(tree.task))
        self.tokens[row, at] = asked + answer
        self.positions[:, row, at] = start + np.arange(length)
        if answer:
            # A weight stands where the token is predicted: one before it.
            first = at.start + len(asked) - 1
            self.weights[row, first : first + len(answer)] = tree.weight
        if tree.pair >= 0:
            self.ends[tree.pair] = (row, at.stop - 1)

    def finish(self, texts: list[str] | None = None) -> Batch:
        """The batch, with pictures grouped by size. `texts` says what each pair of an embedding batch is about."""
        groups: dict[tuple[int, ...], list[int]] = {}
        where = self.picture_of >= 0
        for number in sorted(set(self.picture_of[where].tolist())):
            groups.setdefault(self.pictures[number][0].shape, []).append(number)
        first_feature, count = np.zeros(len(self.pictures) + 1, np.int64), 0
        pictures, marks = [], []
        for shape, members in groups.items():
            for number in members:
                first_feature[number] = count
                count += shape[0] * shape[1] // 784
            pictures.append(np.stack([self.pictures[number][0] for number in members]))
            known = [self.pictures[number][1] for number in members]
            empty = np.full((shape[0] * shape[1] // 784, 4 * len(LABELS)), 255, np.uint8)
            marks.append(
                np.stack([empty if problem is None else mark_array(problem, (shape[0], shape[1])) for problem in known])
            )
        slots = np.full_like(self.picture_of, -1)
        slots[where] = first_feature[self.picture_of[where]] + self.offset_of[where]
        ends = self.ends
        pairs = [pair for pair in range(len(texts or ())) if 2 * pair in ends and 2 * pair + 1 in ends]
        pooled = np.array([[ends[2 * pair], ends[2 * pair + 1]] for pair in pairs], np.int64).reshape(-1, 2, 2)
        kept = [(texts or [])[pair] for pair in pairs]
        return Batch(
            self.tokens, self.positions, self.tree, self.branch, slots, self.weights, self.tasks,
            pictures, marks, pooled, kept,
        )  # fmt: skip


def stream(maker: BatchMaker, first: int, last: int, schedule: Schedule) -> Iterator[tuple[int, Batch]]:
    """Batches of steps `first` to `last` - 1, drawn ahead by a process of their own."""
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[tuple[int, Batch]] = context.Queue(maxsize=4)
    worker = context.Process(target=_draw_ahead, args=(maker, first, last, schedule, queue), daemon=True)
    worker.start()
    try:
        for _ in range(first, last):
            yield queue.get(timeout=600)
    finally:
        worker.terminate()


def _draw_ahead(
    maker: BatchMaker, first: int, last: int, schedule: Schedule, queue: multiprocessing.Queue[tuple[int, Batch]]
) -> None:
    parent = os.getppid()
    for step in range(first, last):
        mix = schedule.mix(step)
        batch = maker.embedding(step, mix) if schedule.is_embedding(step) else maker.training(step, mix)
        while True:
            try:
                queue.put((step, batch), timeout=20)
                break
            except queue_module.Full:
                if os.getppid() != parent:  # the training was killed: nobody will ever take this batch
                    return
