from __future__ import annotations

import hashlib
import json
from pathlib import Path

import datasets
import pytest

from benchmarks.sample_versions import draft, publish_sample, row, write_rows
from data_engine.sharing.export import export, is_hub_id
from data_engine.sharing.export_files import card, coverage_tables, croissant
from shared.dataset_version import publish
from shared.errors import InfiMmrError


def test_an_exported_folder_opens_with_load_dataset(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    done = export(version, str(tmp_path / "export"))
    assert set(done["files"]) >= {"README.md", "croissant.json", "manifest.json", "ledger/ledger.parquet"}
    rows = datasets.load_dataset(str(tmp_path / "export"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == 20
    assert rows[0]["images"][0].size == (24, 24)
    ledger = datasets.load_dataset(str(tmp_path / "export"), "ledger", split="train", cache_dir=str(tmp_path / "cache"))
    assert ledger.num_rows == 2


def test_the_card_has_configurations_licences_counts_and_decontamination(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    version = publish_sample(tmp_path / "store", tmp_path / "built")
    read = DatasetCard(card(version.manifest))
    data = read.data.to_dict()
    assert data["license"] == "mit"
    assert [config["config_name"] for config in data["configs"]] == ["default", "ledger"]
    assert data["dataset_info"][0]["splits"][0]["num_examples"] == 20
    for text in (
        "decontaminate\\_ngrams | 22 | 20",
        "| benchmark | items | ngram\\_32 | exact\\_short |",
        "| math500 | 500 | 219 | 281 |",
        "| reworded | 3 | 4 |",
        "2505.23091",
    ):
        assert text in read.text


def test_hostile_words_of_a_manifest_stay_words_in_the_card(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    hostile = "x\n---\nlicense: stolen\n---\n# Title <script>| a |"
    made = draft(licences={"sample": hostile}, warnings=[hostile], decontamination={hostile: {"a": {"b": hostile}}})
    version = publish(tmp_path / "store", made, write_rows(tmp_path / "rows", [row(1)]))
    read = DatasetCard(card(version.manifest))
    assert read.data.to_dict()["license"] == "other"
    assert "\n# Title" not in read.text
    assert "<script>" not in read.text


def test_croissant_names_every_file_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    export(version, str(tmp_path / "export"))
    described = json.loads((tmp_path / "export" / "croissant.json").read_text())
    assert described == croissant(version.manifest)
    objects = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    assert len(objects) == 3
    for entry in objects:
        data = (tmp_path / "export" / entry["contentUrl"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert {field["name"] for field in described["recordSet"][0]["field"]} >= {"id", "question", "images"}


def test_a_damaged_shard_is_not_exported(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    data = bytearray(version.files()[0].read_bytes())
    data[100] ^= 1
    version.files()[0].write_bytes(data)
    with pytest.raises(InfiMmrError, match="damaged"):
        export(version, str(tmp_path / "export"))
    assert not (tmp_path / "export").exists()
    assert list(tmp_path.glob(".export*")) == []


def test_a_folder_with_files_is_not_overwritten(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "mine").write_text("mine")
    with pytest.raises(InfiMmrError, match="not empty"):
        export(version, str(tmp_path / "export"))


def test_without_a_token_nothing_is_sent_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    assert is_hub_id("team/rows")
    assert is_hub_id("hf://team/rows")
    assert not is_hub_id("./team/rows")
    assert not is_hub_id(str(tmp_path / "rows"))
    with pytest.raises(InfiMmrError, match="no token"):
        export(version, "team/rows")


def test_the_coverage_is_a_table_for_each_step_and_a_row_for_each_benchmark() -> None:
    coverage = {
        "a": {"ngrams": {"items": 4, "seen": 3}},
        "b": {"ngrams": {"items": 2, "unseen": 2}, "cosine": {"n": 1}},
    }
    assert coverage_tables(coverage) == [
        ("ngrams", ["items", "seen", "unseen"], [["a", 4, 3, ""], ["b", 2, "", 2]]),
        ("cosine", ["n"], [["b", 1]]),
    ]
    assert coverage_tables({}) == []
