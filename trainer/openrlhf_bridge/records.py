"""What the processes of a run write down for the launcher: JSON lines, one file per process, in one folder of the run.

Rollout actors write a line per rollout and one per step with their seconds (`agent.py`), OpenRLHF's trainer one per
finished step and per evaluation during training: its numbers as they are, at once, and not by way of Ray, which folds
logs together and may end before it has passed on the last lines. A step's line is written after everything else of the
step and before its state is saved. So who reads the trainer's file before the actors' has every rollout of a step that
it names, and no saved step is without its line. Read by `trainer.rollouts`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "INFI_MMR_RECORDS"
"""Environment variable of every process of a run: the folder."""
ACTOR, TRAINER = "actor", "trainer"
"""Whose a file is: how its name begins."""


class RecordFile:
    """The file of this process, made when it begins to write: no two processes write to the same one."""

    def __init__(self, whose: str) -> None:
        """`whose` is `ACTOR` or `TRAINER`.

        Raises:
            KeyError: the process was not started by the launcher.

        """
        self.folder = Path(os.environ[FOLDER])
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{whose}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
        self._file = (self.folder / name).open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any], *, ends: bool = False) -> None:
        """Append a line; where it `ends` something, other machines that share the folder see it and all before it."""
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        if ends:
            os.fsync(self._file.fileno())

    def write_step(self, step: int, values: Mapping[str, Any]) -> None:
        """Append what OpenRLHF says of a finished step under its own names; what is no number is left out."""
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        self.write({"step": step, "values": numbers}, ends=True)


def record_steps(module: Any) -> None:
    """Have `openrlhf.trainer.ppo_trainer` record steps and evaluations where it logs them, and TensorBoard show them.

    Its writer would keep a step's numbers back for up to two minutes.
    """

    class StepLogger(module.TensorboardLogger):  # type: ignore[misc]  # OpenRLHF has no type information
        """OpenRLHF's logger, and ours beside it."""

        def __init__(self, args: Any) -> None:
            super().__init__(args)
            self._records = RecordFile(TRAINER)

        def log_train(self, global_step: int, logs_dict: dict[str, Any]) -> None:
            super().log_train(global_step, logs_dict)
            self.writer.flush()
            self._records.write_step(global_step, logs_dict)

        def log_eval(self, global_step: int, logs_dict: dict[str, Any]) -> None:
            super().log_eval(global_step, logs_dict)
            self.writer.flush()
            self._records.write({"evaluated": global_step}, ends=True)

    module.TensorboardLogger = StepLogger
