"""`trainer prompts`: what is shown is what a phase writes into its prompt file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from shared.dataset_version import open_dataset
from shared.errors import InfiMmrError
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.phase import load_phase
from trainer.show_prompts import prompts_of
from trainer.training_data import write_prompts

SMALL = ["train.max_steps=2", "rollout.batch_size=4", "train.batch_size=32"]


def test_what_is_shown_of_a_row_is_what_its_line_of_the_prompt_file_holds(mini_store, tmp_path):
    for name in ("fra", "cmra", "mre"):
        phase = load_phase(name, "local", SMALL)
        version = open_dataset(phase.data.dataset, mini_store)
        write_prompts(version, phase, BUNDLED_FOLDER, tmp_path / name, tmp_path / "cache")
        for text in (tmp_path / name / "prompts.jsonl").read_text().splitlines():
            line = json.loads(text)
            (shown,) = prompts_of(phase, json.loads(line["label"])["id"], mini_store)["prompts"]
            assert shown["text"] == line["prompt"]
            assert [image["sha256"] for image in shown["images"]] == line["image_hashes"]
            assert shown["user"].count("<image>") == len(line["images"])
            assert (shown["step"], shown["model"], shown["note"]) == (name, "tiny-vl", "")


def test_json_has_the_contracts_keys_and_a_row_that_does_not_train_is_told(mini_store):
    words = ["prompts", "--name", "fra", "--profile", "local", "--dataset", "virl39k-captioned", "--json"]
    rows = open_dataset("virl39k-captioned", mini_store).scan().select("source_id", "image_hashes").collect()
    pictured = next(row["source_id"] for row in rows.iter_rows(named=True) if row["image_hashes"])
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli", *words, "--row", pictured, "--store", str(mini_store)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (shown,) = json.loads(done.stdout)["prompts"]
    assert {"step", "model", "system", "user", "images"} <= set(shown)
    assert "does not train: pictures" in shown["note"]
    assert "pixels" in done.stderr


def test_a_phase_whose_dataset_is_not_built_shows_an_example_in_the_real_models_words(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (shown,) = prompts_of(load_phase("cmra", "full"), None, str(tmp_path / "store"))["prompts"]
    assert shown["model"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert shown["user"].startswith("Caption of the picture")
    assert "an example" in shown["note"]


def test_a_dataset_of_which_no_row_trains_is_told_with_the_reason(row, publish, tmp_path):
    store = publish(tmp_path / "store", "pictured", [row("mini-virl39k", index) for index in range(3)])
    with pytest.raises(InfiMmrError, match="no row that phase fra trains on \\(the first is with images, which a text"):
        prompts_of(load_phase("fra", "local", ["data.dataset=pictured"]), None, store)
