"""One attempt of a run while OpenRLHF trains: what is heard of it is written, told to people and recorded."""

from __future__ import annotations

import importlib
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.openrlhf_bridge.progress import Evaluated, Event, Stage, Step
from trainer.run_record import Attempt, RunRecord, now, write_record

if TYPE_CHECKING:
    from trainer.openrlhf_bridge.launch import Ending, LaunchSpec
    from trainer.rollouts import RunWriter
    from trainer.sample_tables import SampleTables


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begins(self, phase: str) -> None:
        """A phase begins."""

    def stage(self, stage: Stage) -> None:
        """What goes on from now on."""

    def said(self, text: str) -> None:
        """A process that works for this one, such as an evaluation, says how it goes on."""

    def resumed(self, after: int, steps: int) -> None:
        """A run that was cut off goes on after a step."""

    def step(self, line: dict[str, Any], steps: int) -> None:
        """A finished step: its metrics line, and how many steps there will be."""


class Silent:
    """Tells nobody."""

    def begins(self, phase: str) -> None:
        """Nothing."""

    def stage(self, stage: Stage) -> None:
        """Nothing."""

    def said(self, text: str) -> None:
        """Nothing."""

    def resumed(self, after: int, steps: int) -> None:
        """Nothing."""

    def step(self, line: dict[str, Any], steps: int) -> None:
        """Nothing."""


class RunningAttempt:
    """What is known of an attempt, written into the run's record when it begins and when it ends."""

    def __init__(
        self,
        output: Path,
        record: RunRecord,
        *,
        resumed_from: int,
        writer: RunWriter,
        samples: SampleTables,
        watcher: Watcher,
        evaluated_every: int,
    ) -> None:
        """Begin behind step `resumed_from`; the record gets the attempt, and what became of the one before."""
        self._output, self._record = output, record
        self._earlier = _settled(record.attempts, resumed_from)
        self._attempt = Attempt(started=now(), first_step=resumed_from + 1, last_step=resumed_from)
        self._writer, self._samples, self._watcher = writer, samples, watcher
        self._evaluated_every = evaluated_every
        self._write()

    @property
    def last_step(self) -> int:
        """The last finished step that is known."""
        return self._attempt.last_step

    def run(self, spec: LaunchSpec) -> Ending:
        """Run OpenRLHF to its end; an interruption and a disk that refuses are recorded before they are told."""
        from trainer.openrlhf_bridge.launch import run

        with closing(self._samples):
            try:
                ending = run(spec, self._hear)
                if ending.returncode == 0:
                    self._hear_rest()
            except KeyboardInterrupt:
                self.close("interrupted")
                raise
            except OSError as error:
                with suppress(OSError):  # the disk that refused a step's files may refuse the record, too
                    self.close("failed", str(error))
                raise
        return ending

    def close(self, outcome: str, reason: str = "") -> RunRecord:
        """Write how it ended; returns the run's record with it."""
        self._attempt = self._attempt.model_copy(update={"ended": now(), "outcome": outcome, "reason": reason})
        return self._write()

    def _write(self) -> RunRecord:
        record = self._record.model_copy(update={"attempts": (*self._earlier, self._attempt)})
        write_record(self._output, record)
        return record

    def _hear(self, event: Event) -> None:
        if isinstance(event, Stage):
            self._watcher.stage(event)
            # Needed to write the first step, which is then told at once; imported while Ray and vLLM start.
            importlib.import_module("polars")
        elif isinstance(event, Step):
            self._finished(self._writer.finish_step(event.step, event.values))
        elif isinstance(event, Evaluated):
            self._evaluated(event.step)

    def _hear_rest(self) -> None:
        """What a run that ended well did and its log did not pass on: Ray may end before the last lines are through."""
        for line in self._writer.finish_unheard(self._record.steps):
            self._finished(line)
        if self._evaluated_every and self._writer.holds_answers():
            self._evaluated(self.last_step - self.last_step % self._evaluated_every)

    def _finished(self, line: dict[str, Any]) -> None:
        self._attempt = self._attempt.model_copy(update={"last_step": line["step"]})
        self._watcher.step(line, self._record.steps)
        self._samples.write(line["step"])

    def _evaluated(self, step: int) -> None:
        found = self._writer.finish_evaluation(step)["accuracy"]
        shares = ", ".join(f"{name} {100 * one['accuracy']:.1f}%" for name, one in found.items())
        self._watcher.said(f"held-out items after step {step}: {shares}")


def _settled(attempts: tuple[Attempt, ...], resumed_from: int) -> tuple[Attempt, ...]:
    """Earlier attempts; the last one may have been killed without saying so, or saved steps that nobody heard of."""
    if not attempts:
        return ()
    *earlier, last = attempts
    if last.outcome == "running":
        reason = f"no end was recorded; continued after step {resumed_from}"
        last = last.model_copy(update={"outcome": "killed", "reason": reason})
    if last.last_step < resumed_from:
        reason = f"{last.reason}; steps up to {resumed_from} were saved after the last one that was heard of"
        last = last.model_copy(update={"last_step": resumed_from, "reason": reason})
    return (*earlier, last)
