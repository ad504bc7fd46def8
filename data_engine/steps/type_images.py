"""Types every distinct image: which of the eight kinds of picture it is.

Writes, one row per distinct image: `image_hash` (str), `image_type` (one of `shared.schema.IMAGE_TYPES`).
Asks: the picture and the prompt file's text; the answer is restricted to the eight words (structured outputs).
Source: paper section 4 (Appendix B's wording is a picture in the paper, so the instruction is our own and versioned).
Not covered: captions (caption_images), what types are good for (assemble and the recipe).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from data_engine.ask_blocks import as_one_block, ask_blocks
from data_engine.asking import AskingImages, Group, image_tables, result_of_images
from data_engine.step import StepContext, StepResult, image_hashes_of
from shared.config import Strict
from shared.prompts import load_prompt
from shared.schema import IMAGE_TYPES
from shared.vlm.spec import EngineSpec, Sampling

if TYPE_CHECKING:
    import polars as pl

    from data_engine.blocks import RowBlocks

NAME = "type_images"


class Settings(Strict):
    """How images are typed."""

    engine: EngineSpec = Field(description="The checkpoint that types, and how it is driven.")
    prompt: str = Field(default="type_images", description="Prompt by name, or path of a file of your own.")
    max_tokens: int = Field(default=8, gt=0, description="Tokens of the one-word answer at most.")


@dataclass(frozen=True, kw_only=True)
class _Types(AskingImages):
    """Asks for the type of every picture."""

    def lines(self, context: StepContext) -> pl.DataFrame:
        import polars as pl

        keys = pl.Series("key", image_hashes_of(context.rows), pl.String)
        return pl.DataFrame([keys]).with_columns(table=pl.lit(0, pl.Int32))

    def annotations(self, cells: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        return cells.select("image_hash", "group", "image_type"), {}


def run(context: StepContext, settings: Settings) -> StepResult:
    """Type the images of `context.rows`."""
    return as_one_block(run_blocks, context, settings)


def run_blocks(context: StepContext, blocks: RowBlocks, settings: Settings) -> StepResult:
    """Type the images of rows in blocks."""
    import pyarrow as pa

    prompt = load_prompt(settings.prompt, context.prompts)
    sampling = Sampling(max_tokens=settings.max_tokens, choice=IMAGE_TYPES)
    values = pa.schema([("image_type", pa.string()), ("tokens", pa.int32()), ("prompt_tokens", pa.int32())])
    made = image_tables(
        context, NAME, engine=settings.engine, sampling=sampling, groups=[Group(prompt, "user")], values=values
    )
    asking = _Types(**made, to_value=_value)
    asked = ask_blocks(context, asking, blocks, context.images, unit="images")
    return result_of_images(asking, asked, blocks, [{"step": NAME, "name": settings.prompt, "sha256": prompt.sha256}])


def _value(answer: dict[str, object]) -> dict[str, object]:
    costs = {name: answer[name] for name in ("tokens", "prompt_tokens")}
    return {"image_type": str(answer["text"]).strip(), **costs}
