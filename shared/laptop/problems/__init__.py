"""The mini world: problems drawn by the project itself, with known answers, captions and image types.

`draw(split, index)` gives one `Problem`. It feeds the training of tiny-vl, the small sets and the small benchmarks,
and nothing else; `splits.py` says why their problems never mix.
"""

from shared.laptop.problems.canvas import Rgb
from shared.laptop.problems.problem import IMAGE_TYPES, Grade, Mark, Problem
from shared.laptop.problems.splits import SPLITS, split_of
from shared.laptop.problems.world import KINDS, PICTURE_KINDS, contents, draw, draw_family

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
