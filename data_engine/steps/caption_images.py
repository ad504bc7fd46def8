"""Captions every distinct image with the prompt of its type.

Writes, one row per distinct image: `image_hash` (str), `image_type` (str), `caption` (str, white space trimmed at both
ends), `finish_reason` (`stop`, or `length` where `max_tokens` cut it).
Asks: the type's prompt as system message, the picture as the user's. The types come from `type_images`; each type is a
context of its own, so that one changed prompt re-asks the captions of that type only.
Source: paper section 4 and OmniCaptioner's eight types; the prompts are our own words.
Not covered: judging captions.
"""

from __future__ import annotations

import time

from pydantic import Field, field_validator

from data_engine.asking import Group, ask_about_images, load_prompt
from data_engine.steps.base import StepContext, StepResult
from shared.config import Strict
from shared.errors import UsageError, did_you_mean
from shared.fingerprint import bytes_hash
from shared.placeholders import harmless
from shared.schema import IMAGE_TYPES
from shared.vlm.spec import EngineSpec, Sampling

NAME = "caption_images"
TYPES_FROM = "type_images"


class Settings(Strict):
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


def run(context: StepContext, settings: Settings) -> StepResult:
    """Caption the images that `type_images` typed.

    Raises:
        UsageError: the recipe has no `type_images` before this step.

    """
    import polars as pl
    import pyarrow as pa

    started = time.monotonic()
    if TYPES_FROM not in context.results:
        message = f"step {NAME} needs the image types, and {TYPES_FROM} did not run before it"
        raise UsageError(message, f"Put {TYPES_FROM} before {NAME} in the recipe.")
    types = context.results[TYPES_FROM].annotations
    groups = [
        Group(
            settings.prompt_of(image_type),
            load_prompt(settings.prompt_of(image_type)),
            as_system=True,
            images=sorted(types.filter(types["image_type"] == image_type)["image_hash"].to_list()),
        )
        for image_type in IMAGE_TYPES
    ]
    values = pa.schema(
        [
            ("caption", pa.string()),
            ("finish_reason", pa.string()),
            ("tokens", pa.int32()),
            ("prompt_tokens", pa.int32()),
        ]
    )
    asked = ask_about_images(
        context, NAME, engine=settings.engine, sampling=settings.sampling, groups=groups, values=values, to_value=_value
    )
    of_cells = types.join(asked.cells.select("image_hash"), on="image_hash", how="semi").sort("image_hash")
    cells = asked.cells.with_columns(of_cells["image_type"])  # both are sorted: no caption is copied
    # Stored as said; in a prompt such a caption would take the picture's place or close the turn.
    marked = cells["caption"].str.contains(r"<\||<image>")
    if marked.any():
        harmlessly = pl.Series("caption", [harmless(text) for text in cells["caption"].to_list()], dtype=pl.String)
        cells = cells.with_columns(harmlessly)
    warnings = list(asked.warnings)
    cut = int((cells["finish_reason"] == "length").sum())
    empty = int((cells["caption"] == "").sum())
    if cut:
        warnings.append(f"{NAME}: {cut} captions were cut at {settings.sampling.max_tokens} tokens")
    if empty:
        warnings.append(f"{NAME}: {empty} captions are empty")
    used = [(image_type, group) for image_type, group in zip(IMAGE_TYPES, groups, strict=True) if group.images]
    sampling = settings.sampling.model_dump(mode="json")
    return StepResult(
        annotations=cells.select("image_hash", "image_type", "caption", "finish_reason"),
        computed=asked.computed,
        reused=asked.reused,
        seconds=time.monotonic() - started,
        failures=asked.failures,
        warnings=warnings,
        record={
            "models": [{"step": NAME, **settings.engine.record(), "sampling": sampling}],
            "prompts": [
                {
                    "step": NAME,
                    "image_type": image_type,
                    "name": group.prompt_name,
                    "sha256": bytes_hash(group.prompt_text.encode()),
                }
                for image_type, group in used
            ],
        },
    )


def _value(answer: dict[str, object]) -> dict[str, object]:
    return {
        "caption": str(answer["text"]).strip(),
        "finish_reason": answer["finish_reason"],
        "tokens": answer["tokens"],
        "prompt_tokens": answer["prompt_tokens"],
    }
