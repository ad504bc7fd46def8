"""The mini world: problems drawn by the project itself, with known answers, captions and image types.

`draw(split, index)` gives one `Problem`. It feeds the training of tiny-vl, the `mini` sources of the data engine and
the mini evaluation tasks; `splits.py` says why their problems never mix.
"""

from shared.mini_world.problem import IMAGE_TYPES, Grade, Mark, Problem
from shared.mini_world.splits import SPLITS
from shared.mini_world.world import KINDS, PICTURE_KINDS, contents, draw, draw_family

__all__ = [
    "IMAGE_TYPES",
    "KINDS",
    "PICTURE_KINDS",
    "SPLITS",
    "Grade",
    "Mark",
    "Problem",
    "contents",
    "draw",
    "draw_family",
]
