"""One attempt of a run: OpenRLHF is started, what it records is written down and told, how it ends is recorded."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from zipfile import is_zipfile

from shared.errors import InfiMmrError
from shared.whole_file import write_whole
from trainer.display import RunTold
from trainer.held_out import FILE as HELD_OUT
from trainer.openrlhf_bridge.agent_settings import AgentSettings
from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf
from trainer.openrlhf_bridge.engine_arguments import engine_arguments
from trainer.openrlhf_bridge.launch import Ending, LaunchSpec
from trainer.openrlhf_bridge.progress import Event, Stage
from trainer.own_reward import failure, for_workers
from trainer.rewards import RewardWeights
from trainer.rollouts import METRICS, RunWriter
from trainer.run_record import Attempt, RunRecord, now, write_record
from trainer.sample_tables import SampleTables
from trainer.training_data import read_prompt_file

STATES = "ckpt"
"""DeepSpeed's states, from which a run goes on."""
WEIGHTS = "weights"
"""What OpenRLHF saves at the end, before it becomes a checkpoint."""


def train(
    record: RunRecord, output: Path, parent: Path, watcher: RunTold, *, tell: Callable[[str], None], ray_address: str
) -> RunRecord:
    """Train a prepared run from its newest whole state to its end; returns its record.

    Raises:
        InfiMmrError: OpenRLHF refuses the arguments, or the training failed; the run can then be resumed.
        KeyboardInterrupt: interrupted; the run can be resumed.

    """
    resumed_from = whole_step(output / STATES, tell)
    if resumed_from:
        watcher.said(f"continues after step {resumed_from} of {record.steps}")
    attempt = RunningAttempt(output, record, resumed_from, watcher, tell)
    failure(attempt.writer.parts)  # of an attempt that was killed before it could tell
    watcher.stage(Stage("asking OpenRLHF's parser about the arguments"))
    spec = launch_spec(record, output, parent, attempt.writer.parts, resumed_from, ray_address)
    ray = f"joining Ray at {ray_address}" if ray_address else "starting Ray"
    watcher.stage(Stage("starting OpenRLHF" if spec.agent is None else ray))
    ending = attempt.run(spec)
    if ending.returncode != 0 or (attempt.last_step < record.steps and not record.phase.rollout.dynamic_filtering):
        own = failure(attempt.writer.parts)
        reason = own or ending.trouble or f"OpenRLHF ended with status {ending.returncode}"
        attempt.close("failed", reason)
        raise InfiMmrError(
            f"phase {record.phase.name} stopped after step {attempt.last_step} of {record.steps}: {reason}",
            f"{'Fix the function' if own else f'See {output}/openrlhf.log'}; the same command with --resume continues "
            f"after step {saved_step(output / STATES)}",
        )
    return attempt.close("finished")


def launch_spec(  # noqa: PLR0917 - the run's six parts
    record: RunRecord, output: Path, parent: Path, records: Path, resumed_from: int, ray_address: str
) -> LaunchSpec:
    """Everything that the launcher needs; OpenRLHF's own parser has accepted the arguments.

    Raises:
        InfiMmrError: OpenRLHF refuses the arguments.

    """
    phase, device = record.phase, record.device
    prompts = read_prompt_file(output)
    facts = PromptFacts(prompts.rows, max(prompts.max_images, record.held_out.get("max_images", 0)))
    paths = RunPaths(
        prompts=str(output / "prompts.jsonl"),
        checkpoint=str(parent),
        states=str(output / STATES),
        output=str(output / WEIGHTS),
        tensorboard=str(output / "tensorboard"),
        held_out=str(output / HELD_OUT) if phase.evaluation.every else "",
    )
    arguments = openrlhf_arguments(phase, paths, facts, device=device, resume=resumed_from > 0)
    parse_with_openrlhf(arguments, phase.method)
    agent = AgentSettings(
        first_step=resumed_from + 1,
        weights=RewardWeights.model_validate(phase.reward.model_dump(exclude={"function"})),
        reward=for_workers(record.reward, output),
        dtype=record.dtype,
        engine=engine_arguments(phase, facts.max_images, device),
    )
    return LaunchSpec(
        arguments=arguments,
        folder=output,
        records=records,
        agent=None if phase.method == "sft" else agent,
        device=device,
        dtype=record.dtype,
        gpus=phase.cluster.gpus_per_node if device == "cuda" else 1,
        ray_address=ray_address,
    )


