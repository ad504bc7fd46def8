"""Resolved phase -> the arguments of OpenRLHF's entry: `train_ppo_ray`, or `train_sft` in a supervised phase.

Pure: no file, process or clock is touched.

The one place that knows OpenRLHF 0.11.2's flag names. `parse_with_openrlhf` runs OpenRLHF's own parser and its checks
on a list of arguments without starting anything, so that a wrong combination is found in milliseconds.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from shared.errors import InfiMmrError
from trainer.phase import Phase

ENTRIES = {"grpo": "openrlhf.cli.train_ppo_ray", "sft": "openrlhf.cli.train_sft"}
"""OpenRLHF's own entry by the method of a phase."""
AGENT = Path(__file__).parent / "agent.py"


@dataclass(frozen=True)
class RunPaths:
    """Where one run reads and writes."""

    prompts: str
    checkpoint: str
    """Policy before the phase: a folder."""
    states: str
    """DeepSpeed states, one folder per phase: OpenRLHF restores the data loader from there."""
    output: str
    """Folder for the weights after the phase."""
    tensorboard: str
    held_out: str = ""
    """Prompt file of the evaluation during training; empty where there is none."""


@dataclass(frozen=True)
class PromptFacts:
    """What the arguments must know of the prompt file."""

    rows: int
    max_images: int


def _flags(values: dict[str, Any]) -> list[str]:
    arguments: list[str] = []
    for name, value in values.items():
        if value is False or value is None:
            continue
        arguments.append(f"--{name}")
        if value is not True:
            arguments.extend(map(str, value if isinstance(value, tuple) else (value,)))
    return arguments


