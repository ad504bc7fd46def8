"""A run that is continued finds what it needs, or is told so in one line before anything starts."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from shared.errors import InfiMmrError, UsageError
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.commands import check_begun
from trainer.held_out import FILE, read_items
from trainer.phase import load_phase
from trainer.phase_run import PhaseRequest, run_phase
from trainer.run_attempt import saved_step, whole_step

SMALL = ["train.max_steps=2", "rollout.batch_size=4", "train.batch_size=32"]


@pytest.fixture
def begun(mini_store, tmp_path, monkeypatch):
    """A run of mre that was interrupted as soon as OpenRLHF would have started; returns what starts it again."""
    monkeypatch.setenv("INFI_MMR_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "store"
    shutil.copytree(mini_store, store)
    told: list[str] = []

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.openrlhf_bridge.launch.run", stop)

    def again(*, resume=True, overrides=()):
        phase = load_phase("mre", "local", [*SMALL, *overrides])
        run_phase(PhaseRequest(phase, tmp_path / "run", resume=resume, store=str(store), tell=told.append))

    with pytest.raises(KeyboardInterrupt):
        again(resume=False)
    return again, tmp_path / "run", store, told


def pictures(run):
    lines = [json.loads(text) for text in (run / "prompts.jsonl").read_text().splitlines()]
    return [Path(name) for line in lines for name in line["images"]]


def test_a_resume_whose_picture_cache_is_gone_makes_the_pictures_again(begun, tmp_path):
    again, run, _, told = begun
    before = {path: path.read_bytes() for path in pictures(run)}
    text = (run / "prompts.jsonl").read_text()
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):  # it comes as far as OpenRLHF
        again()
    assert {path: path.read_bytes() for path in pictures(run)} == before
    assert (run / "prompts.jsonl").read_text() == text
    assert told == ["8 images are gone from the cache: making them again from virl39k-captioned@v1 (local)"]


def test_a_resume_whose_pictures_and_dataset_are_gone_is_refused_before_anything_starts(begun, tmp_path):
    again, _, store, _ = begun
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(store)
    with pytest.raises(InfiMmrError, match=r"8 images of this run are gone .* cannot be opened.*--store") as error:
        again()
    assert "\n" not in str(error.value)


def test_a_resume_whose_dataset_is_another_one_by_the_same_name_is_refused(begun, row, publish, tmp_path):
    again, _, store, _ = begun
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(store)
    publish(store, "virl39k-captioned", [row("mini-virl39k", index + 500) for index in range(20)])
    with pytest.raises(InfiMmrError, match="is another one"):
        again()


def test_a_resume_with_other_prompts_another_checkpoint_or_other_values_is_refused(begun, tmp_path):
    again, run, _, _ = begun
    with pytest.raises(InfiMmrError, match=r"made with other values of phase mre.*another --output"):
        again(overrides=["train.learning_rate=1e-3"])
    other = shutil.copytree(BUNDLED_FOLDER, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(InfiMmrError, match="the parent checkpoint is not the one this run started from"):
        again(overrides=[f"model.start={json.dumps(str(other))}"])
    text = (run / "prompts.jsonl").read_text()
    (run / "prompts.jsonl").write_text(text.replace("\n", " \n", 1))
    with pytest.raises(InfiMmrError, match=r"prompts\.jsonl was changed since the run began"):
        again()
    (run / "prompts.jsonl").write_text(text)
    with pytest.raises(KeyboardInterrupt):  # it comes as far as OpenRLHF
        again()


def test_a_resume_of_an_older_run_writes_its_held_out_items_anew(begun):
    again, run, _, _ = begun
    evaluated = ["evaluation.every=1", 'evaluation.benchmarks=["math500","mathverse"]', "evaluation.limit=5"]
    with pytest.raises(KeyboardInterrupt):
        again(overrides=evaluated)
    wanted = (run / FILE).read_text()
    old = [json.loads(text) for text in wanted.splitlines()]
    (run / FILE).write_text("".join(json.dumps({k: v for k, v in line.items() if k != "item"}) + "\n" for line in old))
    with pytest.raises(KeyError):
        read_items(run)
    with pytest.raises(KeyboardInterrupt):
        again(overrides=evaluated)
    assert (run / FILE).read_text() == wanted
    shutil.rmtree(Path(json.loads(wanted.splitlines()[-1])["images"][0]).parents[1])
    with pytest.raises(KeyboardInterrupt):
        again(overrides=evaluated)
    assert all(path.is_file() for path in pictures(run))
    assert Path(json.loads(wanted.splitlines()[-1])["images"][0]).is_file()


def test_the_run_record_names_the_dataset_version_and_the_hash_of_its_manifest(begun):
    _, run, store, _ = begun
    dataset = json.loads((run / "run.json").read_text())["dataset"]
    manifest = json.loads((store / "datasets/virl39k-captioned/v1/manifest.json").read_text())
    assert dataset["version"] == "v1"
    assert dataset["manifest_sha256"] == manifest["manifest_sha256"]
    assert dataset["fingerprint"] == manifest["fingerprint"]


def test_resume_where_nothing_was_started_is_refused_and_the_nearest_run_named(tmp_path):
    (tmp_path / "mre-local").mkdir()
    (tmp_path / "mre-local" / "run.json").write_text("{}")
    check_begun(tmp_path / "mre-local")
    with pytest.raises(UsageError, match=r"mre-locl holds no run to resume. Did you mean .*mre-local\?"):
        check_begun(tmp_path / "mre-locl")
    with pytest.raises(UsageError, match="Leave --resume out"):
        check_begun(tmp_path / "elsewhere" / "run")


def test_a_checkpoint_whose_run_nothing_tells_of_is_not_taken_for_the_new_runs(begun):
    again, run, _, _ = begun
    (run / "checkpoint").mkdir()
    (run / "run.json").unlink()
    for resume in (True, False):
        with pytest.raises(InfiMmrError, match=r"holds a checkpoint, but no run\.json of its run\. Choose another"):
            again(resume=resume)


def test_what_a_disk_left_in_the_metrics_is_no_step_and_ends_no_resume(begun):
    again, run, _, _ = begun
    (run / "metrics.jsonl").write_bytes(
        b'{"step": 1}\n\xff\xfe\x00\n[1]\n5\n{"nostep": 1}\n{"step": "a"}\n{"step": 2, "rew'
    )
    with pytest.raises(KeyboardInterrupt):
        again()
    assert (run / "metrics.jsonl").read_text() == ""  # no state was saved: step 1 is trained again


@pytest.mark.parametrize("place", ["_actor", "."])  # of OpenRLHF's PPO and SFT entries
def test_a_state_that_was_cut_off_is_passed_over_for_the_last_whole_one_and_said(tmp_path, place):
    folder, told = tmp_path / place, []
    for step in (4, 8, 12):
        (folder / f"global_step{step}").mkdir(parents=True)
        for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_optim_states.pt"):
            with zipfile.ZipFile(folder / f"global_step{step}" / name, "w") as file:
                file.writestr("data", b"1" * 1000)
    (folder / "latest").write_text("global_step8")
    assert whole_step(tmp_path, told.append) == 8, "12 was being saved when the run was killed"
    assert told == []
    os.truncate(folder / "global_step8" / "zero_pp_rank_0_optim_states.pt", 700)
    assert (whole_step(tmp_path, told.append), saved_step(tmp_path)) == (4, 4)
    shutil.rmtree(folder / "global_step4")
    assert (whole_step(tmp_path, told.append), saved_step(tmp_path)) == (0, 0)
    assert told == [
        "the saved state of step 8 is not whole: the one of step 4 is taken",
        "the saved state of step 4 is not whole: none other is left, and the phase begins anew",
    ]
    assert whole_step(tmp_path / "none", told.append) == 0


@pytest.mark.parametrize(("most", "rows"), [(1, "1 row trains"), (3, "3 rows train"), (4, "")])
def test_fewer_rows_than_a_step_takes_are_told_before_anything_starts(begun, most, rows):
    again, run, _, told = begun
    shutil.rmtree(run)
    with pytest.raises(KeyboardInterrupt):
        again(resume=False, overrides=[f"data.max_rows={most}"])
    assert told == ([f"{rows} in steps of 4: each step takes the same ones several times"] if rows else [])
