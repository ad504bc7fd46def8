"""Opening what a recipe names: the source of rows and the benchmarks to compare with.

Input: a resolved recipe. Output: `Source` objects with fingerprints, nothing read beyond what identifies them; then, on
demand, benchmark items as rows. `identity` is the recipe as it goes into manifests and keys: names, revisions,
contents, and no path of this machine.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.plugins import READERS, load_plugin, plugin_source
from data_engine.recipe import Recipe, without_places
from data_engine.recipe_settings import TABLE_ONLY, TABLE_SETTINGS, THRESHOLD_OF, BenchmarkSettings, SourceSettings
from data_engine.sources import benchmarks as benchmark_reader
from data_engine.sources import deepscaler as deepscaler_reader
from data_engine.sources import virl39k as virl39k_reader
from data_engine.sources.base import Source
from data_engine.sources.merged import Merged, Part, parts_of
from data_engine.sources.mini import Mini, MiniSettings
from data_engine.sources.places import find_place
from data_engine.stage_code import KEYED_ELSEWHERE, ROOT
from data_engine.step_order import step_code
from shared.dataset_version.names import checked_name
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash, file_hash, fingerprint
from shared.item_source import declared_reader, reader_of_file
from shared.language import LANGUAGES
from shared.number_text import counts_text

if TYPE_CHECKING:
    from data_engine.intake.image_places import ImagePlaces
    from data_engine.intake.ingest import Ingested
    from data_engine.sources.table import Table
    from data_engine.step import BenchmarkItems
    from shared.progress import Progress
    from shared.store import Store

_OURS = {"virl39k": virl39k_reader, "deepscaler": deepscaler_reader, "benchmark": benchmark_reader}
_PROMPTS = ("prompt", "prompts", "system_prompt", "question_prompt")
"""Settings that name prompt files: their texts count, not their names."""


@dataclass(frozen=True)
class Inputs:
    """Opened source and benchmarks of one build."""

    recipe: Recipe
    source: Source
    benchmarks: Mapping[str, Source]

    def identity(self) -> dict[str, Any]:
        """Return the resolved recipe without places: what `manifest.recipe` and the build key hold."""
        resolved: dict[str, Any] = {
            "name": self.recipe.name,
            "profile": self.recipe.profile,
            "description": self.recipe.description,
            **self._sources(),
            "benchmarks": {
                name: _named(without_places(self.recipe.benchmarks[name]), source)
                for name, source in self.benchmarks.items()
            },
            "steps": {
                name: step_identity(settings, self.recipe.prompts) | step_code(name, settings)
                for name, settings in self.recipe.steps()
            },
            "assemble": self._thresholds(),
            "shards": without_places(self.recipe.shards),
        }
        # What few recipes have is no part of the others' identity.
        return resolved | ({"splits": self.recipe.splits} if self.recipe.splits else {})

    def _thresholds(self) -> dict[str, Any]:
        have = {None, *(name for name, _ in self.recipe.steps())}
        told = without_places(self.recipe.assemble)
        return {name: value for name, value in told.items() if THRESHOLD_OF.get(name) in have}

    def _sources(self) -> dict[str, Any]:
        if self.recipe.source is not None:
            return {"source": _named(without_places(self.recipe.source), self.source)}
        opened = parts_of(self.source)
        return {
            "sources": {name: _named(without_places(told), opened[name]) for name, told in self.recipe.sources.items()}
        }

    def build_key(self) -> str:
        """Return the hash of everything that decides the shards, known before anything is computed."""
        import pyarrow as pa

        return fingerprint(
            {
                "code": code_hash(),
                "parquet_writer": pa.__version__,
                "recipe": self.identity(),
                "source": self.source.fingerprint(),
                "benchmarks": {name: source.fingerprint() for name, source in self.benchmarks.items()},
            }
        )


@functools.cache
def code_hash(root: Path = ROOT) -> str:
    """Return the hash over the code that decides what a build writes: the data engine's, and most of shared.

    It stands in the build key only, not in a version's fingerprint: after a change of code a build runs again (on
    stored annotations), and where it writes the same bytes it finds the same version.
    """
    files = [*(root / "data_engine").rglob("*.py"), *(root / "shared").rglob("*.py")]
    files += (root / "shared" / "benchmarks").glob("*.toml")  # their splits decide which items are compared
    elsewhere = {root / place for place in KEYED_ELSEWHERE}
    files = [file for file in files if elsewhere.isdisjoint(file.parents)]
    return fingerprint([[str(file.relative_to(root)), bytes_hash(file.read_bytes())] for file in sorted(files)])


def step_identity(settings: Any, prompts: str) -> dict[str, Any]:
    """Return what decides a step's findings beside rows and code: settings, prompt texts, models by content."""
    from shared.prompts import load_prompt
    from shared.schema import IMAGE_TYPES

    values: dict[str, Any] = {key: value for key, value in without_places(settings).items() if key not in _PROMPTS}
    named = {kind: settings.prompt_of(kind) for kind in IMAGE_TYPES} if hasattr(settings, "prompt_of") else {}
    named |= {name: name for name in getattr(settings, "more_prompts", ())}
    if named:
        files = [(kind, load_prompt(name, prompts)) for kind, name in named.items()]
        for kind, default in list(files):  # the prompt in another language, where the set has one
            others = [load_prompt(named[kind], prompts, language) for language in LANGUAGES]
            files += [(other.name, other) for other in others if other != default]
        values["prompts"] = {name: file.sha256 for name, file in files}
    elif hasattr(settings, "prompt"):
        values["prompt"] = load_prompt(settings.prompt, prompts).sha256
    if "reference" in values:  # a file whose content counts
        path = values["reference"]
        try:
            values["reference"] = file_hash(path) if path else None
        except OSError as error:
            raise InfiMmrError(f"{path} cannot be read ({error.strerror})", "Name a file that exists") from error
    return values


