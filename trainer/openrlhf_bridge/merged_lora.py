"""LoRA in OpenRLHF's reinforcement learning: vLLM is pushed merged weights, and merged weights are saved.

OpenRLHF 0.11.2 trains adapters, but pushes them to vLLM under peft's names, which vLLM's model does not have,
and saves an adapter alone. Here the push sends each adapted layer's weight with its adapter's share added, under the
layer's own name, and the last save merges for good: every other tool sees a whole checkpoint. The policy itself is not
touched while it trains: adding and taking away in 16 bits would wear its weights down.
Not covered: ZeRO-3 (a layer's weight is then nowhere whole), which a phase refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.errors import InfiMmrError


class MergedWeight:
    """Stands for a trained weight while weights are pushed; made when it is sent, one at a time."""

    requires_grad = True

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        weight = layer.get_base_layer().weight
        self.shape, self.dtype = weight.shape, weight.dtype

    @property
    def data(self) -> Any:
        """The layer's weight with its adapter's share, in the weight's own numbers."""
        import torch

        weight = self._layer.get_base_layer().weight.data
        with torch.no_grad():
            for adapter in self._layer.active_adapters:
                weight = weight + self._layer.get_delta_weight(adapter).to(weight.dtype)
        return weight


def adapted(model: Any) -> bool:
    """Whether a model has adapters."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def merged_weights(model: Any) -> Iterator[tuple[str, MergedWeight]]:
    """The weights that training changes, under the names that the model has without adapters.

    Raises:
        InfiMmrError: an adapter of another kind of layer trains, such as an embedding's.

    """
    from peft.tuners.lora import LoraLayer

    layers: list[tuple[str, Any]] = [named for named in model.named_modules() if isinstance(named[1], LoraLayer)]
    for name, layer in layers:
        if not layer.lora_B and any(one.requires_grad for word, one in layer.named_parameters() if "lora_" in word):
            raise InfiMmrError(f"the adapter of {name} cannot be pushed to vLLM", "Set lora.targets to linear layers")
        if any(one.weight.requires_grad for one in layer.lora_B.values()):
            yield f"{name.removeprefix('base_model.model.')}.weight", MergedWeight(layer)


def push_merged(module: Any) -> None:
    """Have `openrlhf.trainer.ray.ppo_actor` push merged weights."""
    push = module.ActorPPOTrainer.broadcast_to_vllm

    def broadcast_to_vllm(self: Any) -> None:
        model = self.actor.model.module
        if not adapted(model):
            push(self)
            return
        model.named_parameters = lambda: merged_weights(model)  # what the push goes through
        try:
            push(self)
        finally:
            del model.named_parameters

    module.ActorPPOTrainer.broadcast_to_vllm = broadcast_to_vllm


def save_merged(module: Any) -> None:
    """Have `openrlhf.utils.deepspeed.deepspeed` save a whole model; a phase saves once, when it has trained."""
    save = module.DeepspeedStrategy.save_model

    def save_model(self: Any, model: Any, tokenizer: Any, output_dir: str, **more: Any) -> None:
        inner = self._unwrap_model(model)
        if not adapted(inner):
            save(self, model, tokenizer, output_dir, **more)
            return
        whole = inner.merge_and_unload()
        self._unwrap_model = lambda _: whole
        try:
            save(self, model, tokenizer, output_dir, **more)
        finally:
            del self._unwrap_model

    module.DeepspeedStrategy.save_model = save_model


def adapt_what_trains(module: Any) -> None:
    """Have `openrlhf.models.actor` leave a frozen vision tower frozen: its adapters would train all the same."""
    make = module.get_peft_model

    def get_peft_model(model: Any, *words: Any, **more: Any) -> Any:
        from peft.tuners.lora import LoraLayer

        frozen = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
        made = make(model, *words, **more)
        layers: list[Any] = [layer for layer in made.modules() if isinstance(layer, LoraLayer)]
        for layer in layers:
            if id(layer.get_base_layer().weight) in frozen:
                for name, parameter in layer.named_parameters():
                    if "lora_" in name:
                        parameter.requires_grad = False
        return made

    module.get_peft_model = get_peft_model
