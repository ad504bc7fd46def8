"""What a phase will take, before anything is started: memory per GPU, steps, rollouts, tokens, hours, GPU-hours.

Every number has its formula here and its source beside the constant. Times are estimates from published measurements,
scaled linearly with tokens, weights and the GPU's bfloat16 speed; expect them within a factor of two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.devices import smallest_gpu_gib
from shared.errors import InfiMmrError, UsageError, did_you_mean
from shared.vlm.checkpoint import foreign_prompts, read_config
from trainer import preflight
from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf
from trainer.openrlhf_bridge.engine_arguments import working_gib
from trainer.own_reward import load_reward
from trainer.phase import Phase
from trainer.picture_memory import GIB, picture_text, plan_pictures
from trainer.row_rates import filters, range_text, rows_in_range
from trainer.training_data import (
    check_dataset,
    check_purpose,
    count_pictured,
    count_traces,
    reason_text,
    training_split,
)

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: memory in GiB and dense bfloat16 speed in TFLOPS, from NVIDIA's data sheets."""

    memory_gib: float
    tflops: float


GPUS = {
    "b200": Gpu(180, 2250),
    "h800": Gpu(80, 989),
    "h100": Gpu(80, 989),
    "h100-pcie": Gpu(80, 756),
    "h200": Gpu(141, 989),
    "h20": Gpu(96, 148),
    "a100-80": Gpu(80, 312),
    "a100-40": Gpu(40, 312),
    "a800": Gpu(80, 312),
    "a40": Gpu(48, 149.7),
    "a10": Gpu(24, 125),
    "a6000": Gpu(48, 154.8),
    "l40s": Gpu(48, 362),
    "l4": Gpu(24, 121),
    "5090": Gpu(32, 209),
    "4090": Gpu(24, 165),
    "3090": Gpu(24, 71),
}
_NO_KIND = re.compile(r"nvidia|geforce|rtx|tesla|sxm\d?|hbm\w*")
"""Words of a card's full name that tell it from no other."""


def gpu_named(spoken: str) -> str:
    """Key of `GPUS` for what people call a card: `H100`, `NVIDIA A100-SXM4-80GB`, `rtx 4090`.

    Raises:
        UsageError: an unknown card, or one that comes with more than one size of memory and none fits what was said.

    """
    words = [word for word in re.findall(r"[a-z0-9]+", spoken.lower()) if not _NO_KIND.fullmatch(word)]
    name, more = (words[0], words[1:]) if words else ("", [])
    if "pcie" in more and f"{name}-pcie" in GPUS:
        name += "-pcie"
    size = next((re.sub(r"gi?b?$", "", word) for word in more if word[0].isdigit()), "")
    kinds = [name] if name in GPUS else [kind for kind in GPUS if kind.startswith(f"{name}-")]
    fits = [kind for kind in kinds if not size or f"{GPUS[kind].memory_gib:g}" == size]
    if len(fits) == 1:
        return fits[0]
    if kinds:
        sizes = " or ".join(f"{GPUS[kind].memory_gib:g}" for kind in kinds)
        raise UsageError(f"--gpu {spoken}: {name} comes with {sizes} GB of memory", f"Say {' or '.join(kinds)}")
    raise UsageError(f"unknown GPU {spoken!r}", did_you_mean(name, GPUS))


