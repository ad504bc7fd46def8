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

import time

from pydantic import Field, field_validator

from data_engine.asking import Group, ask_about_images
from data_engine.steps.base import StepContext, StepResult
from shared.config import Strict
from shared.errors import UsageError, did_you_mean
from shared.language import LANGUAGES, language_of
from shared.placeholders import harmless
from shared.prompts import load_prompt
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
    kinds, groups = _groups(context, settings)
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
    cells = asked.cells.with_columns(
        pl.Series("image_type", [kinds[group][0] for group in asked.cells["group"]], pl.String),
        pl.Series("language", [kinds[group][1] for group in asked.cells["group"]], pl.String),
    )
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
    used = [(image_type, group) for (image_type, _), group in zip(kinds, groups, strict=True) if group.images]
    sampling = settings.sampling.model_dump(mode="json")
    return StepResult(
        annotations=cells.select("image_hash", "language", "image_type", "caption", "finish_reason"),
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
                    "name": group.prompt.name,
                    "sha256": group.prompt.sha256,
                }
                for image_type, group in used
            ],
        },
    )


def _groups(context: StepContext, settings: Settings) -> tuple[list[tuple[str, str]], list[Group]]:
    """(image type, language) and the images to ask, per prompt; images in the order of their hashes."""
    types = dict(context.results[TYPES_FROM].annotations.select("image_hash", "image_type").iter_rows())
    spoken: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    for question, choices, hashes in context.rows.select("question", "choices", "image_hashes").iter_rows():
        spoken[language_of(question, choices)].update(hashes)
    kinds: list[tuple[str, str]] = []
    groups: list[Group] = []
    for image_type in IMAGE_TYPES:
        of_type = sorted(sha256 for sha256, found in types.items() if found == image_type)
        name = settings.prompt_of(image_type)
        prompts = [load_prompt(name, context.prompts, language) for language in LANGUAGES]
        if len(set(prompts)) == 1:
            kinds.append((image_type, ""))
            groups.append(Group(prompts[0], "system", of_type))
            continue
        for language, prompt in zip(LANGUAGES, prompts, strict=True):
            kinds.append((image_type, language))
            groups.append(Group(prompt, "system", [sha256 for sha256 in of_type if sha256 in spoken[language]]))
    return kinds, groups


def _value(answer: dict[str, object]) -> dict[str, object]:
    return {
        "caption": str(answer["text"]).strip(),
        "finish_reason": answer["finish_reason"],
        "tokens": answer["tokens"],
        "prompt_tokens": answer["prompt_tokens"],
    }
