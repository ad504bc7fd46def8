"""The image column of `DatasetVersion.to_datasets`: `datasets.Image`, and our own reading where that one fails.

`datasets` asks every picture for its EXIF orientation; a broken EXIF block, which says nothing about the pixels, ends
it with whatever Pillow raises. Apart from `version.py`, because it imports `datasets`.
"""

from __future__ import annotations

from typing import Any

import datasets

from shared.images import decode_rgb


class ImageFeature(datasets.Image):  # type: ignore[misc]  # datasets has no type information
    """`datasets.Image` in everything but pictures that it cannot decode and `shared.images` can."""

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """Return the decoded picture.

        Raises:
            ImageRefused: the bytes are no usable picture.
        """
        try:
            return super().decode_example(value, token_per_repo_id)
        except Exception:
            if not isinstance(value, dict) or not value.get("bytes"):
                raise
            return decode_rgb(value["bytes"])

    def __eq__(self, other: object) -> bool:
        """Equal to a plain image feature with the same settings, so that data sets of both kinds can be joined."""
        return isinstance(other, datasets.Image) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # as datasets.Image


def decoded(dataset: Any) -> Any:
    """Give a data set of dataset rows this feature for its column `images`; nothing is copied."""
    dataset.info.features["images"] = datasets.List(ImageFeature())
    return dataset