MEASURED_TOKENS_PER_SECOND_AND_GPU = 1800.0
"""EasyR1's published run: Qwen2.5-VL-3B, GRPO on 8 H100, prompt and answer tokens over the whole step (sampling, both
log-probability passes, update): 1,800 tokens/s/GPU, 120 s a step of 512 prompts x 5 rollouts."""
MEASURED_WEIGHTS = 3_754_622_976
"""Weights of Qwen2.5-VL-3B-Instruct (7,509,245,952 bytes of bfloat16 in its safetensors index)."""
MEASURED_TFLOPS = 989.0
QWEN_3B = {"hidden_size": 2048, "num_hidden_layers": 36, "vocab_size": 151_936}
"""Its configuration, for plans where the checkpoint is not at hand."""
MEAN_PROMPT_TOKENS = 500
"""Assumed where no prompt file says it: a picture of 300 to 400 tokens and a question."""
MEAN_ANSWER_TOKENS = 600
"""Assumed mean length of an answer: the paper's Figure 3 stays between 300 and 900."""
ROWS = {"deepscaler": 39_000, "virl39k": 39_000, "virl39k-captioned": 39_000}
"""Rows of the paper's datasets (section 5.1)."""
LOCAL_START_SECONDS = 100.0
LOCAL_TOKENS_PER_SECOND = 1_600.0
LOCAL_PROMPT_TOKENS, LOCAL_ANSWER_TOKENS = 85, 30
"""Start-up and whole steps on two idle cores with tiny-vl, measured (9 s for 128 rollouts with four updates)."""
SFT_TOKENS_PER_SECOND_AND_GPU, SFT_WEIGHTS = 5762.0, 8_030_261_248
"""torchtitan's published run: Llama 3.1 8B trained with FSDP on 8 H100 without compilation, for supervised phases."""
SFT_PROMPT_TOKENS, SFT_TRACE_TOKENS = 250, 1_200
"""Assumed means of a text problem with the system prompt, and of traces that rollout.max_new_tokens lets train."""
LOCAL_SFT_START_SECONDS, LOCAL_SFT_TOKENS_PER_SECOND = 30.0, 1_500.0
"""Of a supervised phase on two cores, measured (1.6 s for 32 traces)."""
RESERVE_GIB = 6.0
"""CUDA context, NCCL buffers and fragmentation per GPU."""


def memory_per_gpu(phase: Phase, weights: int, config: dict[str, Any], gpus: int, longest: int) -> dict[str, float]:
    """GiB per GPU while training and while sampling, part by part.

    ZeRO-2: bfloat16 weights whole on each GPU, gradients (2 bytes) and float32 master weights with Adam's moments
    (12 bytes) divided among GPUs; ZeRO-3 divides the weights too. The reference policy is whole (OpenRLHF evaluates it
    without ZeRO, except at stage 3). Activations with checkpointing keep one hidden state per layer and the working set
    of one layer; logits are float32, with their gradient and the bfloat16 original (10 bytes per entry). A supervised
    phase has neither a reference nor vLLM.
    """
    stage = phase.cluster.zero_stage
    share = gpus if stage == 3 else 1
    micro, hidden, layers = phase.train.micro_batch_size, config["hidden_size"], config["num_hidden_layers"]
    tokens = micro * longest
    kept = layers if phase.train.gradient_checkpointing else 14 * layers
    trained = weights
    if phase.lora.rank:  # seven products a layer, each with rank x (inputs + outputs)
        inner = config.get("intermediate_size", 5.4 * hidden)
        trained = min(weights, round(phase.lora.rank * layers * (11 * hidden + 3 * inner)))
    parts = {
        "policy_weights": 2 * weights / share,
        "gradients": 2 * trained / (gpus if stage >= 2 else 1),
        "optimizer": 0.0 if phase.cluster.adam_offload else 12 * trained / gpus,
        "reference": 2 * weights / share if phase.train.kl_coefficient > 0 and phase.method == "grpo" else 0.0,
        "activations": 2 * tokens * hidden * (kept + 34),
        "logits": 10 * tokens * config["vocab_size"],
    }
    found = {name: round(value / GIB, 2) for name, value in parts.items()}
    found["reserve"] = RESERVE_GIB
    found["training"] = round(sum(found.values()), 2)
    if phase.method == "sft":
        return found
    # while vLLM samples, DeepSpeed has given its optimiser and gradients away (ds.enable_sleep), its weights stay
    found["resident_while_sampling"] = round(found["policy_weights"] + found["reference"] + RESERVE_GIB, 2)
    found["vllm_weights"] = round(2 * weights / phase.cluster.tensor_parallel / GIB, 2)
    found["vllm_working"] = round(working_gib(phase, config), 2)
    return found


