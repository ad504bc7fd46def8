"""`data-engine inspect`: what a folder, file, URL or hub id would give, and a recipe to start from.

Input: a place, or a recipe with reader `table`. Output: the JSON of `inspect`: rows, columns by role, answers by kind,
pictures found, refused records by reason, examples, and what was guessed. Nothing is built and nothing is written but
the recipe that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UsageError
from shared.number_text import counts_text
from shared.whole_file import write_whole

if TYPE_CHECKING:
    from data_engine.screening import Census
    from data_engine.sources.base import SourceRow
    from data_engine.sources.table import Table

_SHOWN = 300


def inspect_place(
    words: str, *, overrides: Sequence[str] = (), limit: int = 0, recipe: str | None = None
) -> dict[str, Any]:
    """Look at a place; see the module.

    Args:
        words: Folder, file, URL or hub id; or the path of a recipe with reader `table`.
        overrides: `KEY=VALUE` as for `[source]`: `columns.answer=solution`, `split=test`, `config=geometry`.
        limit: Records looked at; 0 for all.
        recipe: Where to write a recipe that builds what was seen; None for nowhere.

    Raises:
        UsageError: a wrong key or value, a recipe of another reader.
        InfiMmrError: nothing readable there; the recipe cannot be written.

    """
    from data_engine.screening import MOST_DECODED, take_census
    from data_engine.sources.table import GUESSED, opened_table

    settings = _settings(words, overrides)
    if recipe is not None:
        _check_recipe(Path(recipe))
    own = settings.pop("limit", 0)
    limit = limit or own
    table = opened_table("inspect", **settings)
    census = take_census(table, limit)
    told = [note for note in table.notes if not note.startswith(GUESSED)]  # the columns are shown by themselves
    told += [f"{count} rows: {note}" for note, count in sorted(census.notes.items())]
    if census.images > MOST_DECODED:
        told.append(f"{census.decoded} images were decoded; a build decodes all")
    if census.estimated:
        points = 98 / census.drawn**0.5  # 1.96 standard deviations of a share of one half
        said = f"the proportion of {census.drawn} others, read evenly over the file"
        told.append(f"answer kinds of {census.estimated} rows are told by {said}: within {points:.0f} points")
    text = recipe_text(settings, table, census)
    if recipe is not None:
        write_whole(Path(recipe), text)
    return {
        "location": table.location,
        "files": list(table.files()),
        "records": census.records,
        "rows": census.rows,
        "columns": {role: ",".join(names) for role, names in table.columns.items()},
        "answer_kinds": dict(census.answer_kinds.most_common()),
        "images": census.images,
        "refused": dict(census.refused.most_common()),
        "told": told,
        "examples": [_example(row) for row in census.examples],
        "refused_examples": {
            reason: [{"source_id": row.source_id, "detail": row.detail[:_SHOWN]} for row in rows]
            for reason, rows in census.refusals.items()
        },
        "recipe": recipe if recipe is not None else text,
    }


def _settings(words: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Settings of `[source]`. A bare place needs no check of a recipe, whose imports take longer than many files."""
    values: dict[str, Any] = {"location": _absolute(words)}
    if not overrides and not words.endswith(".toml"):
        return values
    from data_engine.recipe import load_recipe
    from data_engine.recipe_settings import TABLE_SETTINGS, SourceSettings
    from shared.config import build_model, merge, parse_override

    changes: dict[str, Any] = {}
    for text in overrides:
        changes = merge(changes, parse_override(text.removeprefix("source.")))
    if words.endswith(".toml"):
        given = load_recipe(words, "local").source
        if given is None:
            raise UsageError(f"{words} merges several sources", "Look at the place of one of them")
        if given.reader != "table":
            raise UsageError(
                f"{words}: inspect looks at reader table, this is {given.reader}", "Name its folder instead"
            )
        values = given.model_dump(exclude_defaults=True)
    checked = build_model(merge(values | {"reader": "table"}, changes), SourceSettings, (), what="--set", file="")
    return {name: getattr(checked, name) for name in (*TABLE_SETTINGS, "limit")}


