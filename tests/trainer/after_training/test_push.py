"""`trainer push` to a small server on loopback that answers as the Hub does, and its dry run, which asks nobody."""

import json
import shutil
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard
from typer import Typer
from typer.testing import CliRunner

from shared.vlm.checkpoint import BUNDLED_FOLDER, checkpoint_hash
from tests.hub_stand_in import TOKEN
from trainer.after_training.cli import register
from trainer.after_training.push import parcel
from trainer.phase import load_phase
from trainer.run_record import RunRecord, write_record

RESULT = {"n": 50, "accuracy": 0.62, "stderr": 0.069, "interval95": [0.47, 0.75], "unscored": 1,
          "source": {"label": "math500@v1 (local)", "fingerprint": "f" * 64}}  # fmt: skip


def invoke(*words):
    app = Typer()
    register(app)
    return CliRunner().invoke(app, ["push", *map(str, words)])


def checkpoint(run, phase="fra", start="Qwen/Qwen2.5-VL-3B-Instruct"):
    """A trained checkpoint in its run folder, evaluated."""
    folder = run / "checkpoint"
    folder.mkdir(parents=True)
    for file in BUNDLED_FOLDER.iterdir():
        if file.name != "README.md":
            shutil.copyfile(file, folder / file.name)
    (folder / "optimizer.pt").write_bytes(b"pickle")
    (folder / ".cache").write_text("x")
    phase = load_phase(phase, "local", [f"model.start={json.dumps(start)}"])
    dataset = {"name": "deepscaler", "label": "deepscaler@v3 (local)", "manifest_sha256": "m" * 64, "rows": 200}
    record = RunRecord(phase=phase, device="cpu", dtype="float32", dataset=dataset,
                       prompts={"file": "/home/anna/secret/project/runs/prompts.jsonl"},
                       parent={"location": "tiny-vl", "sha256": "a" * 64}, code_commit="c" * 40,
                       packages={"torch": "2.13"}, machine={"cores": 2}, steps=7,
                       checkpoint_sha256="b" * 64)  # fmt: skip
    write_record(folder, record, "run_record.json")
    write_record(run, record)
    engine = {"checkpoint": f"sha256:{checkpoint_hash(folder)}"}
    asking = {"system_prompt": "reason_system", "prompts": "bundled"}
    (run / "evaluation.json").write_text(
        json.dumps({"checkpoint": str(folder), "engine": engine, "asking": asking, "benchmarks": {"math500": RESULT}})
    )
    return folder


def test_a_dry_run_shows_files_bytes_and_the_card_without_token_or_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    folder = checkpoint(tmp_path / "fra")
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli", "push", str(tmp_path / "fra"), "team/fra-3b", "--dry-run", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = json.loads(done.stdout)
    sizes = {file["name"]: file["bytes"] for file in shown["files"]}
    assert sizes["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert set(sizes) >= {"README.md", "config.json", "tokenizer.json", "run_record.json", "evaluation.json"}
    assert shown["bytes"] == sum(sizes.values())
    assert (shown["dry_run"], sorted(shown["left_here"])) == (True, [".cache", "optimizer.pt"])
    assert set(sizes) & {".cache", "optimizer.pt"} == set()


def test_the_card_has_results_as_the_hub_reads_them_the_dataset_and_the_base_model(tmp_path):
    checkpoint(tmp_path / "fra")
    card = ModelCard(
        json.loads(invoke(tmp_path / "fra/checkpoint", "team/fra-3b", "--dry-run", "--json").stdout)["card"]
    )
    assert card.data.base_model == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert card.data.datasets == ["deepscaler"]
    assert card.data.model_name == "fra-3b"
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.dataset_name, result.metric_value) == ("math500", "MATH500", 62.0)
    assert "| MATH500 | 50 | 62.00 ± 6.90 | 47.0 to 75.0 | 1 | math500@v1 (local) |" in card.text
    assert "deepscaler@v3 (local)" in card.text
    assert "`reason_system` of the prompt set `bundled`" in card.text


def test_nothing_that_is_sent_names_a_place_of_this_machine(tmp_path):
    sent = parcel(str(checkpoint(tmp_path / "fra")), "team/fra-3b").files
    made = {name: content for name, content in sent.items() if isinstance(content, bytes)}
    assert set(made) == {"README.md", "run_record.json", "evaluation.json", "infi_mmr.json"}
    assert [name for name, data in made.items() if b"anna" in data or str(tmp_path).encode() in data] == []


def test_the_card_of_a_cold_start_tells_of_traces_and_not_of_rollouts(tmp_path):
    checkpoint(tmp_path / "cold", phase="cold-start")
    card = json.loads(invoke(tmp_path / "cold/checkpoint", "team/cold", "--dry-run", "--json").stdout)["card"]
    assert "Trained by supervised fine-tuning on reasoning traces in the phase `cold-start`" in card
    assert "rollouts per prompt" not in card


def test_results_of_other_weights_are_not_told(tmp_path):
    folder = checkpoint(tmp_path / "fra")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "note": "changed"}))
    shown = invoke(folder, "team/fra-3b", "--dry-run")
    assert "are of other weights" in shown.stderr
    assert "MATH500" not in shown.stdout
    shown = invoke(folder, "team/fra-3b", "--dry-run", "--results", tmp_path / "fra")
    assert shown.exit_code == 1
    assert "results of other weights" in shown.stderr


