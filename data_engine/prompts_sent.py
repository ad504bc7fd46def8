"""What a recipe's models will be sent about one row: `data-engine prompts`.

Input: a recipe and a row. Output: one entry per ask, in the steps' order. The row goes through the very steps of a
build, with a runner that writes down what it is asked and an empty store, so that nothing is taken for known; only a
picture's type is looked up among the cells of the real store. A picture that is not typed yet is shown with the caption
prompt of every type. Nothing is asked and nothing is stored.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.plan import CountingRunner
from shared.errors import InfiMmrError

if TYPE_CHECKING:
    import polars as pl

    from data_engine.build import BuildRequest
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.runners import Ask
    from data_engine.sources.base import Rejection, Source, SourceRow
    from data_engine.step import StepContext, StepResult
    from shared.progress import Progress
    from shared.store import Store
    from shared.vlm.chat_template import PromptRenderer, Sent
    from shared.vlm.spec import EngineSpec, Sampling

_WINDOW = 256


class _Noting(CountingRunner):
    """A runner that writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[EngineSpec, Ask, Sampling | None]] = []

    def ask(
        self, engine: EngineSpec, asks: Iterable[Ask], *_: Any, sampling: Sampling | None = None, **__: Any
    ) -> list[str]:
        self.noted += [(engine, ask, sampling) for ask in asks]
        return []


class _Listed:
    """Some records of a source, as a source."""

    def __init__(self, source: Source, items: list[SourceRow | Rejection]) -> None:
        self.name, self.location, self.revision = source.name, source.location, source.revision
        self.licence, self.taken = source.licence, source.taken
        self._items = items

    def rows(self) -> Iterator[SourceRow | Rejection]:
        return iter(self._items)

    def fingerprint(self) -> str:
        return ""

    def count(self) -> int | None:
        return len(self._items)


def prompts_of(request: BuildRequest, words: str | None, progress: Progress) -> dict[str, Any]:
    """Return `{"row", "prompts"}`: what each model of the recipe is sent about a row.

    Args:
        request: As for `build`.
        words: The row's id or its key in the source; None takes the first row with a picture among the first ones.
        progress: Shown while the source is searched.

    Raises:
        InfiMmrError: the source has no such row.

    """
    from data_engine.build import resolve
    from data_engine.inputs import open_sources
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.scratch import scratch_folder
    from data_engine.step import StepContext
    from shared.store import open_store

    recipe = resolve(request)
    source = open_sources(recipe)
    with scratch_folder(None) as scratch:
        places = ImagePlaces(scratch / "images.spool")
        row = _find(source, places, words, progress)
        context = StepContext(
            store=open_store(str(scratch / "store")),
            profile=recipe.profile,
            runner=_Noting(),
            recipe=recipe.as_json(),
            progress=progress,
            rows=row.drop("image_names"),
            images=places,
            prompts=recipe.prompts,
        )
        prompts = [
            sent.as_json()
            for name, settings in recipe.steps()
            if hasattr(settings, "engine")
            for sent in _step(name, settings, context, open_store(request.store))
        ]
    return {"row": row["id"].item(), "source_id": row["source_id"].item(), "prompts": prompts}


def _find(source: Source, places: ImagePlaces, words: str | None, progress: Progress) -> pl.DataFrame:
    import polars as pl

    from data_engine.intake.ingest import ingest

    task = progress.task(f"source {source.name}", source.count())
    records = source.rows()
    while window := list(itertools.islice(records, _WINDOW)):
        rows = ingest(_Listed(source, window), places, None, check_conflicts=False).rows
        task.advance(len(window))
        if words is None:
            order = {record.source_id: place for place, record in reversed([*enumerate(window)])}
            bare, place = pl.col("image_hashes").list.len() == 0, pl.col("source_id").replace_strict(order)
            found = rows.sort(bare, place).head(1)
        else:
            found = rows.filter((pl.col("id") == words) | (pl.col("source_id") == words)).head(1)
        if found.height:
            task.done()
            return found
    what = f"no row {words}" if words else "no usable row"
    raise InfiMmrError(f"{what} in {source.location}", "Give a row's id or its key in the source")