def make_plan(
    phase: Phase, *, gpus: int | None = None, gpu: str = "h800", rows: int | None = None, store: str | None = None
) -> dict[str, Any]:
    """The plan of a phase as plain values: resolved configuration, arguments, memory, counts, time, warnings.

    Raises:
        UsageError: an unknown kind of GPU.
        InfiMmrError: the dataset's rows are not known, or OpenRLHF refuses the arguments.

    """
    gpu = gpu_named(gpu)
    if phase.reward.function:
        load_reward(phase.reward.function, phase.name)
    local = phase.profile_name == "local"
    warnings: list[str] = []
    if gpus and not local:
        phase = _on_cluster(phase, gpus)
    number = phase.cluster.nodes * phase.cluster.gpus_per_node
    usable, source = _rows(phase, rows, store)
    steps = phase.steps(usable)
    if steps < 1:
        raise InfiMmrError(f"{usable} rows make no step of {phase.rows_per_step} prompts", "Name more --rows")
    weights, config, weights_source = _model(phase)
    counts = _counts(phase, usable, steps)
    tokens = counts["tokens"]
    device: Literal["cpu", "cuda"] = "cpu" if local else "cuda"
    dtype = phase.dtype_on(device)
    paths = RunPaths("RUN/prompts.jsonl", phase.model.start, "RUN/ckpt", "RUN/weights", "RUN/tensorboard")
    facts = PromptFacts(steps * phase.rows_per_step, 0 if phase.data.images == "none" else 1)
    arguments = openrlhf_arguments(phase, paths, facts, device=device, resume=False)
    parse_with_openrlhf(arguments, phase.method)
    supervised = phase.method == "sft"
    if local:
        start, pace = LOCAL_START_SECONDS, LOCAL_TOKENS_PER_SECOND
        if supervised:
            start, pace = LOCAL_SFT_START_SECONDS, LOCAL_SFT_TOKENS_PER_SECOND
        hours = (start + tokens / pace) / 3600
        needed = preflight.cpu_memory_needed_gib(weights, dtype, phase.method)
        memory: dict[str, float] = {"total": round(needed, 2)}
        time_source = "measured on two CPU cores with tiny-vl"
    else:
        work = MEASURED_TOKENS_PER_SECOND_AND_GPU * MEASURED_WEIGHTS
        time_source = "EasyR1's published 1,800 tokens/s/GPU for Qwen2.5-VL-3B on 8 H100, scaled linearly"
        if supervised:
            work = SFT_TOKENS_PER_SECOND_AND_GPU * SFT_WEIGHTS
            time_source = "torchtitan's published 5,762 tokens/s/GPU for Llama 3.1 8B on 8 H100, scaled linearly"
        speed = work * GPUS[gpu].tflops / MEASURED_TFLOPS / weights
        hours = tokens / (speed * number) / 3600
        memory = memory_per_gpu(phase, weights, config, number, phase.rollout.max_length)
        warnings += memory_warnings(phase, memory, GPUS[gpu].memory_gib, gpu)
    if told := foreign_prompts(phase.prompts, phase.model.start):
        warnings.append(told)
    pictures, too_much = plan_pictures(phase, store, local)
    warnings += too_much
    if phase.train.max_steps and phase.epochs_needed(usable) > phase.train.epochs:
        warnings.append(f"{steps} steps pass {phase.epochs_needed(usable)} times over {usable} rows")
    return {
        "phase": phase.name,
        "profile": phase.profile_name,
        "device": device,
        "dtype": dtype,
        "cluster": {"gpus": 0 if local else number, "gpu": "" if local else gpu},
        "weights": weights,
        "counts": counts,
        "memory_gib": memory,
        "picture_memory_gib": pictures,
        "hours": round(hours, 2),
        "gpu_hours": 0.0 if local else round(hours * number, 1),
        "sources": {"rows": source, "weights": weights_source, "time": time_source},
        "warnings": warnings,
        "configuration": phase.model_dump(mode="json"),
        "arguments": arguments,
    }


def _counts(phase: Phase, rows: int, steps: int) -> dict[str, int]:
    """Steps, updates and tokens; of a supervised phase the traces in place of the rollouts."""
    local, longest = phase.profile_name == "local", phase.rollout.max_new_tokens
    counts = {"rows": rows, "steps": steps, "updates": steps * phase.updates_per_step}
    counts["updates_per_step"] = phase.updates_per_step
    if phase.method == "sft":
        traces = steps * phase.rows_per_step
        prompt, answer = (LOCAL_PROMPT_TOKENS, LOCAL_ANSWER_TOKENS) if local else (SFT_PROMPT_TOKENS, SFT_TRACE_TOKENS)
        each = prompt + min(answer, longest)
        return counts | {"traces": traces, "tokens": traces * each, "tokens_per_trace": each}
    rollouts = steps * phase.rows_per_step * phase.rollout.samples_per_prompt
    answer = min(MEAN_ANSWER_TOKENS, longest)
    prompt = min(MEAN_PROMPT_TOKENS, phase.rollout.max_length - longest)
    if local:
        answer, prompt = min(LOCAL_ANSWER_TOKENS, longest), LOCAL_PROMPT_TOKENS
    each = prompt + answer
    return counts | {"rollouts": rollouts, "tokens": rollouts * each, "tokens_per_rollout": each}


