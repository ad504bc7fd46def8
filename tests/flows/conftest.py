"""The trainer's small datasets and small steps, for whole commands."""

from __future__ import annotations

import sys

import psutil
import pytest

from tests.trainer.conftest import mini_store, publish, row  # noqa: F401 - fixtures

SMALL_STEPS = (
    "rollout.batch_size=4",
    "rollout.samples_per_prompt=4",
    "train.batch_size=16",
    "train.micro_batch_size=8",
)


@pytest.fixture(scope="session")
def ray_nodes():
    """`benchmarks/ray_nodes.py`: clusters of several nodes on this machine."""
    from benchmarks import ray_nodes

    return ray_nodes


@pytest.fixture(scope="session")
def small_steps():
    """Settings of phases whose steps have 16 rollouts and one update."""
    return SMALL_STEPS


@pytest.fixture(scope="session")
def phase_command():
    """Words of `trainer phase` with small steps on the CPU, and with more words and settings."""

    def words(name, output, store, *more, settings=()):
        words = [sys.executable, "-m", "trainer.cli", "phase", "--name", name, "--profile", "local", "--device", "cpu"]
        words += ["--output", output, "--store", store, *more]
        return [str(word) for word in (*words, *(f"--set={setting}" for setting in (*SMALL_STEPS, *settings)))]

    return words


@pytest.fixture(scope="session")
def run_processes():
    """Processes of the run in a folder: those whose environment names its agents' folder."""

    def found(output):
        return [process for process in psutil.process_iter() if _is_of(process, str(output / "rollouts"))]

    return found


def _is_of(process, wanted):
    try:
        return wanted in process.environ().get("INFI_MMR_RECORDS", "")
    except psutil.Error:
        return False