def _named(values: dict[str, Any], source: Source) -> dict[str, Any]:
    out = {**values, "location": source.location, "revision": source.revision}
    if values.get("reader") not in {None, "table", *_OURS}:
        out["plugin"] = load_plugin(READERS, values["reader"]).identity()
    for key in ("name", "columns", "options"):  # what most recipes leave empty is no part of their identity
        if not out.get(key) or source.location == "mini":
            out.pop(key, None)
    if values.get("reader") != "table":
        out = {key: value for key, value in out.items() if key not in TABLE_ONLY}
    if source.location != "mini":
        out.pop("mini", None)
        out.pop("rows", None)
    return out


def open_inputs(recipe: Recipe) -> Inputs:
    """Open the source and the benchmarks of a recipe; hub files are fetched, folder files hashed (see `file_hashes`).

    Raises:
        InfiMmrError: a place that does not exist, cannot be reached, or holds nothing that fits.

    """
    return Inputs(
        recipe,
        open_sources(recipe),
        {name: _open_benchmark(recipe.name, name, settings) for name, settings in recipe.benchmarks.items()},
    )


def open_sources(recipe: Recipe) -> Source:
    """Open the source of a recipe, or those that it merges (see `open_inputs`)."""
    if recipe.source is not None:
        return _open_source(recipe.source, f"recipe {recipe.name}, source")
    return Merged({
        name: Part(_open_source(told, f"recipe {recipe.name}, source {name}"), told.limit, told.weight)
        for name, told in recipe.sources.items()
    })  # fmt: skip


def _open_source(settings: SourceSettings, what: str) -> Source:
    if settings.location == "mini" and "trace" in settings.columns:
        return Mini("deepscaler", settings.mini, traces=True)
    if settings.location == "mini":
        return Mini(settings.benchmark or settings.reader, settings.mini)
    if settings.reader == "table":
        table = open_table(settings, what)
        table.name = checked_name(settings.name) if settings.name else table.name
        return table
    if settings.reader not in _OURS:
        opened: Source = plugin_source(settings.reader, settings, what)
        checked_name(opened.name)
        return opened
    columns = {role: str(column) for role, column in settings.columns.items()}
    reader: Any = _OURS[settings.reader]
    patterns = settings.files or reader.HUB_PATTERNS
    place = find_place(settings.location, settings.revision, patterns, what=what, links=settings.links)
    if settings.reader == "benchmark":
        return benchmark_reader.Benchmark(settings.benchmark, place, settings.licence)
    kind = virl39k_reader.Virl39k if settings.reader == "virl39k" else deepscaler_reader.DeepScaler
    source = kind(place, settings.licence, columns)
    source.name = checked_name(settings.name) if settings.name else source.name
    return source


def open_table(settings: SourceSettings, what: str) -> Table:
    """Open the generic source of a recipe (see `data_engine.sources.table.opened_table`)."""
    from data_engine.sources.table import opened_table

    return opened_table(what, **{name: getattr(settings, name) for name in TABLE_SETTINGS})


def _open_benchmark(recipe: str, name: str, settings: BenchmarkSettings) -> Source:
    if settings.location == "mini":
        return Mini(name, MiniSettings(rows=settings.rows, duplicates=0, copies=0, renumbered=0))
    what, location, own = f"recipe {recipe}, benchmark {name}", settings.location, None
    if location.endswith(".toml"):  # a task file: the items are where it says
        own = reader_of_file(Path(location).expanduser())
        location = own.place() or ""
        if not location:
            message = f"{what}: the task file {Path(settings.location).name} says no place of its items"
            raise InfiMmrError(message, "Write location under its [source]")
    pictures = (own or declared_reader(name)).told.pictures.strip("/")
    patterns = settings.files or (*benchmark_reader.HUB_PATTERNS, *([f"{pictures}/**"] if pictures else []))
    place = find_place(location, settings.revision, patterns, what=what)
    return benchmark_reader.Benchmark(name, place, reader=own, compared=True)


def read_benchmarks(
    inputs: Inputs, places: ImagePlaces, store: Store, progress: Progress
) -> tuple[list[BenchmarkItems], dict[str, Ingested]]:
    """Read the items of every benchmark; their pictures join `places`. Items that guard nothing are told of.

    Raises:
        InfiMmrError: a benchmark of which no item can be compared with.

    """
    from data_engine.intake.ingest import ingest
    from data_engine.step import BenchmarkItems

    items, read = [], {}
    for name, source in inputs.benchmarks.items():
        task = progress.task(f"benchmark {name}", source.count(), unit="records")
        found = ingest(source, places, store, check_conflicts=False, task=task)
        task.done()
        # An item that the file repeats is compared with once.
        refused = Counter(rule for rule in found.rejections["rule"] if rule != "duplicate_id")
        if not found.rows.height:
            raise benchmark_reader.none_comparable(name, refused)
        if refused:
            count = f"{refused.total()} of {found.records} items"
            found.warnings.append(f"benchmark {name}: {count} guard nothing ({counts_text(refused)})")
        read[name] = found
        items.append(BenchmarkItems(name, source.location, source.revision, found.rows.drop("image_names"), places))
    return items, read
