"""OpenRLHF's saved weights become a whole checkpoint with its run record, or are refused."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from shared.errors import InfiMmrError
from shared.provenance import code_commit, package_versions
from shared.safetensors_files import safetensors_header
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.checkpoint import finish_checkpoint, weights_hash
from trainer.openrlhf_bridge.launch import Ending
from trainer.phase import load_phase
from trainer.phase_run import PhaseRequest, run_phase
from trainer.preflight import count_weights
from trainer.run_record import PACKAGES, Attempt, RunRecord, identity, machine, read_record, write_record


@pytest.fixture
def record():
    return RunRecord(
        phase=load_phase("fra", "local"),
        device="cpu",
        dataset={"name": "deepscaler", "fingerprint": "f1"},
        prompts={"rows": 8},
        parent={"location": "tiny-vl", "sha256": "p1"},
        code_commit="c",
        packages={},
        machine={},
        steps=2,
        attempts=(Attempt(started="2026-01-01T00:00:00Z", first_step=1),),
    )


def saved_like_openrlhf(tmp_path):
    """Weights, a rewritten configuration and a tokenizer, as OpenRLHF leaves them; no processor."""
    saved = tmp_path / "weights"
    saved.mkdir()
    shutil.copyfile(BUNDLED_FOLDER / "model.safetensors", saved / "model.safetensors")
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[-1] ^= 1  # one weight has changed
    (saved / "model.safetensors").write_bytes(bytes(data))
    (saved / "config.json").write_text("{}")
    return saved


def test_the_checkpoint_has_new_weights_and_every_other_file_of_its_parent(tmp_path, record):
    saved, target = saved_like_openrlhf(tmp_path), tmp_path / "checkpoint"
    digest = finish_checkpoint(saved, BUNDLED_FOLDER, target, record)
    assert digest == weights_hash(target) != weights_hash(BUNDLED_FOLDER)
    names = {path.name for path in target.iterdir()}
    assert {path.name for path in BUNDLED_FOLDER.iterdir() if path.suffix in {".json", ".jinja"}} <= names
    assert (target / "config.json").read_bytes() == (BUNDLED_FOLDER / "config.json").read_bytes()
    told = json.loads((target / "run_record.json").read_text())
    assert told["checkpoint_sha256"] == digest
    assert told["phase"]["name"] == "fra"
    assert not saved.exists()
    assert not list(tmp_path.glob(".checkpoint*"))


def test_weights_trained_in_float32_stay_so_and_the_configuration_says_it(tmp_path, record):
    from safetensors.torch import load_file, save_file

    saved = tmp_path / "saved"
    saved.mkdir()
    wide = {name: weight.float() for name, weight in load_file(BUNDLED_FOLDER / "model.safetensors").items()}
    save_file(wide, saved / "model.safetensors")
    finish_checkpoint(saved, BUNDLED_FOLDER, tmp_path / "checkpoint", record)
    told = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert told == {**json.loads((BUNDLED_FOLDER / "config.json").read_text()), "dtype": "float32"}


def test_a_parents_run_record_is_not_taken_for_ones_own(tmp_path, record):
    parent = tmp_path / "parent"
    shutil.copytree(BUNDLED_FOLDER, parent)
    (parent / "run_record.json").write_text('{"old": 1}')
    (parent / "pytorch_model.bin").write_bytes(b"pickle")
    finish_checkpoint(saved_like_openrlhf(tmp_path), parent, tmp_path / "checkpoint", record)
    assert "old" not in json.loads((tmp_path / "checkpoint" / "run_record.json").read_text())
    assert not (tmp_path / "checkpoint" / "pytorch_model.bin").exists()


def test_missing_or_fewer_weights_are_refused(tmp_path, record):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InfiMmrError, match="without saving weights"):
        finish_checkpoint(empty, BUNDLED_FOLDER, tmp_path / "checkpoint", record)
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    (empty / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(InfiMmrError, match="saved 4 weights"):
        finish_checkpoint(empty, BUNDLED_FOLDER, tmp_path / "checkpoint", record)
    assert not (tmp_path / "checkpoint").exists()


def test_weights_are_counted_from_the_headers():
    header = safetensors_header(BUNDLED_FOLDER / "model.safetensors")
    assert "__metadata__" not in header
    assert count_weights(BUNDLED_FOLDER) > 1_000_000


def test_a_record_survives_the_file_and_a_broken_one_is_told(tmp_path, record):
    assert read_record(tmp_path) is None
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    (tmp_path / "run.json").write_text('{"phase": 3}')
    with pytest.raises(InfiMmrError, match="not a run record"):
        read_record(tmp_path)


def test_identity_is_of_data_and_policy_not_of_places(record):
    def of(*overrides):
        return identity(load_phase("fra", "local", list(overrides)), "f1", "p1")

    assert of() == record.identity
    assert of("checkpoint.save_every=3", "logging.wandb_project=x", "cluster.vllm_memory=0.3") == of()
    assert of("model.start=elsewhere") == of()  # the parent counts by its hash, wherever it lies
    assert of("train.learning_rate=2e-5") != of()
    assert identity(load_phase("fra", "local"), "f2", "p1") != of()
    assert identity(load_phase("fra", "local"), "f1", "p2") != of()


def test_machine_and_packages_name_no_host_and_no_path():
    text = json.dumps([machine(), package_versions(PACKAGES), code_commit("shared")])
    import platform

    assert platform.node() not in text
    assert "/" not in json.dumps([machine(), package_versions(PACKAGES)])
    assert package_versions(PACKAGES)["openrlhf"] == "0.11.2"
    assert machine()["cores"] >= 1


def test_trained_weights_are_not_trained_again_where_only_the_checkpoint_is_missing(mini_store, tmp_path, monkeypatch):
    run = tmp_path / "run"
    phase = load_phase("fra", "local", ["train.max_steps=1"])
    request = PhaseRequest(phase, run, resume=True, store=mini_store)

    def trained(spec, on_event, look):
        saved_like_openrlhf(spec.folder)
        (spec.records / "trainer-1.jsonl").write_text('{"step": 1, "values": {"reward": 0.5}}\n')
        look()
        return Ending(0, "")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", trained)
    with monkeypatch.context() as full_disk:
        full_disk.setattr("trainer.phase_run.finish_checkpoint", full)
        with pytest.raises(InfiMmrError, match="No space left"):
            run_phase(request)
    assert not read_record(run).finished
    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", never)
    record = run_phase(request)
    assert record.finished
    assert record.results["reward"] == 0.5
    assert record.checkpoint_sha256 == weights_hash(run / "checkpoint")
    assert not (run / "weights").exists()
    # killed after the checkpoint had its name and before the record knew of it
    write_record(run, record.model_copy(update={"checkpoint_sha256": ""}))
    assert run_phase(request) == record
