"""Pictures of one problem on their way from a rollout actor over a collecting process to a policy; told as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import ray
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.vlm_utils import merge_mm_train_inputs
from ray._private import internal_api

from trainer.openrlhf_bridge.shared_pictures import share

PIXELS = torch.arange(3_000_000, dtype=torch.float32).to(torch.bfloat16).view(-1, 1500)


@ray.remote(num_cpus=0)
class Rollouts:
    """Answers as the agent does."""

    async def answer(self, samples: int) -> list[dict[str, Any]]:
        shared = share({"pixel_values": PIXELS, "image_grid_thw": torch.tensor([[1, 2, 3]])})
        return [{"mm_train_inputs": shared, "tokens": [number]} for number in range(samples)]


@ray.remote(num_cpus=0)
class Policy:
    """Trains on what it is handed."""

    def train(self, experience: Experience) -> list[Any]:
        merged = merge_mm_train_inputs(experience.to_device("cpu").mm_train_inputs, "cpu")
        copies = len(experience.mm_train_inputs)
        return [
            torch.equal(merged["pixel_values"], PIXELS.repeat(copies, 1)),
            merged["image_grid_thw"].tolist(),
        ]


def mapped() -> int:
    """Bytes of shared memory that this process has touched."""
    with open(f"/proc/{os.getpid()}/status", encoding="utf-8") as status:  # noqa: PTH123 - a pseudo file
        (line,) = (line for line in status if line.startswith("RssShmem"))
    return int(line.split()[1]) * 1024


def stored() -> int:
    """Bytes in Ray's shared memory."""
    node = ray.nodes()[0]
    told = internal_api.node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
    return int(told.store_stats.object_store_bytes_used)


def main() -> None:
    """One problem's way."""
    ray.init(address="local", include_dashboard=False, num_cpus=2, object_store_memory=2**28, _temp_dir=sys.argv[1])
    rollouts, policy = Rollouts.remote(), Policy.remote()
    ray.get([rollouts.__ray_ready__.remote(), policy.__ray_ready__.remote()])
    before = mapped()
    results = ray.get(rollouts.answer.remote(4))
    pictures = [result["mm_train_inputs"] for result in results]
    experience = Experience(mm_train_inputs=pictures, images=[None] * 4)
    trained = [ray.get(policy.train.remote(experience)) for _ in range(2)]
    touched = mapped() - before
    held = stored()
    experience.mm_train_inputs.clear()
    del pictures, results, experience
    for _ in range(100):
        if stored() < held:
            break
        time.sleep(0.1)
    sys.stdout.write(
        "RESULT" + json.dumps({"trained": trained, "touched": touched, "held": held, "left": stored()}) + "\n"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
