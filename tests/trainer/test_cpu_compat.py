"""The CPU adaptations: a hook that fires at import, targets that exist, and a loud failure when one has moved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.openrlhf_bridge import cpu_compat
from trainer.openrlhf_bridge.cpu_compat.adaptations import CpuDeviceName

ROOT = str(Path(__file__).parents[2])


def python(code, *, extra_path="", **variables):
    """Run code in a process of its own, as a run's processes are."""
    environment = {**os.environ, **(variables or cpu_compat.environment())}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    paths = [environment["PYTHONPATH"], ROOT, *([extra_path] if extra_path else [])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_a_process_of_a_run_is_ready_before_its_first_line():
    ran = python("import sys; print(type(sys.meta_path[0]).__name__); print('torch' in sys.modules)")
    assert ran.stdout.split() == ["_Finder", "False"], ran.stderr


def test_a_process_outside_a_run_is_untouched():
    ran = subprocess.run(
        [sys.executable, "-c", "import sys; print(type(sys.meta_path[0]).__name__)"],
        env={**os.environ, "PYTHONPATH": cpu_compat.environment()["PYTHONPATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_Finder" not in ran.stdout


def test_a_target_that_has_moved_is_refused_at_import(tmp_path):
    (tmp_path / "moved.py").write_text("here = 1\n")
    code = (
        "from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation, install_hook\n"
        "import sys; sys.meta_path.pop(0)\n"
        "install_hook([Adaptation('toy', 'moved', ('here', 'gone'), 'why', lambda module: None)])\n"
        "import moved\n"
    )
    ran = python(code, extra_path=str(tmp_path))
    assert ran.returncode == 1
    assert "ImportError: cpu_compat 'toy': moved.gone has moved (why)" in ran.stderr


def test_hooks_run_around_the_modules_own_code(tmp_path):
    (tmp_path / "seen.py").write_text("import builtins\nbuiltins.order.append('module')\n")
    code = (
        "import builtins, sys; builtins.order = []\n"
        "from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation, install_hook\n"
        "sys.meta_path.pop(0)\n"
        "install_hook([Adaptation('toy', 'seen', (), 'why', lambda module: order.append(module.__name__),"
        " lambda: order.append('before'))])\n"
        "import seen, seen as again; print(order)\n"
    )
    assert python(code, extra_path=str(tmp_path)).stdout.strip() == "['before', 'module', 'seen']"


def test_coming_too_late_is_refused():
    code = (
        "import sys; sys.meta_path.pop(0)\n"
        "import json\n"
        "from trainer.openrlhf_bridge.cpu_compat.import_hook import Adaptation, install_hook\n"
        "install_hook([Adaptation('toy', 'json', (), 'why', print)])\n"
    )
    ran = python(code)
    assert ran.returncode == 1
    assert "before json is imported" in ran.stderr


def test_the_device_is_the_cpu_and_formats_as_an_index():
    device = CpuDeviceName()
    assert device == "cpu"
    assert f"cuda:{device}" == "cuda:0"


def test_every_adaptation_names_its_target_and_reason():
    for adaptation in cpu_compat.ADAPTATIONS:
        assert adaptation.targets
        assert len(adaptation.reason) > 20
    assert len({adaptation.name for adaptation in cpu_compat.ADAPTATIONS}) == len(cpu_compat.ADAPTATIONS)


TARGETS = """
import sys, torch, importlib.util
assert importlib.util.find_spec("flash_attn") is None, "visible beyond ring_attn_utils"
device = torch.cuda.current_device()
assert torch.zeros(2).to(device).device.type == "cpu"
assert torch.device(f"cuda:{device}").index == 0
torch.cuda.synchronize(); torch.cuda.set_device(0); torch.cuda.empty_cache()
from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer
NaiveReplayBuffer(1)
from openrlhf.models.ring_attn_utils import pad_input
try:
    pad_input()
except RuntimeError as error:
    assert "flash-attn is not installed" in str(error)
from vllm.model_executor.layers import utils
layer = torch.nn.Linear(4, 3)
utils.dispatch_cpu_unquantized_gemm(layer, True)
x = torch.ones(1, 4)
before = utils.cpu_unquantized_gemm(layer, x, layer.weight, layer.bias)
layer.weight.data.zero_(); layer.bias.data.fill_(2.0)      # a pushed weight is used by the very next product
after = utils.cpu_unquantized_gemm(layer, x, layer.weight, layer.bias)
assert after.tolist() == [[2.0, 2.0, 2.0]] and before.tolist() != after.tolist()
from vllm import _custom_ops
conv = torch.nn.Conv1d(64, 64, 4, groups=64).bfloat16()    # of a linear attention layer: packed with bfloat16 units
conv.weight.weight_loader = lambda parameter, weight: parameter.data.copy_(weight)
pushed = torch.rand(64, 1, 4).bfloat16()
utils.dispatch_cpu_unquantized_gemm(conv, True)
conv.weight.weight_loader(conv.weight, pushed)
units = torch.cpu._is_avx512_bf16_supported()
assert torch.equal(conv.weight, _custom_ops.causal_conv1d_weight_pack(pushed[:, 0].contiguous()) if units else pushed)
print("FINE")
"""

LINES = """
import torch, torch.distributed
from types import SimpleNamespace
from openrlhf.trainer.sft_trainer import SFTTrainer
from openrlhf.utils.deepspeed.deepspeed import DeepspeedStrategy
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
mesh = {"dp": SimpleNamespace(get_group=lambda: None)}
trainer = SFTTrainer.__new__(SFTTrainer)
trainer.strategy, trainer.epochs = SimpleNamespace(ds_device_mesh=mesh, seed=42, accumulated_gradient=99), 1
loader = DeepspeedStrategy.setup_dataloader(trainer.strategy, list(range(12)), 2, False, True, torch.tensor)
trainer.train_dataloader = loader
try:
    trainer.fit(None)
except ValueError as error:     # 12 lines make no update of 99: nothing else is needed here
    assert "gradient-accumulation" in str(error)
for consumed in (0, 4):
    loader.sampler.set_epoch(0, consumed_samples=consumed)
    print([int(line) for batch in loader for line in batch])
"""

PUSH = """
import socket, threading, torch
from types import SimpleNamespace
import ray
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap
from openrlhf.utils.distributed_util import stateless_init_process_group
with socket.socket() as free:
    free.bind(("127.0.0.1", 0)); port = free.getsockname()[1]
flat = torch.randn(1_000_000).to(torch.bfloat16)     # DeepSpeed keeps all weights in one buffer: each is a view
sent = [(f"w{number}", torch.nn.Parameter(flat[35 * number:][:35].view(5, 7))) for number in range(70)]
sent.append(("frozen", torch.nn.Parameter(torch.ones(3), requires_grad=False)))
loads, calls = [], []
worker = WorkerWrap()
worker.model_config = SimpleNamespace(dtype=torch.bfloat16)
worker.model_runner = SimpleNamespace(model=SimpleNamespace(load_weights=lambda weights: loads.append(list(weights))))
def join():
    worker._model_update_group = stateless_init_process_group("127.0.0.1", port, 1, 2, None)
thread = threading.Thread(target=join); thread.start()
group = stateless_init_process_group("127.0.0.1", port, 0, 2, None)
thread.join()
def remote(*arguments, **values):     # as OpenRLHF's actor hands it to vLLM's worker, which works beside the sender
    calls.append(threading.Thread(target=worker.update_weight, args=(*arguments, *values.values())))
    calls[-1].start()
    return calls[-1]
ray.get = lambda refs: [ref.join() for ref in refs]
model = SimpleNamespace(module=SimpleNamespace(named_parameters=lambda: iter(sent)))
trainer = SimpleNamespace(actor=SimpleNamespace(model=model, is_vlm=True), _model_update_group=group,
                          vllm_engines=[SimpleNamespace(update_weight=SimpleNamespace(remote=remote))])
for push in range(2):
    with torch.no_grad():
        flat.add_(push)
    ActorPPOTrainer.broadcast_to_vllm(trainer)
    assert len(calls) == len(loads) == push + 1
    assert [name for name, _ in loads[-1]] == [name for name, weight in sent if weight.requires_grad]
    assert all(torch.equal(weight, mine) for (_, weight), (_, mine) in zip(loads[-1], sent))
    assert not group._group.entries
try:
    worker.update_weight(["w"], torch.float32, [(1,)], True)
except TypeError as error:
    assert "bfloat16" in str(error)
    print("FINE")
"""

NUMBERS = """
import torch, openrlhf.utils.utils as utils, openrlhf.utils.deepspeed.deepspeed as deepspeed
print(utils.convert_to_torch_dtype("bf16"))
for make in (deepspeed.get_train_ds_config, deepspeed.get_eval_ds_config):
    configuration = make(offload=False, param_dtype="bf16")
    print(configuration["bf16"]["enabled"], configuration["fp16"]["enabled"])
"""


@pytest.mark.slow
def test_every_target_is_where_the_pinned_libraries_have_it_and_behaves(in_a_run):
    said = in_a_run(TARGETS)
    assert said.endswith("FINE\n"), said


@pytest.mark.slow
def test_a_process_of_a_run_on_cuda_imports_openrlhfs_entry_without_flash_attn_and_touches_little_else():
    code = """
import sys
hooked = list(sys.meta_path[0].hooks)
import torch
current_device = torch.cuda.current_device
import openrlhf.cli.train_ppo_ray
from openrlhf.models.ring_attn_utils import unpad_input
import importlib.util
assert importlib.util.find_spec("flash_attn") is None, "visible beyond ring_attn_utils"
assert torch.cuda.current_device is current_device and current_device.__module__ == "torch.cuda"
print(hooked)
"""
    ran = python(code, **cpu_compat.with_cuda())
    adapters = ["openrlhf.trainer.ray.ppo_actor", "openrlhf.utils.deepspeed.deepspeed", "openrlhf.models.actor"]
    hooked = ["openrlhf.models.ring_attn_utils", "openrlhf.trainer.ray.vllm_engine", "openrlhf.trainer.ppo_trainer"]
    hooked += [*adapters, "openrlhf.trainer.sft_trainer"]
    assert ran.stdout.strip().splitlines()[-1:] == [str(hooked)], ran.stderr[-3000:]


@pytest.mark.slow
def test_a_supervised_run_reads_the_lines_of_its_file_in_their_order_and_goes_on_where_it_was(in_a_run):
    said = in_a_run(LINES)
    assert said.splitlines()[-2:] == [str(list(range(12))), str(list(range(4, 12)))], said


def test_an_installed_flash_attn_is_used_and_kept(tmp_path):
    package = tmp_path / "flash_attn"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "bert_padding.py").write_text("pad_input = 'the real one'\n")
    code = (
        "import sys; from trainer.openrlhf_bridge.cpu_compat.adaptations import WITH_CUDA\n"
        "WITH_CUDA[0].prepare(); from flash_attn.bert_padding import pad_input\n"
        "WITH_CUDA[0].apply(None); print(pad_input, 'flash_attn' in sys.modules)\n"
    )
    assert python(code, extra_path=str(tmp_path)).stdout.strip() == "the real one True"


@pytest.mark.slow
def test_all_weights_of_a_push_arrive_bit_by_bit_in_one_call_and_leave_nothing_in_the_store(in_a_run):
    said = in_a_run(PUSH)
    assert said.endswith("FINE\n"), said


@pytest.mark.slow
def test_policy_and_reference_load_and_train_in_the_runs_numbers(in_a_run):
    ran = python(NUMBERS, **cpu_compat.environment("float32"))
    assert ran.stdout.splitlines()[-3:] == ["torch.float32", "False False", "False False"], ran.stderr
    assert in_a_run(NUMBERS).splitlines()[-3:] == ["torch.bfloat16", "True False", "True False"]


def test_the_engine_is_made_in_the_runs_numbers_and_keeps_its_other_arguments(monkeypatch):
    from types import SimpleNamespace

    from trainer.openrlhf_bridge.cpu_compat import adaptations

    made = []

    class Actor:
        @classmethod
        def options(cls, **options):
            made.append(options)
            return cls

        @classmethod
        def remote(cls, **values):
            made.append(values)

    monkeypatch.setenv(adaptations.DTYPE, "float32")
    module = SimpleNamespace(RolloutRayActor=Actor, create_vllm_engines=None)
    adaptations._sample_in_float32(module)
    module.RolloutRayActor.options(num_cpus=1).remote(model="tiny", dtype="bfloat16")
    assert made == [{"num_cpus": 1}, {"model": "tiny", "dtype": "float32"}]
    monkeypatch.setenv(adaptations.DTYPE, "bfloat16")
    module = SimpleNamespace(RolloutRayActor=Actor)
    adaptations._sample_in_float32(module)
    assert module.RolloutRayActor is Actor
