"""The policy's processor, sent to rollout actors by name and loaded there once.

OpenRLHF hands its processor to a rollout actor with every problem. Pickled, that of Qwen2.5-VL is 7 MB of vocabulary:
0.15 s in the process that collects and 0.34 s in the actor, each time, on the thread that feeds the engine (a step of
256 problems: 38 s and 86 s on a 2 GHz core). Both load it from the same checkpoint, so its place says it all.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def send_by_name(module: Any) -> None:
    """Have the processor that `openrlhf.trainer.ppo_trainer` loads travel by name from then on."""
    load = module.get_tokenizer

    def get_tokenizer(checkpoint: str, model: Any, padding_side: str = "left", *others: Any, **values: Any) -> Any:
        import ray

        processor = load(checkpoint, model, padding_side, *others, **values)
        ray.util.register_serializer(
            type(processor), serializer=lambda _: (checkpoint, padding_side), deserializer=kept_processor
        )
        return processor

    module.get_tokenizer = get_tokenizer


@cache
def kept_processor(place: tuple[str, str]) -> Any:
    """The processor of a checkpoint (folder, padding side), loaded once in this process."""
    from openrlhf.utils.utils import get_tokenizer as load

    checkpoint, padding_side = place
    return load(checkpoint, None, padding_side)