def openrlhf_arguments(
    phase: Phase,
    paths: RunPaths,
    prompts: PromptFacts,
    *,
    device: Literal["cuda", "cpu"],
    resume: bool,
    agent: str = "",
) -> list[str]:
    """Arguments of one phase for the entry of its method (`ENTRIES`).

    Args:
        phase: The resolved phase.
        paths: Folders and files of the run.
        prompts: Rows of the prompt file (a whole number of steps) and most pictures in one prompt.
        device: `cpu` takes gloo and eager mode on one pretended GPU; `cuda` takes the phase's cluster.
        resume: Continue from the newest state in `paths.states`.
        agent: File of the agent; the bridge's own by default.

    Paper's equations 1 and 2 are the defaults: `group_norm` advantages, KL as a k3 loss term, each sequence weighs the
    same.

    """
    if phase.method == "sft":
        return _flags(_supervised_values(phase, paths, prompts, resume=resume))
    cuda = device == "cuda"
    nodes, gpus = (phase.cluster.nodes, phase.cluster.gpus_per_node) if cuda else (1, 1)
    tensor_parallel = phase.cluster.tensor_parallel if cuda else 1
    rollout, train = phase.rollout, phase.train
    values: dict[str, Any] = {
        # the policy, its rollout engines and the reference share the same GPUs in turns
        "actor.model_name_or_path": paths.checkpoint,
        "actor.num_nodes": nodes,
        "actor.num_gpus_per_node": gpus,
        "ref.num_nodes": nodes,
        "ref.num_gpus_per_node": gpus,
        "train.colocate_all": True,
        "vllm.num_engines": nodes * gpus // tensor_parallel,
        "vllm.tensor_parallel_size": tensor_parallel,
        "vllm.gpu_memory_utilization": phase.cluster.vllm_memory,
        "vllm.sync_backend": "nccl" if cuda else "gloo",
        "vllm.enforce_eager": not cuda,
        # The rollouts of a problem share its prompt: computed once in place of 16 times. Not on a CPU, where vLLM's
        # blocks of 128 tokens are longer than tiny-vl's prompts.
        "vllm.enable_prefix_caching": cuda,
        "vllm.enable_sleep": cuda and phase.cluster.sleep,
        "ds.enable_sleep": cuda and phase.cluster.sleep,
        "ds.zero_stage": phase.cluster.zero_stage,
        "ds.adam_offload": phase.cluster.adam_offload,
        "ds.attn_implementation": phase.cluster.attention,
        "ds.param_dtype": "bf16",
        "actor.gradient_checkpointing_enable": train.gradient_checkpointing,
        "actor.freeze_visual_encoder": phase.model.freeze_vision,
        # data: prompts are rendered already, with the checkpoint's own chat template
        "data.prompt_dataset": paths.prompts,
        "data.input_key": "prompt",
        "data.label_key": "label",
        "data.image_key": "images",
        "data.max_images_per_prompt": prompts.max_images,
        "data.max_len": rollout.max_length,
        "train.agent_func_path": agent or str(AGENT),
        # rollouts: batch_size counts prompts
        "rollout.batch_size": rollout.batch_size,
        "rollout.n_samples_per_prompt": rollout.samples_per_prompt,
        "rollout.micro_batch_size": train.micro_batch_size,
        "rollout.max_new_tokens": rollout.max_new_tokens,
        "rollout.temperature": rollout.temperature,
        "rollout.top_p": rollout.top_p,
        "algo.dynamic_filtering_enable": rollout.dynamic_filtering,
        # update: train.batch_size counts rollouts
        "train.batch_size": phase.update_rollouts,
        "train.micro_batch_size": train.micro_batch_size,
        "train.num_episodes": 1,  # passes over the rows are written into the prompt file, in a seeded order
        "train.max_epochs": 1,
        "train.seed": train.seed,
        "actor.adam.lr": train.learning_rate,
        "actor.adam.weight_decay": train.weight_decay,
        "actor.lr_scheduler": train.schedule,
        "actor.lr_warmup_ratio": train.warmup_ratio,
        "actor.max_norm": train.max_grad_norm,
        "actor.eps_clip": train.clip_range,
        "actor.eps_clip_low_high": (train.clip_range, train.clip_range_high) if train.clip_range_high else None,
        "actor.policy_loss_type": None if train.policy_loss == "ppo" else train.policy_loss,
        "actor.loss_agg_mode": train.loss_aggregation,
        "algo.advantage.estimator": train.advantage,
        "algo.kl.use_loss": True,
        "algo.kl.estimator": train.kl_estimator,
        "algo.kl.init_coef": train.kl_coefficient,
        # token-level importance weights between vLLM's and the trainer's log-probabilities, which also logs their drift
        "algo.advantage.is_correction_level": train.rollout_correction,
        **_kept(phase, paths, {"ckpt.best_metric_key": "none"}, resume=resume),
    }
    if paths.held_out:
        values |= {
            "eval.dataset": paths.held_out,
            "eval.steps": phase.evaluation.every,
            "eval.temperature": 0.0,  # greedy, one answer: what `trainer evaluate` reports first
            "eval.n_samples_per_prompt": 1,
        }
    return _flags(values | _lora(phase) | _wandb(phase))


