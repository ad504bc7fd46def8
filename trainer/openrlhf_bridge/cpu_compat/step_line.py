"""Adaptations of every supervised run: what OpenRLHF's SFT trainer tells of a step, and the order in which it reads.

It tells a step only to a bar, rounded and now and then. Adapted, it prints the line that OpenRLHF's PPO trainer prints,
and records the same (`records.py`): the loss over all processes (the bar's is the first process's), the seconds of the
step, and the tokens that were read and learnt. And it trains on the lines of its file as they stand there, not in an
order of its own.
"""

from __future__ import annotations

import time
from typing import Any

from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation
from trainer.openrlhf_bridge.records import TRAINER, RecordFile


def _tell_steps(module: Any) -> None:
    windows, save = module.iter_grad_accum_global_norm, module.SFTTrainer.save_logs_and_checkpoints
    counted = {"tokens": 0.0, "trained_tokens": 0.0}
    begun: list[float] = []
    records: list[RecordFile] = []

    def counted_windows(window: Any, *others: Any) -> Any:
        begun[:] = begun or [time.monotonic()]
        for _, attention, learnt in window:
            counted["tokens"] += float(attention.sum())
            counted["trained_tokens"] += float(learnt.sum())
        return windows(window, *others)

    def save_logs_and_checkpoints(self: Any, args: Any, global_step: int, *others: Any) -> None:
        _, logs, *_ = others  # a bar, the step's numbers, the place in the data
        values = {**logs, **self.strategy.all_reduce(dict(counted), "sum")}
        values["loss_mean"] = self.strategy.all_reduce(values["loss_mean"])
        counted.update(dict.fromkeys(counted, 0.0))
        now = time.monotonic()
        values["timing/step_total"], begun[0] = now - begun[0], now
        if self.strategy.is_rank_0():
            records[:] = records or [RecordFile(TRAINER)]
            records[0].write_step(global_step, values)
            print(f"Global step {global_step}: {values}", flush=True)  # noqa: T201 - as OpenRLHF's other trainer does
        save(self, args, global_step, *others)

    module.iter_grad_accum_global_norm = counted_windows
    module.SFTTrainer.save_logs_and_checkpoints = save_logs_and_checkpoints


def _keep_order(module: Any) -> None:
    """Train in the order of the file, which the seed has drawn pass by pass."""
    fit = module.SFTTrainer.fit

    def fit_in_order(self: Any, *arguments: Any, **values: Any) -> Any:
        self.train_dataloader.sampler.shuffle = False  # read when a pass over the loader begins
        return fit(self, *arguments, **values)

    module.SFTTrainer.fit = fit_in_order


SUPERVISED = (
    Adaptation(
        "step line",
        "openrlhf.trainer.sft_trainer",
        ("iter_grad_accum_global_norm", "SFTTrainer.save_logs_and_checkpoints"),
        "the SFT trainer tells nobody of a finished step",
        _tell_steps,
    ),
    Adaptation(
        "order of the file",
        "openrlhf.trainer.sft_trainer",
        ("SFTTrainer.fit", "DistributedSampler"),
        "the SFT entry draws all lines in one order of its own: a row twice in an update, another in no first pass",
        _keep_order,
    ),
)
