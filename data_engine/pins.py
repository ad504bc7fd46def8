"""Which hub revisions of a build may move: sources, benchmarks and models that a branch names and not a commit.

Input: opened inputs. Output: one sentence each, with the commit that this build read and how to pin it. What was read
stands in the manifest in any case; the sentence is for the people who will build again and expect the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_engine.sources.merged import parts_of
from shared.hub_download import is_commit
from shared.vlm.checkpoint import fetched_commit, is_folder

if TYPE_CHECKING:
    from data_engine.inputs import Inputs
    from data_engine.recipe_settings import BenchmarkSettings, SourceSettings
    from data_engine.sources.base import Source
    from shared.vlm.spec import EngineSpec


def unpinned(inputs: Inputs) -> list[str]:
    """One sentence per source, benchmark or model whose revision may move."""
    recipe = inputs.recipe
    places: list[tuple[str, SourceSettings | BenchmarkSettings, Source]]
    if recipe.source is not None:
        places = [("source", recipe.source, inputs.source)]
    else:
        opened = parts_of(inputs.source)
        places = [(f"sources.{name}", told, opened[name]) for name, told in recipe.sources.items()]
    places += [(f"benchmarks.{name}", recipe.benchmarks[name], source) for name, source in inputs.benchmarks.items()]
    said = [
        _sentence(key, settings.location, settings.revision, source.revision)
        for key, settings, source in places
        if is_commit(source.revision) and not is_commit(settings.revision)
    ]
    return [*said, *_models(inputs)]


def _models(inputs: Inputs) -> Iterator[str]:
    for step, settings in inputs.recipe.steps():
        engine: EngineSpec | None = getattr(settings, "engine", None)
        if engine is None or engine.endpoint is not None or is_folder(engine.model):
            continue
        if not is_commit(engine.revision or ""):
            key = f"steps.{step}.engine"
            yield _sentence(key, engine.model, engine.revision or "main", fetched_commit(engine))


def _sentence(key: str, location: str, revision: str, commit: str) -> str:
    read = f"this build read commit {commit}" if commit else "which commit was read is known where the model ran"
    return (
        f"{key} is not pinned: {location} at {revision!r} may change; {read} "
        f"(pin it with --set {key}.revision={commit or 'COMMIT'})"
    )