def saved_step(states: Path) -> int:
    """Step of the newest whole DeepSpeed state; 0 where there is none.

    DeepSpeed writes `latest` after everything else of a state.
    """
    places = (states / "_actor" / "latest", states / "latest")  # of the PPO and the SFT entry
    said = next((place.read_text().strip() for place in places if place.is_file()), "")
    found = re.fullmatch(r"global_step(\d+)", said)
    return int(found[1]) if found else 0


def whole_step(states: Path, tell: Callable[[str], None]) -> int:
    """Step of the newest state of which every file is whole, which `latest` names from then on; 0 where none is left.

    DeepSpeed would end minutes later on a file that a full disk or a copy cut off. `tell` hears of a state passed over.
    """
    named = saved_step(states)
    place = states / "_actor" if (states / "_actor" / "latest").is_file() else states
    steps = [int(folder.name.removeprefix("global_step")) for folder in place.glob("global_step*") if _is_whole(folder)]
    found = max((step for step in steps if step <= named), default=0)
    if found != named:
        write_whole(place / "latest", f"global_step{found}") if found else (place / "latest").unlink()
        begins = f"the one of step {found} is taken" if found else "none other is left, and the phase begins anew"
        tell(f"the saved state of step {named} is not whole: {begins}")
    return found


def _is_whole(state: Path) -> bool:
    """Whether the files of a DeepSpeed state reach to their ends: torch saves zip files, whose index comes last."""
    files = list(state.glob("*.pt"))
    return state.name.removeprefix("global_step").isdigit() and bool(files) and all(map(_ends, files))


def _ends(file: Path) -> bool:
    with file.open("rb") as stream:
        begins = stream.read(2)
    return is_zipfile(file) or begins not in {b"", b"\0\0", b"PK"}  # torch's older form does not say where it ends


class RunningAttempt:
    """What is known of an attempt, written into the run's record when it begins and when it ends."""

    def __init__(
        self, output: Path, record: RunRecord, resumed_from: int, watcher: RunTold, tell: Callable[[str], None]
    ) -> None:
        """Begin behind step `resumed_from`; the record gets the attempt, and what became of the one before."""
        phase = record.phase
        self.writer = RunWriter(output, resumed_from=resumed_from, supervised=phase.method == "sft", tell=tell)
        self._samples = SampleTables(output, phase.name, phase.logging.wandb_project, tell)
        self._output, self._record, self._watcher = output, record, watcher
        self._earlier = _settled(record.attempts, resumed_from)
        self._attempt = Attempt(started=now(), first_step=resumed_from + 1, last_step=resumed_from)
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
                ending = run(spec, self._hear, self._look)
                self._look(over=True)
            except KeyboardInterrupt:
                self.close("interrupted")
                raise
            except OSError as error:
                with suppress(OSError):  # the disk that refused a step's files may refuse the record, too
                    self.close("failed", str(error))
                raise
            else:
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

    def _look(self, *, over: bool = False) -> None:
        """Write, tell and record what has been finished; `over` once nothing runs any more."""
        for file, line in self.writer.finished(over=over):
            if file == METRICS:
                self._attempt = self._attempt.model_copy(update={"last_step": line["step"]})
                self._watcher.step(line, self._record.steps)
                self._samples.write(line["step"])
            else:
                shares = (f"{name} {100 * one['accuracy']:.1f}%" for name, one in line["accuracy"].items())
                self._watcher.said(f"held-out items after step {line['step']}: {', '.join(shares)}")


def _settled(attempts: tuple[Attempt, ...], resumed_from: int) -> tuple[Attempt, ...]:
    """Earlier attempts; the last one may have been killed without saying so, or saved steps when nobody looked."""
    if not attempts:
        return ()
    *earlier, last = attempts
    if last.outcome == "running":
        reason = f"no end was recorded; continued after step {resumed_from}"
        last = last.model_copy(update={"outcome": "killed", "reason": reason})
    if last.last_step < resumed_from:
        reason = f"{last.reason}; steps up to {resumed_from} were saved after the last one that was seen"
        last = last.model_copy(update={"last_step": resumed_from, "reason": reason})
    return (*earlier, last)