def _kept(phase: Phase, paths: RunPaths, own: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """States and results, whose flags both entries share but for an entry's `own`."""
    return {
        "ckpt.path": paths.states,
        "ckpt.save_steps": phase.checkpoint.save_every,
        "ckpt.max_num": phase.checkpoint.keep,
        **own,
        "ckpt.load_enable": resume,
        "ckpt.output_dir": paths.output,
        "logger.logging_steps": 1,
        "logger.tensorboard_dir": paths.tensorboard,
        "logger.wandb.run_name": phase.name,
    }


def _lora(phase: Phase) -> dict[str, Any]:
    """Adapters, whose flags both entries share; without targets OpenRLHF's default, every linear layer, holds."""
    lora = phase.lora
    values = {"ds.lora.rank": lora.rank, "ds.lora.alpha": lora.alpha, "ds.lora.dropout": lora.dropout}
    return {**values, "ds.lora.target_modules": lora.targets or None} if lora.rank else {}


def _wandb(phase: Phase) -> dict[str, Any]:
    """Wandb reads the key itself from WANDB_API_KEY or its login; OpenRLHF only wants the flag to be non-empty."""
    project = phase.logging.wandb_project
    return {"logger.wandb.key": "from-environment", "logger.wandb.project": project} if project else {}


def _supervised_values(phase: Phase, paths: RunPaths, prompts: PromptFacts, *, resume: bool) -> dict[str, Any]:
    """Values of OpenRLHF's SFT entry, whose flags have other names: one process per GPU, texts alone."""
    train = phase.train
    values: dict[str, Any] = {
        "model.model_name_or_path": paths.checkpoint,
        "model.gradient_checkpointing_enable": train.gradient_checkpointing,
        "ds.zero_stage": phase.cluster.zero_stage,
        "ds.adam_offload": phase.cluster.adam_offload,
        "ds.attn_implementation": phase.cluster.attention,
        "ds.param_dtype": "bf16",
        # data: prompts are rendered already; the loss is on the response alone
        "data.dataset": paths.prompts,
        "data.input_key": "prompt",
        "data.output_key": "response",
        "data.input_template": "",  # OpenRLHF's own would put "User:" around the prompt
        "data.max_len": phase.rollout.max_length,
        "data.max_samples": prompts.rows,
        "train.batch_size": train.batch_size,
        "train.micro_batch_size": train.micro_batch_size,
        "train.max_epochs": 1,  # passes over the rows are written into the file, whose order is kept (step_line.py)
        "train.seed": train.seed,
        "adam.lr": train.learning_rate,
        "adam.weight_decay": train.weight_decay,
        "lr_scheduler": train.schedule,
        "lr_warmup_ratio": train.warmup_ratio,
        "max_norm": train.max_grad_norm,
        **_kept(phase, paths, {}, resume=resume),
    }
    return values | _lora(phase) | _wandb(phase)


def _config_module(package: Path) -> ModuleType:
    """OpenRLHF's `utils/config.py` by its file: importing its package would load transformers."""
    spec = importlib.util.spec_from_file_location("openrlhf.utils.config", package / "utils" / "config.py")
    if spec is None or spec.loader is None:
        raise InfiMmrError("openrlhf/utils/config.py is missing", "Install the pinned openrlhf 0.11.2 (uv sync)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_with_openrlhf(arguments: list[str], method: str = "grpo") -> Any:
    """Run OpenRLHF's own parser and validation on `arguments`; return its nested namespace. Starts nothing.

    The code is the `__main__` block of the method's entry itself, less its last statement, `train(args)`.

    Raises:
        InfiMmrError: OpenRLHF refuses the arguments, with its words, or its entry has another form than pinned.

    """
    found = importlib.util.find_spec("openrlhf")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(name="openrlhf")
    package = Path(found.origin).parent
    entry = ENTRIES[method]
    tree = ast.parse((package / "cli" / f"{entry.rsplit('.', 1)[-1]}.py").read_text(encoding="utf-8"))
    block = tree.body[-1]
    last = block.body[-1] if isinstance(block, ast.If) else None
    if not isinstance(block, ast.If) or last is None or ast.unparse(last) != "train(args)":
        raise InfiMmrError("openrlhf's entry no longer ends in train(args)", "Install the pinned openrlhf 0.11.2")
    names: dict[str, Any] = {"argparse": argparse, "datetime": datetime}
    code = compile(ast.Module(block.body[:-1], []), entry, "exec")
    messages = io.StringIO()
    argv, config = sys.argv, sys.modules.get("openrlhf.utils.config")
    sys.argv = [entry, *arguments]
    sys.modules["openrlhf.utils.config"] = _config_module(package)
    try:
        with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(messages):
            exec(code, names)  # noqa: S102 - the pinned package's own source, not data
    except (SystemExit, AssertionError) as error:
        said = messages.getvalue().strip().splitlines()
        raise InfiMmrError(
            f"OpenRLHF refuses the arguments: {str(error) if isinstance(error, AssertionError) else said[-1]}",
            "Change the phase's values that it names",
        ) from error
    finally:
        sys.argv = argv
        if config is None:
            del sys.modules["openrlhf.utils.config"]
        else:
            sys.modules["openrlhf.utils.config"] = config
    return names["args"]
