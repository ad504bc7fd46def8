"""The adaptations, one class of `Adaptation` each: target, reason, and what is put in its place.

All of them are for OpenRLHF 0.11.2, vLLM 0.29 and torch 2.13 as pinned in `pyproject.toml`. Modules that are patched
are imported here only inside functions: this file must stay free to import.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Self

from trainer.openrlhf_bridge import fork_server
from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation


class CpuDeviceName(str):
    """The device `"cpu"`, which formats as index 0: OpenRLHF builds `f"cuda:{torch.cuda.current_device()}"` from it."""

    __slots__ = ()

    def __new__(cls) -> Self:
        """Make the one value."""
        return super().__new__(cls, "cpu")

    def __format__(self, spec: str) -> str:
        return format(0, spec)


def _torch_cuda(torch: Any) -> None:
    if torch.cuda.is_available():
        message = "cpu_compat was loaded on a machine with CUDA, where it must not be (unset INFI_MMR_CPU_COMPAT)"
        raise ImportError(message)
    torch.cuda.current_device = CpuDeviceName
    torch.cuda.set_device = lambda _: None
    torch.cuda.synchronize = lambda _=None: None
    torch.cuda.current_stream = lambda _=None: None
    torch.cuda.empty_cache = lambda: None


_PADDING = ("index_first_axis", "pad_input", "rearrange", "unpad_input")
_FLASH_MODULES = ("flash_attn", "flash_attn.bert_padding", "flash_attn.utils", "flash_attn.utils.distributed")


def _unavailable(*_: object, **__: object) -> None:
    message = "flash-attn is not installed: sample packing and ring attention need it"
    raise RuntimeError(message)


def _put_flash_attn() -> None:
    if importlib.util.find_spec("flash_attn") is not None:
        return
    for name in _FLASH_MODULES:
        stand_in = ModuleType(name)
        stand_in.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
        sys.modules[name] = stand_in
    for name in _PADDING:
        setattr(sys.modules["flash_attn.bert_padding"], name, _unavailable)
    sys.modules["flash_attn.utils.distributed"].all_gather = _unavailable  # type: ignore[attr-defined]


def _take_flash_attn_away(_: ModuleType) -> None:
    # vLLM and transformers ask whether flash_attn is importable: it must be visible to this one module only.
    for name in _FLASH_MODULES:
        if name in sys.modules and getattr(sys.modules[name].__spec__, "loader", None) is None:
            del sys.modules[name]


class StoreBroadcast:
    """Weight broadcast through a TCP store, in place of the NCCL communicator; same `broadcast` call.

    The sender never waits for receivers.
    """

    def __init__(self, group: Any) -> None:
        self._group = group

    def broadcast(self, tensor: Any, src: int, stream: object = None) -> None:  # noqa: ARG002 - the communicator's signature
        """Fill `tensor` on every rank with the values of rank `src`."""
        if self._group.rank == src:
            self._group.broadcast(tensor, src)
        else:
            tensor.copy_(self._group.broadcast(tensor, src))

    def forget(self) -> None:
        """Sender: delete from the store what every receiver has taken."""
        while self._group.entries:
            key, _ = self._group.entries.popleft()
            self._group.store.delete_key(key)


def _weight_group(module: Any) -> None:
    def stateless_init_process_group(
        master_address: str, master_port: int, rank: int, world_size: int, _device: object
    ) -> StoreBroadcast:
        from vllm.distributed.utils import StatelessProcessGroup

        return StoreBroadcast(StatelessProcessGroup.create(master_address, master_port, rank, world_size))

    module.stateless_init_process_group = stateless_init_process_group


def _push_together(module: Any) -> None:
    def broadcast_to_vllm(self: Any) -> None:
        # One call and one tensor for all weights of a push: a Ray call for each took half a second for tiny-vl's 116.
        import ray
        import torch

        trained = [
            (name, parameter.data)
            for name, parameter in self.actor.model.module.named_parameters()
            if parameter.requires_grad or not getattr(self.actor, "is_vlm", False)
        ]
        names, weights = zip(*trained, strict=True)
        shapes = [tuple(weight.shape) for weight in weights]
        calls = [
            engine.update_weight.remote(names, dtype=weights[0].dtype, shape=shapes, empty_cache=True)
            for engine in self.vllm_engines
        ]
        self._model_update_group.broadcast(torch.cat([weight.reshape(-1) for weight in weights]), src=0)
        ray.get(calls)
        self._model_update_group.forget()

    module.ActorPPOTrainer.broadcast_to_vllm = broadcast_to_vllm


def _update_weight(module: Any) -> None:
    def update_weight(self: Any, names: Any, dtype: Any, shapes: Any, empty_cache: bool = False) -> None:  # noqa: ARG001 - OpenRLHF's signature
        import math

        import torch

        if dtype != self.model_config.dtype:
            message = f"weights come as {dtype}, but the engine holds {self.model_config.dtype}"
            raise TypeError(message)
        sizes = [math.prod(shape) for shape in shapes]
        together = torch.empty(sum(sizes), dtype=dtype)
        self._model_update_group.broadcast(together, src=0)
        pieces = zip(names, shapes, together.split(sizes), strict=True)
        self.model_runner.model.load_weights(weights=[(name, piece.view(shape)) for name, shape, piece in pieces])

    module.WorkerWrap.update_weight = update_weight


def _repack_when_pushed(layer: Any) -> None:
    """The convolution of a linear attention layer is packed at load: pushed weights are packed again."""
    plain = getattr(layer, "_cpu_unpacked_conv_weight", None)  # vLLM's own copy
    if plain is None:
        return
    from vllm import _custom_ops

    load = layer.weight.weight_loader

    def load_and_pack(packed: Any, weight: Any) -> None:
        load(plain.unsqueeze(1), weight)
        packed.data.copy_(_custom_ops.causal_conv1d_weight_pack(plain))

    layer.weight.weight_loader = load_and_pack


def _plain_linear(module: Any) -> None:
    original = module.dispatch_cpu_unquantized_gemm

    def dispatch_cpu_unquantized_gemm(layer: Any, remove_weight: bool) -> None:
        if layer.weight.is_meta or layer.weight.ndim != 2:
            original(layer, remove_weight)
            _repack_when_pushed(layer)
            return
        from torch.nn.functional import linear

        layer.cpu_linear = linear

    module.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm


def _all_cores(module: Any) -> None:
    original = module.BaseModelActor._setup_distributed  # noqa: SLF001 - the name is OpenRLHF's

    def _setup_distributed(self: Any, strategy: Any) -> None:
        import torch

        original(self, strategy)
        torch.set_num_threads(len(os.sched_getaffinity(0)))

    module.BaseModelActor._setup_distributed = _setup_distributed  # noqa: SLF001 - likewise


def _cpu_mesh(module: Any) -> None:
    original = module.init_device_mesh

    def init_device_mesh(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return original("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    module.init_device_mesh = init_device_mesh


def _forked_engine(module: Any) -> None:
    original = module.get_mp_context

    def get_mp_context() -> Any:
        address = os.environ.get(fork_server.ADDRESS)
        return fork_server.context(address) if address else original()

    module.get_mp_context = get_mp_context


DTYPE = "INFI_MMR_DTYPE"
"""Environment variable of a run on a CPU: the number type of policy, reference and engine."""


def in_float32() -> bool:
    """Whether this run computes in float32: OpenRLHF knows two types of 16 bits only."""
    return os.environ.get(DTYPE) == "float32"


def _load_in_float32(module: Any) -> None:
    if in_float32():
        import torch

        module.convert_to_torch_dtype = lambda _: torch.float32


def _train_in_float32(module: Any) -> None:
    # DeepSpeed trains in float32 when its configuration switches on neither bf16 nor fp16.
    if not in_float32():
        return
    for name in ("get_train_ds_config", "get_eval_ds_config"):
        original = getattr(module, name)
        setattr(module, name, lambda *, _original=original, **values: _original(**{**values, "param_dtype": "fp32"}))


class ActorClass:
    """A Ray actor class whose constructor gets `values` in place of the caller's."""

    def __init__(self, actor_class: Any, values: dict[str, Any]) -> None:
        self._actor_class = actor_class
        self._values = values

    def options(self, **options: Any) -> Self:
        """Ray's own `options`."""
        return type(self)(self._actor_class.options(**options), self._values)

    def remote(self, *arguments: Any, **values: Any) -> Any:
        """Ray's own `remote`."""
        return self._actor_class.remote(*arguments, **{**values, **self._values})