def memory_warnings(phase: Phase, memory: dict[str, float], gib: float, gpu: str) -> list[str]:
    """What does not fit a GPU of `gib` GiB, with the value to change."""
    warnings = []
    if memory["training"] > gib:
        largest = max(("logits", "activations", "optimizer", "policy_weights"), key=lambda name: memory[name])
        advice = {
            "logits": "lower train.micro_batch_size or rollout.max_length",
            "activations": "lower train.micro_batch_size or set train.gradient_checkpointing",
            "optimizer": "use more GPUs or set cluster.adam_offload",
            "policy_weights": "set cluster.zero_stage=3",
        }[largest]
        warnings.append(
            f"training takes {memory['training']:.0f} GiB per GPU, a {gpu} has {gib:.0f}: {advice} "
            f"({largest} is the largest part, {memory[largest]:.0f} GiB)"
        )
    if phase.method == "sft":
        return warnings
    share = phase.cluster.vllm_memory * gib
    if memory["resident_while_sampling"] + share > gib:
        room = 1 - memory["resident_while_sampling"] / gib
        advice = f"cluster.vllm_memory={max(room - 0.02, 0.05):.2f}" if room > 0.1 else "cluster.zero_stage=3"
        warnings.append(
            f"sampling takes {memory['resident_while_sampling'] + share:.0f} GiB per GPU, "
            f"a {gpu} has {gib:.0f}: {advice}"
        )
    if memory["vllm_weights"] + memory["vllm_working"] + 1 > share:
        warnings.append(
            f"vLLM's {share:.0f} GiB leave no KV cache beside {memory['vllm_weights']:.0f} GiB of weights: raise "
            "cluster.vllm_memory or cluster.tensor_parallel"
        )
    return warnings


def check_gpu_memory(phase: Phase, gib: float | None = None) -> None:
    """Refuse a CUDA run whose plan does not fit the GPUs of this machine; says nothing where none can be asked.

    `gib` is the memory of one GPU; by default the smallest that nvidia-smi lists.

    Raises:
        InfiMmrError: the first warning of the plan.

    """
    gib = smallest_gpu_gib() if gib is None else gib
    if gib is None:
        return
    weights, config, _ = _model(phase)
    number = phase.cluster.nodes * phase.cluster.gpus_per_node
    memory = memory_per_gpu(phase, weights, config, number, phase.rollout.max_length)
    if warnings := memory_warnings(phase, memory, gib, "GPU of this machine"):
        raise InfiMmrError(f"phase {phase.name} does not fit: {warnings[0]}", "Change it with --set")


