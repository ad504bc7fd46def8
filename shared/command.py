"""The frame of every command of both programs: run, print one JSON object where asked, turn failures into exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. People's output goes to stderr.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from shared.errors import InfiMmrError, system_error

Document = dict[str, Any] | list[dict[str, Any]]
"""What a command says with `--json`."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="Folder, s3://, gs://; else $INFI_MMR_STORE, ./store.")
]
INTERRUPTED = 130
"""The shell's own code for a program ended by Ctrl-C: 128 + SIGINT."""


def say(text: str) -> None:
    """Tell people; stdout belongs to results."""
    sys.stderr.write(f"{text}\n")


def run_command(work: Callable[[], Document], *, as_json: bool, resume: str = "the same command") -> None:
    """Do a command's work. With JSON, its document is all that stdout gets: what libraries print goes to stderr.

    `resume` says what continues an interrupted command.

    Raises:
        SystemExit: the work failed or was interrupted; the one line about it is on stderr by then.
    """
    code = 0
    document: Document
    with _stdout_kept() if as_json else nullcontext():
        try:
            document = work()
        except (InfiMmrError, OSError, ModuleNotFoundError) as error:
            told = _told(error, resume)
            if told is None:
                raise
            sys.stderr.write(f"error: {told}\n")
            document, code = {"error": told.message, "next": told.next_step}, told.exit_code
        except KeyboardInterrupt:
            sys.stderr.write(f"interrupted; {resume} continues where it was\n")
            document, code = {"error": "interrupted", "next": f"{resume} continues where it was"}, INTERRUPTED
    if as_json:
        code = _print(json.dumps(document, ensure_ascii=False) + "\n", code)
    if code:
        raise SystemExit(code)


def _print(text: str, code: int) -> int:
    """Write to stdout; the exit code, which is 1 where nobody took the text, though the work may be done."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stderr.write(f"error: stdout took no answer ({error.strerror}). Send it elsewhere, then run it again\n")
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # Python writes the rest again when it ends
        return code or 1
    return code


def _told(error: InfiMmrError | OSError | ModuleNotFoundError, resume: str) -> InfiMmrError | None:
    """Return the one line for a failure that people can do something about; None for a defect."""
    if isinstance(error, InfiMmrError):
        return error
    if isinstance(error, FileNotFoundError) and _folder_gone():
        return InfiMmrError("the working folder is not there any more", "Change to one that is, then run it again")
    if isinstance(error, OSError):
        return system_error(error, resume)
    from shared.installation import missing_part

    return missing_part(error)


def _folder_gone() -> bool:
    """Whether the folder that the command was started in was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def open_program(name: str, about: str) -> typer.Typer:
    """Return a program without commands yet; `--version` says the installed version."""
    app = typer.Typer(
        name=name,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        del version

    return app


def run_program(app: typer.Typer, words: Sequence[str]) -> None:
    """Run a program on the words of a command line; with `--json` wrong usage is told as JSON, too.

    Raises:
        SystemExit: as the command says; 2 for wrong usage.
    """
    if "--json" not in words:
        app(list(words))
        return
    try:
        code = app(list(words), standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # whichever click typer carries
            raise
        error.show()  # type: ignore[attr-defined]
        told = {"error": error.format_message(), "next": "--help lists what the command takes"}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        raise SystemExit(2) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def as_command(
    *, resume: str = "the same command", json: bool = True
) -> Callable[[Callable[..., Document]], Callable[..., None]]:
    """Turn a function that returns its document into a command (see `run_command`).

    Each parameter whose type is a dataclass becomes options, one per field: commands that take the same options declare
    them once, as a dataclass of `Annotated` fields. `--json` is added (`json`) where no parameter or field is that.
    """
    return functools.partial(_command, resume=resume, json=json)


def _command(work: Callable[..., Document], *, resume: str, json: bool) -> Callable[..., None]:
    hints = get_type_hints(work, include_extras=True)
    kinds = {name: kind for name, kind in hints.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
    parameters = []
    for name, parameter in inspect.signature(work).parameters.items():
        shown = inspect.signature(kinds[name]).parameters.values() if name in kinds else [parameter]
        own = get_type_hints(kinds[name], include_extras=True) if name in kinds else hints
        parameters += [one.replace(kind=one.KEYWORD_ONLY, annotation=own[one.name]) for one in shown]
    told = next((one.name for one in parameters if one.annotation == JsonOption), None)
    if json and told is None:
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("json", keyword, default=False, annotation=JsonOption))

    @functools.wraps(work)
    def called(**given: Any) -> None:
        as_json = given[told] if told is not None else given.pop("json", False)
        for name, kind in kinds.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
        run_command(functools.partial(work, **given), as_json=as_json, resume=resume)

    for one in parameters:
        _say_value(one.annotation)
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _say_value(annotation: Any) -> None:
    """Have an option's help call its value N, PATH or TEXT, where it has no name of its own: not by a Python type."""
    kind, *about = get_args(annotation) or [annotation]
    for info in about:
        if isinstance(info, OptionInfo) and info.metavar is None and kind is not bool:
            types = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
            info.metavar = next((word for type_, word in types.items() if type_.__name__ in str(kind)), None)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"infi-mmr {version('infi-mmr')}\n")
        raise SystemExit(0)


@contextmanager
def _stdout_kept() -> Iterator[None]:
    """Point stdout at stderr meanwhile; the descriptor itself, because compiled libraries print past Python."""
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(out, 1)
        os.close(out)
