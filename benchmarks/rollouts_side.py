"""One build's side of `rollouts.py`: OpenRLHF's rollout path on Ray with an engine that answers at once.

Run with that build's folder on PYTHONPATH: `python rollouts_side.py JOBS.json`. Prints one JSON object. The classes
below stand for the processes that OpenRLHF starts: `Collector` for its PPOTrainer (with OpenRLHF's sample generator and
experience maker), `Model` for policy and reference (a forward pass that only merges pictures, as the real one begins;
the replay buffer is OpenRLHF's).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import psutil
import ray
import torch

POLL_SECONDS = 0.05
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def pss(pid: int, name: str) -> int:
    """One number of a process's memory in bytes: `Rss`, `Anonymous`, ... (smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


class Peak:
    """Highest memory of this process while it runs: all that is mapped and touched, Ray's shared memory included."""

    def __enter__(self) -> Self:
        self.before, self.peak, self._stop = pss(os.getpid(), "Rss"), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.peak = max(self.peak, pss(os.getpid(), "Rss"))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, pss(os.getpid(), "Rss"))


def phase_of(job: dict[str, Any]) -> Any:
    """A phase of these sizes."""
    from trainer.phase import load_phase

    rollouts = job["problems"] * job["samples"]
    settings = [
        f"rollout.batch_size={job['problems']}", f"rollout.samples_per_prompt={job['samples']}",
        f"rollout.max_new_tokens={job['tokens']}", f"rollout.max_length={job['max_length']}",
        f"train.batch_size={rollouts}", "train.micro_batch_size=8",
    ]  # fmt: skip
    return load_phase("mre", "local", settings)


def openrlhf_arguments_of(phase: Any, job: dict[str, Any]) -> Any:
    """OpenRLHF's own namespace for a phase."""
    from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf

    paths = RunPaths("prompts.jsonl", job["checkpoint"], "states", "weights", "tensorboard")
    return parse_with_openrlhf(
        openrlhf_arguments(phase, paths, PromptFacts(job["problems"], 1), device="cpu", resume=False)
    )