def _sample_in_float32(module: Any) -> None:
    if in_float32():
        module.RolloutRayActor = ActorClass(module.RolloutRayActor, {"dtype": "float32"})


ADAPTATIONS = (
    Adaptation(
        "torch.cuda",
        "torch",
        tuple(
            f"cuda.{name}" for name in ("current_device", "set_device", "synchronize", "current_stream", "empty_cache")
        ),
        "OpenRLHF asks torch.cuda for its device without a guard; without CUDA these calls raise",
        _torch_cuda,
    ),
    Adaptation(
        "flash_attn",
        "openrlhf.models.ring_attn_utils",
        (*_PADDING, "all_gather"),
        "imported at the top of the module, used only by packing and ring attention, which vision models forbid",
        _take_flash_attn_away,
        _put_flash_attn,
    ),
    Adaptation(
        "weight group",
        "openrlhf.utils.distributed_util",
        ("stateless_init_process_group",),
        "the group that pushes weights to vLLM is hard-coded to NCCL",
        _weight_group,
    ),
    Adaptation(
        "update_weight",
        "openrlhf.trainer.ray.vllm_worker_wrap",
        ("WorkerWrap.update_weight",),
        "the pushed weight is allocated on 'cuda'",
        _update_weight,
    ),
    Adaptation(
        "push together",
        "openrlhf.trainer.ray.ppo_actor",
        ("ActorPPOTrainer.broadcast_to_vllm",),
        "each weight is pushed by a call of its own, which costs more than the weights",
        _push_together,
    ),
    Adaptation(
        "plain linear",
        "vllm.model_executor.layers.utils",
        ("dispatch_cpu_unquantized_gemm", "cpu_unquantized_gemm"),
        "vLLM repacks Linear weights at load on a CPU: pushed weights would crash or never be used",
        _plain_linear,
    ),
    Adaptation(
        "all cores",
        "openrlhf.trainer.ray.launcher",
        ("BaseModelActor._setup_distributed",),
        "the run's one thread is for vLLM; policy and reference work while it waits, and may use every core",
        _all_cores,
    ),
    Adaptation(
        "device mesh",
        "openrlhf.utils.deepspeed.deepspeed",
        ("init_device_mesh",),
        "DeepSpeed's mesh is built on 'cuda'",
        _cpu_mesh,
    ),
    Adaptation(
        "engine process",
        "vllm.utils.system_utils",
        ("get_mp_context",),
        "within a Ray actor vLLM starts its engine's process anew, imports and all; a run's fork server has them",
        _forked_engine,
    ),
    Adaptation(
        "float32 weights",
        "openrlhf.utils.utils",
        ("convert_to_torch_dtype",),
        "models are loaded in 16 bits; a processor without bfloat16 units needs float32",
        _load_in_float32,
    ),
    Adaptation(
        "float32 training",
        "openrlhf.utils.deepspeed.deepspeed",
        ("get_train_ds_config", "get_eval_ds_config"),
        "DeepSpeed is told to train in 16 bits",
        _train_in_float32,
    ),
    Adaptation(
        "float32 rollouts",
        "openrlhf.trainer.ray.vllm_engine",
        ("RolloutRayActor", "create_vllm_engines"),
        "the engine's number type is hard-coded to bfloat16",
        _sample_in_float32,
    ),
)
"""Every adaptation, in the order of the route of a run."""
WITH_CUDA = tuple(adaptation for adaptation in ADAPTATIONS if adaptation.name == "flash_attn")
"""What a run on CUDA needs, too: no wheel of flash-attn exists that the gpu group could bring."""
