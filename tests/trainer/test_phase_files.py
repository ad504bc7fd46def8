"""Phase files of the user's own: anywhere, over one of ours, with paths that lead from their folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import UsageError
from trainer.cli import main
from trainer.curriculum import load_phases, phase_list
from trainer.phase import PHASES, load_phase, phase_names

OWN = """
base = "mre"
title = "Ours"
[data]
dataset = "virl39k-captioned"
[train]
learning_rate = 3e-4
"""


def write(folder, text=OWN, name="my-phase.toml"):
    file = folder / name
    file.write_text(text)
    return str(file)


def test_a_phase_file_of_ones_own_holds_what_differs_from_its_base(tmp_path):
    own, base = load_phase(write(tmp_path), "local"), load_phase("mre", "local")
    assert (own.name, own.title, own.train.learning_rate) == ("my-phase", "Ours", 3e-4)
    assert own.rollout == base.rollout
    assert own.prompts == base.prompts
    assert load_phase(write(tmp_path), "full").train.batch_size == 256


def test_a_copy_of_a_shipped_phase_is_a_phase_called_like_its_file(tmp_path):
    own = load_phase(write(tmp_path, (PHASES / "cmra.toml").read_text()), "local")
    assert own == load_phase("cmra", "local").model_copy(update={"name": "my-phase"})


def test_a_phase_over_any_of_ours_is_called_like_its_own_file(tmp_path):
    for base in phase_names():
        assert load_phase(write(tmp_path, f'base = "{base}"\n', "stage-1.toml"), "local").name == "stage-1"
        assert load_phase(base, "local").name == base


@pytest.mark.parametrize("name", ["../../x", "a b/c", "/tmp/x", ".", "-x"])
def test_a_name_that_would_lead_out_of_the_folder_of_runs_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"phase my-phase.toml: name '.*' cannot name a run"):
        load_phase(write(tmp_path, f'base = "mre"\nname = "{name}"\n'), "local")
    with pytest.raises(UsageError, match="cannot name a run"):
        load_phase("mre", "local", [f"name={json.dumps(name)}"])


def test_an_empty_name_in_a_phase_file_is_the_files_name(tmp_path):
    assert load_phase(write(tmp_path, 'base = "mre"\nname = ""\n'), "local").name == "my-phase"


def test_paths_in_a_phase_file_lead_from_its_folder_wherever_the_command_runs(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "words").mkdir(parents=True)
    (home / "words" / "reason_system.md").write_text("Think.")
    (home / "mine.md").write_text("{question}")
    (home / "question").mkdir()  # like a prompt's name, and none
    (home / "charts.toml").write_text('[source]\nlocation = "charts.jsonl"\n')
    text = (
        'base = "mre"\nprompts = "words"\n[prompt]\nquestion = "mine.md"\n[evaluation]\n'
        'benchmarks = ["math500", "charts.toml"]\nbar.charts = 0.5\n'
    )
    monkeypatch.chdir(tmp_path)
    phase = load_phase(write(home, text), "local")
    assert Path(phase.prompts) == home / "words"
    assert Path(phase.prompt.question) == home / "mine.md"
    assert phase.evaluation.names == ("math500", "charts")
    assert Path(phase.evaluation.benchmarks[1]) == home / "charts.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nlearning_rat = 1e-5", r"phase my-phase.toml: unknown key train.learning_rat. Did you mean train.le"),
        ("[evaluation]\nbenchmarks = ['math50']", "unknown benchmark 'math50'. Did you mean math500"),
        ("[evaluation]\nbenchmarks = ['all']", "names and task files"),
        ("base = 'mree'", "base 'mree' is not a phase. Did you mean mre"),
        ("base = 'mre'\n[train", "my-phase.toml is not valid TOML"),
        ("title = 'x'", "phase my-phase.toml: the key data is missing"),
    ],
)
def test_a_wrong_phase_file_is_told_in_one_line_with_its_name(tmp_path, text, said):
    text = text if "base" in text or "title" in text else f'base = "mre"\n{text}'
    with pytest.raises(UsageError, match=said):
        load_phase(write(tmp_path, text), "local")


@pytest.mark.parametrize("words", ["./nowhere.toml", "nowhere/mre", "my phase.toml"])
def test_a_path_that_is_no_phase_file_is_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, name="my phase.toml")
    with pytest.raises(UsageError, match="phase file"):
        load_phase(words, "local")


def test_a_curriculum_mixes_names_and_paths_and_scopes_values_by_the_files_name(tmp_path):
    names = phase_list(f"fra,{write(tmp_path)}")
    fra, own = load_phases(names, "local", ["my-phase:train.max_steps=5"])
    assert (own.name, own.train.max_steps) == ("my-phase", 5)
    assert fra.train.max_steps != 5
    with pytest.raises(UsageError, match="Did you mean my-phase"):
        load_phases(names, "local", ["my-phas:train.max_steps=5"])
    with pytest.raises(UsageError, match="does not exist"):
        phase_list("fra,./gone.toml")


def test_plan_and_prompts_take_a_phase_file(tmp_path, mini_store, capsys):
    for command in ("plan", "prompts"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--name", write(tmp_path), "--profile", "local", "--store", mini_store, "--json"])
        assert ended.value.code in {0, None}
        assert json.loads(capsys.readouterr().out)
