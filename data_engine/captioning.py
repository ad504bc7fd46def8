"""What captions are asked with, and how an answer becomes one.

For the step that writes captions and the one that asks again for some of them.

Input: a recipe's settings of `caption_images`. Output: prompt names per image type, and captions as cells.
Not covered: which pictures are asked (steps).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from shared.answers import split_thinking
from shared.config import Strict
from shared.errors import did_you_mean
from shared.placeholders import harmless
from shared.schema import IMAGE_TYPES
from shared.vlm.spec import BUNDLED, EngineSpec, Sampling

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class Captioning(Strict):
    """How images are captioned."""

    engine: EngineSpec = Field(description="The checkpoint that writes captions, and how it is driven.")
    prompts: dict[str, str] = Field(
        default_factory=dict, description="Prompt by image type: a name or a file; a type left out takes caption_TYPE."
    )
    sampling: Sampling = Field(
        default=Sampling(max_tokens=2048),
        description="How captions are drawn; greedy unless stated, at most 2,048 tokens.",
    )

    @field_validator("prompts")
    @classmethod
    def _known_types(cls, prompts: dict[str, str]) -> dict[str, str]:
        for name in prompts:
            if name not in IMAGE_TYPES:
                message = f"unknown image type {name!r}. {did_you_mean(name, IMAGE_TYPES)}"
                raise ValueError(message)
        return prompts

    def prompt_of(self, image_type: str) -> str:
        """Name or path of the prompt that captions images of `image_type`."""
        return self.prompts.get(image_type, f"caption_{image_type}")


def unfit_captions(step: Captioning | None, location: str) -> str:
    """Why captions of rows from `location` would be wrong, as a sentence; empty where there is no reason to think so.

    The bundled checkpoint has seen the pictures that this project draws and no others: of a real chart it says what
    some drawn one might have shown.
    """
    if step is None or step.engine.endpoint is not None or step.engine.model != BUNDLED or location == "mini":
        return ""
    return (
        f"captions by {BUNDLED} are WRONG for these images: it knows only those that this project draws itself; "
        "name another checkpoint with --set steps.caption_images.engine.model=..., or take them for a rehearsal only"
    )


def caption_values() -> pa.Schema:
    """Value columns of a caption's cell."""
    import pyarrow as pa

    text, count = pa.string(), pa.int32()
    return pa.schema([("caption", text), ("finish_reason", text), ("tokens", count), ("prompt_tokens", count)])


def caption_value(answer: dict[str, object]) -> dict[str, object]:
    """Cell of a chat answer; what a model thinks before it speaks is no caption."""
    own = {name: answer[name] for name in ("finish_reason", "tokens", "prompt_tokens")}
    return {"caption": split_thinking(str(answer["text"]))[1].strip(), **own}


def readable(cells: pl.DataFrame) -> pl.DataFrame:
    """Cells whose captions may stand in a prompt.

    They are stored as said; in a prompt a model's own marks would take the picture's place or close the turn.
    """
    import polars as pl

    marked = cells["caption"].str.contains(r"<\||<image>")
    if not marked.any():
        return cells
    return cells.with_columns(
        pl.Series("caption", [harmless(text) for text in cells["caption"].to_list()], dtype=pl.String)
    )