def test_a_push_brings_weights_card_and_record_and_a_second_one_replaces_only_its_own_files(hub, tmp_path):
    folder = checkpoint(tmp_path / "fra")
    (folder / "old.json").write_text("{}")
    done = invoke(folder, "team/fra-3b", "--json")
    assert done.exit_code == 0, done.output
    there = hub.repositories["team/fra-3b"]
    assert there["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert (hub.kinds["team/fra-3b"], hub.visibility["team/fra-3b"]) == ("model", "private")
    assert b"anna" not in there["run_record.json"]
    assert json.loads(there["run_record.json"])["prompts"]["file"] == "runs/prompts.jsonl"
    assert all(TOKEN.encode() not in data for data in there.values())
    there["mine.png"] = b"mine"
    (folder / "old.json").unlink()
    again = json.loads(invoke(tmp_path / "fra", "team/fra-3b", "--json").stdout)
    assert again["removed"] == ["old.json"]
    assert hub.repositories["team/fra-3b"]["mine.png"] == b"mine"
    assert "old.json" not in hub.repositories["team/fra-3b"]
    assert len(hub.commits) == 2


@pytest.mark.parametrize(
    "files",
    [
        {"README.md": b"# mine"},
        {"config.json": b"{}", "model.safetensors": b"x"},
        {"infi_mmr.json": b'{"name": "mre"}', "model.safetensors": b"x"},
        {"infi_mmr.json": b"[]"},
    ],
)
def test_somebody_elses_repository_is_refused_and_stays_as_it_is(hub, tmp_path, files):
    folder = checkpoint(tmp_path / "fra")
    hub.repositories["team/x"], hub.head["team/x"] = {".gitattributes": b"", **files}, "1" * 40
    done = invoke(folder, "team/x")
    assert done.exit_code == 1
    assert "would replace its card and weights" in done.stderr
    assert "--replace" in done.stderr
    assert hub.repositories["team/x"] == {".gitattributes": b"", **files}
    assert invoke(folder, "team/x", "--replace").exit_code == 0
    assert json.loads(hub.repositories["team/x"]["infi_mmr.json"])["name"] == "fra"


@pytest.mark.parametrize(("call", "status"), [("create", 401), ("put", 403), ("commit", 507)])
def test_a_failing_push_is_one_line_without_the_token_and_shows_nothing(hub, tmp_path, call, status):
    hub.refuse[call] = status
    done = invoke(checkpoint(tmp_path / "fra"), "team/x", "--json")
    assert done.exit_code == 1
    assert f"the Hub refused team/x: {status}" in json.loads(done.stdout)["error"]
    assert TOKEN not in done.output + done.stderr
    assert set(hub.repositories.get("team/x", {})) <= {".gitattributes"}


def test_no_token_a_wrong_name_a_wrong_folder_and_a_hub_id_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for words, says in [
        (("tiny-vl", "team/x"), "no token for the Hub"),
        (("tiny-vl", "no-owner"), "is not a repository on the Hub"),
        (("tiny-vl", "a/b/c", "--dry-run"), "is not a repository on the Hub"),
        ((tmp_path / "nowhere", "team/x", "--dry-run"), "does not exist"),
        ((tmp_path, "team/x", "--dry-run"), "no config.json"),
        (("Qwen/Qwen2.5-VL-3B-Instruct", "team/x", "--dry-run"), "is not a folder here"),
    ]:
        done = invoke(*words)
        assert done.exit_code in {1, 2}
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_card_beside_the_weights_keeps_its_words():
    shown = json.loads(invoke("tiny-vl", "team/tiny", "--dry-run", "--json").stdout)
    assert shown["card"] == (BUNDLED_FOLDER / "README.md").read_text()
    assert "was not evaluated" in shown["notes"][0]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.safetensors", b"", "checkpoint/model.safetensors cannot be read (no safetensors, or cut off: 0 bytes)"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "model.safetensors cannot be read"),
        ("model.safetensors", None, "checkpoint/model.safetensors cannot be read (cut off: "),
        ("tokenizer.json", b'{"a', "checkpoint/tokenizer.json cannot be read (JSONDecodeError)"),
        ("processor_config.json", b"\xff", "checkpoint/processor_config.json cannot be read (UnicodeDecodeError)"),
        ("config.json", b"{}", "checkpoint/config.json names no model_type"),
    ],
)
def test_a_damaged_file_is_named_before_a_checkpoint_is_shared_served_or_asked(tmp_path, file, content, says):
    folder = checkpoint(tmp_path)
    damaged = folder / file
    damaged.write_bytes(damaged.read_bytes()[:-1] if content is None else content)
    app = Typer()
    register(app)
    for words in (["push", folder, "me/x", "--dry-run"], ["serve", folder, "--dry-run"], ["ask", folder, "1 + 1?"]):
        told = CliRunner().invoke(app, list(map(str, words)))
        assert (told.exit_code, len(told.stderr.splitlines())) == (1, 1), told.output
        assert says in told.stderr
