from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from shared.command import as_command, open_program, run_command
from shared.errors import InfiMmrError, system_error


@dataclasses.dataclass(frozen=True)
class Common:
    place: Annotated[str, typer.Argument()]
    times: Annotated[int, typer.Option("--times", min=1)] = 2


def ends(work, capfd, **options):
    """Exit code, JSON document and stderr of a command."""
    code = 0
    try:
        run_command(work, as_json=True, **options)
    except SystemExit as error:
        code = error.code
    out, err = capfd.readouterr()
    return code, json.loads(out), err


def raising(error):
    def work():
        raise error

    return work


def test_a_result_is_the_only_thing_on_stdout(capfd):
    def work():
        os.write(1, b"a library prints\n")
        return {"rows": 3}

    assert ends(work, capfd) == (0, {"rows": 3}, "a library prints\n")


def test_a_failure_is_one_line_and_the_same_in_json(capfd):
    code, document, err = ends(raising(InfiMmrError("no store", "Pass --store")), capfd)
    assert (code, document) == (1, {"error": "no store", "next": "Pass --store"})
    assert err == "error: no store. Pass --store\n"


def test_an_answer_that_no_disk_takes_is_one_line():
    script = "from shared.command import run_command; run_command(lambda: {'rows': 3}, as_json=True)"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: stdout took no answer (No space left on device)")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_is_one_line_that_says_how_to_go_on(capfd):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/mre/metrics.jsonl")
    code, document, err = ends(raising(full), capfd, resume="the same command with --resume")
    assert code == 1
    assert document["error"] == "No space left on device: runs/mre/metrics.jsonl"
    assert err.endswith("Free some space, then use the same command with --resume\n")
    assert err.count("\n") == 1


def test_an_interrupt_ends_with_the_shells_code(capfd):
    code, document, err = ends(raising(KeyboardInterrupt()), capfd)
    assert code == 130
    assert document["error"] == "interrupted"
    assert "continues where it was" in err


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone", "x"), ConnectionResetError(), ValueError()])
def test_what_may_be_a_defect_keeps_its_traceback(error, capfd):
    with pytest.raises(type(error)):
        run_command(raising(error), as_json=True)
    assert capfd.readouterr().out == ""
    assert not isinstance(error, OSError) or system_error(error) is None


def test_options_that_are_declared_once_stand_in_every_command_that_takes_them():
    app, said = open_program("program", "Words."), []

    @app.command()
    @as_command()
    def first(common: Common, loud: Annotated[bool, typer.Option("--loud")] = False) -> dict:
        said.append((common, loud))
        return {"loud": loud}

    @app.command()
    @as_command()
    def second(common: Common) -> dict:
        said.append(common)
        return {}

    run = CliRunner().invoke
    assert run(app, ["first", "here", "--times", "3", "--loud"]).exit_code == 0
    assert run(app, ["second", "there"]).exit_code == 0
    assert said == [(Common("here", 3), True), Common("there")]
    assert run(app, ["second", "there", "--times", "0"]).exit_code == 2
    assert json.loads(run(app, ["first", "here", "--loud", "--json"]).stdout) == {"loud": True}
