"""Train one phase, from its resolved file to a finished checkpoint.

Route: checks -> dataset version -> prompt file -> OpenRLHF's arguments -> launch -> checkpoint with its run record. A
run folder holds `run.json`, `prompts.jsonl`, `metrics.jsonl`, `rollouts/`, `tensorboard/`, `ckpt/` (DeepSpeed states,
removed when the checkpoint is whole), `openrlhf.log` and, at the end, `checkpoint/`.
The same call on the same folder continues a run that was cut off, inside the phase, from its newest whole state.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from shared.devices import gpus_here
from shared.errors import InfiMmrError, UsageError, system_error
from shared.installation import check_vllm
from shared.progress import Progress
from shared.provenance import code_commit, package_versions
from shared.vlm.checkpoint import foreign_prompts, read_config
from shared.whole_file import made_folder
from trainer import preflight
from trainer.checkpoint import finish_checkpoint, weights_hash
from trainer.display import RunTold
from trainer.families import check_linear_attention
from trainer.held_out import at_hand, write_held_out
from trainer.openrlhf_bridge.progress import Stage
from trainer.own_reward import OwnReward, checked_reward, recorded
from trainer.phase import Phase
from trainer.picture_cache import restore_pictures
from trainer.rollouts import PARTS, read_metrics
from trainer.run_attempt import STATES, WEIGHTS, saved_step, train
from trainer.run_record import PACKAGES, RunRecord, machine, read_record, write_record
from trainer.training_data import (
    check_dataset,
    first_label,
    left_out_text,
    training_split,
    write_prompts,
    written_label,
)

LOCK = ".lock"
"""File of a run folder that the process holds which trains there."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """How and where phases are trained: what is no part of them."""

    resume: bool = False
    """Continue the run in `output` if there is one; without it a used folder is refused."""
    store: str | None = None
    device: Literal["cuda", "cpu"] = "cpu"
    ray_address: str = ""
    tell: Callable[[str], None] = lambda _: None
    """Told what a user should know before the training starts, in one line each."""

    def surroundings(self) -> dict[str, Any]:
        """The fields of every such request."""
        return {one.name: getattr(self, one.name) for one in fields(RunRequest)}


@dataclass(frozen=True)
class PhaseRequest(RunRequest):
    """One phase to be trained."""

    phase: Phase
    output: Path


def run_phase(request: PhaseRequest, watcher: RunTold | None = None) -> RunRecord:
    """Train a phase and return its record. A finished run is returned as it is, and not run again.

    Raises:
        InfiMmrError: a check failed before the start, or the training failed; the run can then be resumed.
        KeyboardInterrupt: interrupted; the run can be resumed.

    """
    watcher = watcher or RunTold(Progress())
    phase, output = request.phase, request.output.resolve()
    request = replace(request, ray_address=preflight.without_ray(phase, request.ray_address))
    preflight.check_path(output)
    watcher.begins(phase.name)
    with _told(phase), _locked(output):
        record = _existing(output, request.resume)
        if record is not None and record.finished:
            _check_same_run(record, phase)
            return record
        watcher.stage(Stage("checking packages, checkpoint and memory"))
        preflight.check_packages()
        if not request.ray_address:  # else the engines are on the cluster's machines
            check_vllm(cuda=request.device == "cuda")
        preflight.check_attention(phase, request.device)
        if request.device == "cuda" and not request.ray_address:
            preflight.check_gpus(phase, gpus_here())
        preflight.check_compiler()
        preflight.check_ray(request.ray_address)
        if record is None:  # a dataset that cannot serve is told before a checkpoint of gigabytes is fetched
            check_data(request)
        parent = _parent(phase)
        preflight.check_architecture(parent, phase)
        preflight.check_lora(parent, phase)
        dtype = record.dtype if record else phase.dtype_on(request.device)
        check_linear_attention(parent.name, read_config(parent), request.device, dtype)
        preflight.check_memory(parent, request.device, dtype=dtype, method=phase.method)
        if request.device == "cuda":
            from trainer.plan import check_gpu_memory

            check_gpu_memory(phase.starting_from(str(parent)))
        watcher.stage(Stage("reading the dataset and writing prompts"))
        record = _prepared(request, output, parent, record)
        if not _trained(output, record):
            record = train(record, output, parent, watcher, tell=request.tell, ray_address=request.ray_address)
        watcher.stage(Stage("making the checkpoint"))
        return _finished(output, parent, record)


@contextmanager
def _told(phase: Phase) -> Iterator[None]:
    """Put the phase in front of what the machine refuses (a full disk, no permission)."""
    try:
        yield
    except OSError as error:
        told = system_error(error, "the same command with --resume")
        if told is None:
            raise
        raise InfiMmrError(f"phase {phase.name}: {told.message}", told.next_step) from error


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Hold the run folder: two processes never train into the same one."""
    fresh = not output.exists()
    made_folder(output)
    with (output / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InfiMmrError(
                f"another process trains in {output}", "Wait for it or choose another --output"
            ) from error
        try:
            yield
        except BaseException:
            if fresh and [path.name for path in output.iterdir()] == [LOCK]:  # refused before anything was written
                shutil.rmtree(output, ignore_errors=True)
            raise


def _existing(output: Path, resume: bool) -> RunRecord | None:
    record = read_record(output)
    if record is None and checkpoint_of(output).exists():  # it would be taken for that of the new run
        raise InfiMmrError(f"{output} holds a checkpoint, but no run.json of its run", "Choose another --output")
    if record is not None and not resume:
        how = "is finished" if record.finished else "was cut off"
        raise InfiMmrError(
            f"{output} already holds a run of phase {record.phase.name}, which {how}",
            "Continue it with --resume, or choose another --output",
        )
    return record


def _parent(phase: Phase) -> Path:
    from shared.vlm.checkpoint import checkpoint_folder
    from shared.vlm.spec import EngineSpec

    try:
        return checkpoint_folder(EngineSpec(model=phase.model.start, revision=phase.model.revision or None)).resolve()
    except InfiMmrError as error:
        raise InfiMmrError(f"phase {phase.name}: {error.message}", error.next_step) from error


def _open(request: PhaseRequest) -> Any:
    from shared.dataset_version import open_dataset

    try:
        version = open_dataset(request.phase.data.dataset, request.store)
    except UsageError as error:
        store = f" --store {request.store}" if request.store else ""
        name = request.phase.data.dataset.split("@")[0]
        near, asked, _ = error.next_step.partition("?")
        build = f"Build it with `data-engine build {name} --profile {request.phase.profile_name}{store}`"
        raise InfiMmrError(error.message, f"{near}? {build}" if asked else build) from error
    return training_split(version, request.phase)


def check_data(request: PhaseRequest) -> None:
    """Refuse a phase whose dataset is not there or cannot serve it, or whose own reward fails for a row of it.

    Raises:
        InfiMmrError: names the command that builds it, or what it lacks.

    """
    version = _open(request)
    check_dataset(version, request.phase)
    if request.phase.reward.function and (label := first_label(version, request.phase)):
        _own_reward(request.phase, label)


def _own_reward(phase: Phase, label: dict[str, Any]) -> OwnReward:
    return checked_reward(phase.reward.function, phase.name, label, phase.reward)


def _reward(request: PhaseRequest, output: Path, before: RunRecord | None) -> dict[str, Any]:
    """Record of a reward of the user's own; empty where there is none."""
    if not request.phase.reward.function:
        return {}
    own = _own_reward(request.phase, written_label(output))
    return recorded(own, output, before.reward if before else {}, saved_step(output / STATES), request.tell)


def _check_same_run(record: RunRecord, phase: Phase) -> None:
    if record.model_copy(update={"phase": phase}).identity != record.identity:
        raise InfiMmrError(
            f"the run in this folder was made with other values of phase {record.phase.name}",
            "Use the same values and --set as before, or choose another --output",
        )


def _prepared(request: PhaseRequest, output: Path, parent: Path, record: RunRecord | None) -> RunRecord:
    """Prompt file and run record: new, or those of the run that is continued."""
    from shared.dataset_version.manifest import manifest_hash
    from shared.fingerprint import file_hash
    from shared.vlm.checkpoint import checkpoint_hash

    phase = request.phase
    parent_record = {"location": _location(phase, parent), "sha256": checkpoint_hash(parent)}
    if record is not None:
        _check_same_run(record, phase)
        if record.parent["sha256"] != parent_record["sha256"]:
            raise InfiMmrError(
                "the parent checkpoint is not the one this run started from",
                "Name the same checkpoint, or choose another --output",
            )
        if file_hash(output / "prompts.jsonl") != record.prompts["sha256"]:
            raise InfiMmrError(f"{output}/prompts.jsonl was changed since the run began", "Choose another --output")
        held_out = record.held_out
        if not _trained(output, record):
            restore_pictures(
                output / "prompts.jsonl", record.dataset, phase.data.max_image_pixels, request.store, request.tell
            )
            if not (held_out and at_hand(output)):
                held_out = _held_out(request, parent, output)
        own = _reward(request, output, record)
        update = {"phase": phase, "device": request.device, "held_out": held_out, "reward": own}
        return record.model_copy(update=update)
    version = _open(request)
    check_dataset(version, phase)
    summary = write_prompts(version, phase, parent, output)
    if told := foreign_prompts(phase.prompts, str(parent)):
        request.tell(told)
    if told := left_out_text(summary):
        request.tell(told)
    if summary.distinct_rows < phase.rows_per_step:
        rows = "1 row trains" if summary.distinct_rows == 1 else f"{summary.distinct_rows} rows train"
        request.tell(f"{rows} in steps of {phase.rows_per_step}: each step takes the same ones several times")
    manifest = version.manifest
    dataset = {
        "name": version.name,
        "version": version.version,
        "label": manifest.label,
        "profile": manifest.profile,
        "fingerprint": manifest.fingerprint,
        "manifest_sha256": manifest_hash(manifest),
        "rows": version.rows,
    }
    record = RunRecord(
        phase=phase,
        device=request.device,
        dtype=phase.dtype_on(request.device),
        dataset=dataset,
        held_out=_held_out(request, parent, output),
        reward=_reward(request, output, None),
        prompts={**asdict(summary), "sha256": file_hash(output / "prompts.jsonl")},
        parent=parent_record,
        code_commit=code_commit("shared", "trainer"),
        packages=package_versions(PACKAGES),
        machine=machine(),
        steps=summary.rows // phase.rows_per_step,
    )
    write_record(output, record)
    return record


def _held_out(request: PhaseRequest, parent: Path, output: Path) -> dict[str, Any]:
    """Record of the prompt file of the evaluation during training; empty where there is none."""
    if not request.phase.evaluation.every:
        return {}
    record = write_held_out(request.phase, parent, output, request.store)
    if left := ", ".join(f"{count} {reason}" for reason, count in record["left_out"].items()):
        request.tell(f"held-out items that are not asked while it trains: {left}")
    return record


def _location(phase: Phase, parent: Path) -> str:
    """Where the parent came from, without an absolute path: a hub id, or the folder's last two names."""
    if "/" in phase.model.start and not Path(phase.model.start).exists():
        return f"{phase.model.start}@{phase.model.revision}"
    return phase.model.start if phase.model.start == "tiny-vl" else "/".join(parent.parts[-2:])


def _trained(output: Path, record: RunRecord) -> bool:
    """Whether only the checkpoint is missing: training ended, then a disk was full or the command was killed."""
    ended = bool(record.attempts) and record.attempts[-1].outcome == "finished"
    return ended and (checkpoint_of(output).is_dir() or any((output / WEIGHTS).glob("*.safetensors")))


def _finished(output: Path, parent: Path, record: RunRecord) -> RunRecord:
    """Make the checkpoint of a trained phase, remove what only served a resume, and return the whole record."""
    last = (read_metrics(output) or [{}])[-1]
    results = {name: float(value) for name, value in last.items() if isinstance(value, int | float)}
    record = record.model_copy(update={"results": results})
    checkpoint = checkpoint_of(output)
    if checkpoint.is_dir():  # it appears by a rename: it is whole
        digest = weights_hash(checkpoint)
    else:
        digest = finish_checkpoint(output / WEIGHTS, parent, checkpoint, record)
    record = record.model_copy(update={"checkpoint_sha256": digest})
    write_record(output, record)
    for folder in (output / WEIGHTS, output / STATES, output / "rollouts" / PARTS):
        shutil.rmtree(folder, ignore_errors=True)
    return record


def checkpoint_of(output: Path) -> Path:
    """Folder of the checkpoint that a finished run in `output` has."""
    return output / "checkpoint"
