"""What engines are told beyond OpenRLHF's arguments, and that it reaches them; the processor that travels by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer.openrlhf_bridge import cpu_compat
from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.cpu_compat.rollout_path import ROLLOUT_PATH
from trainer.openrlhf_bridge.engine_arguments import engine_arguments, working_gib
from trainer.phase import load_phase

ROOT = Path(__file__).parents[2]


def test_an_engine_takes_all_rollouts_of_its_share_of_a_step_at_once_up_to_the_largest_graph():
    full = load_phase("mre", "full")  # 256 prompts x 16 rollouts on 16 engines
    assert engine_arguments(full, 1, "cuda")["max_num_seqs"] == 256
    one = load_phase("mre", "full", ["cluster.nodes=1", "cluster.gpus_per_node=1"])
    assert engine_arguments(one, 1, "cuda")["max_num_seqs"] == 512
    halves = load_phase("mre", "full", ["cluster.tensor_parallel=2"])
    assert engine_arguments(halves, 1, "cuda")["max_num_seqs"] == 512
    assert engine_arguments(load_phase("mre", "local"), 1, "cpu")["max_num_seqs"] == 128


def test_videos_are_never_prepared_for_and_a_phase_of_text_prepares_for_one_picture():
    assert engine_arguments(load_phase("mre", "full"), 2, "cuda")["limit_mm_per_prompt"] == {"image": 2, "video": 0}
    assert engine_arguments(load_phase("fra", "full"), 0, "cuda")["limit_mm_per_prompt"] == {"image": 1, "video": 0}


def test_a_scheduling_step_on_a_card_takes_several_prompts_with_pictures_and_a_cpus_stays_vllms_own():
    full, local = load_phase("mre", "full"), load_phase("mre", "local")
    assert engine_arguments(full, 1, "cuda")["max_num_batched_tokens"] == 8192
    assert "max_num_batched_tokens" not in engine_arguments(local, 1, "cpu")
    assert 0.5 < working_gib(full, {"hidden_size": 2048, "vocab_size": 151_936}) < 1.5


def test_the_arguments_reach_openrlhfs_actors_in_place_of_its_own(monkeypatch):
    started = []

    class Actor:
        @classmethod
        def options(cls, **_):
            return cls

        @staticmethod
        def remote(**values):
            started.append(values)

    module = SimpleNamespace(RolloutRayActor=Actor, create_vllm_engines=None)
    monkeypatch.setenv(SETTINGS, AgentSettings(engine={"max_num_seqs": 7}).to_json())
    ROLLOUT_PATH[0].after(module)
    module.RolloutRayActor.options(num_cpus=1).remote(model="m", max_num_seqs=1)
    assert started == [{"model": "m", "max_num_seqs": 7}]


PROGRAM = r"""
import json, sys
import ray
ray.init(address="local", include_dashboard=False, num_cpus=1)
from openrlhf.trainer.ppo_trainer import get_tokenizer
processor = get_tokenizer(sys.argv[1], None, "left", None)

@ray.remote
class Actor:
    def look(self, hf_tokenizer):
        return id(hf_tokenizer), type(hf_tokenizer).__name__, hf_tokenizer.tokenizer.padding_side

actor = Actor.remote()
seen = [ray.get(actor.look.remote(hf_tokenizer=processor)) for _ in range(3)]
from ray._private.worker import global_worker
size = global_worker.get_serialization_context().serialize(processor).total_bytes
print("RESULT" + json.dumps({"objects": len({one[0] for one in seen}), "seen": seen[0][1:], "bytes": size}))
"""


@pytest.mark.slow
def test_the_processor_travels_by_name_and_is_loaded_once_per_process():
    environment = {**os.environ, **cpu_compat.environment(), "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])
    checkpoint = str(ROOT / "shared" / "laptop" / "assets" / "tiny-vl")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, checkpoint],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.split("RESULT")[1].splitlines()[0])
    assert found["objects"] == 1
    assert found["seen"] == ["Qwen2_5_VLProcessor", "left"]
    assert found["bytes"] < 2000