def _on_cluster(phase: Phase, gpus: int) -> Phase:
    per_node = min(gpus, 8)
    if gpus % per_node:
        raise UsageError(f"--gpus {gpus} is neither up to 8 nor a multiple of 8", "Use a multiple of 8")
    values = phase.model_dump()
    values["cluster"] |= {"nodes": gpus // per_node, "gpus_per_node": per_node}
    try:
        return Phase.model_validate(values)
    except ValueError as error:
        reason = str(error).split("Value error, ")[-1].split(" [type")[0]
        raise UsageError(f"phase {phase.name} on {gpus} GPUs: {reason}", "Change it with --set") from error


def _rows(phase: Phase, rows: int | None, store: str | None) -> tuple[int, str]:
    """Rows that train, and where the number comes from."""
    if rows:
        return rows, "--rows"
    from shared.dataset_version import open_dataset

    name = phase.data.dataset.split("@")[0]
    lacking = "dataset version not in the store"
    try:
        version = open_dataset(phase.data.dataset, store)
    except InfiMmrError as error:
        version = None
        near, asked, _ = error.next_step.partition("?")
        lacking += f"; {near}{asked}" if asked else ""
    if version is not None:
        check_purpose(version.manifest, phase)
        if version.manifest.profile == phase.profile_name:
            return _rows_of(training_split(version, phase), phase)
    if phase.profile_name == "full" and name in ROWS:
        return ROWS[name], f"paper, section 5.1 ({lacking})"
    if phase.train.max_steps:
        return phase.train.max_steps * phase.rows_per_step, f"train.max_steps ({lacking})"
    raise InfiMmrError(f"the rows of {name} are not known", f"Build it (data-engine build {name}) or name --rows")


def _rows_of(version: DatasetVersion, phase: Phase) -> tuple[int, str]:
    """Rows of a version that is there, those within the bounds of the pass rate where some are set."""
    rows = version.rows
    label = version.manifest.label if rows == version.manifest.rows else f"{version.label}, split {phase.data.split}"
    if not version.store.is_folder:  # its rows would have to be brought first
        more = f", not counted: how many have {range_text(phase.data)}" if filters(phase.data) else ""
        return rows, f"dataset version {label}{more}"
    check_dataset(version, phase)
    if phase.method == "sft":
        counted = count_traces(version, phase)
        kept = counted.pop("", 0)
        left = "; ".join(f"{count:,} {reason_text(reason)}" for reason, count in counted.most_common())
        return kept, f"of {rows:,} rows of {label}{f'; left out: {left}' if left else ''}"
    pictured = count_pictured(version) if phase.data.images != "any" else 0
    unfit = pictured if phase.data.images == "none" else rows - pictured if phase.data.images == "required" else 0
    why = reason_text("pictures" if phase.data.images == "none" else "no_pictures")
    if unfit == rows:
        raise InfiMmrError(
            f"phase {phase.name}: all {rows:,} rows of {label} are {why}", "Name another dataset, or another phase"
        )
    if not filters(phase.data):
        left = f", less {unfit:,} rows {why}" if unfit else ""
        return rows - unfit, f"dataset version {label}{left}"
    kept = rows_in_range(version, phase.data)
    return kept, f"{kept:,} of {rows:,} rows of {label} have {range_text(phase.data)}"


def _model(phase: Phase) -> tuple[int, dict[str, Any], str]:
    """Weights and text configuration of the start checkpoint, or Qwen2.5-VL-3B's published ones."""
    from shared.vlm.checkpoint import checkpoint_folder, is_folder
    from shared.vlm.spec import EngineSpec

    if is_folder(phase.model.start):
        folder = checkpoint_folder(EngineSpec(model=phase.model.start))
        preflight.check_architecture(folder, phase)
        config = read_config(folder)
        text = config.get("text_config") or config
        lacking = [name for name in QWEN_3B if not isinstance(text.get(name), int)]
        if lacking:
            raise InfiMmrError(
                f"config.json of checkpoint {folder.name} does not say {', '.join(lacking)}",
                "Name a complete checkpoint",
            )
        return preflight.count_weights(folder), {name: text[name] for name in QWEN_3B}, f"checkpoint {folder.name}"
    if phase.model.start == "Qwen/Qwen2.5-VL-3B-Instruct":
        return MEASURED_WEIGHTS, dict(QWEN_3B), "published configuration of Qwen2.5-VL-3B-Instruct"
    raise InfiMmrError(
        f"checkpoint {phase.model.start} is not available here to plan with", "Name a folder with its files with --from"
    )


def plan_text(plan: dict[str, Any]) -> str:
    """The plan for people."""
    counts, cluster = plan["counts"], plan["cluster"]
    what = "trace" if "traces" in counts else "rollout"
    asked = f"about {counts['tokens']:,} tokens ({counts[f'tokens_per_{what}']} each)"
    where = f"{cluster['gpus']} x {cluster['gpu']}" if cluster["gpus"] else "this machine's CPU"
    lines = [
        f"phase {plan['phase']}, profile {plan['profile']}, on {where}, {plan['weights']:,} weights in {plan['dtype']}",
        f"rows      {counts['rows']:,} ({plan['sources']['rows']})",
        f"steps     {counts['steps']:,} of {counts['updates_per_step']} updates",
        f"{f'{what}s':9} {counts[f'{what}s']:,}, {asked}",
        "memory    " + ", ".join(f"{name} {value} GiB" for name, value in plan["memory_gib"].items()),
        *([f"images    {picture_text(plan['picture_memory_gib'])}"] if plan["picture_memory_gib"] else []),
        f"time      about {plan['hours']} h, {plan['gpu_hours']} GPU-hours ({plan['sources']['time']})",
    ]
    lines += [f"warning: {text}" for text in plan["warnings"]]
    lines.append("OpenRLHF arguments: " + " ".join(plan["arguments"]))
    return "\n".join(lines)
