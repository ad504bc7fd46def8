"""The mini world: problems drawn by the project itself, with known answers, captions and image types.

`draw(split, index)` gives one `Problem`. It feeds the training of tiny-vl, the small sets and the small benchmarks,
and nothing else; `splits.py` says why their problems never mix.
"""

from shared.laptop.problems.canvas import Rgb
from shared.laptop.problems.problem import IMAGE_TYPES, Problem
from shared.laptop.problems.splits import SPLITS, split_of
from shared.laptop.problems.world import KINDS, PICTURE_KINDS, draw, draw_family

__all__ = [
    "IMAGE_TYPES",
    "KINDS",
    "PICTURE_KINDS",
    "SPLITS",
    "Problem",
    "Rgb",
    "draw",
    "draw_family",
    "split_of",
]