def engine_of(phase: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the engine: OpenRLHF's, and this build's own where it has any."""
    arguments: dict[str, Any] = {"limit_mm_per_prompt": {"image": 1}}
    if find_spec("trainer.openrlhf_bridge.engine_arguments"):
        from trainer.openrlhf_bridge.engine_arguments import engine_arguments

        arguments |= engine_arguments(phase, 1, "cpu")
    return {**arguments, "max_num_seqs": job["at_once"]}


@ray.remote(num_cpus=0)
def size_of(references: list[Any]) -> int:
    """Bytes of the tensors that lie in Ray's shared memory, looked at in a process of its own."""
    return sum(int(tensor.nbytes) for tensors in ray.get(references) for tensor in tensors.values())


def shown(results: list[dict[str, Any]]) -> list[Any]:
    """What the results of a problem hold of its pictures."""
    return [result["mm_train_inputs"] for result in results]


def collector_class() -> Any:
    """The process that collects, as a Ray actor."""
    from openrlhf.trainer.ppo_trainer import get_tokenizer
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
    from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

    @ray.remote(num_cpus=0)
    class Collector:
        def __init__(self, args: Any, job: dict[str, Any], engines: list[Any], policy: Any, reference: Any) -> None:
            strategy = SimpleNamespace(args=args, is_rank_0=lambda: False)
            self.tokenizer = get_tokenizer(job["checkpoint"], None, "left", strategy)
            lines = [("", [prompt], [""], [pictures]) for prompt, pictures in job["rows"]]
            self.generator = SamplesGenerator(strategy, lines, None, self.tokenizer, engines)
            self.maker = RemoteExperienceMaker(
                policy, None, None, reference, FixedKLController(0.001), strategy, self.tokenizer
            )
            self.engines, self.policy, self.job = engines, policy, job

        def ready(self) -> None:
            """Answers when the process is up."""

        def step(self) -> dict[str, Any]:
            """One step as PPOTrainer makes it, up to the update."""
            sizes: list[int] = []
            apart: dict[int, Any] = {}
            """Pictures that results refer to."""
            get = ray.get

            def weighed(refs: Any, **values: Any) -> Any:
                result = get(refs, **values)
                if isinstance(result, list) and result and isinstance(result[0], dict) and "action_ranges" in result[0]:
                    sizes.append(ray.experimental.get_object_locations([refs])[refs].get("object_size") or 0)
                    apart.update({id(one): one.reference for one in shown(result) if hasattr(one, "reference")})
                return result

            ray.get = weighed
            started, began = time.process_time(), time.monotonic()
            with Peak() as peak:
                samples, *_ = self.generator.generate_samples(
                    max_len=self.job["max_length"], max_new_tokens=self.job["tokens"], temperature=1.0, top_p=1.0
                )
                generated = time.monotonic()
                answer_tokens = sum(int(sample.response_length) for sample in samples)
                experiences = self.maker.make_experience_batch(samples)
                ray.get(self.policy.async_run_method_batch(method_name="append", experience=experiences))
                ray.get(self.policy.async_run_method("fit"))
            ray.get = get
            sizes.extend(get([size_of.remote([reference]) for reference in apart.values()]))
            for number in range(2):
                get([e.update_weight.remote("w", torch.bfloat16, (1,), empty_cache=number == 1) for e in self.engines])
            return {
                "rollouts": len(samples),
                "answer_tokens": answer_tokens,
                "result_bytes": sum(sizes),
                "generation_seconds": generated - began,
                "collector_seconds": time.process_time() - started,
                "collector_peak_bytes": peak.peak,
                "collector_idle_bytes": peak.before,
            }

    return Collector


def model_class() -> Any:
    """The policy or the reference, as a Ray actor."""
    from openrlhf.trainer.ppo_utils import NaiveReplayBuffer
    from openrlhf.trainer.ray.launcher import BaseModelActor
    from openrlhf.utils.vlm_utils import merge_mm_train_inputs

    @ray.remote(num_cpus=0)
    class Model(BaseModelActor):
        def __init__(self, *_: Any) -> None:
            self.strategy = SimpleNamespace(is_rank_0=lambda: False)
            self.buffer = NaiveReplayBuffer(8)

        def empty_cache(self) -> None:
            pass

        def forward(self, action_mask: Any, mm_train_inputs_list: Any = None, **_: Any) -> Any:
            merge_mm_train_inputs(mm_train_inputs_list or [], "cpu")
            return torch.zeros_like(action_mask, dtype=torch.float32)

        def append(self, experience: Any) -> None:
            self.buffer.append(experience)

        def fit(self) -> int:
            kept = len(self.buffer)
            self.buffer.clear()
            return kept

    return Model


def measure(side: dict[str, Any]) -> dict[str, Any]:
    """Start the engine once, then make one step per job, each with a collecting process of its own."""
    from openrlhf.trainer.ray.launcher import RayActorGroup
    from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
    from transformers import AutoProcessor

    from trainer.openrlhf_bridge.arguments import AGENT

    first = next(iter(side["jobs"].values()))
    processor = AutoProcessor.from_pretrained(first["checkpoint"])
    actor = RolloutRayActor.options(num_cpus=0, num_gpus=1).remote(
        model=first["checkpoint"], dtype="bfloat16", max_model_len=first["max_length"], enforce_eager=True, seed=42,
        num_gpus=0, distributed_executor_backend="engine_stand_in.AnswersAtOnce", enable_prefix_caching=False,
        agent_func_path=str(AGENT), mm_pad_token_ids={processor.image_token_id, processor.video_token_id},
        **engine_of(phase_of(first), first),
    )  # fmt: skip
    groups = [RayActorGroup(1, 1, model_class(), num_gpus_per_actor=0) for _ in range(2)]
    found = {}
    for name, job in side["jobs"].items():
        collector = collector_class().remote(openrlhf_arguments_of(phase_of(job), job), job, [actor], *groups)
        ray.get([actor.get_num_unfinished_requests.remote(), collector.ready.remote()])
        process = psutil.Process(rollout_process())
        before, memory_before = process.cpu_times(), pss(process.pid, "Anonymous")
        step = dict(ray.get(collector.step.remote()))
        after = process.cpu_times()
        step["actor_seconds"] = after.user + after.system - before.user - before.system
        step["actor_microseconds_per_token"] = 1e6 * step["actor_seconds"] / step["answer_tokens"]
        step["actor_own_memory_grown_after_push"] = pss(process.pid, "Anonymous") - memory_before
        found[name] = {key: round(value, 2) if isinstance(value, float) else value for key, value in step.items()}
        ray.kill(collector)
    return found


def rollout_process() -> int:
    """Process id of the rollout actor of this run."""
    (found,) = [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith("ray::RolloutRay")
    ]
    return int(found)


def main() -> None:
    """Run one build's jobs."""
    side = json.loads(Path(sys.argv[1]).read_text())
    ray.init(
        address="local", include_dashboard=False, num_cpus=4, num_gpus=1, object_store_memory=side["store_bytes"],
        _temp_dir=side["scratch"], log_to_driver=side["verbose"],
    )  # fmt: skip
    found = measure(side)
    ray.shutdown()
    sys.stdout.write("RESULT" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