def _absolute(words: str) -> str:
    """A place of this machine as a path that holds from everywhere; other words as they are."""
    path = Path(words).expanduser()
    return str(path.resolve()) if path.exists() else words


def _example(row: SourceRow) -> dict[str, Any]:
    return {
        "source_id": row.source_id,
        "question": row.question[:_SHOWN],
        "answer": row.answer[:_SHOWN],
        "choices": list(row.choices),
        "images": [image.name or "bytes" for image in row.images],
        "category": row.category,
    }


def recipe_text(settings: Mapping[str, Any], table: Table, census: Census) -> str:
    """A complete recipe of the source: it builds as it is, and every guess stands in it to be overridden."""
    lines = [
        f"[source]  # {census.rows} of {census.records} records become rows. Next: data-engine build THIS_FILE",
        'reader = "table"',
        f"location = {_toml(settings['location'])}",
    ]
    if settings.get("revision", "main") != "main":
        lines.append(f"revision = {_toml(settings['revision'])}")
    lines += [f"links = {_toml(_absolute(settings['links']))}"] if settings.get("links") else []
    lines += [f"{key} = {_toml(settings[key])}" for key in ("config", "split", "pictures") if settings.get(key)]
    lines += [f"files = {_toml(list(settings['files']))}"] if settings.get("files") else []
    if "choices" in table.columns and table.form != "text":
        lines.append(f"answers = {_toml(table.form)}")
    lines.append("[source.columns]")
    for role, names in table.columns.items():
        lines.append(f"{role} = {_toml(names[0] if len(names) == 1 else list(names))}")
    # A role that was switched off stays off.
    lines += [f'{role} = ""' for role, names in settings.get("columns", {}).items() if not any(names)]
    lines += ["[steps.verify_answers]", "[steps.dedup_minhash]"]
    # Comments stand behind what they are about: recipes stay under 15 lines with a column for every role.
    more = 'benchmarks = "all" at the top and [steps.decontaminate_ngrams] here leave out what a benchmark asks'
    return "\n".join(lines) + f"  # {more}\n"


def _toml(value: str | Sequence[str]) -> str:
    """A string or a list of strings as TOML writes it: its basic strings are JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_recipe(path: Path) -> None:
    if path.suffix != ".toml":
        raise UsageError(f"--recipe {path} is not a TOML file", f"Name for example {path.stem or 'mine'}.toml")
    if path.exists():
        raise UsageError(f"{path} already exists", "Name another file, or remove it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder of {path} does not exist", "Make it, or name another file")


def say_inspection(found: Mapping[str, Any]) -> None:
    """Say it to people, on stderr."""
    from shared.command import say

    files = found["files"]
    named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    say(
        f"{found['location']} ({named}): {found['rows']} of {found['records']} records become rows, "
        f"{found['images']} images"
    )
    for role, column in found["columns"].items():
        say(f"  {role:<12}{column}")
    say(f"  answers     {counts_text(found['answer_kinds']) or 'none'}")
    for reason, count in found["refused"].items():
        first = found["refused_examples"].get(reason, [{}])[0]
        shown = f"  e.g. {first['source_id']}: {first['detail']}" if first else ""
        say(f"  refused     {count} {reason}{shown}"[:_SHOWN])
    for note in found["told"]:
        say(f"  note: {note}")
    for example in found["examples"]:
        pictures = f" [{', '.join(example['images'])}]" if example["images"] else ""
        say(f"  {example['source_id']}: {' '.join(example['question'].split())[:140]} -> {example['answer']}{pictures}")
    if "\n" in found["recipe"]:
        say(f"\n{found['recipe']}\n(--recipe FILE.toml writes it)")
    else:
        say(f"wrote {found['recipe']}: data-engine build {found['recipe']}")
