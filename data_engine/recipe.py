"""Recipes: one complete TOML file per dataset, named like the dataset.

Input: a recipe's name (a file in `data_engine/recipes`) or the path of a user's own file, a profile, and overrides of
the command line. Output: a resolved `Recipe`. Which steps run is said by which `[steps.NAME]` tables stand in the
file; they run in the order of `STEP_ORDER`, whatever their order in the file, and after them those of other packages
(`data_engine.plugins`).
Not covered: opening sources and models (build).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from data_engine.plugins import READERS, STEPS, OwnStep, own_step, plugin_names
from data_engine.recipe_settings import RecipeSettings, SourceSettings
from data_engine.sources.table_choice import kind_of
from data_engine.step_order import STEP_ORDER, step_module
from shared.benchmarks import benchmark, minis, published_names
from shared.config import NO_IDENTITY, Strict, beside, build_model, merge, parse_override, read_toml
from shared.dataset_version.names import checked_name
from shared.errors import UsageError, did_you_mean
from shared.prompts import SET_OF_PROFILE, prompt_names, set_folder
from shared.vlm.spec import BUNDLED

_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_STEP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}")
_STAGES = ("source", "assemble", "shards", "publish")
"""What a build does beside its steps: named beside them in reports."""
_FOLDER = Path(__file__).parent / "recipes"
_BENCHMARK = _FOLDER / "benchmark.toml"
"""What the recipes of all benchmarks share; the rest stands in the benchmarks' own files."""
_READERS = ("virl39k", "deepscaler", "benchmark", "table")


@cache
def _steps_model(named: tuple[str, ...] = (), own: tuple[OwnStep, ...] = ()) -> type[Strict]:
    """Model of the table `steps`, with those of the steps `named` that other packages bring, and of those of files."""
    brought = plugin_names(STEPS) if set(named) - set(STEP_ORDER) else ()
    loaded = {name: step_module(name).Settings for name in (*STEP_ORDER, *(name for name in brought if name in named))}
    loaded |= {step.plugin.name: step.Settings for step in own}
    others: dict[str, Any] = {name: (None, None) for name in brought if name not in loaded}
    fields: dict[str, Any] = others | {
        name: (settings | None, Field(default=None, description=f"Settings of {name}; absent: not run."))
        for name, settings in loaded.items()
    }
    return pydantic.create_model("Steps", __base__=Strict, **fields)


