"""Captions every distinct image with the prompt of its type, in the language of its question.

Writes, one row per distinct image and language: `image_hash` (str), `language` (`en` or `zh`; empty where the type's
prompt serves every language), `image_type` (str), `caption` (str, white space trimmed at both ends), `finish_reason`
(`stop`, or `length` where `max_tokens` cut it).
Asks: the type's prompt as system message, the picture and the prompt's request, if it has one, as the user's. The types
come from `type_images`; each prompt is a context of its own, so that one changed prompt re-asks its captions only. A
picture of an English and a Chinese question is captioned twice where the prompt set has both languages.
Source: paper section 4 and OmniCaptioner's eight types; the prompts are our own words.
Not covered: judging captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_engine.ask_blocks import as_one_block, ask_blocks
from data_engine.asking import AskingImages, Group, image_tables, result_of_images
from data_engine.captioning import Captioning, caption_value, caption_values, readable
from data_engine.step import StepContext, StepResult
from shared.language import LANGUAGES, language_of
from shared.prompts import load_prompt
from shared.schema import IMAGE_TYPES

if TYPE_CHECKING:
    import polars as pl

    from data_engine.blocks import RowBlocks

NAME = "caption_images"
TYPES_FROM = "type_images"

Settings = Captioning


@dataclass(frozen=True, kw_only=True)
class _Captions(AskingImages):
    """Asks for captions.

    Attributes:
        kinds: Image type and language of each group; an empty language serves all.

    """

    kinds: tuple[tuple[str, str], ...]

    needs = (TYPES_FROM,)
    order = ("image_hash", "language")

    def lines(self, context: StepContext) -> pl.DataFrame:
        """Pictures of some rows, each in the languages of the questions that show it."""
        import polars as pl

        types = context.results[TYPES_FROM].annotations
        shown = context.rows.select("question", "choices", "image_hashes").iter_rows()
        spoken = {(sha256, language_of(q, choices)) for q, choices, hashes in shown for sha256 in hashes}
        pairs = pl.DataFrame(sorted(spoken), schema={"key": pl.String, "language": pl.String}, orient="row")
        of = {"image_type": [kind for kind, _ in self.kinds], "language": [language for _, language in self.kinds]}
        groups = pl.DataFrame(of).with_row_index("table").with_columns(pl.col("table").cast(pl.Int32))
        typed = pairs.join(types.rename({"image_hash": "key"}), on="key")
        return pl.concat(
            [
                typed.join(groups, on=["image_type", "language"]),
                typed.with_columns(language=pl.lit("")).unique().join(groups, on=["image_type", "language"]),
            ],
            how="diagonal",
        ).select("key", "table")

    def annotations(self, cells: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        """Captions as they may stand in a prompt."""
        import polars as pl

        kinds = [self.kinds[group] for group in cells["group"]]
        cells = readable(cells).with_columns(
            pl.Series("image_type", [kind for kind, _ in kinds], pl.String),
            pl.Series("language", [language for _, language in kinds], pl.String),
        )
        cut, empty = (cells["finish_reason"] == "length").sum(), (cells["caption"] == "").sum()
        found = cells.select("image_hash", "group", "language", "image_type", "caption", "finish_reason")
        return found, {"cut": int(cut), "empty": int(empty)}


def run(context: StepContext, settings: Settings) -> StepResult:
    """Caption the images that `type_images` typed; see `run_blocks`."""
    return as_one_block(run_blocks, context, settings)


def run_blocks(context: StepContext, blocks: RowBlocks, settings: Settings) -> StepResult:
    """Caption the images of rows in blocks.

    Raises:
        UsageError: the recipe has no `type_images` before this step.

    """
    context.result_of(TYPES_FROM, NAME, "the image types")
    kinds, groups = _groups(context, settings)
    made = image_tables(
        context,
        NAME,
        engine=settings.engine,
        sampling=settings.sampling,
        groups=groups,
        values=caption_values(),
    )
    asking = _Captions(**made, to_value=caption_value, kinds=tuple(kinds))
    asked = ask_blocks(context, asking, blocks, context.images, unit="images")
    more: list[str] = []
    if cut := asked.counts["cut"]:
        more.append(f"{NAME}: {cut} captions were cut at {settings.sampling.max_tokens} tokens")
    if empty := asked.counts["empty"]:
        more.append(f"{NAME}: {empty} captions are empty")
    prompts = [
        {"step": NAME, "image_type": kind, "name": group.prompt.name, "sha256": group.prompt.sha256}
        for number, ((kind, _), group) in enumerate(zip(kinds, groups, strict=True))
        if asked.counts[f"lines of group {number}"]
    ]
    return result_of_images(asking, asked, blocks, prompts, more)


def _groups(context: StepContext, settings: Settings) -> tuple[list[tuple[str, str]], list[Group]]:
    """(image type, language) of each prompt that pictures are asked with."""
    kinds: list[tuple[str, str]] = []
    groups: list[Group] = []
    for image_type in IMAGE_TYPES:
        name = settings.prompt_of(image_type)
        prompts = [load_prompt(name, context.prompts, language) for language in LANGUAGES]
        languages = ("",) if len(set(prompts)) == 1 else LANGUAGES
        kinds += [(image_type, language) for language in languages]
        groups += [Group(prompt, "system") for prompt, _ in zip(prompts, languages, strict=False)]
    return kinds, groups
