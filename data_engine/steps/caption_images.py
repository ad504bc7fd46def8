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

from data_engine.asking import Group, ask_about_images
from data_engine.captioning import Captioning, caption_value, caption_values, readable
from data_engine.step import StepContext, StepResult
from shared.language import LANGUAGES, language_of
from shared.prompts import load_prompt
from shared.schema import IMAGE_TYPES
from shared.vlm.identity import engine_record

NAME = "caption_images"
TYPES_FROM = "type_images"

Settings = Captioning


def run(context: StepContext, settings: Settings) -> StepResult:
    """Caption the images that `type_images` typed.

    Raises:
        UsageError: the recipe has no `type_images` before this step.

    """
    import polars as pl

    started = time.monotonic()
    kinds, groups = _groups(context, settings)
    asked = ask_about_images(
        context,
        NAME,
        engine=settings.engine,
        sampling=settings.sampling,
        groups=groups,
        values=caption_values(),
        to_value=caption_value,
    )
    cells = asked.cells.with_columns(
        pl.Series("image_type", [kinds[group][0] for group in asked.cells["group"]], pl.String),
        pl.Series("language", [kinds[group][1] for group in asked.cells["group"]], pl.String),
    )
    cells = readable(cells)
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
            "models": [
                {
                    "step": NAME,
                    **engine_record(settings.engine),
                    "sampling": sampling,
                    "made_elsewhere": asked.made_elsewhere,
                }
            ],
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
    types = dict(
        context.result_of(TYPES_FROM, NAME, "the image types")
        .annotations.select("image_hash", "image_type")
        .iter_rows()
    )
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
