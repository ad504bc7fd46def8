"""The mini world: problems drawn by the project itself, with known answers, captions and image types.

`draw(split, index)` gives one `Problem`. It feeds the training of tiny-vl, the `mini` sources of the data engine and
the mini evaluation tasks, and nothing else; `splits.py` says why their problems never mix. This file is the only door.
"""

from shared.mini_world.canvas import Rgb
from shared.mini_world.problem import IMAGE_TYPES, Grade, Mark, Problem
from shared.mini_world.splits import SPLITS, split_of
from shared.mini_world.world import KINDS, PICTURE_KINDS, contents, draw, draw_family

__all__ = [
    "IMAGE_TYPES",
    "KINDS",
    "PICTURE_KINDS",
    "SPLITS",
    "Grade",
    "Mark",
    "Problem",
    "Rgb",
    "contents",
    "draw",
    "draw_family",
    "split_of",
]
