"""Commands that look at versions and carry them: list, show, diff, verify, tag, gc, push, pull, export, preview.

`register` adds them to the command `data-engine`. People read tables on stderr; `--json` prints one JSON object on
stdout, except `show --ledger --json`, which prints one JSON line per row. Nothing heavy is imported before the
arguments are parsed.
"""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from shared.command import JsonOption, StoreOption, as_command, run_command, say
from shared.errors import InfiMmrError
from shared.store import Store

Reference = Annotated[str, typer.Argument(metavar="NAME[@V]", help="Dataset, NAME@v3 or NAME@TAG; without @: latest.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="The other store: a folder, s3://, gs:// and so on.")]
AnnotationsOption = Annotated[bool, typer.Option("--annotations", help="Copy what models said about the rows, too.")]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="Send whole shards, even where most bytes are already there.")
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Read each shard that is already there; replace damaged ones.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in _COMMANDS:
        app.command(command.__name__.removesuffix("_command"))(command)


@as_command()
def list_command(store: StoreOption = None) -> dict[str, Any]:
    """List the versions in a store."""
    from data_engine.sharing import output
    from data_engine.sharing.catalogue import list_versions

    opened = _store(store)
    entries = list_versions(opened)
    output.say_list(opened.url, entries)
    return {"store": opened.url, "versions": entries}


def show_command(
    dataset: Reference,
    ledger: Annotated[bool, typer.Option("--ledger", help="Print the removed and near-missed rows.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show a version, or its ledger. Counts, sources, models, decontamination."""

    def work() -> dict[str, Any]:
        from data_engine.sharing import output
        from data_engine.sharing.catalogue import describe
        from shared.dataset_version import open_dataset

        if ledger and json:
            # One line per row as it comes, not one object; only a failure is one.
            try:
                output.print_lines(open_dataset(dataset, _store(store)).ledger().iter_rows(named=True))
            except InfiMmrError as error:
                typer.echo(json_module.dumps({"error": error.message, "next": error.next_step}))
                raise
            return {}
        version = open_dataset(dataset, _store(store))
        if ledger:
            output.say_ledger(version.label, version.ledger().iter_rows(named=True))
            return {}
        found = describe(version)
        output.say_version(found)
        return found

    run_command(work, as_json=json and not ledger)


@as_command()
def diff_command(
    a: Annotated[str, typer.Argument(metavar="A", help="The older version.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The newer version.")],
    samples: Annotated[int, typer.Option("--samples", min=0, help="Rows to show of each kind.")] = 5,
    store: StoreOption = None,
) -> dict[str, Any]:
    """Show what changed between two versions. Rows, by which step and rule, in which columns, configuration."""
    from data_engine.sharing import output
    from data_engine.sharing.diff import compare
    from shared.dataset_version import open_dataset

    opened = _store(store)
    found = compare(open_dataset(a, opened), open_dataset(b, opened), samples=samples)
    output.say_diff(found)
    return found


def verify_command(
    dataset: Reference,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Decode every image as well.")] = True,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Check every byte of a version. Exit code 1 and the name of the damaged shard if something is wrong."""
    sound = True

    def work() -> dict[str, Any]:
        nonlocal sound
        from data_engine.sharing import output
        from shared.dataset_version import open_dataset
        from shared.progress import open_progress

        with open_progress("verify", as_json=json) as progress:
            report = open_dataset(dataset, _store(store)).verify(images=images, progress=progress)
        sound = report.ok
        output.say_report(report)
        return report.as_json()

    run_command(work, as_json=json)
    if not sound:
        raise typer.Exit(1)


@as_command()
def tag_command(
    dataset: Reference,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="For instance prod.")],
    delete: Annotated[bool, typer.Option("--delete", help="Remove the tag.")] = False,
    store: StoreOption = None,
) -> dict[str, Any]:
    """Point a tag at a version. `latest` is the highest number unless you set it."""
    from data_engine.sharing import catalogue

    done = (catalogue.untag if delete else catalogue.tag)(dataset, tag, _store(store))
    now, before = done["version"] or "nothing", done["before"] or "nothing"
    say(f"{done['dataset']}@{tag} is {now} (was {before})")
    return done


@as_command()
def gc_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, remove nothing.")] = False,
    minimum_age: Annotated[
        float, typer.Option("--min-age", min=0, help="Seconds that an unreferenced file of unknown origin stays.")
    ] = 3600.0,
    store: StoreOption = None,
) -> dict[str, Any]:
    """Remove what no version reaches; never what is being written."""
    from data_engine.sharing import output
    from data_engine.sharing.gc import collect

    done = collect(_store(store), dry_run=dry_run, minimum_age=minimum_age)
    output.say_collected(done)
    return done


@as_command()
def push_command(
    dataset: Reference,
    url: Url,
    *,
    annotations: AnnotationsOption = False,
    whole: WholeOption = False,
    check: CheckOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> dict[str, Any]:
    """Copy a version to another store. Run it again to continue after an interruption."""
    return _transfer(dataset, url, push=True, annotations=annotations, whole=whole, check=check, store=store, json=json)


@as_command()
def pull_command(
    dataset: Reference,
    url: Url,
    *,
    annotations: AnnotationsOption = False,
    check: CheckOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> dict[str, Any]:
    """Copy a version here from another store. Run it again to continue after an interruption."""
    return _transfer(dataset, url, push=False, annotations=annotations, check=check, store=store, json=json)


@as_command()
def export_command(
    dataset: Reference,
    to: Annotated[str, typer.Option("--to", metavar="DIR_OR_HUB_ID", help="A new folder, or owner/name on the Hub.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="On the Hub: take a repository over, whatever it holds.")
    ] = False,
    store: StoreOption = None,
) -> dict[str, Any]:
    """Write a folder that `datasets` opens, or upload it to the Hub."""
    from data_engine.sharing.export import export
    from shared.dataset_version import open_dataset

    done = export(open_dataset(dataset, _store(store)), to, replace=replace)
    say(f"{done['dataset']}@{done['version']}: {len(done['files'])} files in {done['to']}")
    return done


@as_command()
def preview_command(
    dataset: Reference,
    to: Annotated[str | None, typer.Option("--to", metavar="FILE.html", help="Else NAME-vN.html here.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="Rows to show, sampled evenly.")] = 200,
    store: StoreOption = None,
) -> dict[str, Any]:
    """Write one self-contained HTML page about a version."""
    from data_engine.sharing.preview import write_preview
    from shared.dataset_version import open_dataset

    version = open_dataset(dataset, _store(store))
    done = write_preview(version, to or f"{version.name}-{version.version}.html", rows=rows)
    say(f"{version.label}: {done['path']}")
    return done


def _transfer(
    dataset: str,
    url: str,
    *,
    push: bool,
    annotations: bool,
    check: bool,
    store: str | None,
    json: bool,
    whole: bool = False,
) -> dict[str, Any]:
    from data_engine.sharing import output
    from data_engine.sharing.catalogue import transfer
    from shared.progress import open_progress
    from shared.store import open_store

    here, there = _store(store), open_store(url)
    source, target = (here, there) if push else (there, here)
    with open_progress("push" if push else "pull", as_json=json) as progress:
        done = transfer(dataset, source, target, annotations=annotations, whole=whole, check=check, progress=progress)
    output.say_transfer(done)
    return done


def _store(option: str | None) -> Store:
    from shared.store import default_store_url, open_store

    return open_store(default_store_url(option))


_COMMANDS = (
    list_command, show_command, diff_command, verify_command, tag_command, gc_command, push_command, pull_command,
    export_command, preview_command,
)  # fmt: skip
