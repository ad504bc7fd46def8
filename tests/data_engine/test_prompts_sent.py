"""`data-engine prompts`: what each model will be sent, taken from the steps themselves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from data_engine.build import BuildRequest
from data_engine.prompts_sent import prompts_of
from shared.errors import InfiMmrError
from shared.progress import open_progress
from shared.prompts import load_prompt
from shared.schema import IMAGE_TYPES


def shown(tmp_path, row=None, recipe="virl39k-captioned", profile="local", **more):
    request = BuildRequest(recipe, profile, str(tmp_path / "store"), **more)
    with open_progress() as progress:
        return prompts_of(request, row, progress)


def test_each_step_that_asks_a_model_is_shown_with_its_template_applied_and_pictures_as_sizes(tmp_path):
    found = shown(tmp_path)
    steps = [entry["step"] for entry in found["prompts"]]
    assert steps == ["type_images", *["caption_images"] * len(IMAGE_TYPES), "decontaminate_embeddings"]
    typing = found["prompts"][0]
    assert (typing["system"], typing["user"]) == ("", f"<image>{load_prompt('type_images').text}")
    assert typing["text"].startswith("<|im_start|>system\nYou are a helpful assistant.")
    assert typing["images"][0].keys() == {"sha256", "width", "height", "tokens"}
    captions = found["prompts"][1:-1]
    assert {entry["image_type"] for entry in captions} == set(IMAGE_TYPES)
    assert all("not typed yet" in entry["note"] for entry in captions)
    assert found["prompts"][-1]["text"].endswith("<|endoftext|>")
    again = shown(tmp_path, found["source_id"])
    assert again == shown(tmp_path, found["row"]) == found


def test_a_row_without_pictures_is_sent_to_the_embedding_model_alone(tmp_path):
    store = shown(tmp_path, "mini-deepscaler-3", recipe="deepscaler")
    assert [entry["step"] for entry in store["prompts"]] == ["decontaminate_embeddings"]


def test_a_chinese_question_is_shown_with_the_chinese_caption_prompt(tmp_path, real_data, monkeypatch):
    import polars as pl

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = pl.read_parquet(real_data / "virl_like" / "virl_like.parquet", columns=["qid", "question"])
    qid = rows.filter(pl.col("question").str.contains("如图"))["qid"][0]
    found = shown(tmp_path, qid, profile="full", source=str(real_data / "virl_like"))
    captions = [entry for entry in found["prompts"] if entry["step"] == "caption_images"]
    assert {entry["prompt"] for entry in captions} == {f"caption_{kind}.zh" for kind in IMAGE_TYPES}
    assert all("中文" in entry["system"] for entry in captions)
    assert all(entry["model"] == "U4R/OmniCaptioner" for entry in captions)


def test_a_row_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InfiMmrError, match="no row nowhere"):
        shown(tmp_path, "nowhere")


def test_stdout_is_one_json_object_and_people_read_the_rest(tmp_path):
    words = ["prompts", "virl39k", "--profile", "local", "--store", str(tmp_path / "store"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "data_engine.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"step", "model", "system", "user", "images"} <= set(json.loads(done.stdout)["prompts"][0])
    assert "112 x 112 pixels" in done.stderr