class Recipe(RecipeSettings):
    """A resolved recipe under its name and profile."""

    name: str
    profile: Literal["full", "local"]
    chosen: Any
    """Settings by step; None for one that does not run."""
    off: tuple[str, ...] = ()
    """Steps and sources that `steps.NAME = false` switched off: the recipe is the same as one without them."""

    @property
    def limit(self) -> int:
        """Records read of the one source, 0 for all; merged sources have limits of their own."""
        return self.source.limit if self.source is not None else 0

    def steps(self) -> list[tuple[str, Any]]:
        """Return the steps that run with their settings, in order."""
        others = sorted(set(type(self.chosen).model_fields) - set(STEP_ORDER))
        chosen = [(name, getattr(self.chosen, name, None)) for name in (*STEP_ORDER, *others)]
        return [(name, settings) for name, settings in chosen if settings is not None]

    def as_json(self) -> dict[str, Any]:
        """Return the resolved recipe as JSON values."""
        own = self.model_dump(mode="json", exclude={"name", "profile", "chosen", "off"})
        return {"name": self.name, "profile": self.profile, **own, "steps": self.chosen.model_dump(mode="json")}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project, those of the benchmarks among them, sorted."""
    return sorted({*(path.stem for path in _FOLDER.glob("*.toml") if path != _BENCHMARK), *published_names()})


def load_recipe(
    words: str,
    profile: Literal["full", "local"],
    *,
    name: str | None = None,
    source: str | None = None,
    licence: str | None = None,
    limit: int | None = None,
    benchmarks: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Recipe:
    """Resolve a recipe by name or path.

    Args:
        words: `virl39k-captioned`, or the path of a TOML file.
        profile: Which profile's values to take.
        name: `--name`: the dataset's name, else the file's; ids of rows that are read from a place begin with it.
        source: `--source`: overrides `source.location` (its revision then is the folder's content, or the hub's main,
            and the recipe's licence does not hold for it).
        licence: `--license`: overrides `source.licence`.
        limit: `--limit`: overrides `source.limit`.
        benchmarks: `--benchmark NAME=PLACE`, each adds or replaces one.
        overrides: `--set KEY=VALUE`, over everything else.

    Raises:
        UsageError: unknown recipe (with the nearest), unknown key (with the nearest), wrong value.

    """
    file = _recipe_file(words)
    table = _table(file)
    own = table["profile"].get(profile) if isinstance(table.get("profile"), dict) else None
    for where in _tables((table, own)):
        if isinstance(where.get("benchmarks"), str | list):
            table["benchmarks"] = _named(where.pop("benchmarks"), profile, file.name)
    table.setdefault("prompts", SET_OF_PROFILE[profile])
    merged = [one["sources"] for one in _tables((table, own)) if isinstance(one.get("sources"), dict)]
    changes = _command_line(name, source, licence, limit, benchmarks)
    if parts := list(dict.fromkeys(part for one in merged for part in one)):
        changes = _for_parts(changes, parts, file.name)
    for text in overrides:
        change = parse_override(text)
        if isinstance(change.get("benchmarks"), str | list):
            table["benchmarks"] = _named(change.pop("benchmarks"), profile, file.name)
            if isinstance(own, dict):
                own.pop("benchmarks", None)
        changes = merge(changes, change)
    changes = _own_revisions(changes)
    profiles = table.get("profile", {})
    if isinstance(profiles, dict) and isinstance(profiles.get(profile, {}), dict):
        table["profile"] = {**profiles, profile: merge(profiles.get(profile, {}), changes)}
    profiles = table.get("profile")
    tables = [one for one in (table, *_tables(profiles)) if isinstance(one.get("steps"), dict)]
    own = profiles.get(profile) if isinstance(profiles, dict) else None
    off = _switched_off([one["steps"] for one in tables if one in (table, own)], STEP_ORDER)
    off += _switched_off([one["sources"] for one in _tables((table, own)) if isinstance(one.get("sources"), dict)])
    own_steps = _own_steps([one["steps"] for one in tables if one in (table, own)], file.name)
    named = {name for one in tables for name in one["steps"]} - set(STEP_ORDER)
    own_names = {step.plugin.name for step in own_steps}
    _check_names(named - own_names and (named & set(plugin_names(STEPS))), file.name)
    steps = _steps_model(tuple(sorted(named - own_names)), own_steps)
    model = pydantic.create_model("Recipe", __base__=RecipeSettings, steps=(steps, steps()))
    try:
        settings = _settled(build_model(table, model, (), what="recipe", profile=profile, file=file.name))
    except UsageError as error:
        raise _with_hint(error) from None
    _check(settings, file.name)
    told = {field: getattr(settings, field) for field in RecipeSettings.model_fields}
    return Recipe(
        name=checked_name(file.stem if name is None else name), profile=profile, chosen=settings.steps, off=off, **told
    )


def _with_hint(error: UsageError) -> UsageError:
    """The error of a wrong recipe, with what may be meant where a step is no table or is not known."""
    if re.search(r": steps\.[^.]+ = .* a table$", error.message):
        return UsageError(error.message, "Give its settings as steps.NAME.KEY; false switches a step off")
    if not re.search(r"unknown key steps\.[^.]+$", error.message):
        return error
    hint = error.next_step if error.next_step.endswith("?") else f"{error.next_step}."
    return UsageError(error.message, f"{hint} Or install the package that provides it, or name its file: path")


def _tables(values: Any) -> list[dict[str, Any]]:
    """The tables among values of a file that is not checked yet; none where these are no tables or several values."""
    several = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else ()
    return [one for one in several if isinstance(one, dict)]


def _switched_off(tables: Sequence[dict[str, Any]], known: Iterable[str] = ()) -> tuple[str, ...]:
    """Steps or sources of which the last table, the command line's with it, says `false`; taken out of all."""
    there = {*known, *(name for table in tables for name, told in table.items() if isinstance(told, dict))}
    last = {name: told for table in tables for name, told in table.items()}
    off = tuple(name for name, told in last.items() if told is False and (name in there or name in plugin_names(STEPS)))
    for table in tables:
        for name in off:
            table.pop(name, None)
    return off


def _own_steps(tables: Sequence[dict[str, Any]], file: str) -> tuple[OwnStep, ...]:
    """Steps of files that a recipe names by `path`, which is taken out of their settings; the last one counts."""
    paths: dict[str, Any] = {}
    for name, told in chain.from_iterable(table.items() for table in tables):
        if not isinstance(told, dict) or "path" not in told:
            continue
        if name in STEP_ORDER and "path" not in step_module(name).Settings.model_fields:
            raise UsageError(f"recipe {file}: step {name} is one of ours, and has no path", "Give yours another name")
        if name not in {*STEP_ORDER, *plugin_names(STEPS)}:
            paths[name] = told.pop("path")
    _check_names(paths, file)
    return tuple(own_step(name, str(path), f"recipe {file}: step {name}:") for name, path in sorted(paths.items()))


def _check_names(names: Iterable[str], file: str) -> None:
    """Refuse names of others' steps that mean something else here, or cannot be a folder of the store."""
    for name in names:
        if not _STEP_NAME.fullmatch(name) or hasattr(Strict, name) or name in _STAGES:
            message = f"recipe {file}: {name!r} cannot name a step"
            raise UsageError(message, f"Use letters, digits, _ and -, e.g. count_words; {', '.join(_STAGES)} are taken")


_PLACES = frozenset({"location", "links", "model", "prompt", "reference", "prompts", "path"})
"""Keys whose values may be files or folders."""


def _is_place(key: str, value: str) -> bool:
    return key in _PLACES and value not in {"mini", BUNDLED}


def _recipe_file(words: str) -> Path:
    place = Path(words).expanduser()
    if words not in recipe_names() and (place.is_dir() or (kind_of(words) and place.is_file())):
        how = f"A recipe for it is written by data-engine inspect {words} --recipe my-rows.toml"
        raise UsageError(f"{words} is no recipe: recipes are .toml files that name the rows", how)
    if words.endswith(".toml") or "/" in words:
        path = Path(words).expanduser()
        if not path.is_file():
            raise UsageError(f"recipe file {words} does not exist", f"Recipes by name: {', '.join(recipe_names())}")
        return path
    if words not in recipe_names():
        raise UsageError(f"unknown recipe {words!r}", did_you_mean(words, recipe_names()))
    return _FOLDER / f"{words}.toml"


def _table(file: Path) -> dict[str, Any]:
    """What a recipe says."""
    if file.parent == _FOLDER and file.stem in published_names():
        told = benchmark(file.stem).published.model_dump(exclude={"splits"})
        own = {"description": told.pop("description"), "source": {"benchmark": file.stem, **told}}
        return merge(read_toml(_BENCHMARK), own)
    return beside(read_toml(file), file.parent, _is_place) if file.parent != _FOLDER else read_toml(file)


def _named(named: str | list[Any], profile: str, file: str) -> dict[str, Any]:
    """What the benchmarks that a recipe names say of themselves."""
    known = [name for name in published_names() if profile == "full" or name in minis()]
    names = known if named == "all" else [named] if isinstance(named, str) else named
    for name in names:
        if name not in known:
            raise UsageError(f"recipe {file}: no benchmark {name!r}", did_you_mean(str(name), known))
    places = {name: benchmark(name).published.model_dump(include={"location", "revision", "files"}) for name in names}
    drawn = {name: place | {"location": "mini"} for name, place in places.items()}
    return drawn if profile == "local" else places


def _command_line(
    name: str | None, source: str | None, licence: str | None, limit: int | None, benchmarks: Sequence[str]
) -> dict[str, Any]:
    given: dict[str, Any] = {"name": name, "licence": licence, "limit": limit}
    if source is not None:
        given |= {"location": source, "revision": "main"}
    changes: dict[str, Any] = {"source": {key: value for key, value in given.items() if value is not None}}
    for text in benchmarks:
        name, equals, place = text.partition("=")
        if not equals or not name or not place:
            raise UsageError(f"--benchmark {text!r} is not NAME=PLACE", "Write for example --benchmark math500=FILE")
        changes = merge(changes, {"benchmarks": {name: {"location": place, "revision": "main"}}})
    return changes


def _for_parts(changes: dict[str, Any], parts: Sequence[str], file: str) -> dict[str, Any]:
    """Options of the command line for merged sources: a limit holds for each; a place or licence must say for which."""
    told = changes.pop("source")
    for key in ("location", "licence"):
        if told.get(key):
            option = "--source" if key == "location" else "--license"
            message = f"recipe {file} merges {', '.join(parts)}: {option} does not say which is meant"
            raise UsageError(message, f"Write --set sources.{parts[0]}.{key}=...")
    if "limit" in told:
        changes = merge(changes, {"sources": {name: {"limit": told["limit"]} for name in parts}})
    return changes


def _own_revisions(changes: dict[str, Any]) -> dict[str, Any]:
    """Give whatever names another place or model the main revision and, a source, no licence: the recipe's are not its.

    Args:
        changes: Overrides as a table.

    """
    own = {key: _own_revisions(value) if isinstance(value, dict) else value for key, value in changes.items()}
    if isinstance(own.get("location") or own.get("model"), str):
        own.setdefault("revision", "main")
    for one in (own.get("source"), *(own["sources"].values() if isinstance(own.get("sources"), dict) else ())):
        if isinstance(one, dict) and isinstance(one.get("location"), str):
            one.setdefault("licence", "")
    return own


def _settled(settings: Any) -> Any:
    """Settings whose models in folders have no revision of the hub left."""
    from shared.vlm.checkpoint import without_hub_revision

    steps = {
        name: step.model_copy(update={"engine": without_hub_revision(step.engine)})
        for name, step in settings.steps
        if getattr(step, "engine", None) is not None
    }
    return settings.model_copy(update={"steps": settings.steps.model_copy(update=steps)})


def _check(settings: Any, file: str) -> None:
    set_folder(settings.prompts)
    if settings.source is not None and settings.sources:
        message = f"recipe {file} has both [source] and [sources.NAME]"
        raise UsageError(message, "Name one source, or several as [sources.NAME]")
    if settings.source is None and not settings.sources:
        raise UsageError(f"recipe {file} has no source", "Name one as [source], or leave one of [sources.NAME] on")
    for name in settings.sources:
        try:
            checked_name(name)
        except UsageError as error:
            raise UsageError(f"recipe {file}: {name!r} cannot name a source", error.next_step) from None
    sources = [settings.source] if settings.source is not None else settings.sources.values()
    for fault, next_step in chain(_of_splits(settings.splits), *map(_of_source, sources), _of_steps(settings)):
        raise UsageError(f"recipe {file}: {fault}", next_step)


def _of_splits(splits: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Faults of the table of splits, each with the next step."""
    for name, share in splits.items():
        if not _SPLIT_NAME.fullmatch(name) or name == "all":
            yield f"{name!r} cannot name a split", "Use letters, digits and _, e.g. train"
        if not share > 0:  # nan is refused, too
            yield f"splits.{name} is {share}", "Give it a share above 0, or leave it out"
    if splits and abs(sum(splits.values()) - 1) > 1e-6:
        yield f"the splits add up to {sum(splits.values()):g}", "Let them add up to 1"


def _of_source(source: SourceSettings) -> Iterator[tuple[str, str]]:
    """Faults of a source: a reader that nobody brings, what only another one takes, what is not drawn."""
    reader, mini = source.reader, source.location == "mini"
    if reader not in _READERS:
        known = plugin_names(READERS)
        if reader not in known:
            yield f"no reader {reader!r}", did_you_mean(reader, (*_READERS, *known))
        if mini:
            yield f"no mini set stands for reader {reader}", "Name a place"
    elif source.options:
        yield f"reader {reader} takes no source.options", "Leave them out"
    if reader == "benchmark" and not source.benchmark:
        yield "reader benchmark needs source.benchmark", f"Known: {', '.join(published_names())}"
    if reader in _READERS[:3] and any(not isinstance(column, str) for column in source.columns.values()):
        yield f"reader {reader} takes one column a role", 'Take reader = "table"'
    if mini and reader == "table":
        yield "mini is drawn, not read as a table", "Name a folder, a file, a URL or a hub id"
    if mini and reader == "benchmark" and source.benchmark not in minis():
        yield f"no mini set stands for {source.benchmark}", "Name a file with --source"


def _of_steps(settings: Any) -> Iterator[tuple[str, str]]:
    """Faults of steps that need a benchmark, another step or a prompt."""
    steps = settings.steps
    for name, told in settings.benchmarks.items():
        if told.location == "mini" and name not in minis():
            yield f"no mini set stands for {name!r}", did_you_mean(name, minis())
    for name in ("decontaminate_ngrams", "decontaminate_embeddings"):
        if getattr(steps, name) and not settings.benchmarks:
            yield f"{name} has no benchmark to compare with", "Add [benchmarks.NAME]"
    if steps.caption_images and not steps.type_images:
        yield "caption_images needs the types", "Add [steps.type_images]"
    if steps.caption_leaks and not steps.caption_images:
        yield "caption_leaks needs captions", "Add [steps.caption_images]"
    for name in steps.caption_leaks.more_prompts if steps.caption_leaks else ():
        if name not in prompt_names(settings.prompts):
            fault = f"caption_leaks re-asks with {name}, which the prompt set {settings.prompts} lacks"
            yield fault, "Choose another action, or a prompt set with that file"


def without_places(value: Any) -> Any:
    """Turn settings into JSON values in which no place and no hardware is left: models become their identity."""
    from shared.vlm.checkpoint import engine_identity
    from shared.vlm.spec import EngineSpec

    if isinstance(value, EngineSpec):
        return engine_identity(value)
    if isinstance(value, pydantic.BaseModel):
        fields = type(value).model_fields.items()
        counted = [name for name, field in fields if field.json_schema_extra != NO_IDENTITY]
        return {name: without_places(getattr(value, name)) for name in counted}
    if isinstance(value, Mapping):
        return {str(key): without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, Path):
        return value.name
    return value
