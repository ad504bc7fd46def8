"""Specs, identities, conversations and checkpoints: values only, no engine."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InfiMmrError
from shared.vlm import EngineSpec, build_conversation
from shared.vlm.checkpoint import (
    ASKING_REVISIONS,
    BUNDLED_FOLDER,
    checkpoint_folder,
    checkpoint_hash,
    engine_identity,
    engine_record,
    maker,
    without_hub_revision,
)
from shared.vlm.conversation import embedding_prompt
from shared.vlm.failures import is_out_of_memory
from shared.vlm.surroundings import log_path, prepare_environment, quiet


def checkpoint(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_folder_is_known_by_its_content_not_its_place(tmp_path: Path) -> None:
    here, there = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    assert engine_identity(EngineSpec(model=str(here))) == engine_identity(EngineSpec(model=str(there)))
    assert checkpoint_hash(here) != checkpoint_hash(checkpoint(tmp_path / "c", b"other"))


def test_other_files_of_the_folder_do_not_change_its_identity(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a")
    before = checkpoint_hash(folder)
    (folder / "README.md").write_text("a model card")
    assert checkpoint_hash(folder) == before


def test_hardware_and_places_do_not_change_the_identity(tmp_path: Path) -> None:
    spec = EngineSpec(model="org/name", revision="abc", endpoint="http://one/v1")
    other = EngineSpec(model="org/name", revision="abc", endpoint="http://two/v1", batch_size=7, concurrency=3)
    assert engine_identity(spec) == engine_identity(other)
    assert engine_identity(spec) != engine_identity(
        EngineSpec(model="org/name", revision="abd", endpoint="http://one/v1")
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "float32"},
        {"min_pixels": 4096},
        {"max_pixels": 100_352},
        {"max_model_len": 1024},
        {"runner": "pooling"},
        {"model": "org/other"},
    ],
)
def test_what_can_change_an_answer_changes_the_identity(changed: dict[str, Any]) -> None:
    told = {"model": "org/name", "revision": "abc"}
    assert engine_identity(EngineSpec.model_validate(told)) != engine_identity(
        EngineSpec.model_validate(told | changed)
    )


def test_the_record_names_no_path(tmp_path: Path) -> None:
    record = engine_record(EngineSpec(model=str(checkpoint(tmp_path / "mine"))))
    assert record["model"] == "mine"
    assert str(tmp_path) not in json.dumps(record)


def test_a_missing_folder_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InfiMmrError, match="does not exist.*hub id"):  # noqa: RUF043 - dots are any
        checkpoint_folder(EngineSpec(model=str(tmp_path / "no" / "such" / "model")))


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InfiMmrError, match="no safetensors.*safe_serialization"):  # noqa: RUF043 - dots are any
        checkpoint_folder(EngineSpec(model=str(folder)))


def test_remote_code_without_a_revision_is_refused() -> None:
    with pytest.raises(ValueError, match="needs revision"):
        EngineSpec(model="org/name", trust_remote_code=True)


def test_the_bundled_checkpoint_is_found_by_name() -> None:
    assert checkpoint_folder(EngineSpec(model="tiny-vl")) == BUNDLED_FOLDER


def test_pictures_stand_at_their_tags_and_untagged_ones_first() -> None:
    parts = build_conversation("", "see <image> and <image>!", [b"1", b"2", b"3"])[0]["content"]
    assert [part.get("image", part.get("text")) for part in parts] == [b"1", "see ", b"2", " and ", b"3", "!"]


def test_a_tag_without_a_picture_stays_text() -> None:
    parts = build_conversation("", "<image> twice <image>", [b"1"])[0]["content"]
    assert [part.get("image", part.get("text")) for part in parts] == [b"1", " twice <image>"]


def test_an_empty_system_prompt_is_left_out() -> None:
    assert [message["role"] for message in build_conversation("", "hello")] == ["user"]
    assert [message["role"] for message in build_conversation("be kind", "hello")] == ["system", "user"]


def test_the_embedding_prompt_is_the_published_template() -> None:
    assert embedding_prompt("what <image> is it", 1) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>what is it<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    )


def test_noise_of_libraries_goes_to_the_log_and_neither_stream(capfd, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("INFI_MMR_ENGINE_LOG", str(tmp_path / "log"))
    with quiet(), quiet():
        os.write(1, b"noise on stdout\n")
        os.write(2, b"noise on stderr\n")
    os.write(1, b"our JSON\n")
    assert capfd.readouterr() == ("our JSON\n", "")
    assert log_path().read_text() == "noise on stdout\nnoise on stderr\n"


def test_vllms_warning_at_every_call_about_threads_is_silenced_and_no_other(caplog, monkeypatch) -> None:
    monkeypatch.setattr("shared.vlm.surroundings.cuda_seen", lambda: False)
    prepare_environment()
    worker = Path(importlib.util.find_spec("vllm").origin).parent / "v1/worker/cpu_worker.py"
    said = re.search(r'"(CPU backend doesn.t allow[^"]*)"\s*"([^"]*)"', worker.read_text(encoding="utf-8"))
    logger = logging.getLogger("vllm.v1.worker.cpu_worker")
    logger.warning("".join(said.groups()))
    logger.warning("libtcmalloc is not found")
    assert [record.message for record in caplog.records] == ["libtcmalloc is not found"]


def test_importing_the_room_imports_no_heavy_module() -> None:
    script = (
        "import sys, shared.vlm; print([n for n in ('torch','vllm','transformers','ray','httpx') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_copied_checkpoint_keeps_its_hash(tmp_path: Path) -> None:
    shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy")
    assert checkpoint_hash(tmp_path / "copy") == checkpoint_hash(BUNDLED_FOLDER)


def test_running_out_of_memory_is_recognised_in_every_voice() -> None:
    import torch

    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("prompt too long"))


def test_a_raised_revision_of_the_asking_code_asks_anew_and_the_first_one_asks_nothing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generate, pooling = EngineSpec(model="tiny-vl"), EngineSpec(model="tiny-vl", runner="pooling")
    before = engine_identity(generate), engine_identity(pooling)
    assert all("asking" not in identity for identity in before), "today's stored cells keep their keys"
    monkeypatch.setitem(ASKING_REVISIONS, "pooling", 2)
    assert engine_identity(generate) == before[0]
    assert engine_identity(pooling) == before[1] | {"asking": 2}
    assert maker(generate).startswith("vllm")
    assert maker(pooling).startswith("transformers")
    assert ", code " in maker(pooling)


def test_a_spec_takes_any_words_and_only_a_folders_model_loses_the_hubs_revision(tmp_path: Path) -> None:
    mine = str(checkpoint(tmp_path / "mine"))
    spec = EngineSpec(model=mine, revision="abc")
    assert spec.revision == "abc", "a value looks at no disk"
    assert without_hub_revision(spec).revision is None
    kept = [
        EngineSpec(model="org/name", revision="abc"),
        EngineSpec(model=mine, revision="abc", trust_remote_code=True),
        EngineSpec(model=mine, revision="abc", endpoint="http://one/v1"),
    ]
    assert [without_hub_revision(one) for one in kept] == kept