def _step(name: str, settings: Any, context: StepContext, store: Store) -> list[Sent]:
    from data_engine.decontamination.embed import embed_rows
    from data_engine.step_order import step_module

    if name == "decontaminate_embeddings":
        embed_rows(context, settings.engine, context.rows, context.images)
        return _sent(name, context, {})
    if name != "caption_images":
        sent = _sent(name, context, step_module(name).run(context, settings).record)
        return sent[:1] if name == "rate_difficulty" else sent  # each sample is this prompt with a seed of its own
    out: list[Sent] = []
    for frame, known in _types(context, store):
        held = dataclasses.replace(context, results={"type_images": frame})
        record = step_module(name).run(held, settings).record
        kind = frame.annotations["image_type"][0]
        out += [
            dataclasses.replace(
                sent,
                details={**sent.details, "image_type": kind},
                note=sent.note or ("" if known else "not typed yet: asked so if it is of this type"),
            )
            for sent in _sent(name, held, record)
        ]
    return out


def _types(context: StepContext, store: Store) -> list[tuple[StepResult, bool]]:
    """One frame of types per picture of the row where it is known; else one per type that it may have."""
    import polars as pl

    from data_engine.step import StepResult, image_hashes_of
    from data_engine.step_order import step_module
    from shared.schema import IMAGE_TYPES

    settings = step_module("type_images").Settings.model_validate(context.recipe["steps"]["type_images"])
    looking = dataclasses.replace(context, store=store, runner=CountingRunner())
    found = step_module("type_images").run(looking, settings).annotations
    known = dict(found.select("image_hash", "image_type").iter_rows())
    return [
        (StepResult(pl.DataFrame({"image_hash": [sha256], "image_type": [kind]})), sha256 in known)
        for sha256 in image_hashes_of(context.rows)
        for kind in ([known[sha256]] if sha256 in known else IMAGE_TYPES)
    ]


def _sent(name: str, context: StepContext, record: Any) -> list[Sent]:
    """What the runner noted since it was last read."""
    runner = context.runner
    assert isinstance(runner, _Noting)  # noqa: S101  # `prompts_of` made it
    noted, runner.noted = runner.noted, []
    prompts = [entry["name"] for entry in record.get("prompts", [])]
    return [
        _one(name, context, *entry, {"prompt": prompts[0] if len(prompts) == 1 else "", "prompts": context.prompts})
        for entry in noted
    ]


def _one(  # noqa: PLR0917 - one noted ask and where it came from
    name: str,
    context: StepContext,
    engine: EngineSpec,
    ask: Ask,
    sampling: Sampling | None,
    details: dict[str, Any],
) -> Sent:
    from shared.images import decode_rgb
    from shared.vlm.chat_template import Sent, with_template
    from shared.vlm.conversation import EMBEDDING_SYSTEM, build_conversation, embedding_prompt

    images = []
    for sha256 in ask.images:
        picture = decode_rgb(context.images.get(sha256))
        images.append({"sha256": sha256, "width": picture.width, "height": picture.height})
    renderer, note = _renderer(engine)
    model = engine.model if "/" not in engine.model or not Path(engine.model).is_dir() else Path(engine.model).name
    if sampling is None:
        sent = Sent(name, model, EMBEDDING_SYSTEM, ask.text, images, note=note, details={})
        return with_template(sent, lambda _: embedding_prompt(ask.text, len(images)), renderer)
    details = {**details, "sampling": sampling.model_dump(mode="json")}
    sent = Sent(name, model, ask.system, ask.text, images, note=note, details=details)
    conversation = build_conversation(ask.system, ask.text, [b""] * len(images))
    for message in conversation:
        if isinstance(message["content"], list):
            message["content"] = [{"type": "image"} if part["type"] == "image" else part for part in message["content"]]
    return with_template(sent, lambda template: template.text(conversation), renderer)


def _renderer(engine: EngineSpec) -> tuple[PromptRenderer | None, str]:
    """Chat template of an engine, or None and why not."""
    from shared.vlm.chat_template import PromptRenderer
    from shared.vlm.checkpoint import template_folder
    from shared.vlm.spec import pixel_limits

    if engine.endpoint:
        return None, "the endpoint applies its own chat template"
    try:
        return PromptRenderer(template_folder(engine.model, engine.revision), pixel_limits(engine)), ""
    except InfiMmrError as error:
        return None, str(error)
